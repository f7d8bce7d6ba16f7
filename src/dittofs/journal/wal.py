"""What a -wal file holds, read without SQLite: to notice when recovery stops before its end.

SQLite takes the first frame that fails its checksum for the end of the log. That is right after a
power cut, when the tail was never synced; a damaged frame in the middle looks the same and would
silently take all later commits with it.
Source: https://www.sqlite.org/fileformat2.html#walformat
"""

import struct
import sys
from typing import Final

from dittofs.disk import DiskFile
from dittofs.journal.schema import PAGE_BYTES

HEADER_BYTES: Final = 32
FRAME_HEADER_BYTES: Final = 24
FRAME_BYTES: Final = FRAME_HEADER_BYTES + PAGE_BYTES
_MAGIC_LITTLE, _MAGIC_BIG = 0x377F0682, 0x377F0683
_WORDS = struct.Struct(">2I")


def last_commit_frame(file: DiskFile) -> int:
    """The number of the last frame that ended a transaction of the current log; 0 if none.

    That frame was whole when its process died; nothing is said about those before it. With a
    damaged header the current log is the one that the first frame belongs to.
    """
    frames = (file.size() - HEADER_BYTES) // FRAME_BYTES
    if frames < 1:
        return 0
    header = file.read(0, HEADER_BYTES)
    magic = int.from_bytes(header[:4], "big")
    is_big = magic == _MAGIC_BIG
    salts, start = header[16:24], header[24:]
    if magic not in (_MAGIC_LITTLE, _MAGIC_BIG) or _checksum(bytes(8), header[:24], is_big) != start:
        is_big = sys.byteorder == "big"
        salts = _frame_header(file, 1)[8:16]
    for number in range(frames, 0, -1):
        frame_header = _frame_header(file, number)
        if frame_header[8:16] != salts or frame_header[4:8] == bytes(4):
            continue
        # A process that dies between writing a frame's header and its page leaves just that one
        # frame wrong; if the one before is wrong too, it is no such remnant.
        if _is_whole(file, number, start, is_big) or (
            number > 1 and not _is_whole(file, number - 1, start, is_big)
        ):
            return number
    return 0


def _is_whole(file: DiskFile, number: int, start: bytes, is_big: bool) -> bool:
    """Whether a frame has the checksum that follows from the stored one of the frame before."""
    frame = file.read(HEADER_BYTES + (number - 1) * FRAME_BYTES, FRAME_BYTES)
    before = _frame_header(file, number - 1)[16:] if number > 1 else start
    return _checksum(before, frame[:8] + frame[FRAME_HEADER_BYTES:], is_big) == frame[16:FRAME_HEADER_BYTES]


def _frame_header(file: DiskFile, number: int) -> bytes:
    return file.read(HEADER_BYTES + (number - 1) * FRAME_BYTES, FRAME_HEADER_BYTES)


def _checksum(start: bytes, data: bytes, is_big: bool) -> bytes:
    words = struct.unpack(f"{'>' if is_big else '<'}{len(data) // 4}I", data)
    low, high = _WORDS.unpack(start)
    for first, second in zip(words[::2], words[1::2], strict=True):
        low = (low + first + high) & 0xFFFFFFFF
        high = (high + second + low) & 0xFFFFFFFF
    return _WORDS.pack(low, high)
