"""What another device saved, and programs here were not shown: no name that they take away takes it along.

While something is written here, its name shows that, or what its writers opened. A newer version of another
device stays hidden behind it until the writers are done. Who removes or replaces the name has not seen it.
"""

from dataclasses import dataclass

from dittofs.tree.record import Dot, NewVersion, Ref
from dittofs.volume.contents import Content
from dittofs.volume.inodes import Inode
from dittofs.volume.published import Published
from dittofs.volume.state import State
from dittofs.volume.transaction import Transaction


@dataclass(frozen=True, slots=True)
class Seen:
    """What a name shows, as of the moment it was looked at: publication meanwhile goes into it."""

    ref: Ref
    content: Content | None
    base: Published | None

    @classmethod
    def of(cls, state: State, inode: Inode) -> "Seen":
        """Of an attached inode."""
        return cls(inode.ref, state.contents.peek(inode.ref), inode.base if inode.writers else None)

    def still(self, state: State, inode: Inode) -> "Seen":
        """The same after a while, if it is still that inode that the name shows."""
        return self if inode.ref == self.ref else Seen.of(state, inode)

    @property
    def version(self) -> Published | None:
        """The version that it is, or goes on from; None: what the tree shows."""
        return self.base if self.content is None else self.content.published

    def hides(self, state: State) -> bool:
        """Whether the name has a version in the tree that was not shown."""
        shown = self.version
        if shown is None or self.ref[1] is not None or state.local.get(self.ref[0]) is not None:
            return False
        version = state.replica.tree.version(self.ref)
        if version is None or version.dot in shown.replaces:
            return False
        return version.content != (shown.root, shown.size)

    def remove(self, state: State, change: Transaction) -> None:
        """Within a transaction: what was shown goes if it stands aside by now; the name and the rest stay."""
        assert self.version is not None
        tree, dots = state.replica.tree, self.version.replaces
        for directory, entry in tree.names(self.ref[0]):
            if entry.dot is not None and entry.dot in dots:
                change.group.unlink(directory, entry, stamp=state.tick())

    def replace(self, state: State, source: Ref, change: Transaction) -> Ref:
        """Within a transaction: the file `source` becomes the next version of what was shown, beside what
        was not; returns where it is.
        """
        assert self.version is not None
        tree, group, stamp = state.replica.tree, change.group, state.tick()
        attributes = tree.stat(source)
        assert attributes is not None
        assert attributes.version is not None
        inode, shown = self.ref[0], attributes.version
        number = attributes.number if attributes.nlink <= 1 else 0  # else its other names keep it
        version = NewVersion(shown.root, shown.size, shown.mtime, shown.node, number)
        dot: Dot = group.write(inode, version, replaces=self.version.replaces, stamp=stamp)
        group.set_mode(inode, attributes.mode, stamp=stamp)
        group.set_owner(inode, attributes.owner, stamp=stamp)
        given, present = tree.xattrs(source[0]), tree.xattrs(inode)
        for name in present.keys() | given.keys():
            group.set_xattr(inode, name, given.get(name), stamp=stamp)
        main = tree.version((inode, None))
        return inode, None if main is not None and main.dot == dot else dot
