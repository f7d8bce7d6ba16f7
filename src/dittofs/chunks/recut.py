"""Cuts a changed content again, but only as far as it changed."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from dittofs.chunks.chunker import Buffer, Chunking, Cutter
from dittofs.chunks.known import KnownChunks
from dittofs.chunks.manifest import (
    HOLE_BLOCK_BYTES,
    Leaf,
    Manifest,
    ManifestWriter,
    manifest_root,
    parse_root,
)
from dittofs.chunks.seal import ChunkKind
from dittofs.chunks.source import Extent, Source
from dittofs.chunks.store import ChunkStore
from dittofs.errors import DiskError
from dittofs.ids import ChunkId

_READ_BYTES = 4 << 20  # read, cut and sealed at once


@dataclass(frozen=True, slots=True)
class _Fresh:
    """Bytes to read from the source."""

    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class _Hole:
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class _Zeros:
    """A hole without a whole block: not kept as one."""

    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class _Old:
    """A base's chunk, or the part of it that is unchanged; or one that was cut ahead of fresh bytes."""

    offset: int
    length: int
    chunk: ChunkId
    is_whole: bool
    is_ahead: bool = False


@dataclass(frozen=True, slots=True)
class _OldLeaf:
    """A whole leaf of the base's manifest, which its content ended, with data at both ends."""

    leaf: Leaf

    @property
    def offset(self) -> int:
        return self.leaf.offset

    @property
    def length(self) -> int:
        return self.leaf.node.size


_Piece: TypeAlias = _Fresh | _Hole | _Zeros | _Old | _OldLeaf


