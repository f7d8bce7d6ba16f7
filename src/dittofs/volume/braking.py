"""What the brake holds, in groups of bounded size: deciding about it, ending and mending its rows.

A crash leaves the rest held, which is a valid state; to decide again does the rest.
"""

from collections.abc import AsyncGenerator, Sequence
from functools import partial
from typing import Final

import structlog
import trio

from dittofs.ids import InodeId
from dittofs.journal.damage import IndexDamaged
from dittofs.tree.holds import KIND
from dittofs.volume.replica import Replica

log = structlog.get_logger()

INODES_PER_GROUP: Final = 16
"""One transaction, some milliseconds."""


def held_of(replica: Replica, author: str) -> list[InodeId]:
    """The inodes that are held of one device, by `Writers.key`; of all if it is empty."""
    return [inode for inode, (whose, _) in replica.tree.brake.holds.all.items() if author in ("", whose)]


async def accept(replica: Replica, author: str) -> AsyncGenerator[int, None]:
    """Show what the device did; yields how many inodes are done."""
    inodes = held_of(replica, author)
    for start in range(0, len(inodes), INODES_PER_GROUP):
        batch = inodes[start : start + INODES_PER_GROUP]
        replica.show_held(batch)
        await trio.lowlevel.checkpoint()
        yield start + len(batch)


async def reject(replica: Replica, author: str) -> AsyncGenerator[int, None]:
    """Make everything again what is shown of it, on all devices; yields how many inodes are done.

    ReadOnlyVolume if this device may not write.
    """
    inodes = held_of(replica, author)
    for start in range(0, len(inodes), INODES_PER_GROUP):
        batch = inodes[start : start + INODES_PER_GROUP]
        with replica.change() as change:
            change.is_unasked = True
            for inode in batch:
                change.group.take_back(inode)
        await trio.lowlevel.checkpoint()
        yield start + len(batch)


def end_over(replica: Replica) -> None:
    """What nothing is lost of any more is not held any more. Blocking, when opened.

    Mostly that ends when it is heard of; not while a save that brings it back waits for its other half.
    """
    over = replica.mended(replica.tree.brake.over)
    if over:
        replica.mended(partial(replica.show_held, over))


def mend_held(replica: Replica) -> None:
    """Rows of held inodes that cannot be read are made of what the index shows. Blocking, when opened."""
    bad: list[bytes] = []
    for _ in replica.journal.scan_local(KIND, b"", bad):
        pass
    if not bad:
        return
    log.error("rows of held inodes are damaged and made anew", rows=len(bad))
    try:
        _hold_again(replica, bad)
    except IndexDamaged:
        _hold_again(replica, bad, is_index_readable=False)  # it is made anew, of what the documents say


def _hold_again(replica: Replica, keys: Sequence[bytes], *, is_index_readable: bool = True) -> None:
    with replica.journalled():
        for key in keys:
            replica.journal.delete_local(KIND, key)
        for key in keys if is_index_readable else ():
            replica.tree.brake.hold_again(InodeId(key.decode("ascii")))
