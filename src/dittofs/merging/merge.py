"""Merging the versions of one file: what they have in common, what they make together, and writing that.

The same versions give the same bytes, the same time and the same version node on every device, so that
devices which merge at once make one version. It has seen all that it replaces; those stay in the history.
"""

import errno
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from dittofs.chunks.chunker import Chunking
from dittofs.chunks.content import ContentReader, load_version_node, store_content, store_version_node
from dittofs.chunks.manifest import chunk_root
from dittofs.chunks.seal import ChunkKind
from dittofs.chunks.source import BytesSource
from dittofs.chunks.store import AbsentChunk, ChunkStore
from dittofs.chunks.version import VersionNode
from dittofs.errors import ChunkUnavailable, Damaged, FormatError, FSError
from dittofs.ids import ChunkId, InodeId, Slot
from dittofs.merging.base import common_base
from dittofs.merging.drivers import DRIVER_BYTES_MAX, Drivers, run_driver
from dittofs.merging.lines import TEXT_BYTES_MAX, is_text, merge
from dittofs.tree.record import Kind, NewVersion, Version
from dittofs.volume.events import node_of
from dittofs.volume.fetching import can_fetch, read_fetched
from dittofs.volume.volume import Volume

MERGED: Final = Slot("")
"""The writer that a merge names in its version node: whoever merges, it is the same node."""
VERSIONS_MAX: Final = 8


class NotMerged(FSError):
    """The versions cannot be merged; nothing was changed. The message says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(errno.EINVAL, reason)


@dataclass(frozen=True, slots=True)
class Merge:
    """What is to be written in place of all versions of a file."""

    inode: InodeId
    versions: tuple[Version, ...]
    data: bytes

    @property
    def mtime(self) -> int:
        return max(version.mtime for version in self.versions)


class Merging:
    """Of one volume."""

    def __init__(self, volume: Volume) -> None:
        self._volume = volume
        self._replica = volume.replica
        self.drivers = Drivers({})
        """Programs of this device's settings."""

    def versions(self, inode: InodeId) -> tuple[Version, ...]:
        """The live versions of a file whose name shows one of them, in an order that all devices share."""
        tree = self._replica.tree
        if tree.kind(inode) is not Kind.FILE or tree.version((inode, None)) is None:
            return ()
        return tuple(reversed(tree.versions(inode)))

    def is_in_use(self, inode: InodeId) -> bool:
        """Whether a program writes the file, or one of its conflict entries."""
        state = self._volume.state
        refs = [(inode, None), *((inode, version.dot) for version in self._replica.tree.versions(inode))]
        is_written = any(known.writers for known in state.inodes.of_id(inode))
        return is_written or any(state.contents.peek(ref) is not None for ref in refs)

    async def merged(self, inode: InodeId, path: bytes) -> Merge:
        """What the versions of a file make together. NotMerged; or ChunkUnavailable: later perhaps."""
        versions = self.versions(inode)
        if not 2 <= len(versions) <= VERSIONS_MAX:
            raise NotMerged(
                "there is nothing to merge" if len(versions) < 2 else "there are too many versions"
            )
        driver = self.drivers.of(path)
        limit = TEXT_BYTES_MAX if driver is None else DRIVER_BYTES_MAX
        if any(version.size > limit for version in versions):
            raise NotMerged(f"a version is larger than {limit >> 20} MiB")
        name = path.rpartition(b"/")[2]
        first, *rest = versions
        data = await self.read(first.root, first.size)
        seen = [_require_node(first)]
        for version in rest:
            node = _require_node(version)
            base = await self.base(seen, [node])
            if base is None:
                raise NotMerged("what they were before is not known")
            if base.size > limit:
                raise NotMerged(f"what they were before is larger than {limit >> 20} MiB")
            before = await self.read(base.root, base.size)
            theirs = await self.read(version.root, version.size)
            made = await self._replica.run_blocking(_merged, driver, name, before, data, theirs)
            if made is None:
                raise NotMerged(_why(driver, before, data, theirs))
            data = made
            seen.append(node)
        return Merge(inode, versions, data)

    async def write(self, merge: Merge) -> None:
        """Make it the only version. FSError(EBUSY), and nothing is changed, if the file is not as it was."""
        previous = sorted(_require_node(version) for version in merge.versions)
        stored = await self._replica.run_blocking(
            _store, self._replica.chunks, merge.data, merge.mtime, previous
        )
        self.put(merge.inode, merge.versions, stored)

    async def choose(self, inode: InodeId, versions: Sequence[Version], version: Version) -> None:
        """Make one of them the only version, as one that has seen the others. EBUSY as `write`."""
        previous = sorted(_require_node(one) for one in versions)
        stored = await self._replica.run_blocking(_store_node, self._replica.chunks, version, previous)
        self.put(inode, versions, stored)

    def put(self, inode: InodeId, versions: Collection[Version], version: NewVersion) -> None:
        """Replace exactly these versions, at one instant. EBUSY as `write`."""
        dots = {one.dot for one in versions}
        if {one.dot for one in self.versions(inode)} != dots or self.is_in_use(inode):
            raise FSError(errno.EBUSY, "it has changed just now, or is being written; nothing was done")
        stamp = self._replica.tree.tick()
        with self._replica.change() as change:
            change.is_unasked = True
            change.group.write(inode, version, replaces=dots, stamp=stamp)

    async def base(self, one: Collection[ChunkId], other: Collection[ChunkId]) -> VersionNode | None:
        """The version that both sides come from, if it can be known."""
        return await common_base(self._node, one, other)

    async def _node(self, chunk: ChunkId) -> VersionNode | None:
        try:
            return load_version_node(self._replica.chunks, chunk)
        except (AbsentChunk, Damaged):
            source = self._volume.state.source
            if not can_fetch(source):
                return None
        except FormatError:
            return None
        try:
            await source.fetch(chunk_root(chunk), [(ChunkKind.VERSION, chunk)])
            return load_version_node(self._replica.chunks, chunk)
        except (ChunkUnavailable, AbsentChunk, Damaged, FormatError):
            return None

    async def read(self, root: bytes, size: int) -> bytes:
        """A whole content, fetched where need be. ChunkUnavailable, Damaged."""
        if not size:
            return b""
        reader = ContentReader(self._replica.chunks, root, size)
        try:
            return await self._replica.run_blocking(reader.read, 0, size)
        except (AbsentChunk, Damaged) as error:
            if not can_fetch(self._volume.state.source):
                raise
            return await read_fetched(self._volume.state.source, reader, 0, size, error)


