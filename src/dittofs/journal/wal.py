"""What a -wal file holds, read without SQLite: to notice when recovery stops before its end.

SQLite takes the first frame that fails its checksum for the end of the log. That is right after a
power cut, when the tail was never synced; a damaged frame in the middle looks the same and would
silently take all later commits with it.
Source: https://www.sqlite.org/fileformat2.html#walformat
"""

import struct
from typing import Final

from dittofs.disk import DiskFile
from dittofs.journal.schema import PAGE_BYTES

HEADER_BYTES: Final = 32
FRAME_HEADER_BYTES: Final = 24
_HEADER = struct.Struct(">8I")
_FRAME = struct.Struct(">IIII")
_SUM = struct.Struct(">2I")


def last_commit_frame(file: DiskFile) -> int:
    """The number of the last frame that claims to end a transaction of the current log; 0 if none.

    Of frames only positions and salts are looked at, not checksums: this is what the file once held.
    With a damaged header, the log that the first frame belongs to.
    """
    size = file.size()
    header = file.read(0, HEADER_BYTES)
    if size < HEADER_BYTES + FRAME_HEADER_BYTES:
        return 0
    magic, _, page_bytes, _, *salts = _HEADER.unpack(header)[:6]
    if _checksum(header[:24], magic) != header[24:]:
        page_bytes = PAGE_BYTES
        salts = _frame(file, HEADER_BYTES)[2:]
    frame_bytes = FRAME_HEADER_BYTES + page_bytes
    last = 0
    for number in range(1, (size - HEADER_BYTES) // frame_bytes + 1):
        _, database_pages, *frame_salts = _frame(file, HEADER_BYTES + (number - 1) * frame_bytes)
        if database_pages and frame_salts == salts:
            last = number
    return last


def _frame(file: DiskFile, offset: int) -> list[int]:
    return list(_FRAME.unpack(file.read(offset, _FRAME.size)))


def _checksum(data: bytes, magic: int) -> bytes:
    words = struct.unpack(">6I" if magic & 1 else "<6I", data)
    low = high = 0
    for first, second in zip(words[::2], words[1::2], strict=True):
        low = (low + first + high) & 0xFFFFFFFF
        high = (high + second + low) & 0xFFFFFFFF
    return _SUM.pack(low, high)
