"""The local API as data, continued: files of a volume, and the chunks that they consist of.

`volume` is the name that this device gives it; `path` is inside it. See `protocol` for the rules.
"""

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

CHUNK_IDS_MAX: Final = 1024
"""The most chunk ids in one `ChunkRun`."""
Length = Annotated[int, Meta(ge=-1, le=2**63 - 1)]
ChunkHex = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
NOW: Final = -(2**63)
"""As a time: whenever it is carried out."""
EntryKind = Literal["file", "directory", "symlink", "fifo", "socket", "character", "block"]


class ListRequest(Struct, frozen=True):
    """List what is at or below `path` in a volume, in readable order, parents before children."""

    volume: str
    path: str = ""  # inside the volume
    path_raw: bytes = b""
    recursive: bool = True
    missing: bool = False  # only files with bytes that are not on this device
    chunks: bool = False  # follow each file with its `ChunkRun`s


class Entry(Struct, frozen=True, tag="entry"):
    """One name in a volume."""

    path: str  # inside the volume, without a leading slash
    kind: EntryKind
    size: int
    mtime_ns: int
    mode: int  # permission bits
    path_raw: bytes = b""
    bytes_here: int = 0
    number: int = 0  # st_ino
    id: str = ""  # the inode's id
    is_conflict: bool = False
    is_pinned: bool = False  # kept on this device by its user's word, itself or by a directory above
    is_local: bool = False  # ignored, or not yet published: only on this device


class ChunkRun(Struct, frozen=True, tag="chunks"):
    """Consecutive chunks of the `Entry` before it, at most `CHUNK_IDS_MAX`. A hole has an empty id."""

    offset: int  # of the first, in the file
    ids: tuple[str, ...]  # hexadecimal
    sizes: tuple[int, ...]
    here: tuple[bool, ...]


class AddRequest(Struct, frozen=True):
    """Store the body of the request as the file `path` in a volume."""

    volume: str
    path: str  # inside the volume, of the file itself
    path_raw: bytes = b""
    size: Length = -1  # of the body, so that a full disk is noticed first; -1: unknown
    mode: Annotated[int, Meta(ge=0, le=0o777)] = 0o644
    mtime_ns: Annotated[int, Meta(ge=NOW, le=2**63 - 1)] = NOW
    parents: bool = True  # make missing directories
    replace: bool = False  # give an existing file this content; refused ("exists") otherwise


class AddResult(Struct, frozen=True):
    """The file is in the volume, whole and durable."""

    path: str
    size: int
    path_raw: bytes = b""
    was_replaced: bool = False


class FileRequest(Struct, frozen=True):
    """Read a file: `length` bytes from `offset`, -1 for all that follow."""

    volume: str
    path: str
    path_raw: bytes = b""
    offset: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0
    length: Length = -1


class ChunksRequest(Struct, frozen=True):
    """Read chunks by id (hexadecimal), one after the other."""

    volume: str
    ids: tuple[ChunkHex, ...]


ListItem = Entry | ChunkRun
