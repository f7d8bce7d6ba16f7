"""What POSIX means here, without a kernel: names, open files, staging, publication."""
