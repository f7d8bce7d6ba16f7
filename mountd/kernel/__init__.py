"""The front end that speaks the protocol of /dev/fuse itself."""
