"""`.dittofs`: what the mount says about itself, as files any program can read."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from dittofs.ids import InodeId, Number
from dittofs.tree.record import Kind
from dittofs.volume.at import At
from dittofs.volume.conflicts_view import ConflictsView
from dittofs.volume.inodes import VIRTUAL_BIT, Inode, VirtualFile
from dittofs.volume.names import RESERVED
from dittofs.volume.state import State

AT_PLACE = 16
CONFLICTS_PLACE = 17
VIRTUAL_MAX = 64
"""Of the files and directories that are always in `.dittofs`."""

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


@dataclass(slots=True)
class VirtualDirectory:
    """A directory of virtual files."""

    name: bytes
    members: list[Inode] = field(default_factory=list)

    def content(self) -> bytes:
        return b""

    def children(self, start: int, count: int) -> Sequence[Inode]:
        return self.members[start : start + count]

    def prepare(self) -> None:
        return None

    def lookup(self, name: bytes) -> Inode | None:
        named = (one for one in self.members if one.virtual is not None and one.virtual.name == name)
        return next(named, None)

    def parent(self) -> Inode | None:
        return None


def reserved_directory(status: Callable[[], bytes], state: State) -> Inode:
    """The inode of `.dittofs`, with its files and what the past is seen in."""
    directory = VirtualDirectory(RESERVED)
    top = _inode(0, Kind.DIRECTORY)
    top.virtual = directory
    for place, file in enumerate(
        (VirtualFile(b"README.txt", lambda: README), VirtualFile(b"status", status)), 1
    ):
        inode = _inode(place, Kind.FILE)
        inode.virtual = file
        directory.members.append(inode)
    at = _inode(AT_PLACE, Kind.DIRECTORY)
    at.virtual = At(state, at)
    directory.members.append(at)
    conflicts = _inode(CONFLICTS_PLACE, Kind.DIRECTORY)
    conflicts.virtual = ConflictsView(state, conflicts).top
    directory.members.append(conflicts)
    return top


def _inode(place: int, kind: Kind) -> Inode:
    # `.` cannot occur in an inode id, so no real inode shares the reference.
    return Inode(Number(VIRTUAL_BIT | place), (InodeId(f".virtual.{place}"), None), kind)