def _require_node(version: Version) -> ChunkId:
    node = node_of(version.node)
    if node is None:
        raise NotMerged("what they were before is not known")
    return node


def _merged(
    driver: Sequence[str] | None, name: bytes, base: bytes, ours: bytes, theirs: bytes
) -> bytes | None:
    """Blocking."""
    if driver is not None:
        return run_driver(driver, name, base, ours, theirs)
    return merge(base, ours, theirs) if is_text([base, ours, theirs]) else None


def _why(driver: Sequence[str] | None, *contents: bytes) -> str:
    if driver is not None:
        return f"{driver[0]} cannot merge them"
    return "both changed the same lines" if is_text(contents) else "they are not text of one encoding"


def _store_node(chunks: ChunkStore, version: Version, previous: Sequence[ChunkId]) -> NewVersion:
    """Blocking: a node for a content that is there, durable when this returns."""
    node = store_version_node(chunks, version.root, version.size, version.mtime, MERGED, previous)
    chunks.sync()
    return NewVersion(version.root, version.size, version.mtime, node)


def _store(chunks: ChunkStore, data: bytes, mtime: int, previous: Sequence[ChunkId]) -> NewVersion:
    """Blocking: the content and its version node, durable when this returns."""
    root = store_content(chunks, BytesSource(data), b"", 0, chunking=Chunking.CONTENT_DEFINED)
    node = store_version_node(chunks, root, len(data), mtime, MERGED, previous)
    chunks.sync()
    return NewVersion(root, len(data), mtime, node)
