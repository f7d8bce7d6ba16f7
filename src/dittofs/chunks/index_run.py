"""One immutable, sorted part of the pack index (disk.md, Pack index)."""

import itertools
import struct
import sys
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

from dittofs.chunks.pack import checksum
from dittofs.disk import DiskFile
from dittofs.errors import DittoError
from dittofs.ids import ChunkId

PAGE_BYTES = 4096
_ENTRY = struct.Struct(">32sIIIB")
_CHECKSUM_BYTES = 8
ENTRY_BYTES = _ENTRY.size
PAGE_ENTRIES = (PAGE_BYTES - _CHECKSUM_BYTES) // ENTRY_BYTES
_TAIL = struct.Struct(">8sBB2xIQ8s")
_TAIL_MAGIC = b"DittoRun"
_VERSION = 1
_FILTER_BITS_PER_ENTRY = 16  # one probe: 6 % false positives at most, 2 MB a million chunks
_FILTER_LOG_MIN = 6
_WRITE_BYTES = 1 << 20


class IndexDamaged(DittoError):
    """The index cannot be believed and is to be rebuilt from the packs."""


class Location(NamedTuple):
    """Where a chunk lies: its whole frame."""

    pack: int
    offset: int
    length: int
    kind: int


def encode_entry(chunk: ChunkId, location: Location) -> bytes:
    """An entry as runs hold it: entries sort like their ids."""
    return _ENTRY.pack(chunk, *location)


def decode_entry(entry: bytes) -> tuple[ChunkId, Location]:
    """The inverse of `encode_entry`."""
    chunk, *location = _ENTRY.unpack(entry)
    return ChunkId(chunk), Location._make(location)


class Run:
    """A run that is open for reading. Thread-safe."""

    def __init__(self, file: DiskFile, name: str) -> None:
        """Raises IndexDamaged unless the footer is sound. Pages are verified as they are read."""
        self.name = name
        self._file = file
        size = file.size()
        tail = file.read(max(0, size - _TAIL.size), _TAIL.size)
        if len(tail) < _TAIL.size:
            raise IndexDamaged(f"{name} is cut short")
        magic, version, filter_log, pages, entries, check = _TAIL.unpack(tail)
        footer_bytes = 8 * pages + (1 << filter_log >> 3) + _TAIL.size if filter_log < 40 else size + 1
        if magic != _TAIL_MAGIC or version != _VERSION or size != pages * PAGE_BYTES + footer_bytes:
            raise IndexDamaged(f"{name} has no sound end")
        footer = file.read(pages * PAGE_BYTES, footer_bytes)
        if checksum(memoryview(footer)[: -len(check)]) != check:
            raise IndexDamaged(f"the footer of {name} is damaged")
        self.entries: int = entries
        self.size_bytes = size
        self._pages = pages
        self._fences = _big_endian(array("Q", footer[: 8 * pages]))
        self._filter = footer[8 * pages : -_TAIL.size]
        self._filter_shift = 64 - filter_log

    def find(self, chunk: ChunkId) -> Location | None:
        """Where the chunk lies by this run. Raises IndexDamaged."""
        bit = int.from_bytes(chunk[24:], "big") >> self._filter_shift
        if not self._filter[bit >> 3] >> (bit & 7) & 1:
            return None
        prefix = int.from_bytes(chunk[:8], "big")
        page = bisect_right(self._fences, prefix) - 1
        while page >= 0:
            data = self._page(page)
            at = data.find(chunk, _CHECKSUM_BYTES)
            while at >= 0:
                if (at - _CHECKSUM_BYTES) % ENTRY_BYTES == 0:
                    return Location._make(_ENTRY.unpack_from(data, at)[1:])
                at = data.find(chunk, at + 1)
            if self._fences[page] < prefix:
                return None
            page -= 1  # an id with the same first 8 bytes begins this page
        return None

    def pages(self) -> Iterator[list[bytes]]:
        """Every entry as it is stored, ascending by id, a page at a time. Raises IndexDamaged."""
        left = self.entries
        for number in range(self._pages):
            data = self._page(number)
            end = _CHECKSUM_BYTES + min(left, PAGE_ENTRIES) * ENTRY_BYTES
            yield [data[at : at + ENTRY_BYTES] for at in range(_CHECKSUM_BYTES, end, ENTRY_BYTES)]
            left -= PAGE_ENTRIES

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _page(self, number: int) -> bytes:
        data = self._file.read(number * PAGE_BYTES, PAGE_BYTES)
        if checksum(memoryview(data)[_CHECKSUM_BYTES:]) != data[:_CHECKSUM_BYTES]:
            raise IndexDamaged(f"page {number} of {self.name} is damaged")
        return data


