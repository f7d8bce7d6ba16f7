"""Content roots and the Merkle trees of chunk ids they name (disk.md, Manifest)."""

import errno
import itertools
import struct
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dittofs.chunks.chunker import CHUNK_BYTES_MAX, SINGLE_BYTES_MAX, Chunking
from dittofs.chunks.seal import ChunkKind
from dittofs.chunks.store import AbsentChunk, ChunkStore
from dittofs.errors import Damaged, FormatError, FSError
from dittofs.ids import ChunkId

CONTENT_BYTES_MAX = (1 << 63) - 1
HOLE_BLOCK_BYTES = 4096
"""A hole is kept as one if a block lies in it whole, or what the content has of its last one."""
LEVEL_MAX = 3
NODE_ENTRIES_MIN = 64
NODE_ENTRIES_MAX = 1024

_MAGIC = b"DtMf"
_VERSION = 1
_NODE = struct.Struct(">4sBBBxH")
_ID_BYTES = 32
_NO_ID = bytes(_ID_BYTES)
_NODES_CACHED = 6  # 15 kB each: the way to a leaf, and two neighbours


@dataclass(frozen=True, slots=True)
class Node:
    """One node of a manifest."""

    chunking: Chunking
    level: int
    lengths: Sequence[int]
    ends: Sequence[int]
    """Where each entry ends, from the start of the node."""
    ids: bytes

    @property
    def size(self) -> int:
        return self.ends[-1]

    @property
    def ids_at_both_ends(self) -> bool:
        """Whether neither the first nor the last entry is a hole."""
        return self.id_of(0) is not None and self.id_of(len(self.ends) - 1) is not None

    def id_of(self, entry: int) -> ChunkId | None:
        """The chunk or node that an entry names; None: a hole."""
        chunk = self.ids[entry * _ID_BYTES : (entry + 1) * _ID_BYTES]
        return None if chunk == _NO_ID else ChunkId(chunk)


def encode_node(chunking: Chunking, level: int, entries: Sequence[tuple[int, ChunkId | None]]) -> bytes:
    """A node of (length, id) entries."""
    lengths = struct.pack(f">{len(entries)}Q", *[length for length, _ in entries])
    ids = b"".join([chunk or _NO_ID for _, chunk in entries])
    return _NODE.pack(_MAGIC, _VERSION, chunking, level, len(entries)) + lengths + ids


def decode_node(data: bytes) -> Node:
    """The inverse of `encode_node`. FormatError for anything else."""
    if len(data) < _NODE.size or data[:4] != _MAGIC:
        raise FormatError("not a manifest node")
    _, version, chunking, level, count = _NODE.unpack_from(data)
    if version != _VERSION:
        raise FormatError(f"a manifest of version {version}; this program knows {_VERSION}")
    if data[7] or level > LEVEL_MAX or not 1 <= count <= NODE_ENTRIES_MAX:
        raise FormatError(f"a manifest node of level {level} with {count} entries")
    if chunking not in Chunking._value2member_map_:
        raise FormatError(f"a manifest of unknown chunking {chunking}")
    if len(data) != _NODE.size + count * (8 + _ID_BYTES):
        raise FormatError(f"a manifest node of {len(data)} bytes with {count} entries")
    lengths = struct.unpack_from(f">{count}Q", data, _NODE.size)
    ends = tuple(itertools.accumulate(lengths))
    node = Node(Chunking(chunking), level, lengths, ends, data[-count * _ID_BYTES :])
    if not min(lengths) or node.size > CONTENT_BYTES_MAX:
        raise FormatError("a manifest node with impossible lengths")
    for at in range(count):
        chunk = node.id_of(at)
        if chunk is None and level:
            raise FormatError("a hole above the leaves of a manifest")
        if chunk is not None and not level and lengths[at] > CHUNK_BYTES_MAX:
            raise FormatError(f"a manifest with a chunk of {lengths[at]} bytes")
    return node


def chunk_root(chunk: ChunkId) -> bytes:
    """The root of a content that is one chunk."""
    return bytes([ChunkKind.DATA]) + chunk


def manifest_root(node: ChunkId) -> bytes:
    """The root of a content whose topmost node this is."""
    return bytes([ChunkKind.MANIFEST]) + node


def parse_root(root: bytes, size: int) -> tuple[ChunkKind, ChunkId] | None:
    """What a root names; None: the empty content. FormatError if no content of that size has such a root."""
    if not root and not size:
        return None
    if len(root) == 1 + _ID_BYTES:
        if root[0] == ChunkKind.DATA and 0 < size <= SINGLE_BYTES_MAX:
            return ChunkKind.DATA, ChunkId(root[1:])
        if root[0] == ChunkKind.MANIFEST and SINGLE_BYTES_MAX < size <= CONTENT_BYTES_MAX:
            return ChunkKind.MANIFEST, ChunkId(root[1:])
    raise FormatError(f"no root of a content of {size} bytes: {root[:40].hex()}")


@dataclass(frozen=True, slots=True)
class Leaf:
    """A leaf in its place."""

    node: Node
    chunk: ChunkId
    offset: int
    is_last: bool

    def first_entry(self, offset: int) -> int:
        """The entry that holds the byte at `offset` of the content, or the first one."""
        return bisect_right(self.node.ends, offset - self.offset) if offset > self.offset else 0

    def entry(self, number: int) -> tuple[int, int, ChunkId | None]:
        """(offset in the content, length, chunk or None for a hole)."""
        length = self.node.lengths[number]
        return self.offset + self.node.ends[number] - length, length, self.node.id_of(number)


