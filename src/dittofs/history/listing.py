"""The listing of a directory in a snapshot: its bytes, and what they may say.

Any writer of the volume can make one, so nothing of it is believed: what the tree would not take of a writer
is not taken from a listing either.
"""

import re
from collections.abc import Iterable
from typing import Final

import msgspec

from dittofs.chunks.content import ContentReader
from dittofs.chunks.store import ChunkStore
from dittofs.errors import FormatError
from dittofs.history.views import Entries, ViewEntry
from dittofs.ids import ROOT, InodeId
from dittofs.tree.encoding import OWNER_NAME_BYTES_MAX, ROOT_BYTES_MAX, XATTR_NAME_BYTES_MAX
from dittofs.tree.record import STAMP_END, WITH_CONTENT, Kind, Owner, is_name
from dittofs.tree.shapes import INT_END, INT_MIN

LISTING_BYTES_MAX: Final = 256 << 20
"""Of one directory: more than a million entries. It is read at once."""
MODE_END: Final = 0o10000
OWNER_END: Final = (1 << 32) - 1
LINKS_END: Final = 1 << 32
RDEV_END: Final = 1 << 64
_INODE: Final = re.compile(r"[A-Za-z0-9_-]{16}")
_KINDS: Final = {int(kind): kind for kind in Kind if kind is not Kind.LINK}


class _Line(msgspec.Struct, array_like=True, frozen=True):
    name: bytes
    kind: int
    inodes: list[str]
    mode: int
    owner: tuple[int, int, str, str] | None
    mtime: int
    birth: int
    size: int
    root: bytes
    nlink: int
    rdev: int
    xattrs: dict[bytes, bytes]
    is_aside: bool


_lines = msgspec.msgpack.Decoder(list[_Line])


def encode_listing(entries: Iterable[ViewEntry]) -> bytes:
    """The bytes of a directory's entries, which come in the order of their names."""
    return msgspec.msgpack.encode([_line(entry) for entry in entries])


def listing_reader(chunks: ChunkStore, root: bytes, size: int) -> ContentReader:
    """To read a listing with. FormatError for one of a size that none has."""
    if not 0 < size <= LISTING_BYTES_MAX:
        raise FormatError(f"the listing of a snapshot of {size} bytes")
    return ContentReader(chunks, root, size)


def decode_listing(data: bytes) -> Entries:
    """The entries that `data` lists. Raises FormatError, and nothing else, unless a tree could hold them."""
    try:
        lines = _lines.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise FormatError(f"the listing of a snapshot of unknown form: {error}") from error
    found: Entries = {}
    before = b""
    for line in lines:
        if not is_name(line.name):
            raise FormatError(f"the listing of a snapshot holds the impossible name {line.name[:64]!r}")
        if line.name <= before:
            raise FormatError("the listing of a snapshot is not in the order of its names")
        before = line.name
        if wrong := _wrong(line):
            called = line.name.decode(errors="replace")
            raise FormatError(f"the listing of a snapshot says of {called} an impossible {wrong}")
        found[line.name] = _entry(line)
    return found


def _wrong(line: _Line) -> str:
    """Which part of a line no tree could hold; "": none."""
    parts = {
        "kind": line.kind in _KINDS,
        "inode": _are_inodes(line),
        "mode": 0 <= line.mode < MODE_END,
        "owner": line.owner is None or _is_owner(*line.owner),
        "time": INT_MIN <= line.mtime < INT_END and -STAMP_END < line.birth < STAMP_END,
        "size": 0 <= line.size < INT_END and len(line.root) <= ROOT_BYTES_MAX,
        "number of names": 0 <= line.nlink < LINKS_END,
        "device number": 0 <= line.rdev < RDEV_END,
        "attribute": all(0 < len(name) <= XATTR_NAME_BYTES_MAX and b"\0" not in name for name in line.xattrs),
    }
    return next((what for what, is_right in parts.items() if not is_right), "")


def _are_inodes(line: _Line) -> bool:
    """Several are shown as one only if they are directories. The root has no name."""
    is_one = len(line.inodes) == 1
    is_count = is_one or (line.kind == Kind.DIRECTORY and len(line.inodes) > 1)
    return is_count and all(_INODE.fullmatch(one) and one != ROOT for one in line.inodes)


def _is_owner(uid: int, gid: int, user: str, group: str) -> bool:
    are_numbers = 0 <= uid < OWNER_END and 0 <= gid < OWNER_END
    return are_numbers and all(len(one.encode()) <= OWNER_NAME_BYTES_MAX for one in (user, group))


def _entry(line: _Line) -> ViewEntry:
    kind = _KINDS[line.kind]
    has_bytes = kind in WITH_CONTENT or kind is Kind.DIRECTORY
    return ViewEntry(
        line.name,
        kind,
        tuple(InodeId(one) for one in line.inodes),
        line.mode,
        None if line.owner is None else Owner(*line.owner),
        line.mtime,
        line.birth,
        line.size if has_bytes else 0,
        line.root if has_bytes else b"",
        line.nlink,
        line.rdev,
        line.xattrs,
        line.is_aside,
    )


def _line(entry: ViewEntry) -> _Line:
    owner = entry.owner
    return _Line(
        entry.name,
        int(entry.kind),
        list(entry.inodes),
        entry.mode,
        None if owner is None else (owner.uid, owner.gid, owner.user, owner.group),
        entry.mtime,
        entry.birth,
        entry.size,
        entry.root,
        entry.nlink,
        entry.rdev,
        dict(entry.xattrs),
        entry.is_aside,
    )
