"""The record: all that one slot knows of one inode, or of one further name of it.

How it is written is encoding.py; how two meet is join.py; what it means is rules.py.
"""

import enum
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from dittofs.ids import InodeId, Slot, Stamp

NAME_BYTES_MAX = 255
SYMLINK_BYTES_MAX = 4095
STAMP_END = 1 << 62
NEVER = Stamp(0)
SHARDS = 256
META_SHARD = 256
DOCUMENTS = SHARDS + 1
"""The shards and the meta document."""
PATH_DOTS_MAX = 15
ORDINAL_MAX = 1_000
PATH_DEPTH_MAX = 2_048
"""Directories above a directory; deeper ones are shown in lost+found."""

Dot = tuple[Slot, int]
"""One change of one writer: `n` counts the transactions of a slot in a shard, from 1, without gaps."""
Ref = tuple[InodeId, Dot | None]
"""A visible thing: an inode, or (dot given) one of its conflict entries."""
Context = Mapping[Slot, int]
"""What has been seen: of each slot everything up to n."""


class Kind(enum.IntEnum):
    """What a record is. LINK is one further name of the inode whose id begins its key."""

    FILE = 1
    DIRECTORY = 2
    SYMLINK = 3
    LINK = 4
    FIFO = 5
    SOCKET = 6
    CHARACTER = 7
    BLOCK = 8


WITH_CONTENT = frozenset({Kind.FILE, Kind.SYMLINK})
"""Kinds that have versions. The others live by name."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Who a file belongs to: numbers, and the names they had where they were set ("": none)."""

    uid: int
    gid: int
    user: str
    group: str


class Version(NamedTuple):
    """One published content. Immutable: a dot never gets another content."""

    dot: Dot
    root: bytes
    """Content root; of a symlink its target."""
    size: int
    mtime: int
    """Nanoseconds since 1970."""
    node: bytes
    """The version node, for history."""
    rank: Stamp
    """Orders versions: when it was saved. An edit of a conflict entry keeps the rank of what it edits."""
    face: int
    """The number this content shows as st_ino; 0: the inode's own."""
    stamp: Stamp
    """When it was written."""
    path: tuple[Dot, ...]
    """Of an edited conflict entry the dots it descends from, first one first: they keep entries in order."""
    ordinal: int = 0
    """The number in the name of a conflict entry, where one was given for good; 0: the first that is free."""

    @property
    def content(self) -> tuple[bytes, int]:
        """What makes two versions equal, whoever wrote them."""
        return (self.root, self.size)

    @property
    def lineage(self) -> tuple[Dot, ...]:
        """Where this version stands among others of its rank."""
        return (*self.path, self.dot)


@dataclass(frozen=True, slots=True)
class NewVersion:
    """A content to be published. Of a symlink `root` is the target."""

    root: bytes
    size: int
    mtime: int
    node: bytes
    face: int = 0
    rank: Stamp = NEVER
    """Of what stood beside a name and comes back as it was called: its rank, path and number."""
    path: tuple[Dot, ...] = ()
    ordinal: int = 0


class Place(NamedTuple):
    """Where a name is. A directory remembers where it was before, for the case of a cycle."""

    stamp: Stamp
    slot: Slot
    n: int
    parent: InodeId
    name: bytes
    before: tuple[InodeId, bytes] | None

    @property
    def order(self) -> tuple[int, str, int]:
        """Later places come later."""
        return (self.stamp, self.slot, self.n)


class Register(NamedTuple):
    """A register of a number: permission bits, or a modification time in nanoseconds."""

    stamp: Stamp
    slot: Slot
    value: int


class Ownership(NamedTuple):
    """A register of an owner; None: whoever mounts."""

    stamp: Stamp
    slot: Slot
    value: Owner | None


class Attribute(NamedTuple):
    """A register of one extended attribute; None: removed."""

    stamp: Stamp
    slot: Slot
    value: bytes | None


class Forward(NamedTuple):
    """A conditional tombstone: a save moved this content into `target`.

    It covers the places and versions of `covered`, and counts only once `target` has seen (slot, n).
    """

    target: InodeId
    slot: Slot
    n: int
    stamp: Stamp
    covered: Context


_NO_VERSIONS: tuple[Version, ...] = ()


@dataclass(slots=True)
class Record:
    """One record. Never changed once it is shared: copy it (`dataclasses.replace`) and change the copy."""

    kind: Kind
    context: dict[Slot, int]
    place: Place | None = None
    mode: Register | None = None
    owner: Ownership | None = None
    mtime: Register | None = None
    birth: int | None = None
    versions: tuple[Version, ...] = _NO_VERSIONS
    names: dict[Slot, int] = field(default_factory=dict)
    """Tombstone of names: covers place dots."""
    removed: Stamp = NEVER
    """When `names` was last raised."""
    content: dict[Slot, int] = field(default_factory=dict)
    """Tombstone of content: covers version dots."""
    xattrs: dict[bytes, Attribute] = field(default_factory=dict)
    forwards: tuple[Forward, ...] = ()
    rdev: int = 0
    changed: Stamp = NEVER
    """The latest operation, where no other field holds its stamp."""
    unknown: dict[int, object] = field(default_factory=dict)
    """Fields of later formats, carried on: from 64 registers, from 128 maps of registers."""

    @property
    def latest(self) -> Stamp:
        """The greatest stamp in the record."""
        stamps = [self.changed, self.removed]
        if self.place is not None:
            stamps.append(self.place.stamp)
        for register in (self.mode, self.owner, self.mtime):
            if register is not None:
                stamps.append(register.stamp)
        stamps.extend(version.stamp for version in self.versions)
        stamps.extend(attribute.stamp for attribute in self.xattrs.values())
        stamps.extend(forward.stamp for forward in self.forwards)
        return max(stamps)


def covers(context: Context, dot: Dot) -> bool:
    """Whether `context` has seen `dot`."""
    return context.get(dot[0], 0) >= dot[1]


def shard_of(inode: InodeId) -> int:
    """The shard that holds an inode's records."""
    return zlib.crc32(inode.encode("ascii")) % SHARDS


def key_of(inode: InodeId, link: str) -> str:
    """The record key of an inode (link "") or of a further name of it."""
    return f"{inode}.{link}" if link else inode


def split_key(key: str) -> tuple[InodeId, str]:
    """The inode and the link ("" for the inode's own record) of a record key."""
    inode, _, link = key.partition(".")
    return InodeId(inode), link


def is_name(name: bytes) -> bool:
    """Whether `name` can stand in a directory."""
    return (
        0 < len(name) <= NAME_BYTES_MAX
        and b"/" not in name
        and b"\0" not in name
        and name not in (b".", b"..")
    )
