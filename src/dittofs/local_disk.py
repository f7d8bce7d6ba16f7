"""A directory of the real file system as a `Disk`."""

import contextlib
import errno
import fcntl
import os
import stat
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from dittofs.disk import InUse
from dittofs.errors import ConfigError, DiskError, DiskFull, DittoError, ReadOnlyHome

FILE_MODE: Final = 0o600
DIRECTORY_MODE: Final = 0o700
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
_PID_BYTES_MAX = 32


def require_writable(directory: Path) -> None:
    """`ReadOnlyHome` if `directory`, or where it is to be made, is on a file system mounted read-only."""
    place = directory
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        flags = os.statvfs(place).f_flag
    except OSError as error:
        raise translated(error, f"looking at {place}") from error
    if flags & os.ST_RDONLY:
        raise ReadOnlyHome(str(directory))


class LocalFile:
    """An open file of a `LocalDisk`. Safe to use from several threads; `close` once, after the last use."""

    __slots__ = ("_fd", "_name", "_sync_failed")

    def __init__(self, fd: int, name: str) -> None:
        self._fd = fd
        self._name = name
        self._sync_failed = False

    def read(self, offset: int, size: int) -> bytes:
        try:
            data = os.pread(self._fd, size, offset)
            if len(data) == size or not data:
                return data
            parts = [data]
            have = len(data)
            while have < size and (data := os.pread(self._fd, size - have, offset + have)):
                parts.append(data)
                have += len(data)
        except OSError as error:
            raise translated(error, f"reading {self._name}") from error
        return b"".join(parts)

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        try:
            written = os.pwrite(self._fd, data, offset)
            if written == len(data):
                return
            view = memoryview(data).cast("B")
            while written < len(view):
                written += os.pwrite(self._fd, view[written:], offset + written)
        except OSError as error:
            raise translated(error, f"writing {self._name}") from error

    def truncate(self, size: int) -> None:
        try:
            os.ftruncate(self._fd, size)
        except OSError as error:
            raise translated(error, f"truncating {self._name}") from error

    def size(self) -> int:
        try:
            return os.fstat(self._fd).st_size
        except OSError as error:
            raise translated(error, f"reading the size of {self._name}") from error

    def sync(self) -> None:
        # After a failed fsync Linux marks the lost pages clean, so the next one reports success.
        if self._sync_failed:
            raise DiskError(f"an earlier sync of {self._name} failed: what was written may be lost")
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            self._sync_failed = True
            raise translated(error, f"syncing {self._name}") from error

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        try:
            os.close(fd)
        except OSError as error:
            raise translated(error, f"closing {self._name}") from error


