"""Time and randomness, handed in wherever they are needed so that a simulation can replace them."""

import os
import time
from typing import Final, Protocol

SECOND_NS: Final = 1_000_000_000
DAY_NS: Final = 86_400 * SECOND_NS


class Clock(Protocol):
    """Where time comes from."""

    def now_ns(self) -> int:
        """Wall time, nanoseconds since 1970. It may jump."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary start, never backwards, and on while the machine sleeps."""


class Entropy(Protocol):
    """Where randomness comes from."""

    def __call__(self, count: int, /) -> bytes:
        """`count` bytes nobody can predict."""


class SystemClock:
    """The machine's own clock."""

    def now_ns(self) -> int:
        return time.time_ns()

    def monotonic(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)


system_entropy: Entropy = os.urandom
