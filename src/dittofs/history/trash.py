"""Removed files: what the history keeps of them, and forgetting them for good."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import trio

from dittofs.history.past import Backwards
from dittofs.history.versions import is_below
from dittofs.ids import InodeId, Slot
from dittofs.tree.record import Kind
from dittofs.volume.events import Past, whole_of
from dittofs.volume.replica import Replica

INODES_IN_A_ROW: Final = 64
FORGOTTEN: Final = "forgotten"
"""A directory -> when the last of the files was removed from it that were forgotten: 8 bytes."""


@dataclass(frozen=True, slots=True)
class Removed:
    """A file that was removed, as it was then."""

    inode: InodeId
    path: bytes
    past: Past
    at: int
    """When this device saw it go."""
    made: int
    """When that was, by the clock of whoever removed it."""
    slot: Slot


def trash(replica: Replica, prefix: bytes) -> Iterator[Removed | None]:
    """What was removed at and below a path and is not back, the last first; None for each other row.

    Directories come back with what was in them, so only what is no directory is here. A name that was removed
    beside a conflict entry is, though that is left.
    """
    met: set[InodeId] = set()
    nameless: set[InodeId] = set()
    back = Backwards(replica)
    for row, after, before in back:
        if row.inode not in met and not _has_name(after):
            nameless.add(row.inode)
        is_last = row.inode in nameless and (
            _has_name(before) if after is not None else row.kind == "remove" and row.inode not in met
        )
        met.add(row.inode)
        if not is_last or before is None or before.kind is Kind.DIRECTORY:
            yield None
            continue
        nameless.discard(row.inode)
        path = back.path_before(row.inode, row.at, before)
        if path is not None and is_below(path, prefix):
            yield Removed(row.inode, path, before.revived, row.at, int(row.stamp), row.slot)
        else:
            yield None


def _has_name(past: Past | None) -> bool:
    return past is not None and any(name.is_plain for name in past.names.values())


async def forget(replica: Replica, removed: Sequence[Removed]) -> None:
    """Take all rows of removed files out of the history: views of the past do not show them any more.

    Of a name that was removed beside a conflict entry those up to then.
    """
    history = replica.journal.history
    for start in range(0, len(removed), INODES_IN_A_ROW):
        with replica.change():
            for one in removed[start : start + INODES_IN_A_ROW]:
                now = replica.tree.whole(one.inode)
                if now is not None and _has_name(whole_of(now)):
                    continue  # it has come back
                for row in list(history.of_inode(one.inode)):
                    if now is None or row.at <= one.at:
                        history.remove(row)
                _note_forgotten(replica, one)
        await trio.lowlevel.checkpoint()


def _note_forgotten(replica: Replica, one: Removed) -> None:
    for name in one.past.names.values():
        key = name.parent.encode("ascii")
        known = replica.journal.get_local(FORGOTTEN, key)
        at = max(one.at, int.from_bytes(known or b"", "big"))
        replica.journal.put_local(FORGOTTEN, key, at.to_bytes(8, "big"))


def forgotten_since(replica: Replica, at: int) -> frozenset[InodeId]:
    """The directories from which something was removed after that time that is forgotten."""
    return frozenset(
        InodeId(key.decode("ascii"))
        for key, value in replica.journal.scan_local(FORGOTTEN, b"")
        if int.from_bytes(value, "big") > at
    )
