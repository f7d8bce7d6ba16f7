"""The bytes of a pack: header, frames, and the scan that finds every sound frame (disk.md, Pack). Pure."""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import blake3

from dittofs.chunks.seal import SEALED_BYTES_MAX, SEALED_BYTES_MIN, Buffer
from dittofs.errors import FormatError
from dittofs.ids import ChunkId, VolumeId

PACK_BYTES_MAX = 128 << 20
"""A pack that has reached this is closed; its last frame may pass it."""
SUFFIX = ".pack"

_MAGIC = b"DittoPck"
_VERSION = 1
_PACK_HEADER = struct.Struct(">8sB3xI16s")
PACK_HEADER_BYTES = _PACK_HEADER.size + 8
_FRAME_MAGIC = b"DtFr"
_FRAME_HEADER = struct.Struct(">4sI32s8s")
FRAME_HEADER_BYTES = _FRAME_HEADER.size + 8
FRAME_BYTES_MAX = FRAME_HEADER_BYTES + SEALED_BYTES_MAX
_WINDOW_BYTES = 2 * FRAME_BYTES_MAX  # what a scan holds: a whole frame wherever it begins


def checksum(data: Buffer) -> bytes:
    """The first 8 bytes of BLAKE3: against accidents, not against attackers."""
    return blake3.blake3(data).digest(8)


def pack_name(number: int) -> str:
    """The file name of a pack."""
    return f"{number:08x}{SUFFIX}"


def pack_number(name: str) -> int | None:
    """The number of a pack by its file name; None if the name is no pack's."""
    stem = name.removesuffix(SUFFIX)
    if stem == name or len(stem) != 8 or not all(digit in "0123456789abcdef" for digit in stem):
        return None
    return int(stem, 16) or None


def pack_header(number: int, volume_id: VolumeId) -> bytes:
    """The first 40 bytes of a pack."""
    header = _PACK_HEADER.pack(_MAGIC, _VERSION, number, volume_id[:16])
    return header + checksum(header)


def check_pack_header(header: bytes, number: int, volume_id: VolumeId) -> None:
    """FormatError, saying why, unless the bytes begin this pack of this volume."""
    if len(header) < PACK_HEADER_BYTES or header[:8] != _MAGIC:
        raise FormatError("not a pack")
    if header[_PACK_HEADER.size : PACK_HEADER_BYTES] != checksum(header[: _PACK_HEADER.size]):
        raise FormatError("its header is damaged")
    _, version, stated, volume = _PACK_HEADER.unpack_from(header)
    if version != _VERSION:
        raise FormatError(f"a pack of version {version}; this program knows {_VERSION}")
    if stated != number:
        raise FormatError(f"its header says it is pack {stated}")
    if volume != volume_id[:16]:
        raise FormatError("it belongs to another volume")


def frame_header(chunk: ChunkId, sealed: Buffer) -> bytes:
    """What goes in front of a sealed chunk in a pack."""
    header = _FRAME_HEADER.pack(_FRAME_MAGIC, len(sealed), chunk, checksum(sealed))
    return header + checksum(header)


def parse_frame_header(data: bytes | memoryview) -> tuple[ChunkId, int, bytes] | None:
    """(id, length of the sealed chunk, its checksum), or None if the bytes are no sound header."""
    if len(data) < FRAME_HEADER_BYTES:
        return None
    magic, length, chunk, payload = _FRAME_HEADER.unpack_from(data)
    if magic != _FRAME_MAGIC or not SEALED_BYTES_MIN <= length <= SEALED_BYTES_MAX:
        return None
    if data[_FRAME_HEADER.size : FRAME_HEADER_BYTES] != checksum(data[: _FRAME_HEADER.size]):
        return None
    return ChunkId(chunk), length, payload


def is_sound_frame(frame: bytes, chunk: ChunkId) -> bool:
    """Whether the bytes are a whole frame of the chunk, by its checksums."""
    header = parse_frame_header(frame)
    sealed = memoryview(frame)[FRAME_HEADER_BYTES:]
    return header is not None and header == (chunk, len(sealed), checksum(sealed))


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame whose checksums hold. `kind` is what its seal says, not yet verified."""

    offset: int
    length: int
    """Of the whole frame."""
    chunk: ChunkId
    sealed: memoryview
    """Valid until the scan goes on."""

    @property
    def kind(self) -> int:
        return self.sealed[1]


@dataclass(frozen=True, slots=True)
class Gap:
    """Bytes of a pack that are no sound frame. `chunk` is named if a sound header names it."""

    offset: int
    length: int
    chunk: ChunkId | None
    torn: bool
    """Nothing sound follows: what a crash leaves."""


def scan(read: Callable[[int, int], bytes], start: int, end: int) -> Iterator[Frame | Gap]:
    """Every sound frame between two offsets, and every gap, in order: together they cover all bytes.

    `start` is where a frame should begin. Holds about 8 MiB.
    """
    window = _Window(read, end)
    at = start
    gap_start = start
    while at < end:
        found = _frame_at(window, at)
        if isinstance(found, Frame):
            if gap_start < at:
                yield Gap(gap_start, at - gap_start, None, torn=False)
            yield found
            at = gap_start = at + found.length
        elif found is not None and at + found.length <= end and gap_start == at:
            # Its header is sound, its chunk is not. The next frame says whether the length can be believed.
            following = at + found.length
            if following == end or parse_frame_header(window.view(following, FRAME_HEADER_BYTES)):
                yield Gap(at, found.length, found.chunk, torn=following == end)
                at = gap_start = following
            else:
                at = window.find(_FRAME_MAGIC, at + 1)
        else:
            at = window.find(_FRAME_MAGIC, at + 1)
    if gap_start < end:
        header = parse_frame_header(window.view(gap_start, FRAME_HEADER_BYTES))
        yield Gap(gap_start, end - gap_start, header[0] if header else None, torn=True)


@dataclass(frozen=True, slots=True)
class _Unsound:
    """A sound header whose chunk is damaged or cut off."""

    chunk: ChunkId
    length: int


def _frame_at(window: "_Window", at: int) -> Frame | _Unsound | None:
    header = parse_frame_header(window.view(at, FRAME_HEADER_BYTES))
    if header is None:
        return None
    chunk, size, payload = header
    sealed = window.view(at + FRAME_HEADER_BYTES, size)
    if len(sealed) == size and checksum(sealed) == payload:
        return Frame(at, FRAME_HEADER_BYTES + size, chunk, sealed)
    return _Unsound(chunk, FRAME_HEADER_BYTES + size)


class _Window:
    """A part of a file in memory that moves forward."""

    def __init__(self, read: Callable[[int, int], bytes], end: int) -> None:
        self._read = read
        self._end = end
        self._offset = 0
        self._data = b""

    def view(self, offset: int, size: int) -> memoryview:
        """The bytes at `offset`; fewer at the end."""
        size = max(0, min(size, self._end - offset))
        if offset < self._offset or offset + size > self._offset + len(self._data):
            self._offset = offset
            self._data = self._read(offset, min(_WINDOW_BYTES, self._end - offset))
        begin = offset - self._offset
        return memoryview(self._data)[begin : begin + size]

    def find(self, needle: bytes, offset: int) -> int:
        """Where `needle` comes next; the end if nowhere."""
        while offset < self._end:
            self.view(offset, min(len(needle), self._end - offset))
            found = self._data.find(needle, offset - self._offset)
            if found >= 0:
                return self._offset + found
            offset = max(offset + 1, self._offset + len(self._data) - len(needle) + 1)
        return self._end
