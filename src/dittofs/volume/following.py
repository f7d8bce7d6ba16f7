"""What programs hold of a file goes with it when it is known under another reference from now on."""

from dataclasses import dataclass, replace

from dittofs.tree.record import Ref
from dittofs.volume.contents import Content
from dittofs.volume.inodes import Inode
from dittofs.volume.publication import Publisher
from dittofs.volume.state import State
from dittofs.volume.transaction import Transaction


@dataclass(frozen=True, slots=True)
class Held:
    """A number, its writers, and what is staged: as it was before the change."""

    inode: Inode
    content: Content | None
    is_beside: bool
    """What is staged does not replace what is saved: its writer had not seen that."""
    has_moved_on: bool
    """What is saved is not what the present writers opened."""

    @classmethod
    def of(cls, state: State, inode: Inode) -> "Held":
        content, saved = state.contents.get(inode.ref), state.replica.tree.version(inode.ref)
        is_beside = content is not None and saved is not None and saved.dot not in content.published.replaces
        return cls(inode, content, is_beside, state.is_behind(inode))

    def follow(self, state: State, publisher: Publisher, ref: Ref, change: Transaction) -> None:
        """Within the transaction, after the tree changed: it is `ref` from now on.

        What is queued is queued under that; what is staged becomes the next version there.
        """
        if self.content is not None:
            version = state.replica.tree.version(ref)
            assert version is not None
            replaces = () if self.is_beside else (version.dot,)
            rank = self.content.published.rank if ref[1] is not None else None
            published = replace(self.content.published, replaces=replaces, rank=rank)
            state.contents.move(self.content, ref, change, published)
        follow(state, publisher, self, ref, change)


def follow(state: State, publisher: Publisher, held: Held, ref: Ref, change: Transaction) -> None:
    """As `Held.follow`, of content that was moved already."""
    inode, base = held.inode, held.inode.base

    def apply() -> None:
        old = inode.ref
        state.inodes.rebind(inode, ref)
        if inode.writers and base is not None and held.has_moved_on:
            inode.base = replace(base, replaces=())  # beside what was saved, which its writer never saw
        elif inode.writers:
            inode.base = state.newest(inode)  # the version it had under its old name is gone
        if held.content is not None and (inode.writers == 0 or publisher.is_queued(old)):
            publisher.requeue(old, inode.ref)

    change.after(apply)
