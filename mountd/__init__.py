"""The daemon process: the only package that knows FUSE."""
