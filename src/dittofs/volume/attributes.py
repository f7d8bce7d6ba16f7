"""setattr and extended attributes."""

import errno
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from dittofs.chunks.seal import ChunkKind
from dittofs.chunks.store import AbsentChunk
from dittofs.clock import DAY_NS
from dittofs.errors import Damaged, FormatError, FSError
from dittofs.ids import ChunkId, Stamp
from dittofs.tree.record import Kind, Owner
from dittofs.volume import acl
from dittofs.volume.contents import Content
from dittofs.volume.fetching import can_fetch, get_fetched
from dittofs.volume.files import Files
from dittofs.volume.inodes import Inode, Stat
from dittofs.volume.local_attributes import LocalAttributes
from dittofs.volume.state import SET_ID_BITS, State, owner_of, owner_row, replace_entry

XATTR_BYTES_MAX = 64 << 10
XATTR_INLINE_BYTES_MAX = 4 << 10
XATTR_NAME_BYTES_MAX = 255
XATTRS_BYTES_MAX = 56 << 10  # of one file in all, values above 4 KiB not counted: a record holds 64 KiB
LOCAL_NAMESPACES = (b"trusted.", b"security.")
NAMESPACES = (b"user.", *LOCAL_NAMESPACES)
VIRTUAL_NAMESPACE = b"user.dittofs."
CAPABILITY = b"security.capability"
SET_GID = 0o2000
CREATE, REPLACE = 1, 2  # setxattr(2)
INLINE, CHUNK = b"\0", b"\1"  # first byte of a replicated value: the value itself, or a chunk id
TIME_MIN, TIME_MAX = -(1 << 63), (1 << 63) - 1
"""Nanoseconds that can be kept: the years 1678 to 2262. A time beyond becomes the nearest, as on ext4."""


