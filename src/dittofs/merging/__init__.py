"""What was written apart: conflicts, found and decided, and versions that are made one."""
