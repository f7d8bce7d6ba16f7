"""A replicated file system you mount."""
