"""INIT: the first request of a connection, on which kernel and front end agree how to go on."""

import errno
import os
import select

from dittofs.errors import FSError
from mountd.kernel import wire
from mountd.kernel.wire import Init, Opcode

PATIENCE_S = 10.0
# Above the threshold the kernel drops read-ahead.
BACKGROUND_MAX = 1024
CONGESTION_THRESHOLD = 768
TIME_GRANULARITY_NS = 1
WANTED = (
    Init.ASYNC_READ
    | Init.ATOMIC_O_TRUNC
    | Init.EXPORT_SUPPORT
    | Init.BIG_WRITES
    | Init.DONT_MASK
    | Init.HAS_IOCTL_DIR
    | Init.AUTO_INVAL_DATA
    | Init.DO_READDIRPLUS
    | Init.READDIRPLUS_AUTO
    | Init.ASYNC_DIO
    | Init.PARALLEL_DIROPS
    | Init.POSIX_ACL
    | Init.ABORT_ERROR
    | Init.MAX_PAGES
    | Init.CACHE_SYMLINKS
    | Init.HANDLE_KILLPRIV_V2
    | Init.SETXATTR_EXT
    | Init.INIT_EXT
)
REQUIRED = Init.HANDLE_KILLPRIV_V2 | Init.SETXATTR_EXT | Init.POSIX_ACL | Init.DONT_MASK
"""Without these, requests have other layouts or leave work to the kernel that is done here."""


def negotiate(descriptor: int) -> Init:
    """Blocking: answer INIT and return the flags in force. FSError if this kernel cannot be spoken with."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    if not poll.poll(PATIENCE_S * 1000):
        raise FSError(errno.ETIMEDOUT, "the kernel does not begin to talk")
    request = os.read(descriptor, wire.REQUEST_BYTES_MAX)
    opcode, unique = wire.REQUEST.unpack_from(request)[1:3]
    body = request[wire.REQUEST.size :]
    if opcode != Opcode.INIT or len(body) < wire.INIT_IN.size:
        raise FSError(errno.EPROTO, "the kernel does not begin with INIT")
    major, minor, readahead, flags = wire.INIT_IN.unpack_from(body)
    if flags & Init.INIT_EXT and len(body) >= wire.INIT_IN_EXTENDED.size:
        flags |= wire.INIT_IN_EXTENDED.unpack_from(body)[4] << 32
    taken = WANTED & Init(flags)
    if major != wire.MAJOR or minor < wire.MINOR_MIN or REQUIRED & ~taken:
        os.write(descriptor, wire.REPLY.pack(wire.REPLY.size, -errno.EPROTO, unique))
        raise FSError(errno.EPROTO, f"the kernel speaks protocol {major}.{minor}, too old for this front end")
    answer = wire.INIT_OUT.pack(
        wire.MAJOR,
        wire.MINOR,
        readahead,
        taken & 0xFFFFFFFF,
        BACKGROUND_MAX,
        CONGESTION_THRESHOLD,
        wire.WRITE_BYTES_MAX,
        TIME_GRANULARITY_NS,
        wire.WRITE_BYTES_MAX // wire.PAGE_BYTES,
        0,
        taken >> 32,
    )
    os.write(descriptor, wire.REPLY.pack(wire.REPLY.size + len(answer), 0, unique) + answer)
    return taken
