"""A local directory that is read and left as it is: what is in it, and its files as contents."""

import errno
import os
import stat as stat_bits
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Protocol

from dittofs.chunks.chunker import Chunking
from dittofs.chunks.content import store_content, store_version_node
from dittofs.chunks.seal import Buffer, ChunkKind
from dittofs.chunks.source import Extent
from dittofs.chunks.store import ChunkStore
from dittofs.errors import FSError
from dittofs.ids import ChunkId, Slot
from dittofs.tree.record import Kind
from dittofs.volume import acl
from dittofs.volume.attributes import (
    CHUNK,
    INLINE,
    VIRTUAL_NAMESPACE,
    XATTR_INLINE_BYTES_MAX,
    XATTRS_BYTES_MAX,
    kept_time,
)

_KINDS: Final = {
    stat_bits.S_IFREG: Kind.FILE,
    stat_bits.S_IFDIR: Kind.DIRECTORY,
    stat_bits.S_IFLNK: Kind.SYMLINK,
    stat_bits.S_IFIFO: Kind.FIFO,
    stat_bits.S_IFSOCK: Kind.SOCKET,
    stat_bits.S_IFCHR: Kind.CHARACTER,
    stat_bits.S_IFBLK: Kind.BLOCK,
}


@dataclass(slots=True)
class Item:
    """One entry of a local directory."""

    path: bytes
    """Absolute."""
    name: bytes
    kind: Kind
    stat: os.stat_result
    target: bytes = b""
    """Of a symbolic link."""
    known: tuple[tuple[bytes, int], ...] = ()
    """Contents (root, size) that its name has in the volume: one of those is not stored again."""
    root: bytes = b""
    node: bytes = b""
    xattrs: dict[bytes, bytes] = field(default_factory=dict)
    problem: str = ""
    """Why it cannot be taken."""
    done: int = 0
    """Bytes that were read so far."""

    @property
    def is_linked(self) -> bool:
        """It has another name somewhere."""
        return self.kind is not Kind.DIRECTORY and self.stat.st_nlink > 1

    @property
    def identity(self) -> tuple[int, ...]:
        """Equal for names of one file. Its number alone may be another's once it was removed."""
        return *_state(self.stat), self.stat.st_ctime_ns

    @property
    def content(self) -> tuple[bytes, int]:
        """What it is in the volume, once it was read."""
        return (self.target, len(self.target)) if self.kind is Kind.SYMLINK else (self.root, self.size)

    @property
    def size(self) -> int:
        return self.stat.st_size if self.kind is Kind.FILE else 0

    @property
    def mtime(self) -> int:
        """Its time of modification, or the nearest that can be kept."""
        return kept_time(self.stat.st_mtime_ns)

    @property
    def is_same(self) -> bool:
        """The content is one of those that were known."""
        return not self.problem and (self.root, self.size) in self.known


def entries(directory: bytes) -> tuple[list[Item], str]:
    """Blocking: what a directory holds, by name; and why it cannot be read, if so."""
    found: list[Item] = []
    try:
        with os.scandir(directory) as listing:
            names = sorted(entry.name for entry in listing)
    except OSError as error:
        return [], error.strerror or str(error)
    for name in names:
        path = os.path.join(directory, name)  # noqa: PTH118 - bytes
        try:
            stat = os.lstat(path)
            kind = _KINDS.get(stat_bits.S_IFMT(stat.st_mode))
            target = os.readlink(path) if kind is Kind.SYMLINK else b""  # noqa: PTH115 - bytes
        except OSError as error:
            if error.errno != errno.ENOENT:
                return found, f"{name.decode(errors='replace')}: {error.strerror}"
            continue  # removed since it was listed
        if kind is not None:
            found.append(Item(path, name, kind, stat, target))
    return found, ""


def counted(top: bytes) -> Iterator[tuple[int, int]]:
    """Blocking: entries and bytes below a directory, of each directory in turn."""
    waiting = [top]
    while waiting:
        found, _ = entries(waiting.pop())
        waiting += [item.path for item in found if item.kind is Kind.DIRECTORY]
        yield len(found), sum(item.size for item in found)


class Storing(Protocol):
    """Where contents go."""

    @property
    def chunker_secret(self) -> bytes: ...

    def put(self, items: Sequence[tuple[ChunkKind, Buffer]]) -> list[ChunkId]: ...


