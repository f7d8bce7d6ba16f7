"""What stat(2) reports, in the words of pyfuse3."""

from types import ModuleType
from typing import Any

from dittofs.volume.inodes import Inode, Stat

CACHED_S = 3600  # every change that did not come through the mount is announced to the kernel
BLOCK_BYTES = 4096


def entry_attributes(fuse: ModuleType, inode: Inode, stat: Stat) -> Any:
    """pyfuse3's EntryAttributes of an inode."""
    entry = fuse.EntryAttributes()
    is_lasting = inode.virtual is None or (inode.past is not None and inode.past.is_lasting)
    timeout = CACHED_S if is_lasting else 0
    entry.entry_timeout = entry.attr_timeout = timeout
    entry.st_ino = stat.number
    entry.generation = 1
    entry.st_mode = stat.full_mode
    entry.st_nlink = stat.nlink
    entry.st_uid = stat.uid
    entry.st_gid = stat.gid
    entry.st_rdev = stat.rdev
    entry.st_size = stat.size
    entry.st_blksize = BLOCK_BYTES
    entry.st_blocks = stat.blocks
    entry.st_atime_ns = stat.atime
    entry.st_mtime_ns = stat.mtime
    entry.st_ctime_ns = stat.ctime
    entry.st_birthtime_ns = stat.birth
    return entry


def absent(fuse: ModuleType) -> Any:
    """The answer to a lookup of a name that does not exist: the kernel may remember that."""
    entry = fuse.EntryAttributes()
    entry.st_ino = 0
    entry.entry_timeout = CACHED_S
    return entry
