"""The replicated directory tree. Pure: no disk, no clock, no randomness of its own."""
