"""Whether all of a content is in the local store, and what of it is not. Blocking; for worker threads."""

from collections.abc import Sequence
from typing import Final

from dittofs.chunks.content import ContentReader
from dittofs.chunks.manifest import parse_root
from dittofs.chunks.seal import ChunkKind
from dittofs.chunks.store import AbsentChunk, ChunkStore
from dittofs.errors import ChunkMissing, Damaged, FormatError
from dittofs.ids import ChunkId

PAGE_CHUNKS: Final = 512
Wanted = tuple[ChunkKind, ChunkId]


def is_single(root: bytes, size: int) -> bool:
    """Whether a content is one chunk, so that its root says all."""
    named = parse_root(root, size)
    return named is not None and named[0] is ChunkKind.DATA


def missing(store: ChunkStore, root: bytes, size: int, start: int = 0) -> tuple[list[Wanted], int]:
    """The next chunks of a content that are not here, at most PAGE_CHUNKS, and where to go on.

    An absent manifest node comes alone: what it lists is known once it is here. Nothing missing: the list
    is empty. What is here is claimed, for others may be told so (decision 0030).
    FormatError if the root names no content of that size.
    """
    named = parse_root(root, size)
    if named is None:
        return [], size
    if named[0] is ChunkKind.DATA:
        return ([] if store.claim(*named) else [named]), 0
    found: list[Wanted] = []
    try:
        for offset, length, chunk in ContentReader(store, root, size).chunks(start):
            if chunk is not None and not store.claim(ChunkKind.DATA, chunk):
                found.append((ChunkKind.DATA, chunk))
                if len(found) >= PAGE_CHUNKS:
                    return found, offset + length
            start = offset + length
    except AbsentChunk as absent:
        return [*found, (absent.kind, absent.chunk)], start
    except Damaged:
        return [*found, named], start  # a node that cannot be read is fetched again
    return found, start


def whole(store: ChunkStore, contents: Sequence[tuple[bytes, int]]) -> list[bool]:
    """For each (root, size) whether all of it is here."""
    return [_is_whole(store, root, size) for root, size in contents]


def _is_whole(store: ChunkStore, root: bytes, size: int) -> bool:
    try:
        return not missing(store, root, size)[0]
    except (FormatError, ChunkMissing, Damaged):
        return False
