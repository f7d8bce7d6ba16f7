"""Frames: how messages share a link, so that one that is waited for overtakes one that is not.

A frame is 8 bytes (flags, zero, header length u16, payload length u32, big-endian), the header and the
payload. A message is one frame or several: only the first has a header, all but the last are marked MORE.
Each of the two priorities sends its messages one after the other, so a frame without a header continues the
open message of its priority.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from dittofs.errors import FormatError

HEADER_BYTES_MAX: Final = 4 << 10
PAYLOAD_BYTES_MAX: Final = 256 << 10
BODY_BYTES_MAX: Final = 66 << 20  # a whole document and its envelope
PART_BYTES_MIN: Final = 4 << 10  # of a message in several frames: each piece costs memory of its own
BULK: Final = 1
MORE: Final = 2
_PREFIX: Final = struct.Struct(">BBHI")


def frames(
    header: bytes, body: bytes | memoryview, *, is_bulk: bool, payload_bytes: int = PAYLOAD_BYTES_MAX
) -> Iterator[list[bytes | memoryview]]:
    """The frames of one message, each as parts to be sent one after the other.

    A frame carries `payload_bytes` at most, from PART_BYTES_MIN to PAYLOAD_BYTES_MAX; a last one any number.
    """
    assert PART_BYTES_MIN <= payload_bytes <= PAYLOAD_BYTES_MAX, "other frames are not taken"
    assert 0 < len(header) <= HEADER_BYTES_MAX, "a message has a header of at most 4 KiB"
    priority = BULK if is_bulk else 0
    if len(body) <= payload_bytes:
        yield [_PREFIX.pack(priority, 0, len(header), len(body)) + header, body]
        return
    view = memoryview(body)
    for start in range(0, len(view), payload_bytes):
        part = view[start : start + payload_bytes]
        more = MORE if start + len(part) < len(view) else 0
        head = b"" if start else header
        yield [_PREFIX.pack(priority | more, 0, len(head), len(part)) + head, part]


@dataclass(slots=True)
class _Open:
    """A message of which not all frames have come."""

    header: bytes
    parts: list[bytes]
    size: int


@dataclass(slots=True)
class FrameReader:
    """Bytes in, (header, body) out. FormatError for what no `frames` made; then it is not fed again."""

    body_bytes_max: int = BODY_BYTES_MAX
    """Bounds what one message may make a receiver hold; raised once its sender is known."""
    _received: list[bytes] = field(default_factory=list)
    _size: int = 0
    _offset: int = 0
    _wanted: int = _PREFIX.size
    _prefix: tuple[int, int, int] | None = None
    _open: dict[int, _Open] = field(default_factory=dict)

    def feed(self, data: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Take in what a link gave and yield each message that is whole now."""
        if data:
            self._received.append(data)
            self._size += len(data)
        while self._size >= self._wanted:
            if self._prefix is None:
                flags, zero, head, size = _PREFIX.unpack(self._take(_PREFIX.size))
                if zero or flags & ~(BULK | MORE) or head > HEADER_BYTES_MAX or size > PAYLOAD_BYTES_MAX:
                    raise FormatError("a frame with flags or lengths that do not exist")
                self._prefix = flags, head, size
                self._wanted = head + size
                continue
            flags, head, size = self._prefix
            frame = self._take(head + size)
            self._prefix, self._wanted = None, _PREFIX.size
            message = self._add(flags, frame[:head], frame[head:] if head else frame)
            if message is not None:
                yield message

    def _take(self, count: int) -> bytes:
        """The next `count` bytes. Pieces are joined once: copying is most of what receiving costs."""
        if not count:
            return b""
        if len(self._received) > 1 and len(self._received[0]) - self._offset < count:
            self._received = [b"".join((self._received[0][self._offset :], *self._received[1:]))]
            self._offset = 0
        first = self._received[0]
        end = self._offset + count
        taken = first if count == len(first) else first[self._offset : end]
        self._offset = end
        self._size -= count
        if end == len(first):
            del self._received[0]
            self._offset = 0
        return taken

    def _add(self, flags: int, header: bytes, payload: bytes) -> tuple[bytes, bytes] | None:
        priority = flags & BULK
        begun = self._open.get(priority)
        if (begun is None) != bool(header):
            raise FormatError("a frame that begins a message inside another, or continues none")
        if begun is None:
            if not flags & MORE:
                return header, payload
            begun = self._open[priority] = _Open(header, [], 0)
        if flags & MORE and len(payload) < PART_BYTES_MIN:
            raise FormatError(f"a frame of {len(payload)} bytes that says more follows")
        begun.parts.append(payload)
        begun.size += len(payload)
        if begun.size > self.body_bytes_max:
            raise FormatError(f"a message of more than {self.body_bytes_max} bytes")
        if flags & MORE:
            return None
        del self._open[priority]
        return begun.header, b"".join(begun.parts)
