"""Requests about names: looking them up, making, moving and removing them."""

import errno
import stat as stat_bits
from typing import Any

from dittofs.errors import FSError
from dittofs.tree.record import Kind
from dittofs.volume.inodes import FILE_TYPE, Inode
from mountd.kernel import wire
from mountd.kernel.context import Context
from mountd.kernel.replies import ABSENT
from mountd.kernel.request import Answer, Handlers, Malformed, Request, done, then
from mountd.kernel.wire import Opcode

KIND_OF_TYPE = {bits: kind for kind, bits in FILE_TYPE.items()}


class NameRequests:
    """Each answers one kind of request."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._volume = context.volume
        self._names = context.volume.names
        self._note = context.lookups.note
        self.handlers: Handlers = {
            Opcode.LOOKUP: self.lookup,
            Opcode.FORGET: self.forget,
            Opcode.BATCH_FORGET: self.batch_forget,
            Opcode.MKNOD: self.mknod,
            Opcode.MKDIR: self.mkdir,
            Opcode.SYMLINK: self.symlink,
            Opcode.READLINK: self.readlink,
            Opcode.LINK: self.link,
            Opcode.UNLINK: self.unlink,
            Opcode.RMDIR: self.rmdir,
            Opcode.RENAME: self.rename,
            Opcode.RENAME2: self.rename2,
        }

    def lookup(self, request: Request) -> Answer:
        directory = self._context.inode(request.node)
        name = request.name()
        if name == b".":
            return self._context.entry(directory)
        if name == b"..":
            return self._context.entry(self._names.parent(directory))
        self._note(request.node, name)
        preparing = None if directory.virtual is None else directory.virtual.prepare()
        if preparing is None:
            return self._look_up(directory, name)
        return then(preparing, lambda _: self._look_up(directory, name))

    def _look_up(self, directory: Inode, name: bytes) -> bytes:
        try:
            return self._context.entry(self._names.lookup(directory, name))
        except FSError as error:
            if error.errno == errno.ENOENT and directory.virtual is None:
                return ABSENT
            raise

    def forget(self, request: Request) -> None:
        self._context.lookups.forget([(request.node, request.unpack(wire.FORGET_IN)[0])])

    def batch_forget(self, request: Request) -> None:
        count, _ = request.unpack(wire.BATCH_FORGET_IN)
        begin = wire.BATCH_FORGET_IN.size
        end = begin + count * wire.FORGET_ONE.size
        if len(request.body) < end:
            raise Malformed(f"{count} inodes to forget in {len(request.body)} bytes")
        self._context.lookups.forget(wire.FORGET_ONE.iter_unpack(request.body[begin:end]))

    def mknod(self, request: Request) -> Answer:
        mode, rdev, umask, _ = request.unpack(wire.MKNOD_IN)
        kind = KIND_OF_TYPE.get(stat_bits.S_IFMT(mode))
        if kind is None:
            raise FSError(errno.EINVAL)
        return self._make(request, request.name(wire.MKNOD_IN.size), kind, mode, umask, rdev=rdev)

    def mkdir(self, request: Request) -> Answer:
        mode, umask = request.unpack(wire.MKDIR_IN)
        return self._make(request, request.name(wire.MKDIR_IN.size), Kind.DIRECTORY, mode, umask)

    def symlink(self, request: Request) -> Answer:
        name, target = request.names(2)
        return self._make(request, name, Kind.SYMLINK, 0o777, 0, target=target)

    def _make(self, request: Request, name: bytes, kind: Kind, mode: int, umask: int, **more: Any) -> bytes:
        parent = self._context.inode(request.node)
        inode = self._names.make(parent, name, kind, mode & 0o7777, request.caller(umask), **more)
        return self._entry_of(request.node, name, inode)

    def _entry_of(self, parent: int, name: bytes, inode: Inode) -> bytes:
        self._note(parent, name)
        return self._context.entry(inode)

    def readlink(self, request: Request) -> Answer:
        inode = self._context.inode(request.node)
        target = self._names.target(inode)
        self._context.accesses.looked_into(inode)
        return target

    def link(self, request: Request) -> Answer:
        (number,) = request.unpack(wire.LINK_IN)
        name = request.name(wire.LINK_IN.size)
        inode = self._volume.linking.link(
            self._context.inode(number), self._context.inode(request.node), name
        )
        return self._entry_of(request.node, name, inode)

    def unlink(self, request: Request) -> Answer:
        name = request.name()
        self._note(request.node, name)
        return then(self._names.unlink(self._context.inode(request.node), name), done)

    def rmdir(self, request: Request) -> Answer:
        name = request.name()
        self._note(request.node, name)
        return then(self._names.rmdir(self._context.inode(request.node), name), done)

    def rename(self, request: Request) -> Answer:
        (new_parent,) = request.unpack(wire.RENAME_IN)
        return self._rename(request, new_parent, 0, wire.RENAME_IN.size)

    def rename2(self, request: Request) -> Answer:
        new_parent, flags, _ = request.unpack(wire.RENAME2_IN)
        return self._rename(request, new_parent, flags, wire.RENAME2_IN.size)

    def _rename(self, request: Request, new_parent: int, flags: int, offset: int) -> Answer:
        old, new = request.names(2, offset)
        self._note(request.node, old)
        self._note(new_parent, new)
        parents = self._context.inode(request.node), self._context.inode(new_parent)
        return then(self._volume.renaming.rename(parents[0], old, parents[1], new, flags), done)
