"""Marking: every chunk that a content consists of, as far as its manifest is here."""

from collections.abc import Iterable
from typing import Final, NamedTuple

from dittofs.chunks.id_filter import IdFilter
from dittofs.chunks.manifest import decode_node
from dittofs.chunks.seal import ChunkKind
from dittofs.chunks.store import ChunkStore
from dittofs.errors import ChunkMissing, Damaged, FormatError
from dittofs.ids import CHUNK_ID_BYTES, ChunkId

WALKED_MAX: Final = 200_000
"""Manifest nodes that are known to be done; 25 MB. Above that some are walked again."""
ROOT_BYTES: Final = 1 + CHUNK_ID_BYTES


class Named(NamedTuple):
    """A chunk that somebody names: a content of one chunk, a manifest, a version node."""

    kind: ChunkKind
    chunk: ChunkId


class Unknown(NamedTuple):
    """A manifest node that is not here, so that nobody knows which chunks it names."""

    root: Named
    """What it is part of."""
    node: ChunkId


def named_root(root: bytes) -> Named | None:
    """What a content's root names; None: nothing (the empty content), or nothing this program knows."""
    if len(root) != ROOT_BYTES or root[0] not in (ChunkKind.DATA, ChunkKind.MANIFEST):
        return None
    return Named(ChunkKind(root[0]), ChunkId(root[1:]))


class Marker:
    """Marks into one filter. Blocking; one thread at a time."""

    def __init__(self, store: ChunkStore, marks: IdFilter) -> None:
        self._store = store
        self.marks = marks
        self._walked: set[ChunkId] = set()
        self._unknown: set[ChunkId] = set()

    def knows(self, named: Named) -> bool:
        """Whether all of it was marked, or found to be unknown, already."""
        if named.kind is ChunkKind.MANIFEST:
            return named.chunk in self._walked or named.chunk in self._unknown
        return named.chunk in self.marks

    def mark(self, all_named: Iterable[Named]) -> list[Unknown]:
        """Mark these and all they consist of. Returns the nodes that are not here: below them nothing is."""
        unknown: list[Unknown] = []
        for named in all_named:
            self._mark(named, unknown)
        return unknown

    def _mark(self, root: Named, unknown: list[Unknown]) -> None:
        if root.kind is not ChunkKind.MANIFEST:
            self.marks.add(root.chunk)
            return
        waiting = [root.chunk]
        while waiting:
            chunk = waiting.pop()
            if chunk in self._walked:
                continue
            self.marks.add(chunk)
            try:
                node = decode_node(self._store.get(ChunkKind.MANIFEST, chunk))
            except (ChunkMissing, Damaged):
                unknown.append(Unknown(root, chunk))
                self._unknown.add(root.chunk)
                continue
            except FormatError:
                continue  # sound, by its hash, and no manifest: nobody can read such a content
            children = [one for at in range(len(node.ends)) if (one := node.id_of(at)) is not None]
            if node.level:
                waiting += children
            else:
                self.marks.update(children)
            if len(self._walked) >= WALKED_MAX:
                self._walked.clear()
            self._walked.add(chunk)
