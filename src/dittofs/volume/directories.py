"""readdir: entries in the order of a keyed hash of their names, so that a position survives any change."""

import hashlib
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from typing import NamedTuple

from dittofs.errors import FSError
from dittofs.ids import LOST_FOUND, ROOT, InodeId
from dittofs.tree.entry import Change, Entry
from dittofs.tree.naming import MARK
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
class _Listing:
    """All lines of a directory, in their order, as long as somebody has it open."""

    positions: list[_Position] = field(default_factory=list)
    is_stale: bool = True
    is_merged: bool = False
    readers: int = 0


@dataclass(slots=True, eq=False)
class DirectoryHandle:
    """An open directory."""

    inode: Inode
    directory: InodeId
    listing: _Listing


class Directories:
    """Listing directories.

    A directory is read whole when somebody begins to list it and followed name by name after that, so
    that a long listing costs the same whatever happens meanwhile, `rm -r` above all.
    """

    def __init__(self, state: State, names: Names, key: bytes) -> None:
        self._state = state
        self._names = names
        self._key = key
        self._listings: dict[InodeId, _Listing] = {}
        state.local.listeners.append(self._follow)
        state.replica.listeners.append(self._on_change)

    def open(self, inode: Inode) -> DirectoryHandle:
        """Begin to read a directory."""
        if inode.detached is None:
            self._state.require_directory(inode)
        if not inode.opens:
            self._state.remember(inode)
        inode.opens += 1
        listing = self._listings.setdefault(inode.id, _Listing())
        listing.readers += 1
        return DirectoryHandle(inode, inode.id, listing)

    def release(self, handle: DirectoryHandle) -> None:
        handle.listing.readers -= 1
        if not handle.listing.readers:
            del self._listings[handle.directory]
        handle.inode.opens -= 1
        self._state.inodes.drop_if_unused(handle.inode)

    def cookie(self, name: bytes) -> int:
        digest = hashlib.blake2b(name, key=self._key, digest_size=8).digest()
        return (int.from_bytes(digest, "big") >> _COOKIE_SHIFT) | 4

    def read(self, handle: DirectoryHandle, after: int, count: int) -> list[Listed]:
        """At most `count` entries whose cookie is greater than `after`; `.` and `..` first."""
        inode = handle.inode
        if inode.detached is not None or self._is_gone(inode):
            return []
        listed: list[Listed] = []
        if after < DOT_COOKIE:
            listed.append(Listed(DOT_COOKIE, b".", inode))
        if after < DOT_DOT_COOKIE:
            listed.append(Listed(DOT_DOT_COOKIE, b"..", self._names.parent(inode)))
        if inode.virtual is not None:
            start = max(0, after - DOT_DOT_COOKIE)
            below = inode.virtual.children(start, count)
            numbered = enumerate(below, start + DOT_DOT_COOKIE + 1)
            return listed + [Listed(place, one.virtual.name, one) for place, one in numbered if one.virtual]
        if handle.listing.is_stale:
            self._read_whole(handle)
        positions = handle.listing.positions
        index = bisect_right(positions, after, key=_cookie_of)
        while index < len(positions) and len(listed) < count:
            cookie, name, entry = positions[index]
            index += 1
            if MARK in name:
                self._state.note_aside(handle.directory, name)
            try:
                listed.append(Listed(cookie, name, self._inode(entry)))
            except FSError:
                continue  # removed between the listing and now
        return listed

    def _is_gone(self, inode: Inode) -> bool:
        """Whether another device has removed the directory."""
        state = self._state
        if inode.virtual is not None or state.local.get(inode.id) is not None:
            return False
        return not (inode.id == LOST_FOUND or state.replica.tree.members(inode.id))

    def _inode(self, entry: Entry | InodeId) -> Inode:
        if isinstance(entry, Entry):
            return self._state.inode_of_entry(entry)
        local: LocalEntry | None = self._state.local.get(entry)
        if local is None:
            return self._names.directory(entry)
        return self._state.inode_of_local(local)

    def _read_whole(self, handle: DirectoryHandle) -> None:
        state, directory, listing = self._state, handle.directory, handle.listing
        members = state.members(directory)
        is_local = state.local.get(directory) is not None
        source = () if is_local else state.replica.tree.listing(directory)
        local = state.local.names(members)
        positions = [
            _Position(self.cookie(entry.name), entry.name, entry)
            for entry in source
            if entry.name not in local and not _is_reserved(directory, entry.name)
        ]
        positions += [_Position(self.cookie(name), name, inode) for name, inode in local.items()]
        positions.sort(key=_order)
        listing.positions, listing.is_stale, listing.is_merged = positions, False, len(members) > 1

    def _on_change(self, change: Change) -> None:
        """Follow what the tree shows. What one name cannot say makes the listing be read again."""
        if not self._listings:
            return
        for directory, name in change.names:
            self._follow(directory, name)
        named = {directory for directory, _ in change.names}
        for directory, listing in self._listings.items():
            is_unclear = directory in change.touched and directory not in named
            if is_unclear or listing.is_merged or (directory == ROOT and LOST_FOUND in change.touched):
                listing.is_stale = True

    def _follow(self, directory: InodeId, name: bytes) -> None:
        """`name` shows something else in `directory`, or nothing."""
        listing = self._listings.get(directory)
        if listing is None or listing.is_stale or _is_reserved(directory, name):
            return
        if MARK in name or listing.is_merged:
            listing.is_stale = True
            return
        positions = listing.positions
        cookie = self.cookie(name)
        index = bisect_left(positions, (cookie, name), key=_order)
        is_listed = index < len(positions) and positions[index].name == name
        entry = self._entry(directory, name)
        found = [] if entry is None else [_Position(cookie, name, entry)]
        positions[index : index + is_listed] = found

    def _entry(self, directory: InodeId, name: bytes) -> Entry | InodeId | None:
        state = self._state
        local = state.local.lookup((directory,), name)
        if local is not None:
            return InodeId(local.inode)
        if state.local.get(directory) is not None:
            return None
        return state.replica.tree.lookup(directory, name)


def _is_reserved(directory: InodeId, name: bytes) -> bool:
    return directory == ROOT and name == RESERVED


def _cookie_of(position: _Position) -> int:
    return position.cookie


def _order(position: _Position) -> tuple[int, bytes]:
    return position.cookie, position.name
