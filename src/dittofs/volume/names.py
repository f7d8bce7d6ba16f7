"""The namespace: lookup, making and removing names. More of them: `linking`; other ones: `renaming`."""

import errno
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any, Protocol

from dittofs.errors import FormatError, FSError
from dittofs.ids import INODE_ID_BYTES, LOST_FOUND, ROOT, InodeId, Number, inode_id
from dittofs.tree.entry import Entry
from dittofs.tree.naming import MARK
from dittofs.tree.record import Kind, NewVersion, Owner, Ref
from dittofs.volume import acl
from dittofs.volume.inodes import Inode
from dittofs.volume.rows import LocalEntry
from dittofs.volume.state import NAME_BYTES_MAX, Caller, State, owner_of, owner_row, replace_entry
from dittofs.volume.transaction import Transaction
from dittofs.volume.unseen import Seen

SYMLINK_BYTES_MAX = 4_095
SET_GID = 0o2000
RESERVED = b".dittofs"
RESERVED_WHY = ".dittofs at the top of a volume is shown by DittoFS itself, and nothing can be put there"
Found = tuple[Inode, LocalEntry | Entry]
"""An inode, and the entry that shows it."""


class Barrier(Protocol):
    """What orders removals behind the publications that came before them."""

    @property
    def is_idle(self) -> bool: ...

    async def drain(self) -> None: ...

    def enqueue(self, ref: Ref) -> None: ...


