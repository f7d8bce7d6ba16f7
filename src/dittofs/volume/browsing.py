"""A volume without a mount: list what is there, read a version, add a file. For the local API."""

import errno
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from dittofs.chunks.content import ContentReader
from dittofs.chunks.seal import ChunkKind
from dittofs.errors import FSError
from dittofs.ids import ChunkId, InodeId, inode_id
from dittofs.tree.record import Kind
from dittofs.volume.contents import UNBORN, Content, Published
from dittofs.volume.inodes import Inode, Stat
from dittofs.volume.names import INODE_ID_BYTES
from dittofs.volume.state import Caller
from dittofs.volume.volume import Volume

PART_BYTES = 1 << 20
LISTED_AT_ONCE = 256
SETTLE_TRIES = 8  # times a file that is written all the while is waited for before it is replaced
Chunk = tuple[int, int, bytes | None]
"""(offset, length, id; None for a hole)"""


@dataclass(frozen=True, slots=True)
class Seen:
    """One name found by `walk`."""

    path: bytes
    stat: Stat
    inode: InodeId
    is_conflict: bool
    is_local: bool
    shown: Published


class Browsing:
    """What a program without a mount can do with a volume."""

    def __init__(self, volume: Volume) -> None:
        self._volume = volume

    def find(self, names: Sequence[bytes]) -> Inode:
        """The inode at a path. ENOENT, ENOTDIR."""
        inode = self._volume.root
        for place, name in enumerate(names, 1):
            try:
                inode = self._volume.names.lookup(inode, name)
            except FSError as error:
                shown = b"/".join(names[:place]).decode(errors="replace")
                raise FSError(error.errno, f"{shown}: {error}") from error
        return inode

    def walk(self, names: Sequence[bytes], *, recursive: bool) -> Iterator[Seen]:
        """What is at and below a path, by name, parents before children. Holds one directory a level."""
        top = self.find(names)
        prefix = b"/".join(names)
        if top.kind is not Kind.DIRECTORY:
            yield self._seen(prefix, top)
            return
        levels = [(prefix, iter(sorted(self._children(top), key=_name_of)))]
        while levels:
            path, children = levels[-1]
            found = next(children, None)
            if found is None:
                levels.pop()
                continue
            name, inode = found
            child = path + b"/" + name if path else name
            try:
                yield self._seen(child, inode)
            except FSError:
                continue  # removed since it was listed
            if inode.kind is Kind.DIRECTORY and recursive:
                levels.append((child, iter(sorted(self._children(inode), key=_name_of))))
            else:
                self._volume.state.inodes.drop_if_unused(inode)

    def _children(self, directory: Inode) -> Iterator[tuple[bytes, Inode]]:
        try:
            handle = self._volume.directories.open(directory)
        except FSError:
            return
        try:
            after = 2  # behind `.` and `..`
            while listed := self._volume.directories.read(handle, after, LISTED_AT_ONCE):
                for line in listed:
                    after = line.cookie
                    yield line.name, line.inode
        finally:
            self._volume.directories.release(handle)

    def _seen(self, path: bytes, inode: Inode) -> Seen:
        state = self._volume.state
        stat = state.stat(inode)
        return Seen(
            path=path,
            stat=stat,
            inode=inode.id,
            is_conflict=inode.ref[1] is not None,
            is_local=state.local.get(inode.id) is not None or state.contents.peek(inode.ref) is not None,
            shown=state.shown(inode) if inode.kind is Kind.FILE else UNBORN,
        )

    def chunks(self, shown: Published) -> Iterator[Chunk]:
        """The chunks of a published version."""
        if shown.root:
            reader = ContentReader(self._volume.replica.chunks, shown.root, shown.size)
            yield from reader.chunks()

    def has(self, identity: bytes) -> bool:
        """Whether a data chunk is on this device."""
        return self._volume.replica.chunks.has(ChunkKind.DATA, ChunkId(identity))

    def read(self, names: Sequence[bytes], offset: int, length: int) -> tuple[Stat, Iterator[bytes]]:
        """Attributes and bytes of a file as it is now; `length` -1 for all that follow."""
        inode = self.find(names)
        if inode.kind is Kind.DIRECTORY:
            raise FSError(errno.EISDIR)
        if inode.kind is not Kind.FILE:
            raise FSError(errno.EINVAL, "not a regular file")
        stat = self._volume.state.stat(inode)
        end = stat.size if length < 0 else min(stat.size, offset + length)
        return stat, self._parts(inode, offset, end)

    def read_version(self, shown: Published) -> Iterator[bytes]:
        """Every byte of a published version, in parts. From any thread."""
        reader = ContentReader(self._volume.replica.chunks, shown.root, shown.size)
        for offset in range(0, shown.size, PART_BYTES):
            yield reader.read(offset, min(PART_BYTES, shown.size - offset))

    def _parts(self, inode: Inode, offset: int, end: int) -> Iterator[bytes]:
        content = self._volume.state.content(inode)
        shown = self._volume.state.shown(inode)
        reader = (
            content.top if content is not None else self._volume.state.contents.reader(shown.root, shown.size)
        )
        # Between two parts others run: the layer may be published, and must not be given up before the end.
        with content.top.in_use() if content is not None else nullcontext():
            while offset < end:
                part = reader.read(offset, min(PART_BYTES, end - offset))
                if not part:
                    raise FSError(errno.EIO, "the file became shorter while it was read")
                yield part
                offset += len(part)

    async def add(
        self,
        names: Sequence[bytes],
        parts: AsyncIterator[bytes],
        *,
        caller: Caller,
        mode: int,
        mtime: int | None,
        parents: bool,
        replace: bool,
    ) -> tuple[int, bool]:
        """Store a whole file at a path. Returns its size and whether it replaced one.

        Nothing is visible until everything has arrived; then the file is in the tree and durable.
        """
        volume, state = self._volume, self._volume.state
        if not names:
            raise FSError(errno.EISDIR)
        new: InodeId = inode_id(state.replica.entropy(INODE_ID_BYTES))
        content = state.contents.orphan((new, None), UNBORN)
        try:
            offset = 0
            async for part in parts:
                volume.files.require_room(len(part))
                content.top.write(offset, part)
                offset += len(part)
            directory = self._directory(names[:-1], caller, make=parents)
            found = volume.names.find(directory, names[-1])
            if found is not None and not replace:
                raise FSError(errno.EEXIST)
            if found is not None and found[0].kind is not Kind.FILE:
                raise FSError(errno.EISDIR if found[0].kind is Kind.DIRECTORY else errno.EINVAL)
            for _ in range(SETTLE_TRIES):
                if found is None or state.contents.get(found[0].ref) is None:
                    break
                await volume.publisher.settle(found[0].ref)
                found = volume.names.find(directory, names[-1])
            if found is not None and state.contents.get(found[0].ref) is not None:
                raise FSError(errno.EBUSY, "the file is being written, or waits to be published")
            inode = self._adopt(
                content, directory, names[-1], found[0] if found else None, caller, mode, mtime
            )
        except BaseException:
            if state.contents.get(content.ref) is not content:
                for layer in content.layers:
                    layer.discard()
            raise
        await volume.files.fsync(inode)
        await volume.publisher.drain_all()
        return offset, found is not None

    def _adopt(
        self,
        content: Content,
        directory: Inode,
        name: bytes,
        existing: Inode | None,
        caller: Caller,
        mode: int,
        mtime: int | None,
    ) -> Inode:
        """At one instant: the bytes become a file, closed."""
        volume, state = self._volume, self._volume.state
        stamp = state.tick()
        content.top.mtime = int(stamp) if mtime is None else mtime
        content.top.stamp = stamp
        if existing is None:
            inode = volume.names.make(directory, name, Kind.FILE, mode & 0o777, caller, is_open=True)
            content.ref = inode.ref
        else:
            inode = existing
            shown = state.shown(inode)
            content.ref = inode.ref
            content.published = Published(b"", 0, shown.replaces, shown.rank)
        state.contents.adopt(content)
        volume.files.close(inode)
        state.announce(inode)
        return inode

    def _directory(self, names: Sequence[bytes], caller: Caller, *, make: bool) -> Inode:
        inode = self._volume.root
        for name in names:
            found = self._volume.names.find(inode, name)
            if found is None:
                if not make:
                    raise FSError(errno.ENOENT)
                inode = self._volume.names.make(inode, name, Kind.DIRECTORY, 0o755, caller)
            else:
                inode = found[0]
        return inode


def _name_of(child: tuple[bytes, Inode]) -> bytes:
    return child[0]
