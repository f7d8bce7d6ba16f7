"""Reading what is not all on this device: fetch what is missing, then read, at one instant."""

from collections.abc import Sequence
from contextlib import nullcontext

import trio

from dittofs.chunks.content import ContentReader
from dittofs.chunks.manifest import chunk_root
from dittofs.chunks.seal import ChunkKind
from dittofs.chunks.store import AbsentChunk, ChunkStore
from dittofs.errors import ChunkUnavailable, Damaged
from dittofs.ids import ChunkId
from dittofs.volume.readahead import ReadAhead
from dittofs.volume.source import ChunkSource, NoSource, Wanted
from dittofs.volume.staging import Base, Layer

GLANCES = 3
GLANCE_BYTES_MIN = 1 << 20  # a look at the places of smaller files would cost more than a wrong guess
READ_PATIENCE_S = 20.0  # how long a read waits for other devices, all in all


def can_fetch(source: ChunkSource) -> bool:
    """Whether waiting for a chunk may help."""
    return not isinstance(source, NoSource)


def seems_here(base: Base, size: int) -> bool:
    """Whether a file lacks nothing at both its ends and in between: a glance, not a proof. DittoError."""
    if size < GLANCE_BYTES_MIN:
        return True
    places = {max(0, size * part // GLANCES - 1) for part in range(GLANCES + 1)}
    return not any(lacking(base, place, 1)[1] for place in sorted(places))


def lacking(base: Base, offset: int, length: int) -> tuple[bytes, list[Wanted]]:
    """What a read of `base` needs that is not here: the content it is of, and chunks of that.

    Nodes of a manifest come first; the data they name is known once they are here.
    """
    root, wanted = b"", dict[Wanted, None]()
    whole = [(base, offset, offset + length)]
    for bottom, start, end in base.shown_through(offset, length) if isinstance(base, Layer) else whole:
        if isinstance(bottom, ContentReader):
            root = bottom.root
            wanted.update(dict.fromkeys(bottom.absent(start, end)))
    nodes = [one for one in wanted if one[0] is ChunkKind.MANIFEST]
    return root, nodes or list(wanted)


async def read_fetched(
    source: ChunkSource, base: Base, offset: int, length: int, error: AbsentChunk | Damaged
) -> bytes:
    """Read `base`, of which a plain read raised `error`. Every byte is of the same version.

    ChunkUnavailable within READ_PATIENCE_S; Damaged if what is damaged here cannot be had elsewhere.
    """
    asked: set[Wanted] = set()
    with trio.move_on_after(READ_PATIENCE_S), base.in_use() if isinstance(base, Layer) else nullcontext():
        # A round for each level of the manifest, for the data, and for each chunk found damaged when read.
        while True:
            root, wanted = lacking(base, offset, length)
            if wanted and asked.issuperset(wanted):
                raise ChunkUnavailable(f"what other devices sent is not what was missing: {error}")
            if wanted:
                await _fetch(source, root, wanted, error)
            asked.update(wanted)
            try:
                return base.read(offset, length)
            except (AbsentChunk, Damaged) as found:
                error = found if isinstance(found, Damaged) else error
                if not wanted and not lacking(base, offset, length)[1]:
                    raise
    raise _too_late()


async def get_fetched(
    source: ChunkSource, chunks: ChunkStore, chunk: ChunkId, error: AbsentChunk | Damaged
) -> bytes:
    """One chunk that stands for itself, as a large extended attribute does. Errors as `read_fetched`."""
    with trio.move_on_after(READ_PATIENCE_S):
        await _fetch(source, chunk_root(chunk), [(ChunkKind.DATA, chunk)], error)
        return chunks.get(ChunkKind.DATA, chunk)
    raise _too_late()


async def _fetch(
    source: ChunkSource, root: bytes, wanted: Sequence[Wanted], error: AbsentChunk | Damaged
) -> None:
    try:
        await source.fetch(root, wanted)
    except ChunkUnavailable:
        if isinstance(error, Damaged):
            raise error from None
        raise


def _too_late() -> ChunkUnavailable:
    return ChunkUnavailable(f"no device delivered what is missing here within {READ_PATIENCE_S:.0f} s")


def prefetch(source: ChunkSource, base: Base, ahead: ReadAhead, offset: int, length: int) -> None:
    """After a read: ask for what this descriptor will want next, where it is not here."""
    span = ahead.note(offset, length)
    if span is None or not ahead.has_missed or not isinstance(base, ContentReader):
        return
    start, limit = span
    wanted: list[Wanted] = []
    for part in base.presence(start, limit):
        is_node = part.kind is ChunkKind.MANIFEST
        if part.offset + part.length > limit and not is_node:
            break  # a chunk that is not wanted whole may never be
        if not part.is_here and part.chunk is not None:
            wanted.append((part.kind, part.chunk))
        if is_node:
            break
        ahead.asked(part.offset + part.length)
    if wanted:
        source.prefetch(base.root, wanted)