def write_run(file: DiskFile, entries: Iterable[bytes], expected: int) -> None:
    """Write encoded entries, ascending and each id once, as a run into an empty file, and make it durable.

    `expected`: about how many there are; it sizes the filter.
    """
    filter_log = max(_FILTER_LOG_MIN, (expected * _FILTER_BITS_PER_ENTRY - 1).bit_length())
    shift = 64 - filter_log
    marks = bytearray(1 << filter_log >> 3)
    fences = array("Q")
    count = pages = 0
    pending = bytearray()
    source = iter(entries)
    while batch := list(itertools.islice(source, PAGE_ENTRIES)):
        body = b"".join(batch).ljust(PAGE_BYTES - _CHECKSUM_BYTES, b"\0")
        fences.append(int.from_bytes(batch[0][:8], "big"))
        for entry in batch:
            bit = int.from_bytes(entry[24:32], "big") >> shift
            marks[bit >> 3] |= 1 << (bit & 7)
        pending += checksum(body)
        pending += body
        count += len(batch)
        if len(pending) >= _WRITE_BYTES:
            file.write(pages * PAGE_BYTES, pending)
            pages += len(pending) // PAGE_BYTES
            pending = bytearray()
    last = pages + len(pending) // PAGE_BYTES
    tail = _TAIL.pack(_TAIL_MAGIC, _VERSION, filter_log, last, count, b"")[:-_CHECKSUM_BYTES]
    footer = _big_endian(fences).tobytes() + marks + tail
    file.write(pages * PAGE_BYTES, pending + footer + checksum(footer))
    file.sync()


def _big_endian(numbers: "array[int]") -> "array[int]":
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers


_CURRENT = struct.Struct(">8sB3xI")
_CURRENT_MAGIC = b"DittoIdx"


class _Current(msgspec.Struct, array_like=True, frozen=True):
    runs: list[int]
    covered: dict[int, int]
    leaving: list[int] = []


def encode_current(runs: list[int], covered: dict[int, int], leaving: list[int]) -> bytes:
    """The file that says which runs count, newest first, how much of each pack they cover, and which packs
    hold nothing any more.
    """
    body = msgspec.msgpack.encode([runs, covered, leaving] if leaving else [runs, covered])
    data = _CURRENT.pack(_CURRENT_MAGIC, _VERSION, len(body)) + body
    return data + checksum(data)


def decode_current(data: bytes) -> tuple[list[int], dict[int, int], frozenset[int]]:
    """The inverse of `encode_current`. Raises IndexDamaged."""
    if len(data) < _CURRENT.size:
        raise IndexDamaged("the index names no runs")
    magic, version, length = _CURRENT.unpack_from(data)
    body = data[_CURRENT.size : -_CHECKSUM_BYTES]
    is_sound = length == len(body) and checksum(data[:-_CHECKSUM_BYTES]) == data[-_CHECKSUM_BYTES:]
    if magic != _CURRENT_MAGIC or version != _VERSION or not is_sound:
        raise IndexDamaged("the list of the index's runs is damaged")
    try:
        current = msgspec.msgpack.decode(body, type=_Current)
    except msgspec.DecodeError as error:
        raise IndexDamaged(f"the list of the index's runs does not decode: {error}") from error
    return current.runs, current.covered, frozenset(current.leaving)
