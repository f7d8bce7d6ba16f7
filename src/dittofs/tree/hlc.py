"""The hybrid logical clock: stamps that order operations as people saw them, and never go backwards."""

from collections.abc import Callable

from dittofs.ids import Stamp
from dittofs.tree.record import STAMP_END

FOLLOW_NS_MAX = 3_600 * 1_000_000_000
"""A stamp further ahead of our wall clock than this is accepted, but our clock does not follow it there."""


class Clock:
    """Gives stamps greater than any given or seen before."""

    def __init__(self, now_ns: Callable[[], int], greatest: Stamp) -> None:
        self._now_ns = now_ns
        self.greatest = greatest
        """The greatest stamp given, or followed: what a restart must begin from."""

    def tick(self) -> Stamp:
        """A stamp greater than any given before: the wall clock where it is ahead."""
        self.greatest = Stamp(min(max(self._now_ns(), self.greatest + 1), STAMP_END - 1))
        return self.greatest

    def observe(self, stamp: Stamp) -> bool:
        """Follow a stamp from elsewhere. False if it is more than an hour ahead: then only one hour."""
        if stamp <= self.greatest:
            return True
        limit = self._now_ns() + FOLLOW_NS_MAX
        self.greatest = Stamp(max(self.greatest, min(stamp, limit)))
        return stamp <= limit

    def seen(self, stamp: Stamp) -> None:
        """Never give `stamp` or a lesser one again: it was used here."""
        self.greatest = max(self.greatest, stamp)


def later(stamp: Stamp, than: Stamp) -> Stamp:
    """`stamp`, raised above `than` if it is not greater."""
    return stamp if stamp > than else Stamp(min(than + 1, STAMP_END - 1))
