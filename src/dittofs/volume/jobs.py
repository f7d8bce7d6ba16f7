"""One file of a publication point, and how its content becomes chunks."""

from collections.abc import Iterable
from dataclasses import dataclass

from dittofs.chunks.chunker import Chunking
from dittofs.chunks.content import ContentReader, Extent, store_content, store_version_node
from dittofs.chunks.store import AbsentChunk, ChunkStore
from dittofs.errors import ChunkMissing, Damaged, DittoError
from dittofs.ids import Slot, Stamp
from dittofs.tree.record import Ref
from dittofs.volume.contents import Content
from dittofs.volume.cut_ahead import CutAhead
from dittofs.volume.published import Published
from dittofs.volume.sparse import count_hole_blocks
from dittofs.volume.staging import Layer

SMALL_BYTES_MAX = 64 << 10  # one chunk


class StagedSource:
    """A closed layer as the chunker reads it."""

    def __init__(self, layer: Layer | None) -> None:
        """`layer` None: an empty file."""
        self._layer = layer
        self.size = 0 if layer is None else layer.size

    def extents(self) -> Iterable[tuple[int, int, Extent]]:
        """Every byte of the file, as changed, unchanged or a hole."""
        return () if self._layer is None else self._layer.extents()

    def read(self, offset: int, length: int) -> bytes:
        assert self._layer is not None
        return self._layer.read(offset, length)


@dataclass(slots=True)
class Job:
    """One file of a publication point, frozen."""

    ref: Ref
    content: Content | None
    layer: Layer | None
    published: Published
    stamp: Stamp
    mtime: int
    previous: list[bytes]
    root: bytes = b""
    node: bytes = b""
    error: DittoError | None = None
    was_gone: bool = False
    """Another device had removed the file."""
    is_carried: bool = False
    """Its chunks become durable with the journal, not by a sync of the packs."""
    ahead: CutAhead | None = None
    """What was cut while the file was written."""
    is_over_holes: bool = False
    """What is published has holes."""
    hole_blocks: int = 0

    @property
    def size(self) -> int:
        return self.layer.size if self.layer is not None else 0

    @property
    def is_small(self) -> bool:
        """At most one chunk, of which nothing is read from what it replaces: stored in 0.1 ms."""
        if self.size > SMALL_BYTES_MAX:
            return False
        if not self.published.size or self.layer is None:
            return True
        return all(what is not Extent.BASE for _, _, what in self.layer.extents())


def store_job(chunks: ChunkStore, slot: Slot, job: Job, chunking: Chunking) -> None:
    """Blocking: cut, hash, seal and append one content; durable after `chunks.sync`.

    A file whose base cannot be read keeps its staged bytes, and the job says why.
    """
    try:
        source = StagedSource(job.layer)
        base = job.published
        known = job.ahead.adopt() if job.ahead is not None else None
        job.root = store_content(chunks, source, base.root, base.size, chunking=chunking, known=known)
        job.node = store_version_node(chunks, job.root, job.size, job.mtime, slot, job.previous)
        if job.is_over_holes or any(what is Extent.HOLE for _, _, what in source.extents()):
            job.hole_blocks = count_hole_blocks(ContentReader(chunks, job.root, job.size))
        job.error = None
    except (Damaged, ChunkMissing) as error:
        job.error = error


def require_whole(chunks: ChunkStore, jobs: Iterable[Job]) -> None:
    """Blocking: a content that names chunks which are not here is not published, and its job says so."""
    for job in jobs:
        if job.error is None and job.root:
            absent = ContentReader(chunks, job.root, job.size).absent()
            if absent:
                job.error = AbsentChunk(*absent[0])


def store_jobs(chunks: ChunkStore, slot: Slot, jobs: Iterable[Job], chunking: Chunking) -> None:
    """Blocking: store each content; these, and all stored before, are durable when this returns."""
    for job in jobs:
        store_job(chunks, slot, job, chunking)
    chunks.sync()
