"""Whether all of a content is in the local store, and what of it is not. Blocking; for worker threads."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from dittofs.chunks.content import ContentReader
from dittofs.chunks.manifest import Gap, parse_root
from dittofs.chunks.seal import ChunkKind
from dittofs.chunks.store import ChunkStore
from dittofs.errors import ChunkMissing, Damaged, FormatError
from dittofs.ids import ChunkId

PAGE_BYTES: Final = 256 << 20
PAGE_CHUNKS: Final = 8192
Wanted = tuple[ChunkKind, ChunkId]


@dataclass(frozen=True, slots=True)
class Missing:
    """What of a content is to be fetched next; nothing: it is whole from where the search began."""

    chunks: Sequence[Wanted] = ()
    leaves: Sequence[tuple[ChunkId, Sequence[ChunkId | None]]] = ()
    """The leaves of the manifest that name them, each with all it names."""
    after: int = 0
    """Where in the content to go on."""


def is_single(root: bytes, size: int) -> bool:
    """Whether a content is one chunk, so that its root says all."""
    named = parse_root(root, size)
    return named is not None and named[0] is ChunkKind.DATA


def missing(store: ChunkStore, root: bytes, size: int, start: int = 0) -> Missing:
    """The next chunks of a content that are not here: of PAGE_BYTES that lack any, to the leaf that exceeds
    PAGE_CHUNKS.

    Manifest nodes that are absent, or cannot be read, come alone: what they list is known once they are here.
    What is here is claimed, for others may be told so (decision 0030).
    FormatError if the root names no content of that size.
    """
    named = parse_root(root, size)
    if named is None:
        return Missing(after=size)
    if named[0] is ChunkKind.DATA:
        return Missing([] if store.claim(*named) else [named])
    reader = ContentReader(store, root, size)
    while start < size:
        found = _missing_between(store, reader, start, start + PAGE_BYTES)
        if found.chunks:
            return found
        start = found.after
    return Missing(after=size)


def _missing_between(store: ChunkStore, reader: ContentReader, start: int, end: int) -> Missing:
    """Of the leaves that have bytes between two places."""
    chunks: dict[Wanted, None] = {}
    nodes: dict[Wanted, None] = {}
    leaves: list[tuple[ChunkId, Sequence[ChunkId | None]]] = []
    after = start
    for part in reader.leaves(start, end):
        if isinstance(part, Gap):
            nodes[ChunkKind.MANIFEST, part.chunk] = None
            continue
        ids = [part.node.id_of(number) for number in range(len(part.node.ends))]
        absent = [(ChunkKind.DATA, chunk) for chunk in ids if chunk is not None and not _claim(store, chunk)]
        if absent:
            leaves.append((part.chunk, ids))
            chunks.update(dict.fromkeys(absent))
        after = part.offset + part.node.size
        if len(chunks) > PAGE_CHUNKS:
            break
    if nodes:
        return Missing(list(nodes), after=start)
    return Missing(list(chunks), leaves, after)


def _claim(store: ChunkStore, chunk: ChunkId) -> bool:
    return store.claim(ChunkKind.DATA, chunk)


def absent_singles(store: ChunkStore, contents: Sequence[tuple[bytes, int]]) -> list[Wanted]:
    """Of these (root, size) that are one chunk each, those that are not here. What is here is claimed."""
    found: list[Wanted] = []
    for root, size in contents:
        with suppress(FormatError):
            if is_single(root, size):
                found += missing(store, root, size).chunks
    return found


def whole(store: ChunkStore, contents: Sequence[tuple[bytes, int]]) -> list[bool]:
    """For each (root, size) whether all of it is here."""
    return [_is_whole(store, root, size) for root, size in contents]


def _is_whole(store: ChunkStore, root: bytes, size: int) -> bool:
    try:
        return not missing(store, root, size).chunks
    except (FormatError, ChunkMissing, Damaged):
        return False
