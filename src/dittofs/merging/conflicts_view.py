"""`.dittofs/conflicts/`: every side of every conflict as a file, for any program; paths are the volume's.

`conflicts/notes/todo.txt/` holds one read-only file for each version of `notes/todo.txt`, called by device
and time. Contents come from other devices when they are read.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

from dittofs.ids import InodeId, Stamp
from dittofs.merging.conflicts import Conflict, Conflicts, Side
from dittofs.tree.entry import Change
from dittofs.tree.naming import tagged_name
from dittofs.tree.record import WITH_CONTENT, Kind
from dittofs.volume.inodes import Inode, PastShown, Stat, VirtualFile, virtual_number
from dittofs.volume.published import UNBORN, Published
from dittofs.volume.state import DIRECTORY_BYTES, State

NAME: Final = b"conflicts"
SHOWN_MAX: Final = 2_000
"""Conflicts; the rest is shown as these are resolved."""

_Entries = dict[bytes, Side | None]
"""By name: a side, or None for a directory."""


@dataclass(slots=True, eq=False)
class ConflictsDirectory:
    """A directory on the way to a conflict, or of one."""

    name: bytes
    view: "ConflictsView"
    path: bytes
    """Below `conflicts/`, with a trailing slash; empty: that itself."""
    inode: Inode
    above: Inode | None

    def content(self) -> bytes:
        return b""

    def prepare(self) -> None:
        return None

    def children(self, start: int, count: int) -> Sequence[Inode]:
        found = islice(self.view.entries(self.path).items(), start, start + count)
        return [self.view.shown(self, name, side) for name, side in found]

    def lookup(self, name: bytes) -> Inode | None:
        entries = self.view.entries(self.path)
        return self.view.shown(self, name, entries[name]) if name in entries else None

    def parent(self) -> Inode | None:
        return self.above


class ConflictsView:
    """What the directory shows now; worked out when somebody looks, and kept until something changes."""

    def __init__(self, state: State, inode: Inode) -> None:
        self._state = state
        self._known: dict[bytes, _Entries] | None = None
        self.top = ConflictsDirectory(NAME, self, b"", inode, None)
        state.replica.listeners.append(self._forget)

    def _forget(self, _change: Change) -> None:
        self._known = None

    def entries(self, path: bytes) -> _Entries:
        """What is in one of the directories; nothing if it is none any more."""
        if self._known is None:
            self._known = {b"": {}}
            for conflict in islice(Conflicts(self._state).walk(), SHOWN_MAX):
                self._add(self._known, conflict)
        return self._known.get(path, {})

    def _add(self, known: dict[bytes, _Entries], conflict: Conflict) -> None:
        at = b""
        for name in (conflict.path + conflict.name).split(b"/"):
            known[at].setdefault(name, None)
            at += name + b"/"
            known.setdefault(at, {})
        for side in conflict.sides:
            if side.entry.kind in WITH_CONTENT:
                name = self._name(conflict, side)
                number = 1
                while name in known[at]:
                    number += 1
                    name = self._name(conflict, side, number)
                known[at][name] = side

    def _name(self, conflict: Conflict, side: Side, number: int = 1) -> bytes:
        what = b"shown" if side is conflict.main else b"beside"
        return tagged_name(conflict.name, what, side.device or "?", Stamp(max(0, side.written_ns)), number)

    def shown(self, directory: ConflictsDirectory, name: bytes, side: Side | None) -> Inode:
        """The inode of an entry."""
        table = self._state.inodes
        what = b"" if side is None or side.version is None else side.version.root
        number = virtual_number(b"/".join((NAME, directory.path + name, what)))
        inode = table.get(number)
        if inode is None:
            kind = Kind.DIRECTORY if side is None else side.entry.kind
            inode = Inode(number, (InodeId(f".conflict.{number}"), None), kind)
        above = directory.inode
        if side is None:
            inode.virtual = ConflictsDirectory(name, self, directory.path + name + b"/", inode, above)
        else:
            inode.virtual = VirtualFile(name)
        inode.past = self._past(inode, side)
        table.add(inode)
        return inode

    def _past(self, inode: Inode, side: Side | None) -> PastShown:
        state = self._state
        now = state.replica.clock.now_ns()
        stat = Stat(
            number=inode.number,
            kind=inode.kind,
            mode=0o555,
            nlink=2,
            uid=state.uid,
            gid=state.gid,
            rdev=0,
            size=DIRECTORY_BYTES,
            atime=now,
            mtime=now,
            ctime=now,
            birth=now,
        )
        if side is None or side.version is None:
            return PastShown(stat, UNBORN, b"", {}, False)
        time = side.mtime_ns
        stat = replace(
            stat, mode=0o444, nlink=1, size=side.size, atime=time, mtime=time, ctime=time, birth=time
        )
        if inode.kind is Kind.SYMLINK:
            return PastShown(stat, UNBORN, side.version.root, {}, False)
        return PastShown(stat, Published(side.version.root, side.size, ()), b"", {}, False)


def conflicts_directory(state: State, inode: Inode) -> ConflictsDirectory:
    """What stands behind the inode of `.dittofs/conflicts`."""
    return ConflictsView(state, inode).top
