"""Which peer is asked for the next chunk. Pure: time is an argument.

Each peer has a rate and a round trip, both measured, and a window that follows from them: what may be asked
of it and not yet have come. The next chunk goes where it is likely to arrive first.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

Peer = TypeVar("Peer")

CHUNK_BYTES: Final = 64 << 10
"""What a chunk is taken to be until it has come."""
WINDOW_BYTES_MIN: Final = 64 << 10
WINDOW_BYTES_MAX: Final = 8 << 20
WINDOW_BYTES_FIRST: Final = 256 << 10
"""Before anything came; it grows by what comes, as fast as a connection's own window does."""
WINDOW_S: Final = 0.5
SAMPLE_S: Final = 0.05
SMOOTHED: Final = 8
"""Samples that a rate follows, once there were so many."""
RATE_MIN: Final = 10e3
RATE_PRIOR: Final = 20e6  # bytes a second: a wireless network
REQUESTS_URGENT_MAX: Final = 240  # of the 256 a peer answers at a time
REQUESTS_BULK_MAX: Final = 192  # so that a read finds room
PATIENCE_S: Final = 2.0
REST_S: Final = 60.0
REST_AFTER: Final = 2
"""Requests in a row that came too late."""


@dataclass(slots=True, eq=False)
class Capacity(Generic[Peer]):
    """What is known of one peer over one link, and what it is asked for now."""

    peer: Peer
    rate: float = RATE_PRIOR
    """Bytes a second, at CHUNK_BYTES a chunk."""
    round_trip_s: float = 0.05
    requests: int = 0
    overdue: int = 0
    """Of these, those that are late: they hold up nothing else."""
    late_in_a_row: int = 0
    rests_until: float = 0.0
    _proven_bytes: int = WINDOW_BYTES_FIRST
    _busy_since: float = 0.0
    _busy_until: float = 0.0
    _busy_bytes: int = 0
    _samples: int = 0
    _rate_before: float = RATE_PRIOR
    """Before it was late."""

    @property
    def outstanding_bytes(self) -> int:
        return (self.requests - self.overdue) * CHUNK_BYTES

    @property
    def window_bytes(self) -> float:
        """What may be outstanding: enough to keep the link busy, no more, and little before it has shown what
        it can.
        """
        window = min(self.rate * (self.round_trip_s + WINDOW_S), self._proven_bytes)
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

    def asked(self, now: float) -> None:
        """A request is sent."""
        if not self.requests:
            self._busy_since = self._busy_until = now + self.round_trip_s
            self._busy_bytes = 0
        self.requests += 1

    def answered(self) -> None:
        """A request was answered, or the peer has gone."""
        self.requests -= 1

    def came(self, now: float, count: int = 1) -> None:
        """So many chunks have come together. The rate follows what a busy link delivers, not a lone request.

        A chunk counts as CHUNK_BYTES whatever its size, as it does while it is awaited: many small ones take
        as many requests at a time.
        """
        if self.late_in_a_row:  # it was a pause: what it carried before counts again
            self.rate, self.late_in_a_row = self._rate_before, 0
        self._proven_bytes = min(self._proven_bytes + count * CHUNK_BYTES, WINDOW_BYTES_MAX)
        took_s = self._busy_until - self._busy_since
        if now > self._busy_until and took_s >= SAMPLE_S:  # what came at one instant came together
            seen = self._busy_bytes / took_s
            if self.requests or seen > self.rate:
                self._samples += 1
                self.rate += (seen - self.rate) / min(self._samples, SMOOTHED)
                self.rate = max(self.rate, RATE_MIN)
            self._busy_since, self._busy_bytes = self._busy_until, 0
        self._busy_until = now
        self._busy_bytes += count * CHUNK_BYTES

    def rests(self, now: float) -> bool:
        """Whether it was late so often that others are asked first."""
        return self.rests_until > now

    def was_late(self, now: float) -> None:
        """A request took longer than it may."""
        if not self.late_in_a_row:
            self._rate_before = self.rate
        self.late_in_a_row += 1
        self.rate = max(self.rate / 2, RATE_MIN)
        if self.late_in_a_row >= REST_AFTER:
            self.rests_until = now + REST_S


def rested(candidates: Collection[Capacity[Peer]], now: float) -> Collection[Capacity[Peer]]:
    """Those that do not rest; all, if all do."""
    return [one for one in candidates if not one.rests(now)] or candidates


def choose(candidates: Iterable[Capacity[Peer]], *, is_bulk: bool) -> Capacity[Peer] | None:
    """The peer from which one more chunk would come first; None if all are busy."""
    able = [one for one in candidates if one.has_room(is_bulk=is_bulk)]
    return min(able, key=Capacity.expected_s, default=None)


def is_worth_it(found: Capacity[Peer], others: Iterable[Capacity[Peer]], left_bytes: int) -> bool:
    """Whether `found` should be asked for one more chunk, although `others` could be asked for the same.

    Not if one of them, busy as it may be, brings all that is left before that chunk would come.
    """
    expected_s = found.expected_s()
    return all(one.expected_s() + left_bytes / one.rate >= expected_s for one in others)
