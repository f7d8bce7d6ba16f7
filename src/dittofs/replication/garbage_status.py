"""What is known of garbage: rows of the journal about rounds, and what people are told (decision 0030)."""

from dataclasses import dataclass
from typing import Final

import msgspec

from dittofs.chunks.amount import Amount
from dittofs.identity.keys import DeviceId
from dittofs.replication.garbage_rounds import Outstanding


class OpenRound(msgspec.Struct, array_like=True, frozen=True):
    """A round whose first half is done."""

    name: bytes
    """Random: no other round is called so, not even by this device before it was set back to a backup."""
    begun: int
    """When the first mark began, nanoseconds since 1970."""
    chunks: int
    bytes: int


class LastSweep(msgspec.Struct, array_like=True, frozen=True):
    """What the last round that ended gave."""

    at: int
    chunks: int
    bytes: int
    room: int
    """Bytes of the disk that are free for it."""


class Looked(msgspec.Struct, array_like=True, frozen=True):
    """What the last first mark found."""

    at: int
    chunks: int
    bytes: int


OPEN_ROW: Final = msgspec.msgpack.Decoder(OpenRound)
LAST_ROW: Final = msgspec.msgpack.Decoder(LastSweep)
LOOKED_ROW: Final = msgspec.msgpack.Decoder(Looked)


@dataclass(frozen=True, slots=True)
class GarbageStatus:
    """What is known of garbage, and what a round waits for."""

    round: OpenRound | None
    grace_ends: int
    """When what the open round found may go at the earliest, nanoseconds since 1970."""
    outstanding: tuple[Outstanding, ...]
    problem: str
    """Why there is no round, or why it cannot end; empty: nothing is in the way."""
    looked: Looked | None
    swept: LastSweep | None
    owed: tuple[tuple[DeviceId, str], ...]
    """Whom this device has not answered, and why."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What lies in the store, by who names it."""

    live: Amount
    """What the volume shows now."""
    past: Amount
    """Its history and snapshots alone."""
    garbage: Amount
    """Nothing."""
    unknown: int = 0
    """Contents of which it is not known here what they consist of."""
