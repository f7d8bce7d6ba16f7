"""Durable updates, history and the persisted index: one SQLite file per volume."""
