"""What stands aside in a volume: versions of one file, and things that are called the same.

Found by what the tree shows, so that every device finds the same under the same names. How they are resolved
is `resolving`.
"""

import errno
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dittofs.errors import FSError
from dittofs.ids import ROOT, InodeId, Slot
from dittofs.tree.entry import Entry
from dittofs.tree.record import Kind, Ref, Version
from dittofs.volume.contents import Content
from dittofs.volume.published import UNBORN, Published
from dittofs.volume.state import State


@dataclass(frozen=True, slots=True)
class Side:
    """One of the things that want a name."""

    name: bytes
    """Under which it is shown, in the directory of the conflict."""
    entry: Entry
    device: str
    """Who wrote it, by the name that device gives itself; empty: nobody knows."""
    is_mine: bool
    """It was written on this device."""
    written_ns: int
    """When, by the clock of that device."""
    mtime_ns: int
    size: int
    version: Version | None
    """What it holds; None: a directory, or a special file."""

    @property
    def ref(self) -> Ref:
        return self.entry.ref

    @property
    def shown(self) -> Published:
        """What it holds, to be read; of a file."""
        version = self.version
        return UNBORN if version is None else Published(version.root, version.size, (version.dot,))


@dataclass(frozen=True, slots=True)
class Conflict:
    """A name that several things want, and all of them."""

    directory: InodeId
    path: bytes
    """Of the directory, with a trailing slash; empty for the root."""
    name: bytes
    main: Side | None
    """What the name shows; None: it was removed by somebody who had not seen the others."""
    asides: tuple[Side, ...]

    @property
    def sides(self) -> tuple[Side, ...]:
        """All of them, the shown one first."""
        return (*(() if self.main is None else (self.main,)), *self.asides)

    @property
    def is_of_versions(self) -> bool:
        """All are versions of one file: what it was before may be known."""
        return len({(side.entry.inode, side.entry.kind) for side in self.sides}) == 1


class Conflicts:
    """Of one volume."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._tree = state.replica.tree
        self._writers = state.replica.writers

    def walk(self, names: Sequence[bytes] = ()) -> Iterator[Conflict]:
        """All at and below a path, by path. The tree may change meanwhile: what does not is found once.

        ENOENT, ENOTDIR for a path that is none.
        """
        state = self._state
        if names:
            found = self.find(names)
            if found is not None:
                yield found
                if found.main is None and found.name == names[-1]:
                    return
            top = self._entry(names)
            if top is None or top.kind is not Kind.DIRECTORY:
                return
        prefix = b"".join(name + b"/" for name in names)
        places = sorted((state.path(directory), directory) for directory in self._tree.conflicted())
        for path, directory in places:
            if path.startswith(prefix):
                yield from self._of(directory, path)

    def find(self, names: Sequence[bytes]) -> Conflict | None:
        """The conflict about a path, which may be that of any of its sides; None if there is none.

        ENOENT if nothing is there either.
        """
        if not names:
            return None
        directory = ROOT
        if names[1:]:
            above = self._entry(names[:-1])
            if above is None:
                return None
            if above.kind is not Kind.DIRECTORY:
                raise FSError(errno.ENOTDIR)
            directory = above.inode
        beside = self._tree.beside(directory)
        plain = beside.get(names[-1], names[-1])
        if plain not in beside.values():
            self._entry(names)
            return None
        return self._made(directory, self._state.path(directory), plain)

    def _entry(self, names: Sequence[bytes]) -> Entry | None:
        """What a path shows; None if that is only on this device. ENOENT."""
        inode = ROOT
        entry: Entry | None = None
        for place, name in enumerate(names, 1):
            if self._state.local.lookup(self._state.members(inode), name) is not None:
                return None
            entry = self._tree.lookup(inode, name)
            if entry is None:
                shown = b"/".join(names[:place]).decode(errors="replace")
                raise FSError(errno.ENOENT, f"{shown}: there is nothing of that name")
            inode = entry.inode
        return entry

    def refreshed(self, conflict: Conflict) -> Conflict | None:
        """The same as it is now."""
        if conflict.name not in self._tree.beside(conflict.directory).values():
            return None
        return self._made(conflict.directory, conflict.path, conflict.name)

    def of_inode(self, inode: InodeId) -> Conflict | None:
        """The conflict that a file's versions are part of, None if there is none to be seen."""
        for directory, entry in self._tree.names(inode):
            beside = self._tree.beside(directory)
            plain = beside.get(entry.name, entry.name)
            if plain in beside.values():
                return self._made(directory, self._state.path(directory), plain)
        return None

    def _of(self, directory: InodeId, path: bytes) -> Iterator[Conflict]:
        for name in sorted(set(self._tree.beside(directory).values())):
            conflict = self._made(directory, path, name)
            if conflict.asides:
                yield conflict

    def _made(self, directory: InodeId, path: bytes, name: bytes) -> Conflict:
        beside = self._tree.beside(directory)
        names = [called for called, plain in beside.items() if plain == name]
        asides = [side for called in names if (side := self._side(directory, called)) is not None]
        return Conflict(directory, path, name, self._side(directory, name), tuple(asides))

    def _side(self, directory: InodeId, name: bytes) -> Side | None:
        tree = self._tree
        entry = tree.lookup(directory, name)
        attributes = tree.stat(entry.ref) if entry is not None else None
        if entry is None or attributes is None:
            return None
        writer: Slot | None = tree.writer_of(entry.ref, entry.link)
        version = attributes.version
        return Side(
            name=name,
            entry=entry,
            device="" if writer is None else self._writers.name(writer),
            is_mine=writer is not None and tree.is_own(writer),
            written_ns=int(version.stamp) if version is not None else attributes.birth,
            mtime_ns=attributes.mtime,
            size=attributes.size,
            version=version,
        )


def is_in_use(state: State, side: Side) -> bool:
    """Whether a program is writing it, or what was written waits to be published."""
    inode = state.inodes.of_ref(side.ref)
    content: Content | None = state.contents.peek(side.ref)
    return content is not None or (inode is not None and inode.writers > 0)
