"""Constants and layouts of the protocol behind /dev/fuse.

Source: include/uapi/linux/fuse.h, protocol 7.38 (Linux 6.2); STATX from 7.39 (Linux 6.6) and
COPY_FILE_RANGE_64 from 7.45 (Linux 6.18). Numbers have the byte order of the machine, and every
structure is padded to 8 bytes by members of its own.
"""

from enum import IntEnum, IntFlag
from struct import Struct
from typing import Final

MAJOR: Final = 7
MINOR: Final = 39
"""What is spoken here; the kernel takes the lesser of this and its own."""
MINOR_MIN: Final = 33
"""Linux 5.12: set-id bits are cleared by the file system, and SETXATTR says more."""
ROOT_NODE: Final = 1
PAGE_BYTES: Final = 4096
WRITE_BYTES_MAX: Final = 1 << 20
REQUEST_BYTES_MAX: Final = WRITE_BYTES_MAX + PAGE_BYTES
GENERATION: Final = 1


class Opcode(IntEnum):
    """fuse_opcode."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    READLINK = 5
    SYMLINK = 6
    MKNOD = 8
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    LINK = 13
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FSYNC = 20
    SETXATTR = 21
    GETXATTR = 22
    LISTXATTR = 23
    REMOVEXATTR = 24
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    FSYNCDIR = 30
    GETLK = 31
    SETLK = 32
    SETLKW = 33
    ACCESS = 34
    CREATE = 35
    INTERRUPT = 36
    BMAP = 37
    DESTROY = 38
    IOCTL = 39
    POLL = 40
    NOTIFY_REPLY = 41
    BATCH_FORGET = 42
    FALLOCATE = 43
    READDIRPLUS = 44
    RENAME2 = 45
    LSEEK = 46
    COPY_FILE_RANGE = 47
    SETUPMAPPING = 48
    REMOVEMAPPING = 49
    SYNCFS = 50
    TMPFILE = 51
    STATX = 52
    COPY_FILE_RANGE_64 = 53


class Notice(IntEnum):
    """fuse_notify_code: what is written in the place of an error when nobody asked."""

    INVAL_INODE = 2
    INVAL_ENTRY = 3


class Init(IntFlag):
    """INIT flags; from bit 32 on they travel in `flags2`."""

    ASYNC_READ = 1 << 0
    ATOMIC_O_TRUNC = 1 << 3
    EXPORT_SUPPORT = 1 << 4
    BIG_WRITES = 1 << 5
    DONT_MASK = 1 << 6
    HAS_IOCTL_DIR = 1 << 11
    AUTO_INVAL_DATA = 1 << 12
    DO_READDIRPLUS = 1 << 13
    READDIRPLUS_AUTO = 1 << 14
    ASYNC_DIO = 1 << 15
    WRITEBACK_CACHE = 1 << 16
    PARALLEL_DIROPS = 1 << 18
    POSIX_ACL = 1 << 20
    ABORT_ERROR = 1 << 21
    MAX_PAGES = 1 << 22
    CACHE_SYMLINKS = 1 << 23
    EXPLICIT_INVAL_DATA = 1 << 25
    HANDLE_KILLPRIV_V2 = 1 << 28
    SETXATTR_EXT = 1 << 29
    INIT_EXT = 1 << 30


class Changed(IntFlag):
    """fuse_setattr_in.valid."""

    MODE = 1 << 0
    UID = 1 << 1
    GID = 1 << 2
    SIZE = 1 << 3
    ATIME = 1 << 4
    MTIME = 1 << 5
    ATIME_NOW = 1 << 7
    MTIME_NOW = 1 << 8
    KILL_SUIDGID = 1 << 11


OPENED_DIRECT_IO: Final = 1 << 0
OPENED_KEEP_CACHE: Final = 1 << 1
OPENED_NOFLUSH: Final = 1 << 5
OPEN_KILL_SUIDGID: Final = 1 << 0
WRITE_KILL_SUIDGID: Final = 1 << 2
SETXATTR_ACL_KILL_SGID: Final = 1 << 0

# len, opcode, unique, nodeid, uid, gid, pid, total_extlen, padding
REQUEST: Final = Struct("=IIQQIIIHH")
# len, error, unique
REPLY: Final = Struct("=IiQ")

# major, minor, max_readahead, flags; then flags2 since 7.36
INIT_IN: Final = Struct("=IIII")
INIT_IN_EXTENDED: Final = Struct("=IIIII44x")
# major, minor, max_readahead, flags, max_background, congestion_threshold, max_write, time_gran,
# max_pages, map_alignment, flags2
INIT_OUT: Final = Struct("=IIIIHHIIHHI28x")

# ino, size, blocks, atime, mtime, ctime, their nanoseconds, mode, nlink, uid, gid, rdev, blksize, flags
ATTRIBUTES: Final = "QQQqqqIIIIIIIIII"
# nodeid, generation, entry_valid, attr_valid, entry_valid_nsec, attr_valid_nsec, attributes
ENTRY_OUT: Final = Struct("=QQQQII" + ATTRIBUTES)
# attr_valid, attr_valid_nsec, dummy, attributes
ATTR_OUT: Final = Struct("=QII" + ATTRIBUTES)
FORGET_IN: Final = Struct("=Q")
FORGET_ONE: Final = Struct("=QQ")
BATCH_FORGET_IN: Final = Struct("=II")
# mode, rdev, umask, padding
MKNOD_IN: Final = Struct("=IIII")
# mode, umask
MKDIR_IN: Final = Struct("=II")
# newdir
RENAME_IN: Final = Struct("=Q")
# newdir, flags, padding
RENAME2_IN: Final = Struct("=QII")
# oldnodeid
LINK_IN: Final = Struct("=Q")
# valid, padding, fh, size, lock_owner, atime, mtime, ctime, their nanoseconds, mode, unused, uid, gid, unused
SETATTR_IN: Final = Struct("=IIQQQqqqIIIIIIII")
# flags, open_flags
OPEN_IN: Final = Struct("=II")
# flags, mode, umask, open_flags
CREATE_IN: Final = Struct("=IIII")
# fh, open_flags, padding
OPEN_OUT: Final = Struct("=QII")
# fh, flags, release_flags, lock_owner; the first member of many requests is the handle
RELEASE_IN: Final = Struct("=QIIQ")
FLUSH_IN: Final = Struct("=QIIQ")
# fh, offset, size, read_flags, lock_owner, flags, padding
READ_IN: Final = Struct("=QQIIQII")
# fh, offset, size, write_flags, lock_owner, flags, padding
WRITE_IN: Final = Struct("=QQIIQII")
# size, padding
WRITE_OUT: Final = Struct("=II")
# fh, fsync_flags, padding
FSYNC_IN: Final = Struct("=QII")
# size, flags, setxattr_flags, padding
SETXATTR_IN: Final = Struct("=IIII")
# size, padding
GETXATTR_IN: Final = Struct("=II")
GETXATTR_OUT: Final = Struct("=II")
# blocks, bfree, bavail, files, ffree, bsize, namelen, frsize, padding, spare
STATFS_OUT: Final = Struct("=QQQQQIII28x")
# unique of the request to interrupt
INTERRUPT_IN: Final = Struct("=Q")
# fh, flags, cmd, arg, in_size, out_size
IOCTL_IN: Final = Struct("=QIIQII")
# result, flags, in_iovs, out_iovs
IOCTL_OUT: Final = Struct("=iIII")
# fh, offset, length, mode, padding
FALLOCATE_IN: Final = Struct("=QQQII")
# fh, offset, whence, padding
LSEEK_IN: Final = Struct("=QQII")
LSEEK_OUT: Final = Struct("=Q")
# fh_in, off_in, nodeid_out, fh_out, off_out, len, flags
COPY_FILE_RANGE_IN: Final = Struct("=QQQQQQQ")
COPY_FILE_RANGE_OUT: Final = Struct("=Q")
# ino, off, namelen, type; then the name, padded to 8 bytes
DIRENT: Final = Struct("=QQII")
# getattr_flags, reserved, fh, sx_flags, sx_mask
STATX_IN: Final = Struct("=IIQII")
# attr_valid, attr_valid_nsec, flags, spare; mask, blksize, attributes, nlink, uid, gid, mode, ino, size,
# blocks, attributes_mask; atime, btime, ctime, mtime (seconds, nanoseconds); rdev and dev (major, minor)
STATX_OUT: Final = Struct("=QII16x" + "IIQIIIH2xQQQQ" + "qI4x" * 4 + "IIII112x")
# ino, off, len
INVAL_INODE_OUT: Final = Struct("=Qqq")
# parent, namelen, flags; then the name and NUL
INVAL_ENTRY_OUT: Final = Struct("=QII")
