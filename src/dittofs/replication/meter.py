"""How fast bytes went over a session while it was busy. Pure: time is an argument."""

from typing import Final

BUSY_BYTES: Final = 8 << 10
"""Less since the last look says nothing of what the path can do."""
SAMPLE_S: Final = 0.4
PAUSE_S: Final = 2.0
"""Looks that are further apart span a pause."""


class Meter:
    """Of one direction."""

    def __init__(self) -> None:
        self.rate = 0.0
        """Bytes a second, smoothed over the last busy seconds; 0: it was never busy."""
        self._at = 0.0
        self._total = 0

    def note(self, now: float, total: int) -> None:
        """So many bytes have gone since the beginning."""
        took_s, count = now - self._at, total - self._total
        if took_s < SAMPLE_S:
            return
        self._at, self._total = now, total
        if count >= BUSY_BYTES and took_s <= PAUSE_S:
            seen = count / took_s
            self.rate += (seen - self.rate) / (4 if self.rate else 1)
