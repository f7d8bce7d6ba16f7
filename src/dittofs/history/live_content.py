"""Which contents the tree refers to: what other devices are asked to hold, and what is fetched to be held."""

import string
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Final

from dittofs.history.snapshots import known_snapshot_roots
from dittofs.ids import InodeId
from dittofs.tree.entry import Change
from dittofs.tree.record import Kind
from dittofs.volume.events import contents_of
from dittofs.volume.replica import Replica

_ID_CHARACTERS: Final = string.ascii_letters + string.digits + "-_"

PSEUDO_DIGITS: Final = 15
"""Of a content that a snapshot keeps: no inode's id begins with a dot."""

Item = tuple[InodeId, bytes, int]
"""An inode, the root of one of its contents, and its size."""


class LiveContents:
    """Of one replica. Empty contents and symlinks' targets count for nothing: they are in the tree itself."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica

    def content_roots(self) -> Iterator[Item]:
        """Every live version, conflict entries too, and what snapshots keep whose listings are here.

        The tree may change while this is gone through.
        """
        tree = self._replica.tree
        for prefix in product(_ID_CHARACTERS, repeat=2):
            for inode in tree.inodes("".join(prefix)):
                if tree.kind(inode) is Kind.FILE:
                    for version in tree.versions(inode):
                        if version.size:
                            yield inode, version.root, version.size
        for root, size in known_snapshot_roots(self._replica):
            if size:
                yield InodeId(f".{root.hex()[-PSEUDO_DIGITS:]}"), root, size

    def is_live(self, inode: InodeId, root: bytes) -> bool:
        """Whether the file has that content now, shown or as a conflict entry."""
        tree = self._replica.tree
        return tree.kind(inode) is Kind.FILE and any(one.root == root for one in tree.versions(inode))

    def roots_of(self, change: Change) -> tuple[Sequence[Item], Sequence[Item]]:
        """The contents that came with a change, and those that went.

        A removed inode went with all of its contents: its root is empty there.
        """
        came: list[Item] = []
        went: list[Item] = []
        for effect in change.effects:
            if effect.kind == "remove":
                went.append((effect.inode, b"", 0))
            elif effect.kind == "content" and self._replica.tree.kind(effect.inode) is Kind.FILE:
                before, after = _contents(effect.before), _contents(effect.after)
                came += [(effect.inode, *one) for one in after - before]
                went += [(effect.inode, *one) for one in before - after]
        return came, went


def _contents(raw: bytes) -> set[tuple[bytes, int]]:
    return {(one.root, one.size) for one in contents_of(raw) if one.size}
