"""The dittofs command: a thin client of the control API."""
