"""Contents that are to go from here, and in which steps."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from dittofs.chunks.marking import Named, named_root
from dittofs.identity.keys import DeviceId
from dittofs.ids import InodeId
from dittofs.replication.custody import Item
from dittofs.replication.pieces import Present
from dittofs.replication.session import Session
from dittofs.sync.proofs import PIECES_MAX, PROVE_BYTES_MAX, Piece

BATCH_BYTES: Final = 1 << 30
BATCH_CONTENTS: Final = 4096
NOT_HERE: Final = "nothing of it is on this device"


@dataclass(slots=True, eq=False)
class Target:
    """A content, or a stretch of one, that is to go."""

    root: bytes
    size: int
    start: int
    end: int
    inodes: list[InodeId]
    is_forced: bool = False
    """Whatever number is asked for: one proof is enough."""
    required: int = 1
    """So many other devices have to prove it."""
    copies: str = ""
    """The number of copies that asks for that."""
    why: str = ""
    """Why it stays; empty: it goes."""
    here: Present = field(default_factory=lambda: Present([], {}))
    gone_bytes: int = 0
    provers: dict[Session, None] = field(default_factory=dict)
    refusals: dict[DeviceId, str] = field(default_factory=dict)

    @property
    def named(self) -> Named:
        found = named_root(self.root)
        assert found is not None, "a content that is stored"
        return found


@dataclass(frozen=True, slots=True)
class Evicted:
    """What became of a request."""

    gone: Sequence[Item] = ()
    kept: Sequence[tuple[Item, str]] = ()
    bytes: int = 0
    """Of files, that are not here any more."""


def going(targets: Sequence[Target]) -> list[Target]:
    """Those that nothing has kept yet."""
    return [target for target in targets if not target.why]


def stay(targets: Sequence[Target], why: str) -> None:
    """None of them goes, and this is why, where nothing else is."""
    for target in targets:
        target.why = target.why or why


def batches(items: Sequence[Item], *, is_forced: bool) -> Iterator[list[Target]]:
    """Contents, each with all files that have it, in stretches, together not much above BATCH_BYTES."""
    contents: dict[tuple[bytes, int], list[InodeId]] = {}
    for inode, root, size in items:
        if named_root(root) is not None:
            contents.setdefault((root, size), []).append(inode)
    batch: list[Target] = []
    left = BATCH_BYTES
    for (root, size), inodes in contents.items():
        for start in range(0, size, BATCH_BYTES):
            end = min(start + BATCH_BYTES, size)
            batch.append(Target(root, size, start, end, inodes, is_forced))
            left -= end - start
            if left <= 0 or len(batch) >= BATCH_CONTENTS:
                yield batch
                batch, left = [], BATCH_BYTES
    if batch:
        yield batch


def questions(targets: Sequence[Target]) -> Iterator[list[tuple[Target, Piece]]]:
    """All pieces, as many together as one message may hold."""
    some: list[tuple[Target, Piece]] = []
    size = 0
    for target in targets:
        for piece in target.here.pieces:
            if some and (len(some) >= PIECES_MAX or size + piece.length > PROVE_BYTES_MAX):
                yield some
                some, size = [], 0
            some.append((target, piece))
            size += piece.length
    if some:
        yield some
