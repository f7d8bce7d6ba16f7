"""A replicated file system you mount."""

__version__ = "0.1.0"
