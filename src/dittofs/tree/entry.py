"""What the tree shows: entries of directories, and the attributes of what they lead to."""

from collections.abc import Sequence
from dataclasses import dataclass

from dittofs.ids import InodeId, Number, Slot, Stamp
from dittofs.tree.record import Dot, Kind, Owner, Ref, Version
from dittofs.tree.shard import Epoch


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a directory listing."""

    name: bytes
    """As shown."""
    kind: Kind
    inode: InodeId
    """Of a directory the smallest of its members."""
    link: str
    """"" for the name in the inode's own record."""
    dot: Dot | None
    """Of a conflict entry the version."""

    @property
    def ref(self) -> Ref:
        """What it leads to."""
        return (self.inode, self.dot)


@dataclass(frozen=True, slots=True)
class Attributes:
    """What stat(2) tells of a visible thing. Times are nanoseconds since 1970."""

    kind: Kind
    mode: int
    """Permission bits, set-id and sticky."""
    owner: Owner | None
    """None: whoever mounts."""
    size: int
    mtime: int
    ctime: int
    birth: int
    nlink: int
    number: Number
    rdev: int
    version: Version | None
    """The content that is shown."""
    trusted: bool
    """Mode, owner and content were last written here: set-id bits and devices may act."""
    members: tuple[InodeId, ...]
    """Of a directory those shown as one, the smallest first."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How much a volume shows."""

    files: int
    """Everything that is no directory."""
    directories: int
    """Without the root and lost+found."""
    bytes: int
    conflicts: int
    """Contents and files that stand aside of a name."""


@dataclass(frozen=True, slots=True)
class Effect:
    """One thing that changed, for the history."""

    stamp: Stamp
    slot: Slot
    inode: InodeId
    kind: str
    before: bytes
    after: bytes
    source: InodeId | None = None
    """The directory that lost a name."""
    target: InodeId | None = None
    """The directory that got one."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a group, or a delivery from elsewhere, did."""

    updates: Sequence[tuple[int, Epoch, bytes]]
    """(shard, epoch, update), in the order in which they must be applied."""
    effects: Sequence[Effect]
    touched: frozenset[InodeId]
    """Directories and inodes whose view may have changed."""
    names: frozenset[tuple[InodeId, bytes]]
    """(directory, name) pairs that may show something else."""
    via: bytes = b""
    """The device that vouches for it; empty: it was made here."""
    is_round: bool = False
    """More than `updates` says: whoever follows this replica has to pull."""
    is_unasked: bool = False
    """Made here, but not because a program asked: all that show the volume must look again."""
