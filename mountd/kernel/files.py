"""Requests about open files: open, read, write, flush, fsync, release."""

import errno
import os
from collections.abc import Coroutine
from typing import Any

from dittofs.errors import FSError
from dittofs.tree.record import Kind
from dittofs.volume.inodes import Inode
from mountd.kernel import wire
from mountd.kernel.context import Context
from mountd.kernel.replies import statfs_out
from mountd.kernel.request import Answer, Handlers, Malformed, Request, done, then
from mountd.kernel.wire import Opcode


class FileRequests:
    """Each answers one kind of request."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._volume = context.volume
        self._files = context.volume.files
        self._handles = context.handles
        self.handlers: Handlers = {
            Opcode.CREATE: self.create,
            Opcode.OPEN: self.open,
            Opcode.READ: self.read,
            Opcode.WRITE: self.write,
            Opcode.FLUSH: self.flush,
            Opcode.RELEASE: self.release,
            Opcode.FSYNC: self.fsync,
            Opcode.SYNCFS: self.syncfs,
            Opcode.STATFS: self.statfs,
            Opcode.TMPFILE: self.tmpfile,
            Opcode.FALLOCATE: self.fallocate,
            Opcode.LSEEK: self.lseek,
            Opcode.COPY_FILE_RANGE: self.copy_file_range,
            Opcode.COPY_FILE_RANGE_64: self.copy_file_range_64,
        }

    def create(self, request: Request) -> Answer:
        flags, mode, umask, _ = request.unpack(wire.CREATE_IN)
        name = request.name(wire.CREATE_IN.size)
        parent = self._context.inode(request.node)
        try:
            inode = self._volume.names.make(
                parent, name, Kind.FILE, mode & 0o7777, request.caller(umask), is_open=True
            )
        except FSError as error:
            if error.errno == errno.EEXIST and not flags & os.O_EXCL:
                # Another device's file, come since the kernel looked: it looks again, and opens that.
                raise FSError(errno.ESTALE) from error
            raise
        opened = self.opened(inode, flags & ~os.O_TRUNC)
        self._context.lookups.note(request.node, name)
        return self._context.entry(inode) + opened

    def tmpfile(self, request: Request) -> Answer:
        flags, mode, umask, _ = request.unpack(wire.CREATE_IN)
        parent = self._context.inode(request.node)
        inode = self._volume.linking.make_unnamed(parent, mode & 0o7777, request.caller(umask))
        return self._context.entry(inode) + self.opened(inode, flags & ~os.O_TRUNC)

    def open(self, request: Request) -> Answer:
        flags, open_flags = request.unpack(wire.OPEN_IN)
        inode = self._context.inode(request.node)
        opened = self.opened(inode, flags)
        if open_flags & wire.OPEN_KILL_SUIDGID and flags & os.O_TRUNC:
            self._volume.attributes.clear_set_id(inode)
        return opened

    def opened(self, inode: Inode, flags: int) -> bytes:
        handle = self._handles.add_file(self._files.open(inode, flags))
        reading_ahead = self._context.reading_ahead
        if reading_ahead.is_connected:
            size, is_whole = self._volume.reach(inode)
            reading_ahead.opening(size, is_whole=is_whole)
        if inode.virtual is not None and inode.past is None:
            how = wire.OPENED_DIRECT_IO
        else:
            how = wire.OPENED_KEEP_CACHE
        if flags & os.O_ACCMODE == os.O_RDONLY:
            how |= wire.OPENED_NOFLUSH
        return wire.OPEN_OUT.pack(handle, how, 0)

    def read(self, request: Request) -> Answer:
        number, offset, length, _, _, _, _ = request.unpack(wire.READ_IN)
        handle = self._handles.file(number)
        answer = self._files.read(handle.inode, offset, length, handle.ahead)
        self._context.accesses.read(handle)
        return answer

    def write(self, request: Request) -> Answer:
        number, offset, length, write_flags, _, _, _ = request.unpack(wire.WRITE_IN)
        data = request.body[wire.WRITE_IN.size :]
        if len(data) != length:
            raise Malformed(f"{length} bytes to write in a request with {len(data)}")
        inode = self._handles.file(number).inode
        if write_flags & wire.WRITE_KILL_SUIDGID and self._volume.attributes.clear_set_id(inode):
            # The kernel keeps the old mode unless it is told; without pages that waits for nobody.
            self._context.notices.invalidate_inode(inode.number, attr_only=True)
        return then(self._files.write(inode, offset, data), _write_out)

    def flush(self, request: Request) -> Answer:
        self._files.flush(self._handles.file(request.unpack(wire.FLUSH_IN)[0]).inode)
        return b""

    def release(self, request: Request) -> Answer:
        self._files.release(self._handles.remove_file(request.unpack(wire.RELEASE_IN)[0]))
        return b""

    def fsync(self, request: Request) -> Answer:
        return then(self._files.fsync(self._handles.file(request.unpack(wire.FSYNC_IN)[0]).inode), done)

    def syncfs(self, _request: Request) -> Answer:
        return then(self._files.sync(), done)

    def statfs(self, _request: Request) -> Answer:
        return statfs_out(self._volume.room())

    def fallocate(self, request: Request) -> Answer:
        number, offset, length, mode, _ = request.unpack(wire.FALLOCATE_IN)
        self._volume.holes.allocate(self._handles.file(number).inode, offset, length, mode)
        return b""

    def lseek(self, request: Request) -> Answer:
        number, offset, whence, _ = request.unpack(wire.LSEEK_IN)
        return wire.LSEEK_OUT.pack(self._volume.holes.seek(self._handles.file(number).inode, offset, whence))

    def copy_file_range(self, request: Request) -> Answer:
        return then(self._copy(request), _write_out)

    def copy_file_range_64(self, request: Request) -> Answer:
        return then(self._copy(request), wire.COPY_FILE_RANGE_OUT.pack)

    def _copy(self, request: Request) -> int | Coroutine[Any, Any, int]:
        source, offset, _, target, target_offset, length, flags = request.unpack(wire.COPY_FILE_RANGE_IN)
        if flags:
            raise FSError(errno.EINVAL)
        one, other = self._handles.file(source).inode, self._handles.file(target).inode
        return self._volume.copying.copy_range(one, offset, other, target_offset, length)


def _write_out(written: int) -> bytes:
    return wire.WRITE_OUT.pack(written, 0)
