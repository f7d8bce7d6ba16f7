"""Requests that come from making an echo: the volume has changed already, and stays as it is."""

import errno
import itertools
import os
from contextlib import suppress
from dataclasses import dataclass

from dittofs.errors import FSError
from dittofs.volume.echoes import Deed, Echo, Place
from dittofs.volume.inodes import FILE_TYPE, Inode
from mountd.kernel import wire
from mountd.kernel.context import Context
from mountd.kernel.files import FileRequests
from mountd.kernel.replies import attr_out
from mountd.kernel.request import Answer, Handlers, Request
from mountd.kernel.wire import Opcode

NO_THREAD = -1
GHOST_BIT = 1 << 63
"""Set in the node numbers of what is gone and has to be named once more to be removed."""
UNSEEN = wire.ENTRY_OUT.pack(0, 0, 0, 0, 0, 0, *(0,) * 16)
"""The answer to a lookup of a name that is about to be made: nothing to remember."""
TIMEOUTS = range(16, 40)
"""Bytes of fuse_entry_out that say how long it may be believed."""
HARMLESS = (
    *(Opcode.GETATTR, Opcode.STATX, Opcode.GETXATTR, Opcode.LISTXATTR, Opcode.READLINK, Opcode.STATFS),
    *(Opcode.FLUSH, Opcode.RELEASE, Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.INTERRUPT),
)


@dataclass(slots=True)
class Making:
    """The echo that a thread makes at this moment; written by that thread."""

    thread: int = NO_THREAD
    echo: Echo | None = None


class EchoRequests:
    """Answers the thread that makes echoes. Whatever else it asks for is refused."""

    def __init__(self, context: Context, making: Making, usual: Handlers) -> None:
        self._context = context
        self._making = making
        self._look_up = usual[Opcode.LOOKUP]
        self._files = FileRequests(context)
        self._ghosts = itertools.count(GHOST_BIT)
        self.handlers: Handlers = {
            **{opcode: usual[opcode] for opcode in HARMLESS if opcode in usual},
            Opcode.LOOKUP: self.lookup,
            Opcode.MKNOD: self.mknod,
            Opcode.MKDIR: self.mkdir,
            Opcode.SYMLINK: self.symlink,
            Opcode.UNLINK: self.remove,
            Opcode.RMDIR: self.remove,
            Opcode.RENAME: self.rename,
            Opcode.RENAME2: self.rename2,
            Opcode.OPEN: self.open,
            Opcode.SETATTR: self.setattr,
        }

    def lookup(self, request: Request) -> Answer:
        echo, name = self._echo(), request.name()
        is_target = _is_at(echo.place, request.node, name)
        if is_target and echo.deed in (Deed.MAKE, Deed.MOVE):
            return UNSEEN
        if (is_target and echo.deed is Deed.REMOVE) or _is_at(echo.source, request.node, name):
            return self._entry_before(echo)
        return self._look_up(request)

    def _entry_before(self, echo: Echo) -> bytes:
        """What a name showed that shows it no more."""
        inode = self._context.volume.state.inodes.get(echo.number)
        if inode is not None and inode.kind is echo.kind:
            with suppress(FSError):  # it was closed, and nothing is known of it any more
                entry = self._context.entry(inode)
                return entry[: TIMEOUTS.start] + bytes(len(TIMEOUTS)) + entry[TIMEOUTS.stop :]
        attributes = (echo.number, *(0,) * 8, FILE_TYPE[echo.kind], 1, os.geteuid(), os.getegid(), 0, 0, 0)
        return wire.ENTRY_OUT.pack(next(self._ghosts), wire.GENERATION, 0, 0, 0, 0, *attributes)

    def mknod(self, request: Request) -> Answer:
        return self._made(request, request.name(wire.MKNOD_IN.size))

    def mkdir(self, request: Request) -> Answer:
        return self._made(request, request.name(wire.MKDIR_IN.size))

    def symlink(self, request: Request) -> Answer:
        return self._made(request, request.name())

    def _made(self, request: Request, name: bytes) -> bytes:
        echo = self._echo()
        shown = self._shown(echo.place)
        if echo.deed is not Deed.MAKE or not _is_at(echo.place, request.node, name) or shown is None:
            raise FSError(errno.EBUSY)
        self._context.lookups.note(request.node, name)
        return self._context.entry(shown)

    def remove(self, request: Request) -> Answer:
        echo = self._echo()
        is_meant = echo.deed is Deed.REMOVE and _is_at(echo.place, request.node, request.name())
        if not is_meant or self._shown(echo.place) is not None:
            raise FSError(errno.EBUSY)
        return b""

    def rename(self, request: Request) -> Answer:
        return self._moved(request, wire.RENAME_IN.size)

    def rename2(self, request: Request) -> Answer:
        return self._moved(request, wire.RENAME2_IN.size)

    def _moved(self, request: Request, offset: int) -> bytes:
        (above,) = wire.RENAME_IN.unpack_from(request.body)
        old, new = request.names(2, offset)
        echo = self._echo()
        shown = self._shown(echo.place)
        is_meant = _is_at(echo.source, request.node, old) and _is_at(echo.place, above, new)
        if not is_meant or shown is None or shown.number != echo.number:
            raise FSError(errno.EBUSY)
        return b""

    def open(self, request: Request) -> Answer:
        """Of a writer it has the name alone."""
        return self._files.opened(self._target(request, Deed.WRITE), os.O_RDONLY)

    def setattr(self, request: Request) -> Answer:
        inode = self._target(request, Deed.WRITE, Deed.TOUCH)
        return attr_out(inode, self._context.volume.state.stat(inode))

    def _target(self, request: Request, *deeds: Deed) -> Inode:
        echo = self._echo()
        if echo.deed not in deeds or request.node != echo.number:
            raise FSError(errno.EBUSY)
        return self._context.inode(request.node)

    def _shown(self, place: Place) -> Inode | None:
        try:
            return self._context.volume.names.lookup(self._context.inode(place.directory), place.name)
        except FSError:
            return None

    def _echo(self) -> Echo:
        if self._making.echo is None:
            raise FSError(errno.EBUSY)
        return self._making.echo


def _is_at(place: Place | None, directory: int, name: bytes) -> bool:
    return place is not None and (place.directory, place.name) == (directory, name)
