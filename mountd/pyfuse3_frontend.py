"""The portable front end: unpack a pyfuse3 request, ask the volume, pack its answer. No logic."""

import errno
import os
import stat as stat_bits
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import wraps
from types import ModuleType
from typing import Any, Concatenate, ParamSpec, TypeVar

import trio

from dittofs.errors import FSError
from dittofs.ids import ROOT_NUMBER, Number
from dittofs.journal.damage import IndexDamaged
from dittofs.tree.record import Kind
from dittofs.volume.attributes import Wanted
from dittofs.volume.inodes import FILE_TYPE, Inode
from dittofs.volume.state import NAME_BYTES_MAX, ORIGIN, Caller
from dittofs.volume.volume import BLOCK_BYTES, Volume
from mountd.attributes import CACHED_S, absent, entry_attributes
from mountd.errors import errno_of
from mountd.handles import Handles
from mountd.invalidation import Invalidation
from mountd.known_names import KnownNames

KIND_OF_TYPE = {bits: kind for kind, bits in FILE_TYPE.items()}
LISTED_AT_ONCE = 64
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def operation(
    method: Callable[Concatenate["Requests", Arguments], Awaitable[Result]],
) -> Callable[Concatenate["Requests", Arguments], Awaitable[Result]]:
    """A request handler: whatever it raises becomes an errno, because anything else ends the mount."""

    @wraps(method)
    async def handler(self: "Requests", /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        ORIGIN.set(self)
        try:
            try:
                return await method(self, *args, **kwargs)
            except IndexDamaged:
                # The index is derived; a damaged one is mended before anybody sees an error.
                self.volume.replica.rebuild_index()
                return await method(self, *args, **kwargs)
        except (trio.Cancelled, GeneratorExit, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            if isinstance(error, self.fuse.FUSEError):
                raise
            raise self.fuse.FUSEError(errno_of(error)) from None

    return handler


async def settled(answer: Any) -> Any:
    """The value of a volume method: itself, or what its coroutine returns."""
    return await answer if hasattr(answer, "__await__") else answer


class Requests:
    """Handlers of one mount. `operations` gives them to a pyfuse3 instance."""

    def __init__(self, fuse: ModuleType, volume: Volume) -> None:
        self.fuse = fuse
        self.volume = volume
        self.handles = Handles()
        self.counts: Counter[Number] = Counter()
        """Lookups the kernel holds, by inode number."""
        self.names = KnownNames(CACHED_S, volume.replica.clock.monotonic())
        self.invalidation = Invalidation(fuse)
        self.enable_acl = True
        self.enable_writeback_cache = False
        self.supports_dot_lookup = True

    def init(self) -> None:
        self.invalidation.start()
        self.volume.state.listeners.append(self.on_change)

    def on_change(self, inode: Inode, name: bytes | None, origin: object) -> None:
        """Something changed in the volume; what came through this mount the kernel knows."""
        number = inode.number
        if origin is self or (number not in self.counts and number != ROOT_NUMBER):
            return
        if name is not None:
            if self.names.may_know(number, name):
                self.invalidation.entry(number, name)
        elif inode.kind is Kind.FILE or inode.kind is Kind.SYMLINK:
            self.invalidation.inode(number)
        else:
            self.invalidation.attributes(number)

    def close(self) -> None:
        """The mount is gone: give back what the kernel held."""
        if self.on_change in self.volume.state.listeners:
            self.volume.state.listeners.remove(self.on_change)
        files, directories = self.handles.drain()
        for handle in files:
            self.volume.files.release(handle)
        for directory in directories:
            self.volume.directories.release(directory)
        for number, count in self.counts.items():
            inode = self.volume.state.inodes.get(number)
            if inode is not None:
                self.volume.state.inodes.forget(inode, count)
        self.counts.clear()

    def inode(self, number: int) -> Inode:
        return self.volume.names.by_number(Number(number))

    def attributes(self, inode: Inode) -> Any:
        return entry_attributes(self.fuse, inode, self.volume.state.stat(inode))

    def entry_of(self, parent: int, name: bytes, inode: Inode) -> Any:
        """`entry`, for a name that the kernel may remember from now on."""
        self.note(parent, name)
        return self.entry(inode)

    def note(self, parent: int, name: bytes) -> None:
        self.names.note(parent, name, self.volume.replica.clock.monotonic())

    def entry(self, inode: Inode) -> Any:
        """The reply that makes the kernel count one lookup."""
        attributes = self.attributes(inode)
        self.count(inode)
        return attributes

    def count(self, inode: Inode) -> None:
        if not inode.lookups and inode.virtual is None:
            self.volume.attributes.load_atime(inode)
        inode.lookups += 1
        self.counts[inode.number] += 1

    @operation
    async def lookup(self, parent: int, name: bytes, _ctx: Any) -> Any:
        directory = self.inode(parent)
        if name == b".":
            return self.entry(directory)
        if name == b"..":
            return self.entry(self.volume.names.parent(directory))
        self.note(parent, name)
        if directory.virtual is not None:
            await settled(directory.virtual.prepare())
        try:
            return self.entry(self.volume.names.lookup(directory, name))
        except FSError as error:
            if error.errno == errno.ENOENT and directory.virtual is None:
                return absent(self.fuse)
            raise

    async def forget(self, forgotten: Sequence[tuple[int, int]]) -> None:
        for number, count in forgotten:
            self.counts[Number(number)] -= count
            if self.counts[Number(number)] <= 0:
                del self.counts[Number(number)]
            inode = self.volume.state.inodes.get(Number(number))
            if inode is not None:
                self.volume.state.inodes.forget(inode, count)

    @operation
    async def getattr(self, number: int, _ctx: Any) -> Any:
        return self.attributes(self.inode(number))

    @operation
    async def setattr(self, number: int, attr: Any, fields: Any, _fh: int | None, _ctx: Any) -> Any:
        inode = self.inode(number)
        wanted = Wanted(
            mode=stat_bits.S_IMODE(attr.st_mode) if fields.update_mode else None,
            uid=attr.st_uid if fields.update_uid else None,
            gid=attr.st_gid if fields.update_gid else None,
            size=attr.st_size if fields.update_size else None,
            atime=attr.st_atime_ns if fields.update_atime else None,
            mtime=attr.st_mtime_ns if fields.update_mtime else None,
        )
        stat = await settled(self.volume.attributes.set(inode, wanted))
        return entry_attributes(self.fuse, inode, stat)

    @operation
    async def readlink(self, number: int, _ctx: Any) -> bytes:
        return self.volume.names.target(self.inode(number))

    def make(self, parent: int, name: bytes, kind: Kind, mode: int, ctx: Any, **more: Any) -> Inode:
        caller = Caller(ctx.uid, ctx.gid, ctx.pid, ctx.umask)
        return self.volume.names.make(self.inode(parent), name, kind, mode & 0o7777, caller, **more)

    @operation
    async def mknod(self, parent: int, name: bytes, mode: int, rdev: int, ctx: Any) -> Any:
        kind = KIND_OF_TYPE[stat_bits.S_IFMT(mode)]
        return self.entry_of(parent, name, self.make(parent, name, kind, mode, ctx, rdev=rdev))

    @operation
    async def mkdir(self, parent: int, name: bytes, mode: int, ctx: Any) -> Any:
        return self.entry_of(parent, name, self.make(parent, name, Kind.DIRECTORY, mode, ctx))

    @operation
    async def symlink(self, parent: int, name: bytes, target: bytes, ctx: Any) -> Any:
        return self.entry_of(parent, name, self.make(parent, name, Kind.SYMLINK, 0o777, ctx, target=target))

    @operation
    async def link(self, number: int, parent: int, name: bytes, _ctx: Any) -> Any:
        return self.entry_of(
            parent, name, self.volume.names.link(self.inode(number), self.inode(parent), name)
        )

    @operation
    async def unlink(self, parent: int, name: bytes, _ctx: Any) -> None:
        self.note(parent, name)
        await settled(self.volume.names.unlink(self.inode(parent), name))

    @operation
    async def rmdir(self, parent: int, name: bytes, _ctx: Any) -> None:
        self.note(parent, name)
        await settled(self.volume.names.rmdir(self.inode(parent), name))

    @operation
    async def rename(
        self, parent: int, name: bytes, new_parent: int, new_name: bytes, flags: int, _ctx: Any
    ) -> None:
        self.note(parent, name)
        self.note(new_parent, new_name)
        answer = self.volume.renaming.rename(
            self.inode(parent), name, self.inode(new_parent), new_name, flags
        )
        await settled(answer)

    @operation
    async def create(self, parent: int, name: bytes, mode: int, flags: int, ctx: Any) -> tuple[Any, Any]:
        try:
            inode = self.make(parent, name, Kind.FILE, mode, ctx, is_open=True)
        except FSError as error:
            if error.errno == errno.EEXIST and not flags & os.O_EXCL:
                # Another device's file, come since the kernel looked: it looks again, and opens that.
                raise FSError(errno.ESTALE) from error
            raise
        handle = self.volume.files.open(inode, flags & ~os.O_TRUNC)
        return self._file_info(self.handles.add_file(handle), inode), self.entry_of(parent, name, inode)

    @operation
    async def open(self, number: int, flags: int, _ctx: Any) -> Any:
        inode = self.inode(number)
        return self._file_info(self.handles.add_file(self.volume.files.open(inode, flags)), inode)

    def _file_info(self, number: int, inode: Inode) -> Any:
        is_virtual = inode.virtual is not None and inode.past is None
        return self.fuse.FileInfo(fh=number, keep_cache=not is_virtual, direct_io=is_virtual)

    @operation
    async def read(self, fh: int, offset: int, length: int) -> bytes:
        handle = self.handles.file(fh)
        inode = handle.inode
        data: bytes = await settled(self.volume.files.read(inode, offset, length, handle.ahead))
        if inode.virtual is None:
            self.volume.attributes.note_access(inode)
        return data

    @operation
    async def write(self, fh: int, offset: int, data: bytes) -> int:
        written: int = await settled(self.volume.files.write(self.handles.file(fh).inode, offset, data))
        return written

    @operation
    async def flush(self, fh: int) -> None:
        self.volume.files.flush(self.handles.file(fh).inode)

    @operation
    async def release(self, fh: int) -> None:
        self.volume.files.release(self.handles.remove_file(fh))

    @operation
    async def fsync(self, fh: int, _datasync: bool) -> None:
        await self.volume.files.fsync(self.handles.file(fh).inode)

    @operation
    async def fsyncdir(self, fh: int, _datasync: bool) -> None:
        await self.volume.files.fsync(self.handles.directory(fh).inode)

    @operation
    async def opendir(self, number: int, _ctx: Any) -> int:
        inode = self.inode(number)
        if inode.virtual is not None:
            await settled(inode.virtual.prepare())
        return self.handles.add_directory(self.volume.directories.open(inode))

    @operation
    async def releasedir(self, fh: int) -> None:
        self.volume.directories.release(self.handles.remove_directory(fh))

    @operation
    async def readdir(self, fh: int, after: int, token: Any) -> None:
        handle = self.handles.directory(fh)
        parent = handle.inode.number
        while True:
            listed = self.volume.directories.read(handle, after, LISTED_AT_ONCE)
            if not listed:
                return
            for cookie, name, inode in listed:
                after = cookie
                try:
                    attributes = self.attributes(inode)
                except FSError:
                    continue  # removed since it was listed
                if not self.fuse.readdir_reply(token, name, attributes, cookie):
                    self.volume.state.inodes.drop_if_unused(inode)
                    return
                if name not in (b".", b".."):
                    self.note(parent, name)
                    self.count(inode)

    @operation
    async def setxattr(self, number: int, name: bytes, value: bytes, _ctx: Any) -> None:
        await settled(self.volume.attributes.set_xattr(self.inode(number), name, value))

    @operation
    async def getxattr(self, number: int, name: bytes, _ctx: Any) -> bytes:
        value: bytes = await settled(self.volume.attributes.get_xattr(self.inode(number), name))
        return value

    @operation
    async def listxattr(self, number: int, _ctx: Any) -> list[bytes]:
        return self.volume.attributes.list_xattrs(self.inode(number))

    @operation
    async def removexattr(self, number: int, name: bytes, _ctx: Any) -> None:
        self.volume.attributes.remove_xattr(self.inode(number), name)

    @operation
    async def statfs(self, _ctx: Any) -> Any:
        room = self.volume.room()
        data = self.fuse.StatvfsData()
        data.f_bsize = data.f_frsize = BLOCK_BYTES
        data.f_blocks = room.blocks
        data.f_bfree = data.f_bavail = room.blocks_free
        data.f_files = room.files + room.blocks_free
        data.f_ffree = data.f_favail = room.blocks_free
        data.f_namemax = NAME_BYTES_MAX
        return data


def operations(fuse: ModuleType, volume: Volume) -> tuple[Any, Requests]:
    """The object pyfuse3 calls, and the handlers behind it: whatever `Requests` has of its names."""
    requests = Requests(fuse, volume)
    made = fuse.Operations()
    for name in dir(fuse.Operations):
        if not name.startswith("_") and hasattr(requests, name):
            setattr(made, name, getattr(requests, name))
    return made, requests
