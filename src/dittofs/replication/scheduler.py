"""Which peer is asked for the next chunk. Pure: time is an argument.

Each peer has a rate and a round trip, both measured, and a window that follows from them: what may be asked
of it and not yet have come. The next chunk goes where it is likely to arrive first.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

Peer = TypeVar("Peer")

CHUNK_BYTES: Final = 64 << 10
"""What a chunk is taken to be until it has come."""
WINDOW_BYTES_MIN: Final = 64 << 10
WINDOW_BYTES_MAX: Final = 8 << 20
WINDOW_S: Final = 0.5
RATE_PRIOR: Final = 20e6  # bytes a second: a wireless network
REQUESTS_URGENT_MAX: Final = 240  # of the 256 a peer answers at a time
REQUESTS_BULK_MAX: Final = 192  # so that a read finds room
PATIENCE_S: Final = 2.0
REST_S: Final = 60.0
REST_AFTER: Final = 2
"""Requests in a row that came too late."""


@dataclass(slots=True, eq=False)
class Capacity(Generic[Peer]):
    """What is known of one peer, and what it is asked for now."""

    peer: Peer
    rate: float = RATE_PRIOR
    round_trip_s: float = 0.05
    requests: int = 0
    late_in_a_row: int = 0
    rests_until: float = 0.0

    @property
    def outstanding_bytes(self) -> int:
        return self.requests * CHUNK_BYTES

    @property
    def window_bytes(self) -> float:
        """What may be outstanding: enough to keep the link busy, no more."""
        window = self.rate * (self.round_trip_s + WINDOW_S)
        return min(max(window, WINDOW_BYTES_MIN), WINDOW_BYTES_MAX)

    def expected_s(self) -> float:
        """Until one more chunk would have come."""
        return (self.outstanding_bytes + CHUNK_BYTES) / self.rate + self.round_trip_s

    def patience_s(self) -> float:
        """After this a request is late."""
        return max(PATIENCE_S, 4 * self.expected_s())

    def has_room(self, *, is_bulk: bool) -> bool:
        """Whether another request may be sent. What somebody waits for is not held back by bulk."""
        if is_bulk:
            return self.requests < REQUESTS_BULK_MAX and self.outstanding_bytes < self.window_bytes
        return self.requests < REQUESTS_URGENT_MAX

    def came(self, size: int, took_s: float) -> None:
        """A chunk has come. The rate follows what a busy link delivers, not what a lone request shows."""
        self.late_in_a_row = 0
        if took_s > self.round_trip_s:
            seen = (self.outstanding_bytes + size) / took_s
            self.rate += (seen - self.rate) / 16
        self.rate = max(self.rate, 10e3)

    def was_late(self, now: float) -> None:
        """A request took longer than it may."""
        self.late_in_a_row += 1
        self.rate = max(self.rate / 2, 10e3)
        if self.late_in_a_row >= REST_AFTER:
            self.rests_until = now + REST_S


def choose(
    candidates: Iterable[Capacity[Peer]], *, is_bulk: bool, now: float, rests_count: bool = True
) -> Capacity[Peer] | None:
    """The peer from which one more chunk would come first; None if all are busy or rest."""
    able = [
        one
        for one in candidates
        if one.has_room(is_bulk=is_bulk) and (not rests_count or one.rests_until <= now)
    ]
    return min(able, key=Capacity.expected_s, default=None)