class Recut:
    """One content of more than a single chunk, being stored."""

    def __init__(
        self,
        store: ChunkStore,
        source: Source,
        base: bytes,
        base_size: int,
        chunking: Chunking,
        known: KnownChunks,
    ) -> None:
        self._store = store
        self._source = source
        self._known = known
        named = parse_root(base, base_size)
        self._base_size = base_size
        self._old = Manifest(store, named[1], base_size) if named and named[0] is ChunkKind.MANIFEST else None
        self._chunking = chunking
        self._cutter = Cutter(chunking, store.chunker_secret)
        self._writer = ManifestWriter(store, chunking)
        self._start = 0
        """Where the bytes not yet cut begin."""
        self._uncut: Buffer = b""
        self._chunks: list[Buffer] = []
        self._chunks_bytes = 0

    def store(self) -> bytes:
        """Do it, and return the root."""
        source = self._source
        pieces = _joined_holes(self._pieces(source.extents()), source.size)
        piece = next(pieces)
        for following in pieces:
            self._take(piece, following)
            piece = following
        self._take(piece, None)
        self._flush()
        assert self._writer.size == source.size, "every byte is in one chunk"
        return manifest_root(self._writer.finish())

    # What there is

    @cached_property
    def _can_reuse(self) -> bool:
        """Whether the base was cut as this is. Its manifest is read only if bytes of it are kept."""
        return self._old is not None and self._old.chunking is self._chunking

    def _pieces(self, extents: Iterable[tuple[int, int, Extent]]) -> Iterator[_Piece]:
        end = 0
        for offset, length, extent in extents:
            assert offset == end, "extents ascend without gaps"
            end = offset + length
            match extent:
                case Extent.DATA:
                    yield from self._data_pieces(offset, end)
                case Extent.HOLE:
                    yield _Hole(offset, length)
                case Extent.BASE:
                    assert end <= self._base_size, "base extents lie within the base"
                    yield from self._base_pieces(offset, end)

    def _data_pieces(self, start: int, end: int) -> Iterator[_Piece]:
        for offset, length, chunk in self._known.within(start, end):
            if start < offset:
                yield _Fresh(start, offset - start)
            yield _Old(offset, length, chunk, is_whole=True, is_ahead=True)
            start = offset + length
        if start < end:
            yield _Fresh(start, end - start)

    def _base_pieces(self, start: int, end: int) -> Iterator[_Piece]:
        if self._old is None:
            yield _Fresh(start, end - start)
            return
        for leaf in self._old.leaves(start, end):
            node = leaf.node
            inside = start <= leaf.offset and leaf.offset + node.size <= end
            if inside and self._can_reuse and not leaf.is_last and node.ids_at_both_ends:
                yield _OldLeaf(leaf)
            else:
                yield from self._leaf_pieces(leaf, start, end)

    def _leaf_pieces(self, leaf: Leaf, start: int, end: int) -> Iterator[_Piece]:
        for entry in range(leaf.first_entry(start), len(leaf.node.ends)):
            entry_start, length, chunk = leaf.entry(entry)
            low, high = max(start, entry_start), min(end, entry_start + length)
            if low >= high:
                return
            if chunk is None:
                yield _Hole(low, high - low)
            elif self._can_reuse:
                yield _Old(low, high - low, chunk, high - low == length)
            else:
                yield _Fresh(low, high - low)

    # What becomes of it

    def _take(self, piece: _Piece, following: _Piece | None) -> None:
        """Store one piece. The run of data ends with it if a hole follows, or nothing."""
        is_final = following is None or isinstance(following, _Hole)
        match piece:
            case _Hole():
                self._flush()
                self._writer.add(piece.length, None)
                self._start = piece.offset + piece.length
            case _Fresh():
                self._take_bytes(piece, Extent.DATA, is_final=is_final)
            case _Zeros():
                self._take_bytes(piece, Extent.HOLE, is_final=is_final)
            case _Old():
                self._take_old(piece, following)
            case _OldLeaf():
                self._take_leaf(piece, following)

    def _take_bytes(self, piece: _Fresh | _Zeros, extent: Extent, *, is_final: bool) -> None:
        end = piece.offset + piece.length
        for offset in range(piece.offset, end, _READ_BYTES):
            size = min(_READ_BYTES, end - offset)
            self._cut(self._read(offset, size, extent), is_final=is_final and offset + size == end)

    def _take_leaf(self, piece: _OldLeaf, following: _Piece | None) -> None:
        leaf = piece.leaf
        end = leaf.offset + leaf.node.size
        if not len(self._uncut):
            self._flush()
            if self._writer.is_between_leaves and self._is_cut_kept(piece, following):
                self._writer.add_leaf(leaf.node.size, leaf.chunk)
                self._start = end
                return
        entries = self._leaf_pieces(leaf, leaf.offset, end)
        entry = next(entries)
        for after in entries:
            self._take(entry, after)
            entry = after
        self._take(entry, following)

    def _take_old(self, piece: _Old, following: _Piece | None) -> None:
        is_kept = piece.is_whole and self._is_cut_kept(piece, following)
        if len(self._uncut) or not is_kept:
            is_final = following is None or isinstance(following, _Hole)
            self._cut(self._read(piece.offset, piece.length, Extent.BASE), is_final=False)
            if not (is_kept and self._start == piece.offset):
                if is_final:
                    self._cut(b"", is_final=True)
                return
            self._uncut = b""  # the first byte of this chunk showed that a cut falls in front of it
        self._flush()
        self._writer.add(piece.length, piece.chunk)
        self._start = piece.offset + piece.length

    def _is_cut_kept(self, piece: _Old | _OldLeaf, following: _Piece | None) -> bool:
        """Whether the cut at the end of the piece, which was made before, is a cut of the new content too.

        The cutter has seen the first byte after it: that must be as it was then, or the run end here.
        """
        match following:
            case None | _Hole():
                return True
            case _OldLeaf() if not (isinstance(piece, _Old) and piece.is_ahead):
                return True
            case _Old() if following.is_ahead == (isinstance(piece, _Old) and piece.is_ahead):
                return True
        return isinstance(piece, _Old) and self._cutter.ends_by_itself(piece.offset, piece.length)

    def _cut(self, data: bytes, *, is_final: bool) -> None:
        uncut: Buffer = b"".join((self._uncut, data)) if len(self._uncut) else data
        view = memoryview(uncut)
        start = 0
        for end in self._cutter.cut(uncut, offset=self._start, final=is_final):
            self._chunks.append(view[start:end])
            self._chunks_bytes += end - start
            start = end
        self._start += start
        self._uncut = bytes(view[start:])
        if self._chunks_bytes >= _READ_BYTES:
            self._flush()

    def _flush(self) -> None:
        """Store the chunks that are cut, in their place."""
        if not self._chunks:
            return
        ids = self._store.put([(ChunkKind.DATA, chunk) for chunk in self._chunks])
        for chunk, plain in zip(ids, self._chunks, strict=True):
            self._writer.add(len(plain), chunk)
        self._chunks = []
        self._chunks_bytes = 0

    def _read(self, offset: int, length: int, extent: Extent) -> bytes:
        return read_extent(self._source, offset, length, extent)


def read_extent(source: Source, offset: int, length: int, extent: Extent) -> bytes:
    """The bytes of an extent. DiskError if the source gives too few."""
    if extent is Extent.HOLE:
        return bytes(length)
    data = source.read(offset, length)
    if len(data) != length:
        raise DiskError(f"a content to be stored has {len(data)} of {length} bytes at {offset}")
    return data


def _joined_holes(pieces: Iterator[_Piece], size: int) -> Iterator[_Piece]:
    """Holes that touch become one, and those without a whole block bytes. `size`: of the content."""
    hole: _Hole | None = None
    for piece in pieces:
        if isinstance(piece, _Hole):
            hole = _Hole(hole.offset, hole.length + piece.length) if hole else piece
            continue
        if hole:
            yield _settled(hole, size)
            hole = None
        yield piece
    if hole:
        yield _settled(hole, size)


def _settled(hole: _Hole, size: int) -> _Piece:
    end = hole.offset + hole.length
    block = -(-hole.offset // HOLE_BLOCK_BYTES) * HOLE_BLOCK_BYTES
    has_block = block < end and min(block + HOLE_BLOCK_BYTES, size) <= end
    return hole if has_block else _Zeros(hole.offset, hole.length)
