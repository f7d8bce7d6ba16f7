"""Pins: what is kept on this device, whole, because its user said so. Local: other devices have their own.

A pin is of an inode, so it goes along with a rename; of a directory it is of all that is below, whenever it
comes there.
"""

from collections import deque
from collections.abc import Iterator
from typing import Final

from dittofs.ids import ROOT, InodeId
from dittofs.tree.record import Kind
from dittofs.volume.replica import Replica
from dittofs.volume.state import State

PIN: Final = "pin"  # inode id -> empty
ABOVE_MAX: Final = 4096
"""Directories above a file that are looked at: more can only be a circle."""


class Pins:
    """Of one volume."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._replica: Replica = state.replica
        self._inodes = {InodeId(key.decode()) for key, _ in self._replica.journal.scan_local(PIN, b"")}

    def __len__(self) -> int:
        return len(self._inodes)

    def shown(self) -> int:
        """How many of them are of what has a name: a pin outlives the names of what it is of."""
        return sum(one == ROOT or next(self._above(one), None) is not None for one in self._inodes)

    def __iter__(self) -> Iterator[InodeId]:
        return iter(list(self._inodes))

    def put(self, inode: InodeId) -> bool:
        """Keep it, and all below, from now on. False: it was pinned itself already."""
        fresh = [one for one in self._shown_as(inode) if one not in self._inodes]
        with self._replica.journal.transaction():
            for one in fresh:
                self._replica.journal.put_local(PIN, one.encode(), b"")
        self._inodes.update(fresh)
        return bool(fresh)

    def remove(self, inode: InodeId) -> bool:
        """It itself is pinned no more. False: it was not."""
        gone = [one for one in self._shown_as(inode) if one in self._inodes]
        with self._replica.journal.transaction():
            for one in gone:
                self._replica.journal.delete_local(PIN, one.encode())
        self._inodes.difference_update(gone)
        return bool(gone)

    def of(self, inode: InodeId) -> InodeId | None:
        """The inode by whose pin it is kept: itself or one above; None: it is not pinned."""
        if not self._inodes:
            return None
        waiting, met = deque([inode]), {inode}
        while waiting and len(met) < ABOVE_MAX:
            one = waiting.popleft()
            if one in self._inodes:
                return one
            for above in self._above(one):
                if above not in met:
                    met.add(above)
                    waiting.append(above)
        return None

    def _above(self, inode: InodeId) -> Iterator[InodeId]:
        local = self._state.local.get(inode)
        if local is not None:
            yield from (InodeId(parent) for parent, _ in local.names)
        elif inode != ROOT:
            for parent, _ in self._replica.tree.names(inode):
                yield from self._shown_as(parent)

    def _shown_as(self, inode: InodeId) -> tuple[InodeId, ...]:
        """The directories shown as one; a file is one."""
        tree = self._replica.tree
        return (tree.members(inode) if tree.kind(inode) is Kind.DIRECTORY else ()) or (inode,)
