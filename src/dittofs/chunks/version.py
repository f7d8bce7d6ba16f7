"""Version nodes: the past of a file, outside the tree (disk.md, Version node)."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from dittofs.chunks.manifest import parse_root
from dittofs.chunks.seal import ChunkKind
from dittofs.chunks.store import ChunkStore
from dittofs.errors import FormatError
from dittofs.ids import ChunkId, Slot

PREVIOUS_MAX = 64
_VERSION = 1
_SLOT_CHARACTERS_MAX = 8


@dataclass(frozen=True, slots=True)
class VersionNode:
    """One version of a file and the versions it replaced."""

    root: bytes
    size: int
    mtime: int
    """Nanoseconds since 1970; may be negative."""
    writer: Slot
    previous: tuple[ChunkId, ...]


class _Stored(msgspec.Struct, array_like=True, frozen=True):
    version: int
    root: bytes
    size: int
    mtime: int
    writer: str
    previous: list[bytes]


def encode_version(node: VersionNode) -> bytes:
    """The plaintext of a version node."""
    stored = _Stored(_VERSION, node.root, node.size, node.mtime, node.writer, list(node.previous))
    return msgspec.msgpack.encode(stored)


def decode_version(data: bytes) -> VersionNode:
    """The inverse of `encode_version`. FormatError for anything else."""
    try:
        stored = msgspec.msgpack.decode(data, type=_Stored)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FormatError(f"not a version node: {error}") from error
    if stored.version != _VERSION:
        raise FormatError(f"a version node of version {stored.version}; this program knows {_VERSION}")
    if stored.size < 0 or not stored.writer.isascii() or len(stored.writer) > _SLOT_CHARACTERS_MAX:
        raise FormatError("a version node with an impossible size or writer")
    if len(stored.previous) > PREVIOUS_MAX or any(len(chunk) != 32 for chunk in stored.previous):
        raise FormatError("a version node with impossible previous versions")
    parse_root(stored.root, stored.size)
    previous = tuple(ChunkId(chunk) for chunk in stored.previous)
    return VersionNode(stored.root, stored.size, stored.mtime, Slot(stored.writer), previous)


def store_version_node(
    store: ChunkStore, root: bytes, size: int, mtime: int, writer: Slot, previous: Sequence[bytes]
) -> bytes:
    """Store a version and return its 32-byte id. Of more than 64 previous ones the first are kept."""
    kept = tuple(ChunkId(chunk) for chunk in previous[:PREVIOUS_MAX])
    return store.put([(ChunkKind.VERSION, encode_version(VersionNode(root, size, mtime, writer, kept)))])[0]


def load_version_node(store: ChunkStore, node: bytes) -> VersionNode:
    """Read a version. Raises ChunkMissing, Damaged, FormatError."""
    return decode_version(store.get(ChunkKind.VERSION, ChunkId(node)))
