"""rename(2): one name takes the place of another, atomically, across the tree and the local layer."""

import errno
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from dittofs.chunks.version import store_version_node
from dittofs.errors import DiskError, DiskFull, FSError
from dittofs.ids import LOST_FOUND, ROOT, InodeId, Stamp, number_of
from dittofs.tree.entry import Entry
from dittofs.tree.record import Kind, Version
from dittofs.volume.events import node_of
from dittofs.volume.following import Held, follow
from dittofs.volume.inodes import Inode
from dittofs.volume.names import RESERVED, Found, Names
from dittofs.volume.publication import Publisher
from dittofs.volume.published import UNBORN
from dittofs.volume.rows import LocalEntry, Taken
from dittofs.volume.state import NAME_BYTES_MAX, State, replace_entry
from dittofs.volume.transaction import Transaction
from dittofs.volume.unseen import Seen

NOREPLACE = 1
EXCHANGE = 2
Over = tuple[Found, Seen]
"""What a rename takes the place of, and what that showed when it was asked for."""


@dataclass(frozen=True, slots=True)
class Move:
    """What a program asked for."""

    parent: Inode
    name: bytes
    new_parent: Inode
    new_name: bytes
    flags: int


class Renaming:
    """Renames. Waits only for publications that must come before it."""

    def __init__(self, state: State, names: Names, publisher: Publisher) -> None:
        self._state = state
        self._names = names
        self._publisher = publisher

    def rename(
        self, parent: Inode, name: bytes, new_parent: Inode, new_name: bytes, flags: int
    ) -> Coroutine[Any, Any, None] | None:
        """Rename with RENAME_NOREPLACE (1) or RENAME_EXCHANGE (2) or neither."""
        if flags & ~(NOREPLACE | EXCHANGE) or flags == NOREPLACE | EXCHANGE:
            raise FSError(errno.EINVAL)
        move = Move(parent, name, new_parent, new_name, flags)
        source, target = self._find(move)
        seen = None if target is None else Seen.of(self._state, target[0])
        if self._must_settle(source, target, flags):
            return self._rename_settled(move, source[0], seen)
        is_local = isinstance(source[1], LocalEntry) and (
            target is None
            or isinstance(target[1], LocalEntry)
            or (self._is_local_save(source, target) and self._state.contents.get(target[0].ref) is None)
        )
        if not is_local and not self._publisher.is_idle:
            return self._rename_later(move, seen)
        self._rename(move, seen)
        return None

    async def _rename_later(self, move: Move, seen: Seen | None) -> None:
        await self._publisher.drain()
        source, target = self._find(move)
        if self._must_settle(source, target, move.flags):
            await self._publisher.settle(source[0].ref)
        self._rename(move, seen)

    async def _rename_settled(self, move: Move, inode: Inode, seen: Seen | None) -> None:
        await self._publisher.settle(inode.ref)
        await self._rename_later(move, seen)

    def _find(self, move: Move) -> tuple[Found, Found | None]:
        state = self._state
        parent, new_parent, new_name, flags = move.parent, move.new_parent, move.new_name, move.flags
        state.replica.require_writable()
        if (ROOT, RESERVED) in ((parent.id, move.name), (new_parent.id, new_name)):
            raise FSError(errno.EPERM, f"{RESERVED.decode()} is reserved")
        source = self._names.find(parent, move.name)
        if source is None:
            raise FSError(errno.ENOENT)
        if len(new_name) > NAME_BYTES_MAX:
            raise FSError(errno.ENAMETOOLONG)
        target = self._names.find(new_parent, new_name)
        if new_parent.id == LOST_FOUND or LOST_FOUND in (source[0].id, target[0].id if target else None):
            raise FSError(errno.EBUSY)
        if flags & NOREPLACE and target is not None:
            raise FSError(errno.EEXIST)
        if flags & EXCHANGE and target is None:
            raise FSError(errno.ENOENT)
        if source[0].kind is Kind.DIRECTORY and self._is_below(new_parent, source[0]):
            raise FSError(errno.EINVAL)
        if target is not None and target[0].kind is Kind.DIRECTORY and self._is_below(parent, target[0]):
            raise FSError(errno.EINVAL if flags & EXCHANGE else errno.ENOTEMPTY)
        if target is not None and not flags & EXCHANGE and target[0] is not source[0]:
            if target[0].kind is Kind.DIRECTORY:
                if source[0].kind is not Kind.DIRECTORY:
                    raise FSError(errno.EISDIR)
                if not self._names.is_empty(target[0]):
                    raise FSError(errno.ENOTEMPTY)
            elif source[0].kind is Kind.DIRECTORY:
                raise FSError(errno.ENOTDIR)
        return source, target

    def _is_below(self, directory: Inode, above: Inode) -> bool:
        """Whether `directory` is `above` or lies in it."""
        while directory is not above:
            if directory.id == ROOT:
                return False
            directory = self._names.parent(directory)
        return True

    def _is_local_save(self, source: Found, target: Found) -> bool:
        """Whether an unpublished file can become the next version of the file it replaces (tree.md §2)."""
        entry = source[1]
        return (
            isinstance(entry, LocalEntry)
            and not entry.is_ignored
            and source[0].kind is target[0].kind is Kind.FILE
            and len(entry.names) == 1
            and target[0].ref[1] is None
            and self._state.stat(target[0]).nlink == 1
        )

    def _must_settle(self, source: Found, target: Found | None, flags: int) -> bool:
        """Whether the unpublished source must enter the tree first."""
        entry = source[1]
        if not isinstance(entry, LocalEntry) or entry.is_ignored or target is None:
            return False
        if isinstance(target[1], LocalEntry):
            return False
        if flags & EXCHANGE:
            return True
        return not self._is_local_save(source, target)

    def _rename(self, move: Move, seen: Seen | None) -> None:
        """Decide and do, without waiting. `seen`: what the new name showed when this was asked for."""
        source, target = self._find(move)
        if target is not None and target[0] is source[0]:
            return  # two names of one file: rename(2) does nothing
        over: Over | None = None
        if target is not None:
            over = target, (seen or Seen.of(self._state, target[0])).still(self._state, target[0])
        stamp = self._state.tick()
        with self._state.replica.change() as change:
            if move.flags & EXCHANGE:
                assert target is not None
                self._exchange(move, source, target, stamp, change)
            elif isinstance(source[1], LocalEntry):
                self._move_local(move, source, over, stamp, change)
            else:
                self._move_tree(move, source, over, stamp, change)
        self._state.announce(move.parent, move.name)
        self._state.announce(move.new_parent, move.new_name)

    def _exchange(self, move: Move, source: Found, target: Found, stamp: Stamp, change: Transaction) -> None:
        one, other = source[1], target[1]
        if isinstance(one, Entry) and isinstance(other, Entry):
            change.group.exchange(move.parent.id, one, move.new_parent.id, other, stamp=stamp)
            return
        back = Move(move.new_parent, move.new_name, move.parent, move.name, move.flags)
        self._place(move, one, stamp, change)
        self._place(back, other, stamp, change)

    def _place(self, move: Move, entry: LocalEntry | Entry, stamp: Stamp, change: Transaction) -> None:
        """Within the transaction: `entry` goes where nothing is in its way."""
        parent, new_parent, new_name = move.parent, move.new_parent, move.new_name
        if isinstance(entry, Entry):
            if self._state.local.get(new_parent.id) is not None:
                raise FSError(errno.EXDEV, "a replicated entry cannot move into an ignored directory")
            change.group.rename(parent.id, entry, new_parent.id, new_name, over=None, stamp=stamp)
            return
        state = self._state
        members = state.members(parent.id)
        names = [
            (new_parent.id, new_name) if one[1] == move.name and one[0] in members else one
            for one in entry.names
        ]
        is_directory = entry.kind == Kind.DIRECTORY
        is_ignored = state.is_ignored(new_parent.id, new_name, is_directory=is_directory)
        # With another name in an ignored directory it has no place in the tree.
        is_ignored = is_ignored or any(state.local.get(InodeId(above)) is not None for above, _ in names)
        moved = replace_entry(entry, names=names, stamp=int(stamp), is_ignored=is_ignored)
        state.local.put(moved, change)
        state.touch(parent, stamp, change)
        if new_parent is not parent:
            state.touch(new_parent, stamp, change)
        if entry.is_ignored and not is_ignored:
            change.after(lambda: self._publisher.enter(InodeId(entry.inode)))

    def _move_local(
        self, move: Move, source: Found, over: Over | None, stamp: Stamp, change: Transaction
    ) -> None:
        _, entry = source
        assert isinstance(entry, LocalEntry)
        if over is not None and isinstance(over[0][1], Entry) and self._is_local_save(source, over[0]):
            self._save(move, source, over, stamp, change)
            return
        if over is not None:
            self._names.remove(move.new_parent, over[0], move.new_name, over[1], change)
        self._place(move, entry, stamp, change)

    def _save(self, move: Move, source: Found, over: Over, stamp: Stamp, change: Transaction) -> None:
        """The unpublished file becomes the next version of the file it is renamed over, as that was shown."""
        state, (inode, entry), ((target, _), seen) = self._state, source, over
        assert isinstance(entry, LocalEntry)
        content = state.contents.get(inode.ref)
        replaces = (seen.version or state.shown(target)).replaces
        target_ref = target.ref
        self._names.detach(target, change)
        state.local.remove(inode.id, change)
        if content is None:
            content = state.contents.begin(inode.ref, UNBORN)
            top = content.top
            top.mtime, top.is_closed = entry.mtime, inode.writers == 0
        content.top.stamp = stamp
        content.published = replace(content.published, replaces=replaces, rank=None, point_over=None)
        content.face = number_of(inode.id)
        content.taken = Taken(mode=entry.mode, owner=entry.owner, xattrs=entry.xattrs)
        content.is_flushed = content.is_flushed or entry.is_closed
        state.contents.move(content, target_ref, change)
        state.touch(move.new_parent, stamp, change)
        if move.parent is not move.new_parent:
            state.touch(move.parent, stamp, change)
        self._names.move_local_attributes(inode.id, target_ref[0])
        held = Held(inode, content, is_beside=False, has_moved_on=False)
        follow(state, self._publisher, held, target_ref, change)

    def _move_tree(
        self, move: Move, source: Found, over: Over | None, stamp: Stamp, change: Transaction
    ) -> None:
        inode, entry = source
        target = None if over is None else over[0][0]
        assert isinstance(entry, Entry)
        state, new_parent, new_name = self._state, move.new_parent, move.new_name
        if state.local.get(new_parent.id) is not None:
            raise FSError(errno.EXDEV, "a replicated entry cannot move into an ignored directory")
        held, saved = Held.of(state, inode), state.replica.tree.version(inode.ref)
        replaced: Entry | None = None
        if over is not None and isinstance(over[0][1], LocalEntry):
            self._names.remove(new_parent, over[0], new_name, over[1], change)
        elif over is not None:
            (found_inode, found_entry), seen = over
            assert isinstance(found_entry, Entry)
            replaced = found_entry
            is_last = found_inode.kind is Kind.DIRECTORY or state.stat(found_inode).nlink <= 1
            is_hiding = is_last and seen.hides(state)
            if is_last:
                self._names.detach(found_inode, change)
            if is_hiding:
                self._replace_seen(move, held, entry, seen, change)
                return
        target_ref = target.ref if target is not None else None
        node = self._node(saved, target) if replaced is not None and target is not None else b""
        is_save = change.group.rename(
            move.parent.id, entry, new_parent.id, new_name, over=replaced, stamp=stamp, node=node
        )
        if is_save:
            assert target_ref is not None
            if inode.ref[1] is None:
                self._names.move_local_attributes(inode.id, target_ref[0])
            held.follow(state, self._publisher, target_ref, change)
        elif inode.ref[1] is not None:
            # A renamed conflict entry is an inode of its own from now on; its number stays.
            found = state.replica.tree.lookup(new_parent.id, new_name)
            if found is not None:
                held.follow(state, self._publisher, (found.inode, found.dot), change)

    def _replace_seen(self, move: Move, held: Held, entry: Entry, seen: Seen, change: Transaction) -> None:
        """The file takes the place of what the new name showed, beside what another device saved there."""
        state, inode = self._state, held.inode
        if entry.kind is not Kind.FILE:
            raise FSError(errno.ESTALE)
        is_linked = state.stat(inode).nlink > 1  # then it goes on under its other names
        ref = seen.replace(state, inode.ref, change)
        change.group.unlink(move.parent.id, entry, stamp=state.tick())
        if not is_linked:
            if inode.ref[1] is None:
                self._names.move_local_attributes(inode.id, ref[0])
            held.follow(state, self._publisher, ref, change)

    def _node(self, saved: Version | None, target: Inode) -> bytes:
        """A version node for what is moved over another file: it comes from both. Empty if there is none.

        It is not waited for until it is on the platter. What a power cut may take is the knowledge that the
        two belong together, which a merge and nothing else asks for.
        """
        state = self._state
        replaced = state.replica.tree.version(target.ref) if target.kind is Kind.FILE else None
        previous = [] if replaced is None or saved is None else [node_of(replaced.node), node_of(saved.node)]
        known = [node for node in previous if node is not None]
        if replaced is None or saved is None or len(known) < 2:
            return b""
        with suppress(DiskFull, DiskError):
            slot = state.replica.slot
            return store_version_node(state.replica.chunks, saved.root, saved.size, saved.mtime, slot, known)
        return b""
