"""Requests about open directories."""

from dittofs.errors import FSError
from dittofs.volume.directories import DirectoryHandle
from dittofs.volume.inodes import Inode
from mountd.kernel import wire
from mountd.kernel.context import Context
from mountd.kernel.replies import dirent, dirent_plus
from mountd.kernel.request import Answer, Handlers, Request, done, then
from mountd.kernel.wire import Opcode

NAME_BYTES_USUAL = 16
LINE_BYTES = wire.DIRENT.size + NAME_BYTES_USUAL
LISTED_AT_ONCE_MAX = 1024


class DirectoryRequests:
    """Each answers one kind of request."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._directories = context.volume.directories
        self._handles = context.handles
        self.handlers: Handlers = {
            Opcode.OPENDIR: self.opendir,
            Opcode.READDIR: self.readdir,
            Opcode.READDIRPLUS: self.readdirplus,
            Opcode.RELEASEDIR: self.releasedir,
            Opcode.FSYNCDIR: self.fsyncdir,
        }

    def opendir(self, request: Request) -> Answer:
        inode = self._context.inode(request.node)
        preparing = None if inode.virtual is None else inode.virtual.prepare()
        if preparing is None:
            return self._open(inode)
        return then(preparing, lambda _: self._open(inode))

    def _open(self, inode: Inode) -> bytes:
        return wire.OPEN_OUT.pack(self._handles.add_directory(self._directories.open(inode)), 0, 0)

    def readdir(self, request: Request) -> Answer:
        number, after, size, _, _, _, _ = request.unpack(wire.READ_IN)
        handle = self._handles.directory(number)
        listed = self._directories.read(handle, after, _count(size, LINE_BYTES))
        self._context.accesses.looked_into(handle.inode)
        lines = [dirent(cookie, name, inode) for cookie, name, inode in listed]
        for _, _, inode in listed:
            self._context.volume.state.inodes.drop_if_unused(inode)
        return _fitting(lines, size)[0]

    def readdirplus(self, request: Request) -> Answer:
        number, after, size, _, _, _, _ = request.unpack(wire.READ_IN)
        handle = self._handles.directory(number)
        self._context.accesses.looked_into(handle.inode)
        return self._read_plus(handle, after, size)

    def _read_plus(self, handle: DirectoryHandle, after: int, size: int) -> bytes:
        state, lookups = self._context.volume.state, self._context.lookups
        parent = handle.inode.number
        while True:
            found = self._directories.read(handle, after, _count(size, wire.ENTRY_OUT.size + LINE_BYTES))
            lines: list[bytes] = []
            listed = []
            for one in found:
                after = one.cookie
                try:
                    lines.append(dirent_plus(*one, state.stat(one.inode)))
                    listed.append(one)
                except FSError:
                    state.inodes.drop_if_unused(one.inode)  # removed since it was listed
            body, count = _fitting(lines, size)
            for _, name, inode in listed[:count]:
                if name not in (b".", b".."):
                    lookups.note(parent, name)
                    lookups.count(inode)
            for _, _, inode in listed[count:]:
                state.inodes.drop_if_unused(inode)
            if body or not found:  # an empty answer would say that the directory ends here
                return body

    def releasedir(self, request: Request) -> Answer:
        self._directories.release(self._handles.remove_directory(request.unpack(wire.RELEASE_IN)[0]))
        return b""

    def fsyncdir(self, request: Request) -> Answer:
        inode = self._handles.directory(request.unpack(wire.FSYNC_IN)[0]).inode
        return then(self._context.volume.files.fsync(inode), done)


def _count(size: int, line_bytes: int) -> int:
    return min(size // line_bytes + 1, LISTED_AT_ONCE_MAX)


def _fitting(lines: list[bytes], size: int) -> tuple[bytes, int]:
    """The first lines that fit into `size` bytes, and how many they are."""
    total = count = 0
    for line in lines:
        total += len(line)
        if total > size:
            break
        count += 1
    return b"".join(lines[:count]), count
