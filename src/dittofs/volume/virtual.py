"""`.dittofs`: what the mount says about itself, as files any program can read."""

from collections.abc import Callable, Sequence

from dittofs.ids import InodeId, Number
from dittofs.tree.record import Kind
from dittofs.volume.inodes import VIRTUAL_BIT, Inode, Virtual, VirtualFile
from dittofs.volume.names import RESERVED
from dittofs.volume.state import State

DIRECTORIES_PLACE = 16
VIRTUAL_MAX = 64
"""Of the files and directories that are always in `.dittofs`."""

MakeDirectory = Callable[[State, Inode], Virtual]
"""What stands behind the inode of a directory in `.dittofs`: the past, conflicts."""

README = b"""This folder is a DittoFS volume.

It is the same on all devices that are paired with it, and works without a network.
A file whose bytes are on another device is fetched from there when it is read.
What its files hold is stored encrypted; their names are not.

What you find here in .dittofs cannot be changed; it tells what is so:
  status    files, bytes, how many of them are on this device, and what is not yet safe
  at/       the volume as it was: at/2026-11-21, at/2026-11-21T14:30, at/3h, at/yesterday (times are UTC),
            and each snapshot by its name. Browse, compare and copy with any program
  conflicts/  each version of what was written apart: conflicts/notes.txt/ has those of notes.txt

From a terminal:
  dittofs status      the same, for all volumes
  dittofs --help      everything else
"""


class ReservedDirectory:
    """`.dittofs` itself."""

    def __init__(self, status: Callable[[], bytes], state: State) -> None:
        self.name = RESERVED
        self._state = state
        self._members: list[Inode] = []
        self._directories = 0
        self.inode = self._known(0, Kind.DIRECTORY)
        self.inode.virtual = self
        files = (VirtualFile(b"README.txt", lambda: README), VirtualFile(b"status", status))
        for place, file in enumerate(files, 1):
            inode = self._known(place, Kind.FILE)
            inode.virtual = file
            self._members.append(inode)

    def add(self, make: MakeDirectory) -> None:
        """One more directory in it; its number is that of its turn, and lasts as long as the order does."""
        assert len(self._members) < VIRTUAL_MAX
        inode = self._known(DIRECTORIES_PLACE + self._directories, Kind.DIRECTORY)
        self._directories += 1
        inode.virtual = make(self._state, inode)
        self._members.append(inode)

    def content(self) -> bytes:
        return b""

    def children(self, start: int, count: int) -> Sequence[Inode]:
        return self._members[start : start + count]

    def prepare(self) -> None:
        return None

    def lookup(self, name: bytes) -> Inode | None:
        named = (one for one in self._members if one.virtual is not None and one.virtual.name == name)
        return next(named, None)

    def parent(self) -> Inode | None:
        return None

    def _known(self, place: int, kind: Kind) -> Inode:
        # `.` cannot occur in an inode id, so no real inode shares the reference.
        inode = Inode(Number(VIRTUAL_BIT | place), (InodeId(f".virtual.{place}"), None), kind)
        self._state.inodes.add(inode)
        return inode
