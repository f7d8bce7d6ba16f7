"""What replication needs from the rest of a replica. `node` hands it over."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from dittofs.blocking import RunBlocking
from dittofs.chunks.marking import Named
from dittofs.chunks.store import ChunkStore
from dittofs.clock import Clock, Entropy
from dittofs.ids import ChunkId, InodeId
from dittofs.journal.journal import Journal
from dittofs.tree.entry import Change
from dittofs.tree.group import Group
from dittofs.tree.shard import Epoch
from dittofs.tree.states import Difference, DocumentState
from dittofs.tree.tree import Tree

Updates = Sequence[tuple[int, Epoch, bytes]]


class LocalTransaction(Protocol):
    """One change of the volume."""

    @property
    def group(self) -> Group: ...


class LostDocuments(Protocol):
    """Documents of the tree that were lost here, and are awaited from other devices."""

    @property
    def awaited(self) -> Mapping[int, str]: ...

    def has_no_more(self, device: bytes, numbers: Collection[int]) -> None: ...


class LocalReplica(Protocol):
    """The replica on this device."""

    journal: Journal
    tree: Tree
    chunks: ChunkStore
    clock: Clock
    entropy: Entropy
    run_blocking: RunBlocking
    listeners: list[Callable[[Change], None]]
    authored: list[Callable[[Change], None]]

    @property
    def read_only(self) -> str | None: ...

    @property
    def documents(self) -> LostDocuments: ...

    @property
    def not_allowed(self) -> str | None: ...

    def change(self) -> AbstractContextManager[LocalTransaction]: ...

    def states(self) -> Sequence[DocumentState]: ...

    def root_digest(self) -> bytes: ...

    def digests(self) -> Sequence[bytes]: ...

    def difference(self, document: int, theirs: DocumentState) -> Difference | None: ...

    def receive(self, updates: Updates, via: bytes) -> bool: ...

    def receive_round(self, parts: Sequence[Difference], via: bytes, lacks: Collection[int] = ()) -> bool: ...

    def is_fork(self, theirs: Sequence[tuple[int, DocumentState]]) -> bool: ...

    def heal_fork(self) -> None: ...


class Retained(Protocol):
    """What this replica names, so that it is kept."""

    @property
    def holds_back(self) -> bool:
        """Whether the brake keeps this device from seeing what others did."""

    @property
    def is_naming(self) -> bool:
        """Whether something is under way here that names what is shown no more."""

    def named(self) -> Iterator[tuple[Named, bool]]:
        """All that is named, and whether by what the volume shows now. What comes meanwhile: `came`."""

    @property
    def lost_listings(self) -> set[ChunkId]:
        """Chunks of snapshots' listings that no device has: nobody can ever read those."""

    def look_at_snapshots(self) -> None:
        """Blocking: AbsentChunk, with its kind and id, if a snapshot's listing is not here."""

    def came(self, change: Change) -> Iterator[Named]:
        """What a change names."""

    def pending(self) -> Sequence[Named]:
        """What is named by unpublished edits and open files, at this instant."""

    def bases(self) -> Sequence[tuple[bytes, int]]:
        """Contents that unpublished edits build on, at this instant: root and size."""

    def made(self, change: Change) -> Iterable[tuple[InodeId, bytes, int, Sequence[bytes]]]:
        """The contents that a change brought: inode, root and size, and the roots the file had before."""

    def is_live(self, inode: InodeId, root: bytes) -> bool:
        """Whether a file has that content now."""


class LiveContent(Protocol):
    """Which contents the tree refers to."""

    def content_roots(self) -> Iterable[tuple[InodeId, bytes, int]]:
        """(inode, root, size) of every live version that has bytes."""

    def is_live(self, inode: InodeId, root: bytes) -> bool:
        """Whether a file has that content now, shown or as a conflict entry."""

    def roots_of(
        self, change: Change
    ) -> tuple[Sequence[tuple[InodeId, bytes, int]], Sequence[tuple[InodeId, bytes, int]]]:
        """What came and what went with a change; an inode that went with an empty root went altogether."""
