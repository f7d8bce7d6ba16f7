"""The past of a volume: what was, how it is seen, had again and undone, and how much of it is kept."""