class NamesAlone:
    """Gives contents the names that a store would, and stores nothing."""

    def __init__(self, chunks: ChunkStore) -> None:
        self._chunks = chunks
        self.chunker_secret = chunks.chunker_secret

    def put(self, items: Sequence[tuple[ChunkKind, Buffer]]) -> list[ChunkId]:
        return [self._chunks.identify(kind, plain) for kind, plain in items]


class _LocalFile:
    """A file as the chunker reads it: holes are told."""

    def __init__(self, descriptor: int, item: Item, size: int) -> None:
        self._descriptor = descriptor
        self._item = item
        self.size = size

    def extents(self) -> Iterator[tuple[int, int, Extent]]:
        at = 0
        while at < self.size:
            try:
                start = min(os.lseek(self._descriptor, at, os.SEEK_DATA), self.size)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    yield at, self.size - at, Extent.DATA  # a file system that cannot tell
                    return
                start = self.size
            if at < start:
                yield at, start - at, Extent.HOLE
            if start < self.size:
                end = min(os.lseek(self._descriptor, start, os.SEEK_HOLE), self.size)
                yield start, end - start, Extent.DATA
                start = end
            at = start

    def read(self, offset: int, length: int) -> bytes:
        self._item.done = offset + length
        return os.pread(self._descriptor, length, offset)


def store(chunks: ChunkStore, slot: Slot, items: Sequence[Item]) -> None:
    """Blocking: read each file whole, store what is new, note attributes. Durable when this returns.

    DiskFull and DiskError of the store are raised; what is wrong with one file is said in its `problem`.
    """
    for item in items:
        _read(chunks, item)
        if item.problem:
            continue
        with suppress(OSError):  # a file system without them
            item.xattrs = _xattrs(chunks, item)
        if item.kind is Kind.FILE and not item.is_same:
            size, mtime = item.size, item.mtime
            item.node = store_version_node(chunks, item.root, size, mtime, slot, [])
    chunks.sync()


def name(chunks: ChunkStore, items: Sequence[Item]) -> None:
    """Blocking: as `store`, but nothing is stored, and only what may be there already is read."""
    for item in items:
        if any(size == item.size for _, size in item.known):
            _read(NamesAlone(chunks), item)


def _read(where: Storing, item: Item) -> None:
    if item.kind is not Kind.FILE:
        return
    try:
        descriptor = _opened(item)
    except OSError as error:
        item.problem = error.strerror or str(error)
        return
    try:
        before = os.fstat(descriptor)
        if not stat_bits.S_ISREG(before.st_mode) or _state(before) != _state(item.stat):
            item.problem = "it changed just now"
            return
        source = _LocalFile(descriptor, item, before.st_size)
        item.root = store_content(
            where,  # type: ignore[arg-type] # without a base it is asked for nothing that `Storing` lacks
            source,
            b"",
            0,
            chunking=Chunking.CONTENT_DEFINED,
        )
        if _state(os.fstat(descriptor)) != _state(before):
            item.problem = "it changed while it was read"
    except OSError as error:
        item.problem = error.strerror or str(error)
    except FSError as error:
        item.problem = str(error)
    finally:
        os.close(descriptor)


def _state(stat: os.stat_result) -> tuple[int, ...]:
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns


def _opened(item: Item) -> int:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        return os.open(item.path, flags | os.O_NOATIME)
    except PermissionError:  # of somebody else's file the access time moves
        return os.open(item.path, flags)


def _xattrs(chunks: ChunkStore, item: Item) -> dict[bytes, bytes]:
    """Those that are the same on all devices, as the tree keeps them."""
    if item.kind is Kind.SYMLINK:
        return {}
    found: dict[bytes, bytes] = {}
    for text in os.listxattr(item.path, follow_symlinks=False):
        name = os.fsencode(text)
        is_user = name.startswith(b"user.") and item.kind in (Kind.FILE, Kind.DIRECTORY)
        if not (is_user or name in (acl.ACCESS, acl.DEFAULT)) or name.startswith(VIRTUAL_NAMESPACE):
            continue
        value = os.getxattr(item.path, text, follow_symlinks=False)
        if len(value) > XATTR_INLINE_BYTES_MAX:
            found[name] = CHUNK + chunks.put([(ChunkKind.DATA, value)])[0]
        else:
            found[name] = INLINE + value
    if sum(len(name) + len(value) for name, value in found.items()) > XATTRS_BYTES_MAX:
        item.problem = "it has more extended attributes than a file here can hold"
        return {}
    return found