class LocalDisk:
    """The directory `root`, made (0700) if absent, as a `Disk`.

    Paths are resolved from a descriptor of the root, so that a rename of the root or a change of
    the working directory moves nothing. No path component is `..` and no file is opened through a
    symbolic link at its end. `ConfigError` if `root` is not a directory of this user.
    """

    def __init__(self, root: str) -> None:
        self._root = os.path.abspath(root)  # noqa: PTH100 - strings throughout: this is the fast path
        try:
            os.makedirs(self._root, DIRECTORY_MODE, exist_ok=True)  # noqa: PTH103 - text, as above
            self._root_fd = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except (FileExistsError, NotADirectoryError) as error:
            raise ConfigError(f"{self._root} is not a directory") from error
        except PermissionError as error:
            raise ConfigError(f"{self._root} is not open to you: {error.strerror}") from error
        except OSError as error:
            raise translated(error, f"opening {self._root}") from error
        weakref.finalize(self, os.close, self._root_fd)  # with the last reference; threads in a call hold one

    def open(self, path: str, *, create: bool = False, read_only: bool = False) -> LocalFile:
        checked(path)
        flags = os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_RDONLY if read_only else os.O_RDWR)
        if create:
            flags |= os.O_CREAT
        try:
            fd = os.open(path, flags, FILE_MODE, dir_fd=self._root_fd)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise translated(error, f"opening {path}") from error
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise DiskError(f"opening {path}: not a regular file")
        return LocalFile(fd, path)

    def lock(self, path: str) -> LocalFile:
        file = self.open(path, create=True)
        fd = file._fd
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = file.read(0, _PID_BYTES_MAX).decode("ascii", "replace").strip()
            file.close()
            raise InUse(path, holder) from error
        except OSError as error:
            file.close()
            raise translated(error, f"locking {path}") from error
        with contextlib.suppress(DiskFull):  # only who is refused reads it
            file.truncate(0)
            file.write(0, b"%d\n" % os.getpid())
        return file

    def exists(self, path: str) -> bool:
        checked(path)
        try:
            os.stat(path, dir_fd=self._root_fd, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise translated(error, f"looking for {path}") from error
        return True

    def listdir(self, path: str) -> Sequence[str]:
        try:
            fd = self._directory(path)
        except FileNotFoundError:
            return []
        try:
            return sorted(os.listdir(fd))  # noqa: PTH208 - of a descriptor
        except OSError as error:
            raise translated(error, f"listing {path or 'the root'}") from error
        finally:
            os.close(fd)

    def make_directory(self, path: str) -> None:
        if not path:
            return
        parts = checked(path).split("/")
        for depth in range(1, len(parts) + 1):
            directory = "/".join(parts[:depth])
            try:
                os.mkdir(directory, DIRECTORY_MODE, dir_fd=self._root_fd)
            except FileExistsError:
                if not stat.S_ISDIR(os.stat(directory, dir_fd=self._root_fd).st_mode):
                    raise DiskError(f"making {directory}: a file has that name") from None
            except OSError as error:
                raise translated(error, f"making {directory}") from error
            # Also when it existed: whoever made it may have died before this sync.
            self.sync_directory("/".join(parts[: depth - 1]))

    def rename(self, old: str, new: str) -> None:
        checked(old)
        checked(new)
        try:
            os.replace(old, new, src_dir_fd=self._root_fd, dst_dir_fd=self._root_fd)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise translated(error, f"renaming {old} to {new}") from error

    def unlink(self, path: str) -> None:
        checked(path)
        try:
            os.unlink(path, dir_fd=self._root_fd)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise translated(error, f"removing {path}") from error

    def sync_directory(self, path: str) -> None:
        fd = self._directory(path)
        try:
            os.fsync(fd)
        except OSError as error:
            raise translated(error, f"syncing directory {path or 'the root'}") from error
        finally:
            os.close(fd)

    def free_bytes(self) -> int:
        status = self._statvfs()
        return status.f_bavail * status.f_frsize

    def total_bytes(self) -> int:
        status = self._statvfs()
        return status.f_blocks * status.f_frsize

    def database_uri(self, path: str) -> tuple[str, str, bool]:
        checked(path)
        # unix-excl keeps the wal-index in the heap: no -shm file, and no other process gets in.
        return f"{self._root}/{path}", "unix-excl", True

    def close(self) -> None:
        """Give the root's descriptor back. Files opened before stay usable."""
        os.close(self._root_fd)

    def _directory(self, path: str) -> int:
        if path:
            checked(path)
        try:
            return os.open(path or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._root_fd)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise translated(error, f"opening directory {path or 'the root'}") from error

    def _statvfs(self) -> os.statvfs_result:
        try:
            return os.statvfs(self._root_fd)
        except OSError as error:
            raise translated(error, "asking for free space") from error


def checked(path: str) -> str:
    """`path` itself, if it is relative and stays below the root; `ValueError` otherwise."""
    if not path or "\0" in path or not {"", ".", ".."}.isdisjoint(path.split("/")):
        raise ValueError(f"{path!r} is not a path below the root of a disk")
    return path


def translated(error: OSError, doing: str) -> DittoError:
    """`DiskFull` where there is no room or quota left, else `DiskError`."""
    kind = DiskFull if error.errno in _NO_ROOM else DiskError
    return kind(f"{doing}: {error.strerror}")
