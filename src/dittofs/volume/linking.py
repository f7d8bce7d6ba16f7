"""link(2), and files that are made without a name (O_TMPFILE) and may get one."""

import errno

from dittofs.errors import FSError
from dittofs.ids import INODE_ID_BYTES, inode_id, number_of
from dittofs.tree.record import Kind
from dittofs.volume.following import Held
from dittofs.volume.inodes import Inode
from dittofs.volume.names import Names
from dittofs.volume.publication import Publisher
from dittofs.volume.rows import LocalEntry
from dittofs.volume.state import Caller, State, owner_of, owner_row, replace_entry

LINKS_MAX = 65_000


class Linking:
    """Gives files names beside those that they have."""

    def __init__(self, state: State, names: Names, publisher: Publisher) -> None:
        self._state = state
        self._names = names
        self._publisher = publisher

    def make_unnamed(self, parent: Inode, mode: int, caller: Caller) -> Inode:
        """O_TMPFILE (open(2)): a regular file without a name; `link` may give it one."""
        state = self._state
        state.replica.require_writable()
        state.require_directory(parent)
        if parent.virtual is not None:
            raise FSError(errno.EROFS, "what is in .dittofs cannot be changed")
        mode, owner, xattrs = self._names.inherit(parent, Kind.FILE, mode, caller)
        identity = inode_id(state.replica.entropy(INODE_ID_BYTES))
        now = int(state.tick())
        entry = LocalEntry(
            inode=identity,
            kind=int(Kind.FILE),
            names=[],
            mode=mode,
            owner=owner_row(owner),
            birth=now,
            mtime=now,
            stamp=now,
            xattrs=xattrs,
        )
        inode = Inode(number_of(identity), (identity, None), Kind.FILE, unnamed=entry)
        inode.detached = state.stat_of_local(inode, entry)
        state.inodes.add(inode)
        return inode

    def link(self, inode: Inode, parent: Inode, name: bytes) -> Inode:
        """Give a file another name. EPERM for a directory, EMLINK at the limit."""
        state = self._state
        self._names.require_free(parent, name)
        if inode.kind is Kind.DIRECTORY:
            raise FSError(errno.EPERM)
        if inode.virtual is not None:
            raise FSError(errno.EXDEV, "what is in .dittofs is no part of the tree")
        if inode.unnamed is not None:
            self._name(inode, inode.unnamed, parent, name)
            state.announce(parent, name)
            return inode
        if inode.detached is not None:
            raise FSError(errno.ENOENT)
        if state.stat(inode).nlink >= LINKS_MAX:
            raise FSError(errno.EMLINK)
        stamp = state.tick()
        local, held = state.local.get(inode.id), Held.of(state, inode)
        if state.local.get(parent.id) is not None and not (local is not None and local.is_ignored):
            raise FSError(errno.EXDEV, "a replicated file has no name in an ignored directory")
        with state.replica.change() as change:
            if local is not None:
                linked = replace_entry(local, names=[*local.names, (parent.id, name)], stamp=int(stamp))
                state.local.put(linked, change)
                state.touch(parent, stamp, change)
            else:
                change.group.link(inode.ref, parent.id, name, stamp=stamp)
                if inode.ref[1] is not None:
                    # A conflict entry that gets a name becomes an inode of its own; its number stays.
                    entry = state.replica.tree.lookup(parent.id, name)
                    assert entry is not None
                    held.follow(state, self._publisher, (entry.inode, entry.dot), change)
        state.announce(parent, name)
        return inode

    def _name(self, inode: Inode, unnamed: LocalEntry, parent: Inode, name: bytes) -> None:
        """An unnamed file gets its first name, with all it was given meanwhile."""
        state, content, last = self._state, inode.orphan, inode.detached
        assert last is not None
        stamp = state.tick()
        is_users = (last.uid, last.gid) == (state.uid, state.gid)
        entry = replace_entry(
            unnamed,
            names=[(parent.id, name)],
            mode=last.mode,
            owner=None if is_users else owner_row(owner_of(last.uid, last.gid)),
            mtime=last.mtime,
            stamp=int(stamp),
            is_ignored=state.is_ignored(parent.id, name, is_directory=False),
            is_closed=not inode.writers,
        )

        def apply() -> None:
            inode.detached = inode.detached_version = inode.orphan = inode.unnamed = None
            if content is not None:
                state.contents.adopt(content)
            state.inodes.rebind(inode, inode.ref)

        with state.replica.change() as change:
            state.local.put(entry, change)
            state.touch(parent, stamp, change)
            if content is not None:
                state.contents.save(content, change)
            change.after(apply)
        if not inode.writers and not entry.is_ignored:
            self._publisher.enqueue(inode.ref)
