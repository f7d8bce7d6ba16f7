"""Cutting the beginning of a content that is still being written, so that less is left at its end."""

from collections.abc import Callable

from dittofs.chunks.chunker import Buffer, Chunking, Cutter
from dittofs.chunks.seal import ChunkKind
from dittofs.chunks.store import ChunkStore
from dittofs.errors import DiskError
from dittofs.ids import ChunkId

READ_BYTES = 4 << 20  # read, cut and sealed at once

Beginning = tuple[int, ChunkId]
"""A chunk of the beginning of a content: (length, id)."""


def cut_ahead(
    store: ChunkStore, read: Callable[[int, int], bytes], start: int, end: int, *, chunking: Chunking
) -> list[Beginning]:
    """Cut and store [start, end), which begins at a cut; the chunks that end there whatever follows.

    `read(start, end)` gives its bytes, none of which is a hole; what is written to them meanwhile may be
    missed. Blocks; durable after `store.sync`. DiskFull or DiskError: what was stored is harmless.
    """
    cutter = Cutter(chunking, store.chunker_secret)
    found: list[Beginning] = []
    uncut: Buffer = b""
    at = start
    for offset in range(start, end, READ_BYTES):
        size = min(READ_BYTES, end - offset)
        data = read(offset, offset + size)
        if len(data) != size:
            raise DiskError(f"a content to be stored has {len(data)} of {size} bytes at {offset}")
        plain = b"".join((uncut, data)) if len(uncut) else data
        view, begin = memoryview(plain), 0
        chunks: list[memoryview] = []
        for stop in cutter.cut(plain, offset=at, final=False):
            chunks.append(view[begin:stop])
            begin = stop
        ids = store.put([(ChunkKind.DATA, chunk) for chunk in chunks])
        found += [(len(chunk), identity) for chunk, identity in zip(chunks, ids, strict=True)]
        at += begin
        uncut = bytes(view[begin:])
    return found
