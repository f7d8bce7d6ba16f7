"""Publishing an edit of a file that is on other devices: only the chunks around the edit are fetched.

All others are borrowed: the version names them, and whoever holds the version before holds them (tree.md).
"""

from collections.abc import Sequence

from dittofs.blocking import RunBlocking
from dittofs.chunks.chunker import CHUNK_BYTES_MAX, SINGLE_BYTES_MAX, Chunking
from dittofs.chunks.content import ContentReader, Extent
from dittofs.chunks.seal import ChunkKind
from dittofs.chunks.store import AbsentChunk, ChunkStore
from dittofs.errors import ChunkUnavailable, Damaged
from dittofs.ids import Slot
from dittofs.volume.jobs import Job, StagedSource, store_jobs
from dittofs.volume.source import ChunkSource, Wanted

RESYNC_BYTES = 2 * CHUNK_BYTES_MAX  # behind an edit, where the cuts usually fall as before again
WHOLE_CHUNKS = 64  # asked for at a time, where all of a content is wanted
FOLLOWING_CHUNKS = 4  # fetched with one that was missing all the same; twice as many each time


def lacks_chunks(job: Job) -> bool:
    """Whether the job could not be stored because chunks are missing or damaged here."""
    return isinstance(job.error, AbsentChunk | Damaged | ChunkUnavailable)


async def borrow(
    source: ChunkSource,
    chunks: ChunkStore,
    slot: Slot,
    job: Job,
    chunking: Chunking,
    run_blocking: RunBlocking,
) -> None:
    """Fetch what storing the job needs, and store it. `job.error` says why if that could not be done.

    May be cancelled: the job is stored whole then, or its error stands.
    """
    base = ContentReader(chunks, job.published.root, job.published.size)
    first = job.error
    count, asked = FOLLOWING_CHUNKS, set[Wanted]()
    try:
        while nodes := base.absent_nodes():
            await _fetch(source, base, nodes, asked)
        wanted = await run_blocking(_around_edits, base, job)
        if wanted:
            await source.fetch(base.root, wanted)
        while True:
            await run_blocking(store_jobs, chunks, slot, [job], chunking)
            if not isinstance(job.error, AbsentChunk | Damaged):
                return
            if isinstance(job.error, AbsentChunk):  # what is found damaged is absent the next time
                missing = job.error.kind, job.error.chunk
                following = await run_blocking(_following, base, missing, count)
                await _fetch(source, base, following, asked)
                count *= 2
    except ChunkUnavailable as error:
        job.error = first if isinstance(first, Damaged) else error


async def fetch_whole(source: ChunkSource, chunks: ChunkStore, job: Job, run_blocking: RunBlocking) -> None:
    """Fetch all that a stored job names and that is not here. `job.error` says why if that cannot be done."""
    if job.error is not None or not job.root:
        return
    content = ContentReader(chunks, job.root, job.size)
    try:
        while wanted := await run_blocking(content.absent):
            for start in range(0, len(wanted), WHOLE_CHUNKS):
                await source.fetch(job.root, wanted[start : start + WHOLE_CHUNKS])
        await run_blocking(chunks.sync)
    except ChunkUnavailable as error:
        job.error = error


async def _fetch(
    source: ChunkSource, base: ContentReader, wanted: Sequence[Wanted], asked: set[Wanted]
) -> None:
    if wanted[0] in asked:
        raise ChunkUnavailable("what other devices sent is not what was missing")
    asked.update(wanted)
    await source.fetch(base.root, wanted)


def _around_edits(base: ContentReader, job: Job) -> list[Wanted]:
    """Chunks of the base that share a chunk with what changed, or come right after it."""
    wanted = dict[Wanted, None]()
    is_small = job.size <= SINGLE_BYTES_MAX or base.chunking is None
    for offset, length, extent in StagedSource(job.layer).extents():
        end = offset + length
        if extent is not Extent.BASE:
            continue
        stretches = [(offset, end)]
        if not is_small:
            head = (offset, min(end, offset + RESYNC_BYTES)) if offset else (0, 0)
            tail = (end - 1, end) if end < max(job.size, base.size) else (0, 0)
            stretches = [head, tail]
        for low, high in stretches:
            wanted.update(dict.fromkeys(base.absent(low, high)))
    return list(wanted)


def _following(base: ContentReader, missing: Wanted, count: int) -> list[Wanted]:
    """A missing chunk and the next ones of the base that are not here."""
    found: list[Wanted] = []
    if missing[0] is ChunkKind.DATA:
        for part in base.presence():
            if part.chunk is not None and not part.is_here and (found or part.chunk == missing[1]):
                found.append((part.kind, part.chunk))
            if len(found) == count:
                break
    return found or [missing]
