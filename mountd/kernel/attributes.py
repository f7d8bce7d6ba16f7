"""Requests about attributes, extended attributes and flags."""

import errno
import stat as stat_bits
from functools import partial

from dittofs.clock import SECOND_NS
from dittofs.errors import FSError
from dittofs.volume.attributes import Wanted
from mountd.kernel import wire
from mountd.kernel.context import Context
from mountd.kernel.replies import attr_out, statx_out
from mountd.kernel.request import Answer, Handlers, Malformed, Request, done, then
from mountd.kernel.wire import Changed, Opcode

# linux/fs.h: _IOR('f', 1, long), _IOW('f', 2, long), _IOR('X', 31, struct fsxattr), of 28 bytes
FS_IOC_GETFLAGS = 0x80086601
FS_IOC_SETFLAGS = 0x40086602
FS_IOC_FSGETXATTR = 0x801C581F
FLAGS_BYTES = 4  # linux takes an int, whatever the number of the ioctl says (ioctl_iflags(2))
FSXATTR_BYTES = 28


class AttributeRequests:
    """Each answers one kind of request."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._state = context.volume.state
        self._attributes = context.volume.attributes
        self.handlers: Handlers = {
            Opcode.GETATTR: self.getattr,
            Opcode.STATX: self.statx,
            Opcode.SETATTR: self.setattr,
            Opcode.SETXATTR: self.setxattr,
            Opcode.GETXATTR: self.getxattr,
            Opcode.LISTXATTR: self.listxattr,
            Opcode.REMOVEXATTR: self.removexattr,
            Opcode.IOCTL: self.ioctl,
        }

    def getattr(self, request: Request) -> Answer:
        inode = self._context.inode(request.node)
        return attr_out(inode, self._state.stat(inode))

    def statx(self, request: Request) -> Answer:
        inode = self._context.inode(request.node)
        return statx_out(inode, self._state.stat(inode))

    def setattr(self, request: Request) -> Answer:
        fields = request.unpack(wire.SETATTR_IN)
        valid, _, _, size, _, atime, mtime, _, atime_ns, mtime_ns, _, mode, _, uid, gid, _ = fields
        inode = self._context.inode(request.node)
        wanted = Wanted(
            mode=stat_bits.S_IMODE(mode) if valid & Changed.MODE else None,
            uid=uid if valid & Changed.UID else None,
            gid=gid if valid & Changed.GID else None,
            size=size if valid & Changed.SIZE else None,
            atime=self._time(valid & Changed.ATIME, valid & Changed.ATIME_NOW, atime, atime_ns),
            mtime=self._time(valid & Changed.MTIME, valid & Changed.MTIME_NOW, mtime, mtime_ns),
            clears_set_id=bool(valid & Changed.KILL_SUIDGID),
        )
        return then(self._attributes.set(inode, wanted), partial(attr_out, inode))

    def _time(self, is_given: int, is_now: int, seconds: int, nanoseconds: int) -> int | None:
        if not is_given:
            return None
        return self._state.replica.clock.now_ns() if is_now else seconds * SECOND_NS + nanoseconds

    def setxattr(self, request: Request) -> Answer:
        size, flags, setxattr_flags, _ = request.unpack(wire.SETXATTR_IN)
        name = request.name(wire.SETXATTR_IN.size)
        value = bytes(request.body[wire.SETXATTR_IN.size + len(name) + 1 :])
        if len(value) != size:
            raise Malformed(f"a value of {size} bytes in {len(value)}")
        clears = bool(setxattr_flags & wire.SETXATTR_ACL_KILL_SGID)
        inode = self._context.inode(request.node)
        return then(self._attributes.set_xattr(inode, name, value, flags, clears_set_gid=clears), done)

    def getxattr(self, request: Request) -> Answer:
        size, _ = request.unpack(wire.GETXATTR_IN)
        name = request.name(wire.GETXATTR_IN.size)
        value = self._attributes.get_xattr(self._context.inode(request.node), name)
        return then(value, partial(_sized, size))

    def listxattr(self, request: Request) -> Answer:
        size, _ = request.unpack(wire.GETXATTR_IN)
        names = self._attributes.list_xattrs(self._context.inode(request.node))
        return _sized(size, b"".join(name + b"\0" for name in names))

    def removexattr(self, request: Request) -> Answer:
        self._attributes.remove_xattr(self._context.inode(request.node), request.name())
        return b""

    def ioctl(self, request: Request) -> Answer:
        """The flags of chattr(1) are all unset here, and stay so."""
        _, _, command, _, in_bytes, _ = request.unpack(wire.IOCTL_IN)
        given = bytes(request.body[wire.IOCTL_IN.size :])
        if len(given) != in_bytes:
            raise Malformed(f"an ioctl with {in_bytes} bytes in {len(given)}")
        if command == FS_IOC_GETFLAGS:
            return wire.IOCTL_OUT.pack(0, 0, 0, 0) + bytes(FLAGS_BYTES)
        if command == FS_IOC_FSGETXATTR:
            return wire.IOCTL_OUT.pack(0, 0, 0, 0) + bytes(FSXATTR_BYTES)
        if command == FS_IOC_SETFLAGS:
            if any(given[:FLAGS_BYTES]):
                raise FSError(errno.EOPNOTSUPP)
            return wire.IOCTL_OUT.pack(0, 0, 0, 0)
        raise FSError(errno.ENOTTY)


def _sized(size: int, value: bytes) -> bytes:
    """What getxattr and listxattr answer: the length alone if no room was given. ERANGE: too little."""
    if not size:
        return wire.GETXATTR_OUT.pack(len(value), 0)
    if len(value) > size:
        raise FSError(errno.ERANGE)
    return value
