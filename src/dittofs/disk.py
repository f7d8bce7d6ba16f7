"""All file access of the store goes through a `Disk`: a simulated one can lose, tear, fail and fill up."""

import contextlib
import errno
from collections.abc import Sequence
from typing import Protocol

from dittofs.errors import DittoError


class InUse(DittoError):
    """Another process holds the lock; `holder` is its process id as text, empty if it wrote none."""

    errno = errno.EBUSY

    def __init__(self, what: str, holder: str) -> None:
        super().__init__(f"{what} is in use by {f'process {holder}' if holder else 'another process'}")
        self.what = what
        self.holder = holder


class DiskFile(Protocol):
    """An open file. Every method may block. Errors are `DiskFull` or `DiskError`."""

    def read(self, offset: int, size: int) -> bytes:
        """At most `size` bytes at `offset`; fewer only at the end of the file."""

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Hand all of `data` to the operating system. Not durable before `sync`."""

    def truncate(self, size: int) -> None: ...

    def size(self) -> int: ...

    def sync(self) -> None:
        """Return when everything written and the size are on the platter (fdatasync).

        Once it has failed it fails for ever on this open file: the system may have dropped what
        it could not write, and would report success the next time.
        """

    def close(self) -> None: ...


class DiskLock(Protocol):
    """A lock held; gone with the process however that ends."""

    def close(self) -> None:
        """Let go."""


class Disk(Protocol):
    """A directory tree of the store. Paths are relative, with `/`, and never leave it."""

    def open(self, path: str, *, create: bool = False, read_only: bool = False) -> DiskFile:
        """Open a file; with `create` make it (0600) if absent. FileNotFoundError if absent otherwise."""

    def lock(self, path: str) -> DiskLock:
        """Take the exclusive lock on a file, made if absent. `InUse` at once if somebody has it."""

    def exists(self, path: str) -> bool: ...

    def listdir(self, path: str) -> Sequence[str]:
        """Names in a directory (`""`: the root), sorted; empty if the directory does not exist."""

    def make_directory(self, path: str) -> None:
        """Make a directory (0700) and its parents, durable in theirs; existing is fine."""

    def rename(self, old: str, new: str) -> None:
        """Replace `new` by `old` atomically. Durable after `sync_directory`. FileNotFoundError if absent."""

    def unlink(self, path: str) -> None:
        """Remove a file; FileNotFoundError if absent."""

    def sync_directory(self, path: str) -> None:
        """Make creations, renames and removals in a directory (`""`: the root) durable (fsync(2), NOTES)."""

    def free_bytes(self) -> int:
        """Room left for this user."""

    def total_bytes(self) -> int: ...

    def database_uri(self, path: str) -> tuple[str, str, bool]:
        """(file name, SQLite VFS name, whether several connections may share it) for a database at `path`."""


def read_whole(disk: Disk, path: str, bytes_max: int) -> bytes | None:
    """What a small file holds, at most `bytes_max` of it; None if there is none. Blocking."""
    try:
        file = disk.open(path, read_only=True)
    except FileNotFoundError:
        return None
    try:
        return file.read(0, bytes_max)
    finally:
        file.close()


def replace_whole(disk: Disk, path: str, data: bytes) -> None:
    """Make a file hold `data`, durable when this returns; after a crash it is as before, or whole. Blocking.

    It is written as `<path>.new` first, which an error takes away again where it can.
    """
    temporary = f"{path}.new"
    try:
        file = disk.open(temporary, create=True)
        try:
            file.truncate(0)  # a crash may have left one
            file.write(0, data)
            file.sync()
        finally:
            file.close()
        disk.rename(temporary, path)
    except DittoError:
        with contextlib.suppress(DittoError, FileNotFoundError):
            disk.unlink(temporary)
        raise
    disk.sync_directory(path.rpartition("/")[0])
