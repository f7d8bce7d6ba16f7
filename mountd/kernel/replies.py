"""Attributes, entries, directory lines and room, as the kernel reads them."""

from dittofs.clock import SECOND_NS
from dittofs.volume.inodes import FILE_TYPE, Inode, Stat
from dittofs.volume.state import NAME_BYTES_MAX
from dittofs.volume.volume import BLOCK_BYTES, FileSystemRoom
from mountd.attributes import CACHED_S
from mountd.kernel import wire

# dirent.type is the file type of a mode, shifted (readdir(3), d_type).
TYPE_SHIFT = 12
TYPE_OF_KIND = {kind: bits >> TYPE_SHIFT for kind, bits in FILE_TYPE.items()}
STATX_BASIC_AND_BIRTH = 0xFFF  # STATX_BASIC_STATS | STATX_BTIME (linux/stat.h)
ABSENT = wire.ENTRY_OUT.pack(0, 0, CACHED_S, 0, 0, 0, *(0,) * 16)
"""The answer to a lookup of a name that does not exist: the kernel may remember that."""


def valid_s(inode: Inode) -> int:
    """How long the kernel may believe what it is told of an inode; changes are announced to it."""
    is_lasting = inode.virtual is None or (inode.past is not None and inode.past.is_lasting)
    return CACHED_S if is_lasting else 0


def attr_out(inode: Inode, stat: Stat) -> bytes:
    """fuse_attr_out."""
    return wire.ATTR_OUT.pack(valid_s(inode), 0, 0, *_attributes(stat))


def entry_out(inode: Inode, stat: Stat) -> bytes:
    """fuse_entry_out. The kernel counts one lookup."""
    timeout = valid_s(inode)
    return wire.ENTRY_OUT.pack(stat.number, wire.GENERATION, timeout, timeout, 0, 0, *_attributes(stat))


def _attributes(stat: Stat) -> tuple[int, ...]:
    atime, atime_ns = divmod(stat.atime, SECOND_NS)
    mtime, mtime_ns = divmod(stat.mtime, SECOND_NS)
    ctime, ctime_ns = divmod(stat.ctime, SECOND_NS)
    return (
        *(stat.number, stat.size, stat.blocks, atime, mtime, ctime, atime_ns, mtime_ns, ctime_ns),
        *(stat.full_mode, stat.nlink, stat.uid, stat.gid, stat.rdev & 0xFFFFFFFF, wire.PAGE_BYTES, 0),
    )


def statx_out(inode: Inode, stat: Stat) -> bytes:
    """fuse_statx_out, with the birth time."""
    return wire.STATX_OUT.pack(
        *(valid_s(inode), 0, 0),
        *(STATX_BASIC_AND_BIRTH, wire.PAGE_BYTES, 0, stat.nlink, stat.uid, stat.gid, stat.full_mode),
        *(stat.number, stat.size, stat.blocks, 0),
        *divmod(stat.atime, SECOND_NS),
        *divmod(stat.birth, SECOND_NS),
        *divmod(stat.ctime, SECOND_NS),
        *divmod(stat.mtime, SECOND_NS),
        *(stat.rdev >> 8 & 0xFFF, (stat.rdev & 0xFF) | (stat.rdev >> 12 & 0xFFF00), 0, 0),
    )


def dirent(cookie: int, name: bytes, inode: Inode) -> bytes:
    """fuse_dirent."""
    head = wire.DIRENT.pack(inode.number, cookie, len(name), TYPE_OF_KIND[inode.kind])
    return head + name + bytes(-len(name) % 8)


def dirent_plus(cookie: int, name: bytes, inode: Inode, stat: Stat) -> bytes:
    """fuse_direntplus. Of `.` and `..` the kernel takes the numbers alone."""
    entry = bytes(wire.ENTRY_OUT.size) if name in (b".", b"..") else entry_out(inode, stat)
    return entry + dirent(cookie, name, inode)


def statfs_out(room: FileSystemRoom) -> bytes:
    """fuse_statfs_out."""
    free = room.blocks_free
    return wire.STATFS_OUT.pack(
        room.blocks, free, free, room.files + free, free, BLOCK_BYTES, NAME_BYTES_MAX, BLOCK_BYTES
    )
