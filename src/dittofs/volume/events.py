"""The history read: what each row says, and what an inode was before it. All others read through here.

`effects` in the tree package says what rows hold.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, NamedTuple, TypeVar

import msgspec

from dittofs.errors import FormatError
from dittofs.ids import CHUNK_ID_BYTES, ChunkId, InodeId, Slot, Stamp
from dittofs.journal.history import HistoryEffect, HistoryRow
from dittofs.tree.record import Kind, Owner

REPLACES_POINT: Final = b"\1"
"""Before the id of its version node, a version says: what it replaces was a publication point of a file that
stayed open, so the two are one version of the history."""
NAME_BYTES: Final = 4
Row = TypeVar("Row")


class PastName(NamedTuple):
    """A name that an inode had."""

    parent: InodeId
    name: bytes
    link: str
    is_plain: bool
    """False: nothing was shown under it; it marks where conflict entries were shown."""


class PastContent(NamedTuple):
    """A content that an inode had."""

    root: bytes
    """Of a symbolic link its target."""
    size: int
    mtime: int
    node: bytes
    slot: Slot
    """Who wrote it."""
    stamp: Stamp
    """When, by the writer's clock."""

    @property
    def id(self) -> str:
        """8 hexadecimal digits, the same on every device: what people may call this version."""
        said = f"{self.slot}/{self.stamp}/{self.size}/".encode() + self.root
        return hashlib.blake2b(said, digest_size=NAME_BYTES).hexdigest()


@dataclass(frozen=True, slots=True)
class Past:
    """All there was to an inode at one time."""

    kind: Kind
    names: Mapping[str, PastName]
    """By link. In the order of the tree: the one that shows conflict entries first."""
    contents: tuple[PastContent, ...]
    """The shown one first, if a name is plain; the others were conflict entries."""
    mode: int | None
    owner: Owner | None
    mtime: int | None
    """What stat(2) said; of a directory None unless it was set."""
    birth: int | None
    xattrs: Mapping[bytes, bytes]
    rdev: int

    @property
    def main(self) -> PastContent | None:
        """What the names showed."""
        is_shown = any(name.is_plain for name in self.names.values())
        return self.contents[0] if is_shown and self.contents else None

    @property
    def revived(self) -> "Past":
        """What comes back of it: where only conflict entries were left, the names show the first of them."""
        if any(name.is_plain for name in self.names.values()):
            return self
        return replace(self, names={link: one._replace(is_plain=True) for link, one in self.names.items()})

    @property
    def asides(self) -> tuple[PastContent, ...]:
        """What conflict entries showed."""
        return self.contents if self.main is None else self.contents[1:]


_RawName = tuple[InodeId, bytes, str, bool]
_RawContent = tuple[bytes, int, int, bytes, Slot, Stamp]
_RawOwner = tuple[int, int, str, str]
_RawWhole = tuple[
    int,
    list[_RawName],
    list[_RawContent],
    int | None,
    _RawOwner | None,
    int | None,
    int | None,
    dict[bytes, bytes],
    int,
]
_name = msgspec.msgpack.Decoder(_RawName)
_made = msgspec.msgpack.Decoder(tuple[int, InodeId, bytes, str, bool])
_contents = msgspec.msgpack.Decoder(list[_RawContent])
_whole = msgspec.msgpack.Decoder(_RawWhole)
_number = msgspec.msgpack.Decoder(int | None)
_owner = msgspec.msgpack.Decoder(_RawOwner | None)
_xattr = msgspec.msgpack.Decoder(tuple[bytes, bytes | None])


def contents_of(raw: bytes) -> tuple[PastContent, ...]:
    """Either side of a `content` row. Raises FormatError."""
    return tuple(PastContent(*one) for one in _decode(_contents, raw)) if raw else ()


def made_of(raw: bytes) -> tuple[Kind, PastName]:
    """The later side of a `create` row. Raises FormatError."""
    kind, parent, name, link, is_plain = _decode(_made, raw)
    return Kind(kind), PastName(parent, name, link, is_plain)


def name_of(raw: bytes) -> PastName | None:
    """Either side of a `name` row. Raises FormatError."""
    return PastName(*_decode(_name, raw)) if raw else None


def number_of(raw: bytes) -> int | None:
    """Either side of a `mode` or `mtime` row. Raises FormatError."""
    number: int | None = _decode(_number, raw)
    return number


def owner_of(raw: bytes) -> Owner | None:
    """Either side of an `owner` row. Raises FormatError."""
    owner = _decode(_owner, raw)
    return None if owner is None else Owner(*owner)


