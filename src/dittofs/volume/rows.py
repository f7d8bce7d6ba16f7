"""What the volume keeps in the journal's local rows: never sent to a peer.

| kind | key | value |
|---|---|---|
| entry | inode id | `LocalEntry`: a name that is not in the tree (yet) |
| content | inode id [/ slot / n] | `ContentRow`: unpublished content, a stack of layers |
| bytes | layer id, sequence (4 bytes) | `Increment` of one layer |
| xattr | inode id 00 name | value of a `trusted.*` or `security.*` attribute |
| atime | inode id | 8 bytes, nanoseconds |

Each value is msgpack: an array that starts with its format version.
"""

from typing import TypeVar

import msgspec

from dittofs.errors import FormatError
from dittofs.ids import InodeId, Slot
from dittofs.tree.record import Ref

FORMAT = 1

Name = tuple[InodeId, bytes]
"""(parent inode id, name)"""


class LocalEntry(msgspec.Struct, array_like=True, kw_only=True):
    """A name of the local layer: a file before its first publication, or anything ignored."""

    format: int = FORMAT
    inode: InodeId
    kind: int
    names: list[Name]
    mode: int
    owner: tuple[int, int, str, str] | None
    birth: int
    mtime: int
    stamp: int
    rdev: int = 0
    target: bytes = b""
    xattrs: dict[bytes, bytes] = msgspec.field(default_factory=dict)
    is_ignored: bool = False
    """Stays local whatever happens to its content."""
    is_closed: bool = False
    """A file that was closed without ever being written: it counts although it has no content row."""


class LayerRow(msgspec.Struct, array_like=True, kw_only=True):
    """One layer of unpublished bytes over what lies below it; its increments say the rest."""

    layer: str
    """Its id: the staging file's name, and the prefix of its increments' keys."""
    mtime: int
    stamp: int
    is_filed: bool
    """Its bytes are in the staging file, not in the increments."""
    is_closed: bool
    is_appended: bool
    """Nothing that lay below was overwritten or cut."""
    durable_sequence: int
    """How many of its increments describe bytes that a sync has put on the platter; 0 for none."""
    increments: int
    """How many there are."""


class ContentRow(msgspec.Struct, array_like=True, kw_only=True):
    """Unpublished content of one inode or conflict entry."""

    format: int = FORMAT
    face: int
    base_root: bytes
    base_size: int
    replaces: list[tuple[str, int]]
    rank: int
    """Rank to inherit (an edit of a conflict entry), or 0."""
    layers: list[LayerRow]
    takes: "Taken | None" = None
    """Attributes that come with a save (rename over), applied at publication."""


class Taken(msgspec.Struct, array_like=True, kw_only=True):
    """What a saved-over file takes from the file that replaced it."""

    mode: int
    owner: tuple[int, int, str, str] | None
    xattrs: dict[bytes, bytes]


class Increment(msgspec.Struct, array_like=True, kw_only=True):
    """What changed in a layer since its last increment: first the cut, then the holes, then the writes."""

    format: int = FORMAT
    size: int
    """Size of the file when this was taken."""
    cut: int | None
    """The smallest size it had in between."""
    inline: list[tuple[int, bytes]]
    filed: list[tuple[int, int]]
    """[start, end) in the staging file."""
    holes: list[tuple[int, int]] = msgspec.field(default_factory=list)
    """[start, end) that read as zeroes from now on."""


Row = TypeVar("Row", LocalEntry, ContentRow, Increment)
_encoder = msgspec.msgpack.Encoder()


def encode(row: LocalEntry | ContentRow | Increment) -> bytes:
    """The stored form of a row."""
    return _encoder.encode(row)


def decode(kind: type[Row], value: bytes) -> Row:
    """Read a row back. Raises FormatError."""
    try:
        row = msgspec.msgpack.decode(value, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise FormatError(f"local row of kind {kind.__name__}: {error}") from error
    if row.format != FORMAT:
        raise FormatError(f"local row of kind {kind.__name__} has format {row.format}, not {FORMAT}")
    return row


def content_key(ref: Ref) -> bytes:
    """The key of a content row."""
    inode, dot = ref
    return (inode if dot is None else f"{inode}/{dot[0]}/{dot[1]}").encode("ascii")


def ref_of_key(key: bytes) -> Ref:
    """The inverse of `content_key`. Raises FormatError."""
    try:
        inode, *rest = key.decode("ascii").split("/")
        slot, n = rest or ("", "0")
        return InodeId(inode), (Slot(slot), int(n)) if slot else None
    except ValueError as error:
        raise FormatError(f"key {key!r} of a content row") from error
