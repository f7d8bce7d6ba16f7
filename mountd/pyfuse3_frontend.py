"""The portable front end: unpack a pyfuse3 request, ask the volume, pack its answer. No logic."""

import errno
import os
import stat as stat_bits
from collections.abc import Awaitable, Callable, Sequence
from functools import wraps
from types import ModuleType
from typing import Any, Concatenate, ParamSpec, TypeVar

import trio

from dittofs.control.options import MountOptions
from dittofs.errors import FSError
from dittofs.ids import Number
from dittofs.journal.damage import IndexDamaged
from dittofs.tree.record import Kind
from dittofs.volume.attributes import Wanted
from dittofs.volume.inodes import FILE_TYPE, Inode
from dittofs.volume.state import NAME_BYTES_MAX, ORIGIN, Caller
from dittofs.volume.volume import BLOCK_BYTES, Volume
from mountd import pyfuse3_instance
from mountd.accesses import Accesses
from mountd.attributes import absent, entry_attributes
from mountd.echoing import Echoing
from mountd.errors import errno_of
from mountd.handles import Handles
from mountd.invalidation import Invalidation
from mountd.lookups import Lookups

KIND_OF_TYPE = {bits: kind for kind, bits in FILE_TYPE.items()}
LISTED_AT_ONCE = 64
OURS_ALONE = ("nodiratime",)  # the libfuse of Debian 12 has no such option, and nothing to do for it
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def operation(
    method: Callable[Concatenate["Requests", Arguments], Awaitable[Result]],
) -> Callable[Concatenate["Requests", Arguments], Awaitable[Result]]:
    """A request handler: whatever it raises becomes an errno, because anything else ends the mount."""

    @wraps(method)
    async def handler(self: "Requests", /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        ORIGIN.set(self.lookups)
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
        self.accesses = Accesses(volume)
        self.invalidation = Invalidation(fuse)
        self.lookups = Lookups(volume, self.invalidation)
        self.enable_acl = True
        self.enable_writeback_cache = False
        self.supports_dot_lookup = True

    def init(self) -> None:
        self.lookups.start()

    def inode(self, number: int) -> Inode:
        return self.volume.names.by_number(Number(number))

    def attributes(self, inode: Inode) -> Any:
        return entry_attributes(self.fuse, inode, self.volume.state.stat(inode))

    def entry_of(self, parent: int, name: bytes, inode: Inode) -> Any:
        """`entry`, for a name that the kernel may remember from now on."""
        self.lookups.note(parent, name)
        return self.entry(inode)

    def entry(self, inode: Inode) -> Any:
        """The reply that makes the kernel count one lookup."""
        attributes = self.attributes(inode)
        self.lookups.count(inode)
        return attributes

    @operation
    async def lookup(self, parent: int, name: bytes, _ctx: Any) -> Any:
        directory = self.inode(parent)
        if name == b".":
            return self.entry(directory)
        if name == b"..":
            return self.entry(self.volume.names.parent(directory))
        self.lookups.note(parent, name)
        if directory.virtual is not None:
            await settled(directory.virtual.prepare())
        try:
            return self.entry(self.volume.names.lookup(directory, name))
        except FSError as error:
            if error.errno == errno.ENOENT and directory.virtual is None:
                return absent(self.fuse)
            raise

    async def forget(self, forgotten: Sequence[tuple[int, int]]) -> None:
        self.lookups.forget(forgotten)

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
        inode = self.inode(number)
        target = self.volume.names.target(inode)
        self.accesses.looked_into(inode)
        return target

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
            parent, name, self.volume.linking.link(self.inode(number), self.inode(parent), name)
        )

    @operation
    async def unlink(self, parent: int, name: bytes, _ctx: Any) -> None:
        self.lookups.note(parent, name)
        await settled(self.volume.names.unlink(self.inode(parent), name))

    @operation
    async def rmdir(self, parent: int, name: bytes, _ctx: Any) -> None:
        self.lookups.note(parent, name)
        await settled(self.volume.names.rmdir(self.inode(parent), name))

    @operation
    async def rename(
        self, parent: int, name: bytes, new_parent: int, new_name: bytes, flags: int, _ctx: Any
    ) -> None:
        self.lookups.note(parent, name)
        self.lookups.note(new_parent, new_name)
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
        data: bytes = await settled(self.volume.files.read(handle.inode, offset, length, handle.ahead))
        self.accesses.read(handle)
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
        self.accesses.looked_into(handle.inode)
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
                    self.lookups.note(parent, name)
                    self.lookups.count(inode)

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


class Pyfuse3FrontEnd:
    """One mount of a volume."""

    def __init__(self, volume: Volume) -> None:
        self._fuse = pyfuse3_instance.load()
        self._operations, self._requests = operations(self._fuse, volume)
        self.invalidation = self._requests.invalidation
        self.echoing: Echoing | None = None

    def start(self, path: str, source: str, options: MountOptions) -> None:
        """Blocking: mount. FSError if the kernel or fusermount3 refuses."""
        try:
            self._fuse.init(self._operations, path, set(for_fuse(source, options)))
            self._requests.accesses.heed(options)
        except RuntimeError as error:
            raise FSError(errno.EIO, f"cannot mount on {path}: {error}") from error

    async def run(self) -> None:
        """Answer requests until the mount is gone."""
        try:
            await self._fuse.main()
        finally:
            self._fuse.close(unmount=False)

    def close(self) -> None:
        """Give back what the kernel held."""
        self._requests.lookups.close(self._requests.handles)


def for_fuse(source: str, options: MountOptions) -> list[str]:
    """Options as libfuse takes them."""
    # Escapes of fuse_opt.c: a comma would begin another option, and pyfuse3 hands over ASCII alone.
    shown = "".join(
        chr(one) if one < 0x80 and chr(one).isalnum() else f"\\{one:03o}"
        for one in source.encode(errors="surrogateescape")
    )
    passed = [word for word in options.kernel if word not in OURS_ALONE]
    return ["default_permissions", f"fsname={shown}", "subtype=dittofs", *passed]