def xattr_of(raw: bytes) -> tuple[bytes, bytes | None]:
    """Either side of an `xattr` row: name and value. Raises FormatError."""
    return _decode(_xattr, raw)


def whole_of(raw: bytes) -> Past:
    """What a `remove` row says was there, or `Tree.whole` is. Raises FormatError."""
    kind, names, contents, mode, owner, mtime, birth, xattrs, rdev = _decode(_whole, raw)
    return Past(
        Kind(kind),
        {name[2]: PastName(*name) for name in names},
        tuple(PastContent(*one) for one in contents),
        mode,
        None if owner is None else Owner(*owner),
        mtime,
        birth,
        xattrs,
        rdev,
    )


def undone(past: Past | None, row: HistoryRow) -> Past | None:
    """What an inode was before `row`, if it was `past` after it; None: not alive. Raises FormatError."""
    if row.kind == "remove":
        return whole_of(row.before)
    if row.kind == "create" or past is None:
        return None
    match row.kind:
        case "name":
            return replace(past, names=_renamed(past.names, row))
        case "content":
            contents = contents_of(row.before)
            mtime = contents[0].mtime if contents and past.kind is not Kind.DIRECTORY else past.mtime
            return replace(past, contents=contents, mtime=mtime)
        case "mode":
            return replace(past, mode=number_of(row.before))
        case "owner":
            return replace(past, owner=owner_of(row.before))
        case "mtime":
            return _retimed(past, number_of(row.before))
        case "xattr":
            name, value = xattr_of(row.before)
            xattrs = {**past.xattrs, name: value}
            return replace(past, xattrs={key: one for key, one in xattrs.items() if one is not None})
    return past  # a kind of a later version


def _renamed(names: Mapping[str, PastName], row: HistoryRow) -> Mapping[str, PastName]:
    was, now = name_of(row.before), name_of(row.after)
    found = dict(names)
    if was is not None:
        found[was.link] = was
    elif now is not None:
        found.pop(now.link, None)
    return found


def _retimed(past: Past, mtime: int | None) -> Past:
    if past.main is None or mtime is None:
        return replace(past, mtime=mtime)
    main = past.contents[0]._replace(mtime=mtime)
    return replace(past, mtime=mtime, contents=(main, *past.contents[1:]))


def is_written(row: HistoryRow) -> PastContent | None:
    """The version that a `content` row made: one that was not there before. None: it only took away."""
    if row.kind != "content":
        return None
    before = {(one.slot, one.stamp, one.root) for one in contents_of(row.before)}
    fresh = [one for one in contents_of(row.after) if (one.slot, one.stamp, one.root) not in before]
    return max(fresh, key=lambda one: one.stamp) if fresh else None


def author_of(row: HistoryRow) -> tuple[Slot, Stamp]:
    """Who made the change that a row tells of, and when by his clock."""
    # What an inode came with may be older than its coming: it was there before, and came back.
    written = is_written(row) if row.before else None
    return (row.slot, row.stamp) if written is None else (written.slot, written.stamp)


def key_of(row: HistoryRow) -> str | None:
    """Which of an inode's many sides a row is about; None: that it came or went."""
    match row.kind:
        case "create" | "remove":
            return None
        case "name":
            name = name_of(row.before) or name_of(row.after)
            return "name" if name is None else f"name {name.link}"
        case "xattr":
            return "xattr " + xattr_of(row.after)[0].hex()
    return row.kind


def contents_in(row: HistoryEffect) -> Iterable[PastContent]:
    """Every content that a row keeps: what may not be swept while the row stands. Raises FormatError."""
    if row.kind == "content":
        return (*contents_of(row.before), *contents_of(row.after))
    return whole_of(row.before).contents if row.kind == "remove" else ()


def node_of(node: bytes) -> ChunkId | None:
    """The id of the version node that a version names; None if it names none."""
    chunk = node.removeprefix(REPLACES_POINT) if len(node) > CHUNK_ID_BYTES else node
    return ChunkId(chunk) if len(chunk) == CHUNK_ID_BYTES else None


def replaces_point(node: bytes) -> bool:
    """Whether a version of this node continues one that was no version of the history."""
    return node.startswith(REPLACES_POINT) and len(node) == CHUNK_ID_BYTES + len(REPLACES_POINT)


def _decode(decoder: msgspec.msgpack.Decoder[Row], raw: bytes) -> Row:
    try:
        return decoder.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise FormatError(f"a history row of unknown form: {error}") from error
