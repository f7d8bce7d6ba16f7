"""What replication needs from the rest of a replica. `node` hands it over."""

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from dittofs.blocking import RunBlocking
from dittofs.chunks.store import ChunkStore
from dittofs.clock import Clock, Entropy
from dittofs.ids import InodeId
from dittofs.journal.journal import Journal
from dittofs.tree.entry import Change
from dittofs.tree.shard import Epoch
from dittofs.tree.states import Difference, DocumentState
from dittofs.tree.tree import Tree

Updates = Sequence[tuple[int, Epoch, bytes]]


class LocalReplica(Protocol):
    """The replica on this device."""

    journal: Journal
    tree: Tree
    chunks: ChunkStore
    clock: Clock
    entropy: Entropy
    run_blocking: RunBlocking
    listeners: list[Callable[[Change], None]]

    def states(self) -> Sequence[DocumentState]: ...

    def root_digest(self) -> bytes: ...

    def digests(self) -> Sequence[bytes]: ...

    def difference(self, document: int, theirs: DocumentState) -> Difference | None: ...

    def receive(self, updates: Updates, via: bytes) -> bool: ...

    def receive_round(self, parts: Sequence[Difference], via: bytes) -> bool: ...

    def is_fork(self, theirs: Sequence[tuple[int, DocumentState]]) -> bool: ...

    def heal_fork(self) -> None: ...


class LiveContent(Protocol):
    """Which contents the tree refers to."""

    def content_roots(self) -> Iterable[tuple[InodeId, bytes, int]]:
        """(inode, root, size) of every live version that has bytes."""

    def roots_of(
        self, change: Change
    ) -> tuple[Sequence[tuple[InodeId, bytes, int]], Sequence[tuple[InodeId, bytes, int]]]:
        """What came and what went with a change; an inode that went with an empty root went altogether."""
