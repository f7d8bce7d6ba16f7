"""Deciding about what the brake holds, in groups of bounded size.

A crash leaves the rest held, which is a valid state; to decide again does the rest.
"""

from collections.abc import AsyncGenerator
from typing import Final

import trio

from dittofs.ids import InodeId
from dittofs.volume.volume import Volume

INODES_PER_GROUP: Final = 16
"""One transaction, some milliseconds."""


def held_of(volume: Volume, device: str) -> list[InodeId]:
    """The inodes that are held of a device; of all if it is empty."""
    held = volume.replica.tree.brake.holds.all
    return [inode for inode, (whose, _) in held.items() if device in ("", whose)]


async def accept(volume: Volume, device: str) -> AsyncGenerator[int, None]:
    """Show what the device did; yields how many inodes are done."""
    inodes = held_of(volume, device)
    for start in range(0, len(inodes), INODES_PER_GROUP):
        batch = inodes[start : start + INODES_PER_GROUP]
        volume.replica.show_held(batch)
        await trio.lowlevel.checkpoint()
        yield start + len(batch)


async def reject(volume: Volume, device: str) -> AsyncGenerator[int, None]:
    """Make everything again what is shown of it, on all devices; yields how many inodes are done.

    ReadOnlyVolume if this device may not write.
    """
    inodes = held_of(volume, device)
    for start in range(0, len(inodes), INODES_PER_GROUP):
        batch = inodes[start : start + INODES_PER_GROUP]
        with volume.replica.change() as change:
            change.is_unasked = True
            for inode in batch:
                change.group.take_back(inode)
        await trio.lowlevel.checkpoint()
        yield start + len(batch)
