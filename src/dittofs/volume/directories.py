"""readdir: entries in the order of a keyed hash of their names, so that a position survives any change."""

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from dittofs.errors import FSError
from dittofs.ids import ROOT, InodeId
from dittofs.tree.entry import Entry
from dittofs.volume.inodes import Inode
from dittofs.volume.names import RESERVED, Names
from dittofs.volume.rows import LocalEntry
from dittofs.volume.state import State

DOT_COOKIE, DOT_DOT_COOKIE = 1, 2
_COOKIE_SHIFT = 2  # 62 bits: programs keep a position in a signed 64-bit number


class Listed(NamedTuple):
    """One line of a directory."""

    cookie: int
    name: bytes
    inode: Inode


class _Position(NamedTuple):
    cookie: int
    name: bytes
    entry: Entry | InodeId


@dataclass(slots=True, eq=False)
class DirectoryHandle:
    """An open directory: what it last listed, as long as nothing changed."""

    inode: Inode
    positions: list[_Position] = field(default_factory=list)
    source: Sequence[Entry] | None = None
    local_version: int = -1


class Directories:
    """Listing directories."""

    def __init__(self, state: State, names: Names, key: bytes) -> None:
        self._state = state
        self._names = names
        self._key = key

    def open(self, inode: Inode) -> DirectoryHandle:
        """Begin to read a directory."""
        if inode.detached is None:
            self._state.require_directory(inode)
        inode.opens += 1
        return DirectoryHandle(inode)

    def release(self, handle: DirectoryHandle) -> None:
        handle.inode.opens -= 1
        self._state.inodes.drop_if_unused(handle.inode)

    def cookie(self, name: bytes) -> int:
        digest = hashlib.blake2b(name, key=self._key, digest_size=8).digest()
        return (int.from_bytes(digest, "big") >> _COOKIE_SHIFT) | 4

    def read(self, handle: DirectoryHandle, after: int, count: int) -> list[Listed]:
        """At most `count` entries whose cookie is greater than `after`; `.` and `..` first."""
        inode = handle.inode
        if inode.detached is not None:
            return []
        listed: list[Listed] = []
        if after < DOT_COOKIE:
            listed.append(Listed(DOT_COOKIE, b".", inode))
        if after < DOT_DOT_COOKIE:
            listed.append(Listed(DOT_DOT_COOKIE, b"..", self._names.parent(inode)))
        if inode.virtual is not None:
            below = inode.virtual.children()
            numbered = [(place, one) for place, one in enumerate(below, 3) if place > after]
            return listed + [Listed(place, one.virtual.name, one) for place, one in numbered if one.virtual]
        self._refresh(handle)
        positions = handle.positions
        index = bisect_right(positions, after, key=_cookie_of)
        while index < len(positions) and len(listed) < count:
            cookie, name, entry = positions[index]
            index += 1
            try:
                listed.append(Listed(cookie, name, self._inode(entry)))
            except FSError:
                continue  # removed between the listing and now
        return listed

    def _inode(self, entry: Entry | InodeId) -> Inode:
        if isinstance(entry, Entry):
            return self._state.inode_of_entry(entry)
        local: LocalEntry | None = self._state.local.get(entry)
        if local is None:
            return self._names.directory(entry)
        return self._state.inode_of_local(local)

    def _refresh(self, handle: DirectoryHandle) -> None:
        state, directory = self._state, handle.inode.id
        members = state.members(directory)
        version = state.local.version(members)
        is_local = state.local.get(directory) is not None
        source = () if is_local else state.replica.tree.listing(directory)
        if handle.source is source and handle.local_version == version:
            return
        local = state.local.names(members)
        positions = [
            _Position(self.cookie(entry.name), entry.name, entry)
            for entry in source
            if entry.name not in local and not (directory == ROOT and entry.name == RESERVED)
        ]
        positions += [_Position(self.cookie(name), name, inode) for name, inode in local.items()]
        positions.sort(key=_order)
        handle.positions, handle.source, handle.local_version = positions, source, version


def _cookie_of(position: _Position) -> int:
    return position.cookie


def _order(position: _Position) -> tuple[int, bytes]:
    return position.cookie, position.name
