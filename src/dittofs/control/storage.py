"""The local API as data, continued: what lies in the chunk store, garbage, and devices nobody waits for.

`volume` is always the name that this device gives it. See `protocol` for the rules.
"""

from typing import Literal

from msgspec import Struct


class CacheRequest(Struct, frozen=True):
    """What is stored of a volume on this device. With `collect`, first sweep what can go now."""

    volume: str
    is_detailed: bool = False
    collect: bool = False
    is_dry: bool = False  # only say what `collect` would do


class Amount(Struct, frozen=True):
    """So many chunks, and their bytes in packs."""

    chunks: int = 0
    bytes: int = 0


class PackReport(Struct, frozen=True):
    """One file of the store."""

    name: str
    bytes: int
    live_chunks: int
    live_bytes: int


class Awaited(Struct, frozen=True):
    """A device that has not answered yet."""

    name: str
    id: str
    since_ns: int = 0  # when the round began that it has not answered
    last_seen_ns: int = 0  # 0: not since this daemon started, or it is connected now
    is_online: bool = False


class GarbageRound(Struct, frozen=True):
    """What the first half of a round found, and until when it has to wait at least."""

    begun_ns: int
    grace_ends_ns: int
    found: Amount
    awaited: tuple[Awaited, ...] = ()


class Swept(Struct, frozen=True):
    """The last round that ended."""

    at_ns: int
    gone: Amount
    room_bytes: int  # given back to the disk


class CacheReport(Struct, frozen=True):
    """What is stored, and what becomes of what nothing names."""

    volume: str
    live: Amount  # named by what the volume shows now
    past: Amount  # named by its history and snapshots alone
    garbage: Amount  # named by nothing
    content_bytes: int  # of all files, wherever they are
    here_bytes: int  # of them, readable on this device alone; -1: not counted yet
    pack_bytes: int
    pack_count: int
    index_bytes: int
    dead_bytes: int  # in packs, and of no chunk any more: room that compacting gives back
    unknown: int  # contents whose chunks are not known here: some of the garbage may be theirs
    round: GarbageRound | None = None
    swept: Swept | None = None
    problem: str = ""  # why nothing can be swept
    owed: tuple[str, ...] = ()  # why other devices that want to sweep have no answer from this one
    is_swept_now: bool = False
    freed_bytes: int = 0  # given back now, because the cache was above its limit
    over_bytes: int = 0  # still above the limit
    packs: tuple[PackReport, ...] = ()  # detailed
    sampled_chunks: int = 0  # detailed: so many were opened
    sampled_plain_bytes: int = 0
    sampled_sealed_bytes: int = 0


class RetireRequest(Struct, frozen=True):
    """Wait no longer for a device (`retire`), or take this one back (`rejoin`)."""

    volume: str
    action: Literal["retire", "rejoin"]
    device: str = ""  # the name or the beginning of the id; of `rejoin` empty: this device
    is_forced: bool = False


class RetireResult(Struct, frozen=True):
    """Whom it concerned."""

    device: str
    id: str
    is_changed: bool
    last_seen_ns: int = 0
    only_there: int = 0  # files that only that device is known to hold
    only_there_bytes: int = 0
