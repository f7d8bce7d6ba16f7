"""What this replica names: whatever of it is in the chunk store is kept (tree.md, garbage)."""

import string
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import product
from typing import Final

from dittofs.chunks.marking import Named, named_root
from dittofs.chunks.seal import ChunkKind
from dittofs.chunks.version import load_version_node
from dittofs.errors import ChunkMissing, Damaged, FormatError
from dittofs.ids import CHUNK_ID_BYTES, ChunkId, InodeId
from dittofs.journal.history import HistoryEffect
from dittofs.tree import holds
from dittofs.tree.entry import Change
from dittofs.tree.record import Kind, Version
from dittofs.volume.attributes import CHUNK
from dittofs.volume.events import contents_in, contents_of, node_of, whole_of, xattr_of
from dittofs.volume.published import Published
from dittofs.volume.state import State

_ID_CHARACTERS: Final = string.ascii_letters + string.digits + "-_"
BASES_MAX: Final = 64
"""Versions before a conflict entry that are kept for a merge."""


class Retained:
    """Of one replica. All returns at once, or is a generator that may be gone through in slices."""

    def __init__(
        self,
        state: State,
        snapshots: Callable[[Collection[ChunkId]], Iterable[tuple[bytes, int]]] = lambda _lost: (),
    ) -> None:
        """`snapshots`: root and size of all that snapshots name, and of their listings, which it reads.

        They are given what `lost_listings` has.
        """
        self._state = state
        self._replica = state.replica
        self._snapshots = snapshots
        self.lost_listings: set[ChunkId] = set()
        """Chunks of snapshots' listings that no device has: nobody can ever read those."""

    def named(self) -> Iterator[tuple[Named, bool]]:
        """All that is named, and whether by what the volume shows now. What comes meanwhile: `came`."""
        tree = self._replica.tree
        for prefix in product(_ID_CHARACTERS, repeat=2):
            for inode in tree.inodes("".join(prefix)):
                yield from ((one, True) for one in self._of_inode(inode))
        for named in self.pending():
            yield named, True
        for root, _ in self._snapshots(self.lost_listings):
            yield from ((one, False) for one in _of_root(root))
        for row in self._replica.journal.history.since(0):
            yield from ((one, False) for one in _of_row(row))

    def look_at_snapshots(self) -> None:
        """Blocking: AbsentChunk, with its kind and id, if a listing is not here."""
        deque(self._snapshots(self.lost_listings), maxlen=0)

    def came(self, change: Change) -> Iterator[Named]:
        """What a change names, whichever side of it."""
        for effect in change.effects:
            yield from _of_row(effect)
            if effect.kind == "create":
                yield from self._of_inode(effect.inode)

    def made(self, change: Change) -> Iterator[tuple[InodeId, bytes, int, list[bytes]]]:
        """The contents that a change brought: inode, root and size, and the roots the file had before."""
        for effect in change.effects:
            if effect.kind == "content" and self._replica.tree.kind(effect.inode) is Kind.FILE:
                known = [one.root for one in contents_of(effect.before)]
                for content in contents_of(effect.after):
                    if content.size and content.root not in known:
                        yield effect.inode, content.root, content.size, known

    def pending(self) -> list[Named]:
        """What staged, open and detached files build on, at this instant."""
        return list(self._pending())

    def bases(self) -> list[tuple[bytes, int]]:
        """Contents that unpublished edits build on, or may: those of files that are open for writing."""
        bases = [content.published for content in self._state.contents]
        for inode in self._state.inodes:
            if inode.orphan is None and inode.writers and inode.base is not None:
                bases.append(inode.base)
        return list({(one.root, one.size): None for one in bases if one.size})

    def is_live(self, inode: InodeId, root: bytes) -> bool:
        """Whether the file has this content now, shown or as a conflict entry."""
        return any(version.root == root for version in self._replica.tree.versions(inode))

    @property
    def holds_back(self) -> bool:
        """Whether the brake keeps this device from seeing what others removed or rewrote."""
        return next(iter(self._replica.journal.scan_local(holds.KIND, b"")), None) is not None

    @property
    def is_naming(self) -> bool:
        """Whether something is under way here that names what is shown no more."""
        return bool(self._replica.naming)

    def _of_inode(self, inode: InodeId) -> Iterator[Named]:
        tree = self._replica.tree
        for value in tree.xattrs(inode).values():
            yield from _of_xattr(value)
        if tree.kind(inode) is not Kind.FILE:
            return
        versions = tree.versions(inode)
        for version in versions:
            yield from _of_content(version.root, version.node)
        if len(versions) > 1:
            for version in versions:
                yield from self._bases_of(version)

    def _bases_of(self, version: Version) -> Iterator[Named]:
        """What a conflict entry was made from: what a merge compares it with."""
        waiting = deque([node_of(version.node)])
        for _ in range(BASES_MAX):
            node = waiting.popleft() if waiting else None
            if node is None:
                return
            yield Named(ChunkKind.VERSION, node)
            try:
                known = load_version_node(self._replica.chunks, node)
            except (ChunkMissing, Damaged, FormatError):
                continue  # then it is had from elsewhere, or there is nothing to compare with
            yield from _of_root(known.root)
            waiting += known.previous

    def _pending(self) -> Iterator[Named]:
        state = self._state
        for content in state.contents:
            yield from _of_published(content.published)
            for value in content.taken.xattrs.values() if content.taken is not None else ():
                yield from _of_xattr(value)
        for entry in state.local:
            for value in entry.xattrs.values():
                yield from _of_xattr(value)
        for inode in state.inodes:
            if not inode.opens:
                continue
            last = inode.last.shown if inode.last is not None else None
            orphan = inode.orphan.published if inode.orphan is not None else None
            for published in (inode.base, inode.detached_version, last, orphan):
                if published is not None:
                    yield from _of_published(published)


def _of_row(row: HistoryEffect) -> Iterator[Named]:
    """Contents and large extended attributes, of either side."""
    for content in contents_in(row):
        yield from _of_content(content.root, content.node)
    if row.kind == "xattr":
        for side in (row.before, row.after):
            yield from _of_xattr(xattr_of(side)[1] or b"")
    elif row.kind == "remove":
        for value in whole_of(row.before).xattrs.values():
            yield from _of_xattr(value)


def _of_published(published: Published) -> Iterator[Named]:
    return _of_root(published.root) if published.size else iter(())


def _of_content(root: bytes, node: bytes) -> Iterator[Named]:
    yield from _of_root(root)
    version = node_of(node)
    if version is not None:
        yield Named(ChunkKind.VERSION, version)


def _of_root(root: bytes) -> Iterator[Named]:
    # A symbolic link's target may look like a root: then a chunk too many is kept.
    named = named_root(root)
    if named is not None:
        yield named


def _of_xattr(value: bytes) -> Iterator[Named]:
    if value[:1] == CHUNK and len(value) == len(CHUNK) + CHUNK_ID_BYTES:
        yield Named(ChunkKind.DATA, ChunkId(value[len(CHUNK) :]))
