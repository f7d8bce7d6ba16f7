"""What time it is, as far as this device has seen time pass: what is removed by age is removed by this.

A clock may be wrong for a while: a dead battery, a bad server. One that jumps takes nothing along: the time
believed follows it only as fast as time was seen to pass, and a day more at each start.
"""

from typing import Final

from dittofs.clock import DAY_NS, Clock
from dittofs.journal.journal import Journal
from dittofs.journal.wrong_times import observed, put_observed

PACE: Final = 2
"""So much faster than time passes it follows: a device that was off for long catches up."""


class ObservedTime:
    """Of one journal, from a start of the program on."""

    def __init__(self, journal: Journal, clock: Clock) -> None:
        self._journal = journal
        self._clock = clock
        self._looked_at = clock.monotonic()
        self._credit = DAY_NS

    def now(self) -> int:
        """Never later than the clock. Within a transaction; what was seen is kept with it."""
        now, uptime = self._clock.now_ns(), self._clock.monotonic()
        known = self.begin()
        step = int(PACE * (uptime - self._looked_at) * 1e9) + self._credit
        self._looked_at, self._credit = uptime, 0
        believed = known + min(max(now - known, -step), step)
        put_observed(self._journal, believed)
        return min(now, believed)

    def begin(self) -> int:
        """What is believed, from the first look on. Within a transaction."""
        known = observed(self._journal)
        if known is None:
            now = self._clock.now_ns()
            known = min(now, self._journal.history.last_at or now)
            put_observed(self._journal, known)
        return known
