"""All file access of the store goes through a `Disk`, so that a simulated one can lose, tear, fail and fill up."""

from collections.abc import Sequence
from typing import Protocol


class DiskFile(Protocol):
    """An open file. Every method may block. Errors are `DiskFull` or `DiskError`."""

    def read(self, offset: int, size: int) -> bytes:
        """At most `size` bytes at `offset`; fewer only at the end of the file."""

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Hand all of `data` to the operating system. Not durable before `sync`."""

    def truncate(self, size: int) -> None: ...

    def size(self) -> int: ...

    def sync(self) -> None:
        """Return when everything written and the size are on the platter (fdatasync)."""

    def close(self) -> None: ...


class Disk(Protocol):
    """A directory tree of the store. Paths are relative, with `/`, and never leave it."""

    def open(self, path: str, *, create: bool = False, read_only: bool = False) -> DiskFile:
        """Open a file; with `create` make it (0600) if absent. FileNotFoundError if absent otherwise."""

    def exists(self, path: str) -> bool: ...

    def listdir(self, path: str) -> Sequence[str]:
        """Names in a directory, sorted; empty if the directory does not exist."""

    def make_directory(self, path: str) -> None:
        """Make a directory (0700) and its parents, durable in theirs; existing is fine."""

    def rename(self, old: str, new: str) -> None:
        """Replace `new` by `old` atomically. Durable after `sync_directory`."""

    def unlink(self, path: str) -> None:
        """Remove a file; FileNotFoundError if absent."""

    def sync_directory(self, path: str) -> None:
        """Make creations, renames and removals in a directory durable (fsync(2), NOTES)."""

    def free_bytes(self) -> int:
        """Room left for this user."""

    def total_bytes(self) -> int: ...

    def database_uri(self, path: str) -> tuple[str, str, bool]:
        """(file name, SQLite VFS name, whether several connections may share it) for a database at `path`."""
