"""A file's content as chunks: storing what changed, reading any part."""

from collections.abc import Iterator
from typing import NamedTuple

from dittofs.chunks.chunker import SINGLE_BYTES_MAX, Chunking
from dittofs.chunks.known import KnownChunks
from dittofs.chunks.manifest import Gap, Leaf, Manifest, chunk_root, parse_root
from dittofs.chunks.recut import Recut, read_extent
from dittofs.chunks.seal import ChunkKind
from dittofs.chunks.source import Extent, Source
from dittofs.chunks.store import ChunkStore
from dittofs.chunks.version import VersionNode, load_version_node, store_version_node
from dittofs.errors import FormatError
from dittofs.ids import ChunkId

__all__ = [
    "ContentReader",
    "Extent",
    "Part",
    "Source",
    "VersionNode",
    "load_version_node",
    "store_content",
    "store_version_node",
]


def store_content(
    store: ChunkStore,
    source: Source,
    base: bytes,
    base_size: int,
    *,
    chunking: Chunking,
    known: KnownChunks | None = None,
) -> bytes:
    """Store a content and return its root, the same however the content came to be.

    Chunks and manifest leaves of `base` outside the DATA and HOLE extents are reused unread; around them
    chunks are read and cut until a cut falls on one of the base's again. Not durable before `store.sync`.
    Blocks; holds about 16 MiB. `chunking` other than the base's cuts everything anew. `known`: chunks that
    stretches of the source's data were cut into by this chunking, and that are here; they are not read.

    Raises DiskFull, DiskError, what `source.read` raises, FSError(EFBIG), and what reading the base's
    manifest raises; what was stored until then is harmless.
    """
    if not source.size:
        return b""
    if source.size <= SINGLE_BYTES_MAX:
        plain = b"".join([read_extent(source, *extent) for extent in source.extents()])
        assert len(plain) == source.size, "the extents cover the content"
        return chunk_root(store.put([(ChunkKind.DATA, plain)])[0])
    return Recut(store, source, base, base_size, chunking, known or KnownChunks()).store()


class Part(NamedTuple):
    """A stretch of a content, and whether this device can read it."""

    offset: int
    length: int
    kind: ChunkKind
    """DATA, or MANIFEST for a node that is not here: then nothing is known of what it covers."""
    chunk: ChunkId | None
    """None: a hole."""
    is_here: bool


class ContentReader:
    """Any part of a stored content. Thread-safe. Holds a few manifest nodes.

    Every method may raise ChunkMissing (AbsentChunk: with the kind and id of what is not here), Damaged, or
    FormatError if the root does not describe a content of that size.
    """

    def __init__(self, store: ChunkStore, root: bytes, size: int) -> None:
        self._store = store
        self._root = root
        self._size = size
        named = parse_root(root, size)
        self._single = named[1] if named and named[0] is ChunkKind.DATA else None
        self._manifest = Manifest(store, named[1], size) if named and not self._single else None
        self._leaf: Leaf | None = None

    @property
    def root(self) -> bytes:
        """What names the content."""
        return self._root

    @property
    def size(self) -> int:
        """Bytes in all."""
        return self._size

    @property
    def chunking(self) -> Chunking | None:
        """How the content was cut; None if it is one chunk or empty."""
        return self._manifest.chunking if self._manifest else None

    def read(self, offset: int, length: int) -> bytes:
        """`length` bytes at `offset`; fewer only at the end of the content."""
        end = min(offset + length, self._size)
        if offset >= end:
            return b""
        parts = []
        for start, size, chunk in self.chunks(offset, end):
            low, high = max(offset - start, 0), min(end - start, size)
            if chunk is None:
                parts.append(bytes(high - low))
                continue
            plain = self._store.get(ChunkKind.DATA, chunk)
            if len(plain) != size:
                raise FormatError(f"chunk {chunk.hex()} has {len(plain)} bytes where {size} belong")
            parts.append(plain if high - low == size else plain[low:high])
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def chunks(self, start: int = 0, end: int | None = None) -> Iterator[tuple[int, int, ChunkId | None]]:
        """(offset, length, chunk) of every chunk that has bytes in a range, in order; None: a hole."""
        end = self._size if end is None else min(end, self._size)
        while start < end:
            if self._single:
                yield 0, self._size, self._single
                return
            leaf = self._leaf_at(start)
            for number in range(leaf.first_entry(start), len(leaf.node.ends)):
                entry = leaf.entry(number)
                if entry[0] >= end:
                    return
                yield entry
            start = leaf.offset + leaf.node.size

    def presence(self, start: int = 0, end: int | None = None) -> Iterator[Part]:
        """What a range consists of and what of it is here, as far as is known without reading the data.

        Raises FormatError alone: what is not here is said, and what is damaged is not here.
        """
        end = self._size if end is None else min(end, self._size)
        if start >= end:
            return
        if self._single:
            yield Part(0, self._size, ChunkKind.DATA, self._single, self._has(self._single))
        for part in self._manifest.parts(start, end) if self._manifest else ():
            if isinstance(part, Gap):
                yield Part(part.offset, part.length, ChunkKind.MANIFEST, part.chunk, False)
                continue
            for number in range(part.first_entry(start), len(part.node.ends)):
                offset, length, chunk = part.entry(number)
                if offset >= end:
                    return
                yield Part(offset, length, ChunkKind.DATA, chunk, chunk is None or self._has(chunk))

    def leaves(self, start: int, end: int) -> Iterator[Leaf | Gap]:
        """The leaves of the manifest under a range, and gaps where nodes are not here. Raises FormatError."""
        return self._manifest.parts(start, min(end, self._size)) if self._manifest else iter(())

    def absent(self, start: int = 0, end: int | None = None) -> list[tuple[ChunkKind, ChunkId]]:
        """What must be had to read a range, each once: the manifest's nodes if one is not here, else chunks.

        Below a node that is not here there may be more. Empty: the range can be read. Raises FormatError.
        """
        parts = [part for part in self.presence(start, end) if not part.is_here]
        nodes = [part for part in parts if part.kind is ChunkKind.MANIFEST]
        return list(dict.fromkeys((one.kind, one.chunk) for one in nodes or parts if one.chunk is not None))

    def absent_nodes(self) -> list[tuple[ChunkKind, ChunkId]]:
        """The topmost nodes of the manifest that are not here. Empty: all are. Raises FormatError."""
        parts = self._manifest.parts(0, self._size) if self._manifest else ()
        nodes = [(ChunkKind.MANIFEST, part.chunk) for part in parts if isinstance(part, Gap)]
        return list(dict.fromkeys(nodes))

    def _has(self, chunk: ChunkId) -> bool:
        return self._store.has(ChunkKind.DATA, chunk)

    def extents(self, start: int = 0) -> Iterator[tuple[int, int, Extent]]:
        """(offset, length, DATA or HOLE) from the chunk that holds `start` on; neighbours differ."""
        begin, end, what = 0, 0, Extent.DATA
        for offset, length, chunk in self.chunks(start):
            kind = Extent.HOLE if chunk is None else Extent.DATA
            if end > begin and (kind is not what):
                yield begin, end - begin, what
                begin = offset
            elif end == begin:
                begin = offset
            end, what = offset + length, kind
        if end > begin:
            yield begin, end - begin, what

    def _leaf_at(self, offset: int) -> Leaf:
        leaf = self._leaf
        if leaf is None or not leaf.offset <= offset < leaf.offset + leaf.node.size:
            assert self._manifest is not None
            leaf = self._leaf = self._manifest.leaf_at(offset)
        return leaf
