"""A volume without a mount: list what is there, read a version, add a file. For the local API."""

import errno
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import trio

from dittofs.chunks.content import ContentReader, Part
from dittofs.errors import Damaged, FormatError, FSError
from dittofs.ids import INODE_ID_BYTES, InodeId, inode_id
from dittofs.tree.record import Kind
from dittofs.volume.contents import Content
from dittofs.volume.inodes import Inode, Stat
from dittofs.volume.names import RESERVED, RESERVED_WHY
from dittofs.volume.published import UNBORN, Published
from dittofs.volume.staging import Layer
from dittofs.volume.state import Caller
from dittofs.volume.volume import Volume

PART_BYTES = 1 << 20
LISTED_AT_ONCE = 256
SETTLE_TRIES = 8  # times a file that is written all the while is waited for before it is replaced
AHEAD_BYTES = 8 << 20  # asked of other devices while a file is handed out: who gets it whole will want it


@dataclass(frozen=True, slots=True)
class Seen:
    """One name found by `walk`."""

    path: bytes
    stat: Stat
    inode: InodeId
    is_conflict: bool
    is_local: bool
    shown: Published
    missing_bytes: int
    """What reading it would have to fetch from other devices."""


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
            yield self._seen(prefix, top, is_aside=names[-1] in self._asides(self.find(names[:-1])))
            return
        levels = [(prefix, iter(sorted(self._children(top), key=_name_of)), self._asides(top))]
        while levels:
            path, children, asides = levels[-1]
            found = next(children, None)
            if found is None:
                levels.pop()
                continue
            name, inode = found
            child = path + b"/" + name if path else name
            try:
                yield self._seen(child, inode, is_aside=name in asides)
            except FSError:
                continue  # removed since it was listed
            if inode.kind is Kind.DIRECTORY and recursive:
                levels.append((child, iter(sorted(self._children(inode), key=_name_of)), self._asides(inode)))
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

    def _asides(self, directory: Inode) -> Collection[bytes]:
        return self._volume.replica.tree.asides(directory.id)

    def _seen(self, path: bytes, inode: Inode, *, is_aside: bool) -> Seen:
        state = self._volume.state
        stat = state.stat(inode)
        return Seen(
            path=path,
            stat=stat,
            inode=inode.id,
            is_conflict=is_aside,
            is_local=state.local.get(inode.id) is not None or state.contents.peek(inode.ref) is not None,
            shown=state.shown(inode) if inode.kind is Kind.FILE else UNBORN,
            missing_bytes=self._missing_bytes(inode, stat.size) if inode.kind is Kind.FILE else 0,
        )

    def _missing_bytes(self, inode: Inode, size: int) -> int:
        try:
            base = self._volume.files.content_base(inode)
        except (Damaged, FormatError):
            return 0  # what is staged cannot be read: that is another matter
        stretches = base.shown_through(0, size) if isinstance(base, Layer) else [(base, 0, size)]
        return sum(
            min(part.offset + part.length, end) - max(part.offset, start)
            for bottom, start, end in stretches
            if isinstance(bottom, ContentReader)
            for part in bottom.presence(start, end)
            if not part.is_here
        )

    def presence(self, shown: Published) -> Iterator[Part]:
        """What a published version consists of, and what of it is on this device. From any thread."""
        return ContentReader(self._volume.replica.chunks, shown.root, shown.size).presence()

    def read(
        self, names: Sequence[bytes], offset: int, length: int
    ) -> tuple[Stat, AsyncGenerator[bytes, None]]:
        """Attributes and bytes of a file as it is now, fetched where need be; `length` -1: to its end."""
        inode = self.find(names)
        if inode.kind is Kind.DIRECTORY:
            raise FSError(errno.EISDIR)
        if inode.kind is not Kind.FILE:
            raise FSError(errno.EINVAL, "not a regular file")
        stat = self._volume.state.stat(inode)
        end = stat.size if length < 0 else min(stat.size, offset + length)
        return stat, self._parts(inode, offset, end)

    async def _parts(self, inode: Inode, offset: int, end: int) -> AsyncGenerator[bytes, None]:
        files, source = self._volume.files, self._volume.state.source
        base = files.content_base(inode)
        # Between two parts others run: the layer may be published, and must not be given up before the end.
        with base.in_use() if isinstance(base, Layer) else nullcontext():
            while offset < end:
                answer = files.read_base(base, offset, min(PART_BYTES, end - offset))
                part = answer if isinstance(answer, bytes) else await answer
                if not part:
                    raise FSError(errno.EIO, "the file became shorter while it was read")
                yield part
                offset += len(part)
                if isinstance(base, ContentReader) and not isinstance(answer, bytes):
                    ahead = base.absent(offset, min(end, offset + AHEAD_BYTES))
                    if ahead:
                        source.prefetch(base.root, ahead)
                await trio.lowlevel.checkpoint()

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
        if names[0] == RESERVED:
            raise FSError(errno.EPERM, RESERVED_WHY)
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