@dataclass(frozen=True, slots=True)
class Gap:
    """A node that is not here, or damaged, and what it covers."""

    chunk: ChunkId
    offset: int
    length: int
    error: AbsentChunk | Damaged


class Manifest:
    """Reads the tree under a manifest root. Thread-safe. Holds a few nodes."""

    def __init__(self, store: ChunkStore, root: ChunkId, size: int) -> None:
        self._store = store
        self._root = root
        self._size = size
        self._nodes: OrderedDict[ChunkId, Node] = OrderedDict()
        self._guard = threading.Lock()

    @property
    def chunking(self) -> Chunking:
        """How the content was cut. Errors as `leaf_at`."""
        return self._load(self._root, self._size, None).chunking

    def leaf_at(self, offset: int) -> Leaf:
        """The leaf that holds the byte at `offset`.

        Raises ChunkMissing (a node is not here), Damaged, FormatError (the tree is not one).
        """
        found = self._at(offset)
        if isinstance(found, Gap):
            raise found.error
        return found

    def _at(self, offset: int) -> Leaf | Gap:
        """The leaf that holds the byte at `offset`, or the topmost node on the way to it that is not here."""
        chunk, start, size, is_last = self._root, 0, self._size, True
        parent: Node | None = None
        while True:
            try:
                node = self._load(chunk, size, parent)
            except (AbsentChunk, Damaged) as error:
                return Gap(chunk, start, size, error)
            if not node.level:
                return Leaf(node, chunk, start, is_last)
            at = bisect_right(node.ends, offset - start)
            child = node.id_of(at)
            assert child is not None, "only leaves have holes"
            is_last = is_last and at == len(node.ends) - 1
            start += node.ends[at] - node.lengths[at]
            chunk, size, parent = child, node.lengths[at], node

    def parts(self, start: int, end: int) -> Iterator[Leaf | Gap]:
        """As `leaves`, with a gap for each node that is not here. FormatError."""
        while start < end:
            part = self._at(start)
            yield part
            start = part.offset + (part.length if isinstance(part, Gap) else part.node.size)

    def leaves(self, start: int, end: int) -> Iterator[Leaf]:
        """The leaves that hold bytes between two offsets, in order. Errors as `leaf_at`."""
        while start < end:
            leaf = self.leaf_at(start)
            yield leaf
            start = leaf.offset + leaf.node.size

    def _load(self, chunk: ChunkId, size: int, parent: Node | None) -> Node:
        with self._guard:
            node = self._nodes.get(chunk)
            if node is not None:
                self._nodes.move_to_end(chunk)
        if node is None:
            node = decode_node(self._store.get(ChunkKind.MANIFEST, chunk))
            with self._guard:
                self._nodes[chunk] = node
                if len(self._nodes) > _NODES_CACHED:
                    self._nodes.popitem(last=False)
        if node.size != size:
            raise FormatError(f"a manifest node covers {node.size} bytes where {size} belong")
        if parent is not None and (node.level != parent.level - 1 or node.chunking != parent.chunking):
            raise FormatError("a manifest node is not of its tree")
        return node


def ends_node(count: int, chunk: ChunkId | None) -> bool:
    """Whether a node ends by its content after its `count`th entry: at one in 256 beyond the least."""
    return count >= NODE_ENTRIES_MIN and chunk is not None and not chunk[-1]


class ManifestWriter:
    """Builds the tree over entries given in order and stores each node when it is complete."""

    def __init__(self, store: ChunkStore, chunking: Chunking) -> None:
        self._store = store
        self._chunking = chunking
        self._pending: list[list[tuple[int, ChunkId | None]]] = [[]]
        self.size = 0
        """Bytes of content added."""

    def add(self, length: int, chunk: ChunkId | None) -> None:
        """The next chunk; None: a hole, which does not follow a hole."""
        self.size += length
        self._add(0, length, chunk)

    @property
    def is_between_leaves(self) -> bool:
        """Whether the next entry begins a leaf."""
        return not self._pending[0]

    def add_leaf(self, length: int, leaf: ChunkId) -> None:
        """A leaf that is stored already and ended by its content; only between leaves."""
        assert self.is_between_leaves
        self.size += length
        self._add(1, length, leaf)

    def finish(self) -> ChunkId:
        """Store what is left and return the topmost node. FSError(EFBIG) if the tree would be too high."""
        level = 0
        while True:
            entries = self._pending[level]
            is_top = level == len(self._pending) - 1
            if is_top and level and len(entries) == 1:
                only = entries[0][1]
                assert only is not None
                return only
            if is_top:
                return self._store_node(level, entries)
            if entries:
                self._end(level)
            level += 1

    def _add(self, level: int, length: int, chunk: ChunkId | None) -> None:
        if level == len(self._pending):
            self._pending.append([])
        entries = self._pending[level]
        entries.append((length, chunk))
        count = len(entries)
        if level == LEVEL_MAX:
            if count > NODE_ENTRIES_MAX:
                raise FSError(errno.EFBIG)
        elif count == NODE_ENTRIES_MAX or ends_node(count, chunk):
            self._end(level)

    def _end(self, level: int) -> None:
        entries = self._pending[level]
        self._pending[level] = []
        self._add(level + 1, sum([length for length, _ in entries]), self._store_node(level, entries))

    def _store_node(self, level: int, entries: Sequence[tuple[int, ChunkId | None]]) -> ChunkId:
        return self._store.put([(ChunkKind.MANIFEST, encode_node(self._chunking, level, entries))])[0]
