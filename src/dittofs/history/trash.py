"""Removed files: what the history keeps of them, and forgetting them for good."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import trio

from dittofs.history.past import Backwards
from dittofs.history.versions import is_below
from dittofs.ids import InodeId, Slot
from dittofs.tree.record import Kind
from dittofs.volume.events import Past
from dittofs.volume.replica import Replica

INODES_IN_A_ROW: Final = 64


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

    Directories come back with what was in them, so only what is no directory is here.
    """
    met: set[InodeId] = set()
    back = Backwards(replica)
    for row, after, before in back:
        is_last = row.kind == "remove" and row.inode not in met
        met.add(row.inode)
        if not is_last or before is None or after is not None or before.kind is Kind.DIRECTORY:
            yield None
            continue
        path = back.path_before(row.inode, row.at, before)
        if path is not None and is_below(path, prefix):
            yield Removed(row.inode, path, before.revived, row.at, int(row.stamp), row.slot)
        else:
            yield None


async def forget(replica: Replica, removed: Sequence[Removed]) -> None:
    """Take all rows of removed files out of the history: views of the past do not show them any more."""
    history = replica.journal.history
    for start in range(0, len(removed), INODES_IN_A_ROW):
        with replica.change():
            for one in removed[start : start + INODES_IN_A_ROW]:
                if replica.tree.whole(one.inode) is None:
                    for row in list(history.of_inode(one.inode)):
                        history.remove(row)
        await trio.lowlevel.checkpoint()