def kept_time(at: int) -> int:
    """The nearest time that can be kept."""
    return min(max(at, TIME_MIN), TIME_MAX)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What setattr is asked to change; None leaves a field as it is."""

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    size: int | None = None
    atime: int | None = None
    mtime: int | None = None
    clears_set_id: bool = False
    """The caller may not keep the set-id bits and capabilities of a file that he cuts."""


NOTHING = Wanted()


class AttributeOperations:
    """chmod, chown, truncate, utimens and the xattr calls."""

    def __init__(self, state: State, files: Files) -> None:
        self._state = state
        self._files = files
        self._local = LocalAttributes(state.replica)

    def set(self, inode: Inode, wanted: Wanted) -> Stat | Coroutine[Any, Any, Stat]:
        """Change attributes and return them all. A mode may wait for a large ACL, which says it too."""
        _require_real(inode)
        self._state.replica.require_writable()
        if wanted.mode is not None:
            try:
                self._value(self._replicated(inode).get(acl.ACCESS, INLINE))
            except (AbsentChunk, Damaged):
                if not can_fetch(self._state.source):
                    raise
                return self._set_fetched(inode, wanted)
        return self._set(inode, wanted)

    async def _set_fetched(self, inode: Inode, wanted: Wanted) -> Stat:
        value = self.get_xattr(inode, acl.ACCESS)
        if not isinstance(value, bytes):
            await value
        return self._set(inode, wanted)

    def _set(self, inode: Inode, wanted: Wanted) -> Stat:
        state = self._state
        atime = None if wanted.atime is None else kept_time(wanted.atime)
        mtime = None if wanted.mtime is None else kept_time(wanted.mtime)
        if wanted.size is not None:
            self._files.truncate(inode, wanted.size)
        # chown(2) to nobody and no group asks for nothing, and is a change of owner all the same.
        is_empty_chown = wanted == NOTHING and inode.kind is not Kind.DIRECTORY
        if wanted.clears_set_id or is_empty_chown:
            self.clear_set_id(inode)
        if wanted.mode is not None or wanted.uid is not None or wanted.gid is not None:
            self._set_mode_and_owner(inode, wanted)
        if atime is not None:
            inode.atime = atime
            if inode.detached is None:
                self._local.put_atime(inode, atime)
        if mtime is not None:
            self._set_mtime(inode, mtime)
        state.announce(inode)
        return state.stat(inode)

    def _set_mode_and_owner(self, inode: Inode, wanted: Wanted) -> None:
        state = self._state
        now = state.stat(inode)
        mode = now.mode if wanted.mode is None else wanted.mode & 0o7777
        changes_owner = wanted.uid is not None or wanted.gid is not None
        if changes_owner and wanted.mode is None and inode.kind is not Kind.DIRECTORY:
            mode = without_set_id(mode)
            self._drop_capability(inode)
        owner: Owner | None = None
        uid = now.uid if wanted.uid is None else wanted.uid
        gid = now.gid if wanted.gid is None else wanted.gid
        owner = owner_of(uid, gid)
        stamp = state.tick()
        if inode.detached is not None:
            detached = inode.detached
            detached.mode, detached.uid, detached.gid, detached.ctime = mode, uid, gid, int(stamp)
            return
        access = self._replicated(inode).get(acl.ACCESS)
        if access is not None and mode != now.mode:
            access = INLINE + acl.serialise(acl.with_mode(acl.parse(self._value(access)), mode))
        saved_over = state.saved_over(inode)
        if saved_over is not None and saved_over.taken is not None:
            taken = saved_over.taken
            taken.mode = mode
            taken.owner = owner_row(owner) if changes_owner else taken.owner
            if access is not None:
                taken.xattrs = {**taken.xattrs, acl.ACCESS: access}
            self._restamp(saved_over, stamp)
            return
        local = state.local.get(inode.id)
        with state.replica.change() as change:
            if local is not None:
                xattrs = dict(local.xattrs) if access is None else {**local.xattrs, acl.ACCESS: access}
                row = owner_row(owner) if changes_owner else local.owner
                entry = replace_entry(local, mode=mode, owner=row, xattrs=xattrs, stamp=int(stamp))
                state.local.put(entry, change)
                return
            if mode != now.mode or wanted.mode is not None:
                change.group.set_mode(inode.id, mode, stamp=stamp)
            if changes_owner:
                change.group.set_owner(inode.id, owner, stamp=stamp)
            if access is not None and mode != now.mode:
                change.group.set_xattr(inode.id, acl.ACCESS, access, stamp=stamp)

    def clear_set_id(self, inode: Inode) -> bool:
        """Somebody without the right to keep them wrote to a file: its set-id bits and its capabilities go.

        True if there were any.
        """
        now = self._state.stat(inode).mode
        mode = without_set_id(now)
        if mode != now:
            self._set_mode_and_owner(inode, Wanted(mode=mode))
        return self._drop_capability(inode) or mode != now

    def _drop_capability(self, inode: Inode) -> bool:
        if inode.detached is not None or self._local.get(inode, CAPABILITY) is None:
            return False
        self._local.remove(inode, CAPABILITY)
        return True

    def _set_mtime(self, inode: Inode, mtime: int) -> None:
        state = self._state
        stamp = state.tick()
        if inode.detached is not None:
            inode.detached.mtime, inode.detached.ctime = mtime, int(stamp)
        if self._files.set_times(inode, mtime, stamp) or inode.detached is not None:
            return
        local = state.local.get(inode.id)
        with state.replica.change() as change:
            if local is not None:
                state.local.put(replace_entry(local, mtime=mtime, stamp=int(stamp)), change)
            else:
                change.group.set_mtime(inode.id, mtime, stamp=stamp)

    def _restamp(self, content: Content, stamp: Stamp) -> None:
        content.top.stamp = stamp
        content.is_saved = False
        self._files.save(content)

    def load_atime(self, inode: Inode) -> None:
        """Remember the access time an earlier call set."""
        atime = self._local.atime(inode)
        if atime is not None:
            inode.atime = atime

    def note_access(self, inode: Inode) -> None:
        """relatime: the access time moves when it is older than the change, or a day old. In memory."""
        now = self._state.replica.clock.now_ns()
        latest = self._state.replica.tree.clock.greatest
        if inode.accessed_after == latest and inode.atime is not None and now - inode.atime < DAY_NS:
            return  # nothing in the volume has changed since
        inode.accessed_after = latest
        stat = self._state.stat(inode)
        if stat.atime <= max(stat.mtime, stat.ctime) or now - stat.atime >= DAY_NS:
            inode.atime = now

    # Extended attributes

    def list_xattrs(self, inode: Inode) -> list[bytes]:
        """Names of extended attributes; virtual ones are never listed."""
        return [*self._replicated(inode), *self._local.names(inode)]

    def get_xattr(self, inode: Inode, name: bytes) -> bytes | Coroutine[Any, Any, bytes]:
        """One value. ENODATA if it is not set, EOPNOTSUPP if it cannot be. A large one may be fetched."""
        state = self._state
        if name in NAMESPACES:
            raise FSError(errno.EINVAL)
        if name.startswith(VIRTUAL_NAMESPACE):
            return self._virtual(inode, name)
        if name.startswith(LOCAL_NAMESPACES):
            value = self._local.get(inode, name)
            if value is None:
                raise FSError(errno.ENODATA)
            return value
        stored = self._replicated(inode).get(name)
        if stored is None:
            is_possible = name.startswith(b"user.") or name in (acl.ACCESS, acl.DEFAULT)
            raise FSError(errno.ENODATA if is_possible else errno.EOPNOTSUPP)
        try:
            return self._value(stored)
        except (AbsentChunk, Damaged) as error:
            if not can_fetch(state.source):
                raise
            return get_fetched(state.source, state.replica.chunks, ChunkId(stored[1:]), error)

    def _virtual(self, inode: Inode, name: bytes) -> bytes:
        state = self._state
        if name == VIRTUAL_NAMESPACE + b"state":
            is_local = state.local.get(inode.id)
            if is_local is not None and is_local.is_ignored:
                return b"ignored"
            return b"unpublished" if is_local or state.content(inode) is not None else b"published"
        raise FSError(errno.ENODATA)

    def set_xattr(
        self, inode: Inode, name: bytes, value: bytes, flags: int = 0, *, clears_set_gid: bool = False
    ) -> Coroutine[Any, Any, None] | None:
        """Set a value. ACLs change the mode; EEXIST and ENODATA as setxattr(2) says.

        `clears_set_gid`: who sets an access ACL is no member of the file's group.
        """
        state = self._state
        _require_real(inode)
        state.replica.require_writable()
        if len(name) > XATTR_NAME_BYTES_MAX:
            raise FSError(errno.ERANGE)
        if len(value) > XATTR_BYTES_MAX:
            raise FSError(errno.E2BIG)
        self._require_namespace(inode, name)
        is_set = name in self.list_xattrs(inode)
        if flags & CREATE and is_set:
            raise FSError(errno.EEXIST)
        if flags & REPLACE and not is_set:
            raise FSError(errno.ENODATA)
        if name.startswith(LOCAL_NAMESPACES):
            self._local.put(inode, name, value)
            return None
        mode: int | None = None
        if name in (acl.ACCESS, acl.DEFAULT):
            try:
                parsed = acl.parse(value)
            except FormatError as error:
                raise FSError(errno.EINVAL, str(error)) from error
            if not parsed:
                self._unset_acl(inode, name)
                return None
            if name == acl.ACCESS:
                mode = acl.mode_of(parsed, state.stat(inode).mode)
                mode = mode & ~SET_GID if clears_set_gid else mode
                if acl.is_minimal(parsed):
                    self._put(inode, name, None, mode)
                    return None
        if len(value) > XATTR_INLINE_BYTES_MAX:
            return self._set_large(inode, name, value)
        self._put(inode, name, INLINE + value, mode)
        return None

    def _unset_acl(self, inode: Inode, name: bytes) -> None:
        if name in self._replicated(inode):
            self._put(inode, name, None, None)

    async def _set_large(self, inode: Inode, name: bytes, value: bytes) -> None:
        chunks = self._state.replica.chunks

        def store() -> ChunkId:
            ids = chunks.put([(ChunkKind.DATA, value)])
            chunks.sync()
            return ids[0]

        identity = await self._state.replica.run_blocking(store)
        self._put(inode, name, CHUNK + identity, None)

    def remove_xattr(self, inode: Inode, name: bytes) -> None:
        """Remove a value. ENODATA if it is not set."""
        state = self._state
        _require_real(inode)
        state.replica.require_writable()
        self._require_namespace(inode, name)
        if name not in self.list_xattrs(inode):
            if name in (acl.ACCESS, acl.DEFAULT):
                return
            raise FSError(errno.ENODATA)
        if name.startswith(LOCAL_NAMESPACES):
            self._local.remove(inode, name)
            return
        self._put(inode, name, None, None)

    def _require_namespace(self, inode: Inode, name: bytes) -> None:
        if name in NAMESPACES:
            raise FSError(errno.EINVAL)
        if name.startswith(VIRTUAL_NAMESPACE):
            raise FSError(errno.EPERM, "user.dittofs.* says what is so; it cannot be set")
        if name == acl.DEFAULT and inode.kind is not Kind.DIRECTORY:
            raise FSError(errno.EACCES)
        if name in (acl.ACCESS, acl.DEFAULT):
            if inode.kind is Kind.SYMLINK:
                raise FSError(errno.EOPNOTSUPP)
            return
        if name.startswith(b"user."):
            if inode.kind not in (Kind.FILE, Kind.DIRECTORY):
                raise FSError(errno.EPERM)
            return
        if not name.startswith(LOCAL_NAMESPACES):
            raise FSError(errno.EOPNOTSUPP)

    def _put(self, inode: Inode, name: bytes, value: bytes | None, mode: int | None) -> None:
        state = self._state
        stamp: Stamp = state.tick()
        if inode.detached is not None:
            raise FSError(errno.ENOENT)
        saved_over = state.saved_over(inode)
        if saved_over is not None and saved_over.taken is not None:
            taken = saved_over.taken
            taken.xattrs = {key: old for key, old in taken.xattrs.items() if key != name}
            if value is not None:
                taken.xattrs[name] = value
            taken.mode = taken.mode if mode is None else mode
            self._restamp(saved_over, stamp)
            return
        local = state.local.get(inode.id)
        with state.replica.change() as change:
            if local is not None:
                xattrs = {key: old for key, old in local.xattrs.items() if key != name}
                if value is not None:
                    xattrs[name] = value
                if sum(len(key) + len(one) for key, one in xattrs.items()) > XATTRS_BYTES_MAX:
                    raise FSError(errno.ENOSPC, "the extended attributes of one file hold no more")
                new_mode = local.mode if mode is None else mode
                entry = replace_entry(local, xattrs=xattrs, mode=new_mode, stamp=int(stamp))
                state.local.put(entry, change)
                return
            if value is not None or name in self._replicated(inode):
                change.group.set_xattr(inode.id, name, value, stamp=stamp)
            if mode is not None:
                change.group.set_mode(inode.id, mode, stamp=stamp)

    def _replicated(self, inode: Inode) -> dict[bytes, bytes]:
        state = self._state
        if inode.past is not None:
            return dict(inode.past.xattrs)
        if inode.virtual is not None or inode.detached is not None:
            return {}
        local = state.local.get(inode.id)
        if local is not None:
            return local.xattrs
        content = state.contents.get(inode.ref)
        if content is not None and content.taken is not None:
            return content.taken.xattrs
        return dict(state.replica.tree.xattrs(inode.id))

    def _value(self, stored: bytes) -> bytes:
        if stored[:1] == INLINE:
            return stored[1:]
        return self._state.replica.chunks.get(ChunkKind.DATA, ChunkId(stored[1:]))


def without_set_id(mode: int) -> int:
    """The mode of a file after chown(2), or a write(2), by who may not keep them.

    Set-gid without group execute stays: it is a mark for mandatory locks (inode(7)).
    """
    return mode & (~SET_ID_BITS if mode & 0o010 else ~0o4000)


def _require_real(inode: Inode) -> None:
    if inode.virtual is not None:
        raise FSError(errno.EROFS, "what is in .dittofs cannot be changed")
