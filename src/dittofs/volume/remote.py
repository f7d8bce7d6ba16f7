"""What other devices changed, as programs here see it: numbers, open files, and who must look again.

The tree has changed when this is called; what a number or an open file showed before is what `Inode.last`
remembers. Costs grow with what programs know, not with what changed.
"""

from collections.abc import Iterable
from dataclasses import replace

from dittofs.ids import LOST_FOUND, ROOT, InodeId
from dittofs.tree.entry import Change
from dittofs.tree.record import Kind
from dittofs.volume.inodes import Inode
from dittofs.volume.state import State


class RemoteChanges:
    """Follows every change of the tree."""

    def __init__(self, state: State) -> None:
        self._state = state
        state.replica.listeners.append(self.follow)

    def follow(self, change: Change) -> None:
        """Bring numbers and open files up to date; announce what a peer changed."""
        inodes = self._state.inodes
        known = [inode for one in change.touched for inode in inodes.of_id(one)]
        is_foreign = bool(change.via) or change.is_round or change.is_unasked
        names = set(change.names)
        if is_foreign:
            for inode in known:
                before = inode.id
                if self._renumber(inode):  # no change of its names tells that they show another number
                    names |= self._names_of(before) | self._names_of(inode.id)
        for inode in known:
            if inode.opens and not inode.writers:
                self._state.remember(inode)
        if not is_foreign:
            return
        if self._state.rules_inode in change.touched:
            self._state.are_rules_stale = True
        for inode in known:
            if inode.lookups:
                self._state.announce(inode, is_remote=True)
        self._announce_names(change, names)

    def _renumber(self, inode: Inode) -> bool:
        """A number shows something else: a save took it along, a conflict entry became a file, directories
        are one or are no more. Who holds it goes with it; who holds what the name showed keeps that.
        What is written here is known by the number that it is written through, and by no second one.

        False: it shows what it did.
        """
        state = self._state
        tree, inodes = state.replica.tree, state.inodes
        attributes = tree.stat(inode.ref)
        if attributes is not None and attributes.number == inode.face:
            return False
        if inode.detached is not None or inodes.is_written(inode):
            return False  # what is written here becomes a version of its own, whatever the name shows
        moved = tree.by_number(inode.face)
        shown = tree.stat(moved) if moved is not None and moved != inode.ref else None
        other = None if moved is None else inodes.of_ref(moved)
        is_free = other is None or not inodes.is_written(other)
        if moved is not None and shown is not None and shown.number == inode.face and is_free:
            inodes.rebind(inode, moved)
        elif attributes is None or inode.kind is Kind.DIRECTORY:
            return False  # gone: descriptors keep what they had; of merged directories one number is an alias
        elif inode.opens and inode.last is not None:
            inode.detached_version, inode.target = inode.last.shown, inode.last.target
            inodes.detach(inode, replace(inode.last.stat, nlink=0))
        else:
            inodes.unbind(inode)
        return True

    def _announce_names(self, change: Change, names: Iterable[tuple[InodeId, bytes]]) -> None:
        state = self._state
        directories: dict[InodeId, list[Inode]] = {}
        hears_lost_found = LOST_FOUND in change.touched
        for directory, name in names:
            shown = directories.get(directory)
            if shown is None:
                shown = directories[directory] = self._shown_as(directory)
            for inode in shown:
                state.announce(inode, name, is_remote=True)
        for directory in change.touched:
            if directory not in directories and state.asides.get(directory):
                directories[directory] = self._shown_as(directory)
        for directory, shown in directories.items():
            for name in state.asides.pop(directory, ()):
                for inode in shown:
                    state.announce(inode, name, is_remote=True)
        if hears_lost_found:
            for inode in self._shown_as(ROOT):
                state.announce(inode, b"lost+found", is_remote=True)

    def _names_of(self, inode: InodeId) -> set[tuple[InodeId, bytes]]:
        return {(above, entry.name) for above, entry in self._state.replica.tree.names(inode)}

    def _shown_as(self, directory: InodeId) -> list[Inode]:
        """The inodes that programs know the directory by; what has no place is shown in lost+found."""
        state = self._state
        members = state.replica.tree.members(directory) or (directory, LOST_FOUND)
        found = [inode for one in {directory, *members} for inode in state.inodes.of_id(one)]
        return [inode for inode in found if inode.lookups]