class Names:
    """Operations on names. Each returns its result, or a coroutine when it must wait for publications."""

    def __init__(self, state: State, barrier: Barrier) -> None:
        self._state = state
        self._barrier = barrier
        self.reserved: Inode | None = None
        """The directory `.dittofs`: reachable by lookup in the root, never listed."""

    # Looking

    def lookup(self, parent: Inode, name: bytes) -> Inode:
        """The inode under a name. ENOENT if there is none."""
        if parent.virtual is not None or (parent.id == ROOT and name == RESERVED):
            return self._lookup_virtual(parent, name)
        found = self.find(parent, name)
        if MARK in name:
            self._state.note_aside(parent.id, name)
        if found is None:
            raise FSError(errno.ENOENT)
        return found[0]

    def _lookup_virtual(self, parent: Inode, name: bytes) -> Inode:
        found = self.reserved if parent.virtual is None else parent.virtual.lookup(name)
        if found is None:
            raise FSError(errno.ENOENT)
        return found

    def find(self, parent: Inode, name: bytes) -> Found | None:
        """The inode under a name and the entry that shows it."""
        state = self._state
        state.require_directory(parent)
        if len(name) > NAME_BYTES_MAX:
            raise FSError(errno.ENAMETOOLONG)
        if parent.virtual is not None:
            raise FSError(errno.EROFS, "what is in .dittofs cannot be changed")
        members = state.members(parent.id)
        local = state.local.lookup(members, name)
        if local is not None:
            return state.inode_of_local(local), local
        if state.local.get(parent.id) is not None:
            return None
        entry = state.replica.tree.lookup(parent.id, name)
        return None if entry is None else (state.inode_of_entry(entry), entry)

    def parent(self, inode: Inode) -> Inode:
        """The directory above a directory; the root's is the root."""
        state = self._state
        if inode.virtual is not None:
            return inode.virtual.parent() or self.directory(ROOT)
        local = state.local.get(inode.id)
        above = InodeId(local.names[0][0]) if local is not None else state.replica.tree.parent(inode.id)
        return self.directory(above)

    def directory(self, directory: InodeId) -> Inode:
        """The inode of a directory known by its id."""
        state = self._state
        known = state.inodes.of_ref((directory, None))
        if known is not None:
            return known
        local = state.local.get(directory)
        if local is not None:
            return state.inode_of_local(local)
        attributes = state.replica.tree.stat((directory, None))
        if attributes is None:
            raise FSError(errno.ESTALE)
        return state.inodes.intern(attributes.number, (directory, None), Kind.DIRECTORY)

    def is_empty(self, directory: Inode) -> bool:
        state = self._state
        if state.local.names(state.members(directory.id)):
            return False
        if state.local.get(directory.id) is not None:
            return True
        return not state.replica.tree.listing(directory.id)

    # Making

    def make(
        self,
        parent: Inode,
        name: bytes,
        kind: Kind,
        mode: int,
        caller: Caller,
        *,
        rdev: int = 0,
        target: bytes = b"",
        is_open: bool = False,
    ) -> Inode:
        """Make a file, directory, symbolic link or special file. EEXIST if the name is taken.

        A regular file is born in the local layer; `is_open` keeps it there until its writer closes it.
        """
        state = self._state
        self.require_free(parent, name)
        if kind is Kind.SYMLINK and not 0 < len(target) <= SYMLINK_BYTES_MAX:
            raise FSError(errno.ENAMETOOLONG if target else errno.ENOENT)
        mode, owner, xattrs = self.inherit(parent, kind, mode, caller)
        inode = inode_id(state.replica.entropy(INODE_ID_BYTES))
        is_ignored = state.is_ignored(parent.id, name, is_directory=kind is Kind.DIRECTORY)
        stamp = state.tick()
        now = int(stamp)
        with state.replica.change() as change:
            if is_ignored or kind is Kind.FILE:
                entry = LocalEntry(
                    inode=inode,
                    kind=int(kind),
                    names=[(parent.id, name)],
                    mode=mode,
                    owner=owner_row(owner),
                    birth=now,
                    mtime=now,
                    stamp=now,
                    rdev=rdev,
                    target=target,
                    xattrs=xattrs,
                    is_ignored=is_ignored,
                    is_closed=not is_open,
                )
                state.local.put(entry, change)
                state.touch(parent, stamp, change)
            else:
                version = NewVersion(target, len(target), now, b"") if kind is Kind.SYMLINK else None
                change.group.create(
                    parent.id,
                    name,
                    kind,
                    inode=inode,
                    mode=mode,
                    owner=owner,
                    birth=now,
                    mtime=now,
                    version=version,
                    rdev=rdev,
                    xattrs=xattrs,
                    stamp=stamp,
                )
        found = self.find(parent, name)
        assert found is not None
        if kind is Kind.FILE and not is_open and not is_ignored:
            self._barrier.enqueue((inode, None))
        state.announce(parent, name)
        return found[0]

    def inherit(
        self, parent: Inode, kind: Kind, mode: int, caller: Caller
    ) -> tuple[int, Owner | None, dict[bytes, bytes]]:
        """Mode, owner and ACLs of something new: set-gid directories and default ACLs hand theirs down.

        The caller's umask counts where there is no default ACL (acl(5), object creation).
        """
        state = self._state
        mode &= 0o7777
        above = state.stat(parent)
        gid = caller.gid
        if above.mode & SET_GID:
            gid = above.gid
            if kind is Kind.DIRECTORY:
                mode |= SET_GID
        owner = None if (caller.uid, gid) == (state.uid, state.gid) else owner_of(caller.uid, gid)
        xattrs: dict[bytes, bytes] = {}
        default = self._xattrs(parent).get(acl.DEFAULT)
        if default is not None and kind is not Kind.SYMLINK:
            try:
                mode, access = acl.inherit(acl.parse(default[1:]), mode)
            except FormatError:
                return mode & ~caller.umask, owner, xattrs
            if access is not None:
                xattrs[acl.ACCESS] = default[:1] + acl.serialise(access)
            if kind is Kind.DIRECTORY:
                xattrs[acl.DEFAULT] = default
        elif kind is not Kind.SYMLINK:
            mode &= ~caller.umask
        return mode, owner, xattrs

    def _xattrs(self, inode: Inode) -> dict[bytes, bytes]:
        local = self._state.local.get(inode.id)
        if local is not None:
            return local.xattrs
        return dict(self._state.replica.tree.xattrs(inode.id))

    def require_free(self, parent: Inode, name: bytes) -> None:
        """EEXIST, EPERM or EROFS if nothing can be made under a name."""
        state = self._state
        state.replica.require_writable()
        if self.find(parent, name) is not None:
            raise FSError(errno.EEXIST)
        if parent.id == ROOT and name == RESERVED:
            raise FSError(errno.EEXIST, f"{RESERVED.decode()} is reserved")
        if parent.id == LOST_FOUND:
            raise FSError(errno.EPERM, "lost+found shows what has no place; nothing is made in it")

    # Removing

    def unlink(self, parent: Inode, name: bytes) -> Coroutine[Any, Any, None] | None:
        """Remove a name of a file. EISDIR for a directory."""
        return self._take_away(parent, name, self._removable_file)

    def rmdir(self, parent: Inode, name: bytes) -> Coroutine[Any, Any, None] | None:
        """Remove an empty directory. ENOTEMPTY, ENOTDIR."""
        return self._take_away(parent, name, self._removable_directory)

    def _take_away(
        self, parent: Inode, name: bytes, find: Callable[[Inode, bytes], Found]
    ) -> Coroutine[Any, Any, None] | None:
        inode, entry = find(parent, name)
        seen = Seen.of(self._state, inode)
        if isinstance(entry, Entry) and not self._barrier.is_idle:
            return self._take_away_later(parent, name, find, seen)
        self._remove(parent, (inode, entry), name, seen)
        return None

    async def _take_away_later(
        self, parent: Inode, name: bytes, find: Callable[[Inode, bytes], Found], seen: Seen
    ) -> None:
        await self._barrier.drain()
        found = find(parent, name)
        self._remove(parent, found, name, seen.still(self._state, found[0]))

    def _remove(self, parent: Inode, found: Found, name: bytes, seen: Seen) -> None:
        with self._state.replica.change() as change:
            self.remove(parent, found, name, seen, change)
        self._state.announce(parent, name)

    def _removable(self, parent: Inode, name: bytes) -> Found:
        self._state.replica.require_writable()
        if parent.id == ROOT and name == RESERVED:
            raise FSError(errno.EPERM, f"{RESERVED.decode()} is reserved")
        found = self.find(parent, name)
        if found is None:
            raise FSError(errno.ENOENT)
        return found

    def _removable_file(self, parent: Inode, name: bytes) -> Found:
        inode, entry = self._removable(parent, name)
        if inode.kind is Kind.DIRECTORY:
            raise FSError(errno.EISDIR)
        return inode, entry

    def _removable_directory(self, parent: Inode, name: bytes) -> Found:
        inode, entry = self._removable(parent, name)
        if inode.kind is not Kind.DIRECTORY:
            raise FSError(errno.ENOTDIR)
        if inode.id == LOST_FOUND:
            raise FSError(errno.EBUSY)
        if not self.is_empty(inode):
            raise FSError(errno.ENOTEMPTY)
        return inode, entry

    def remove(self, parent: Inode, found: Found, name: bytes, seen: Seen, change: Transaction) -> None:
        """Within a transaction: take one name away from a file, or an empty directory out of its parent.

        The last name of a file takes along what was `seen`. If another device has saved it since, it stays.
        """
        state, (inode, entry) = self._state, found
        stamp = state.tick()
        if isinstance(entry, LocalEntry):
            rest = [one for one in entry.names if one[1] != name or one[0] not in state.members(parent.id)]
            state.touch(parent, stamp, change)
            if rest:
                state.local.put(replace_entry(entry, names=rest, stamp=int(stamp)), change)
            else:
                self.detach(inode, change)
                state.local.remove(InodeId(entry.inode), change)
        elif inode.kind is Kind.DIRECTORY:
            self.detach(inode, change)
            change.group.rmdir(parent.id, entry, stamp=stamp)
        else:
            is_last = state.stat(inode).nlink <= 1
            is_hiding = is_last and seen.hides(state)
            if is_last:
                self.detach(inode, change)
            if is_hiding:
                seen.remove(state, change)
            else:
                change.group.unlink(parent.id, entry, stamp=stamp)

    def detach(self, inode: Inode, change: Transaction) -> None:
        """Within a transaction: `inode` loses its last name; open descriptors keep what it holds."""
        state = self._state
        stamp = state.tick()
        last = replace(state.stat(inode), nlink=0, ctime=int(stamp))
        version = state.shown(inode)
        target = self.target(inode) if inode.kind is Kind.SYMLINK else b""
        content = state.contents.peek(inode.ref)
        if content is not None:
            state.contents.erase_rows(content, content.layers)
        elif inode.ref in state.contents.unreadable:
            state.contents.erase_unreadable(inode.ref)
        self._erase_local_attributes(inode)
        ref = inode.ref

        def apply() -> None:
            state.contents.unreadable.pop(ref, None)
            if content is not None:
                state.contents.detach(content)
                if inode.opens:
                    inode.orphan = content
                else:
                    state.contents.discard(content)
            inode.detached_version = version
            inode.target = target
            inode.ref = ref
            state.inodes.detach(inode, last)

        change.after(apply)

    def _erase_local_attributes(self, inode: Inode) -> None:
        journal = self._state.replica.journal
        key = inode.id.encode("ascii")
        journal.delete_local("atime", key)
        for row_key, _ in list(journal.scan_local("xattr", key + b"\0")):
            journal.delete_local("xattr", row_key)

    def move_local_attributes(self, old: InodeId, new: InodeId) -> None:
        """Within a transaction: attributes that only this device has follow the content of a save."""
        journal = self._state.replica.journal
        old_key, new_key = old.encode("ascii"), new.encode("ascii")
        for kind in ("atime", "xattr"):
            for row_key, value in list(journal.scan_local(kind, old_key)):
                journal.delete_local(kind, row_key)
                journal.put_local(kind, new_key + row_key[len(old_key) :], value)

    def target(self, inode: Inode) -> bytes:
        """What a symbolic link points to. EINVAL for anything else."""
        if inode.kind is not Kind.SYMLINK:
            raise FSError(errno.EINVAL)
        if inode.past is not None:
            return inode.past.target
        if inode.detached is not None:
            return inode.target
        local = self._state.local.get(inode.id)
        if local is not None:
            return local.target
        if inode.last is not None and self._state.replica.tree.stat(inode.ref) is None:
            return inode.last.target
        version = self._state.attributes(inode).version
        return version.root if version is not None else b""

    def by_number(self, number: Number) -> Inode:
        return self._state.inode_by_number(number)
