"""A filled directory joins a volume; nothing is overwritten."""
