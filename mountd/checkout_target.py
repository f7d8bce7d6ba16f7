"""The directory that a checkout writes into.

Nothing below it is followed: every component of a path is opened from the descriptor of the one above, and
a symbolic link in the way is replaced itself, or refused. All here is blocking.
"""

import errno
import os
import stat
from typing import Final

from dittofs.errors import FSError
from dittofs.history.views import ViewEntry

Parts = tuple[bytes, ...]
"""The names from the directory down."""
RANDOM_BYTES: Final = 8
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FRESH: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Target:
    """`directory`, which the user named and which is there. `close` it once.

    `force`: what has a name and is no directory is replaced; else it is refused (FSError, EEXIST).
    """

    def __init__(self, directory: str, *, force: bool) -> None:
        self._force = force
        self._top = os.open(directory, _DIRECTORY)
        self._last: tuple[Parts, int] | None = None
        """The directory that was used last."""

    def close(self) -> None:
        if self._last is not None:
            os.close(self._last[1])
            self._last = None
        os.close(self._top)

    def make_directory(self, parts: Parts) -> None:
        """One that is there stays, with what is in it."""
        if not parts:
            return
        above, name = self._opened(parts[:-1]), parts[-1]
        if self._is_there(above, name):
            if stat.S_ISDIR(os.lstat(name, dir_fd=above).st_mode):
                return
            self._require_force()
            os.unlink(name, dir_fd=above)
        os.mkdir(name, 0o700, dir_fd=above)

    def finish_directory(self, parts: Parts, one: ViewEntry) -> None:
        """It is full: its mode and its time."""
        descriptor = self._opened(parts)
        os.fchmod(descriptor, one.mode & 0o777)
        os.utime(descriptor, ns=(one.mtime, one.mtime))

    def make_symlink(self, parts: Parts, one: ViewEntry) -> None:
        above, name = self._opened(parts[:-1]), parts[-1]
        if self._is_there(above, name):
            self._require_force()
        temporary = _temporary()
        os.symlink(one.root, temporary, dir_fd=above)
        try:
            os.utime(temporary, ns=(one.mtime, one.mtime), dir_fd=above, follow_symlinks=False)
            os.rename(temporary, name, src_dir_fd=above, dst_dir_fd=above)
        except BaseException:
            os.unlink(temporary, dir_fd=above)
            raise

    def begin_file(self, parts: Parts) -> "TargetFile":
        """A file to be written under another name; it has its own once it is whole."""
        above, name = self._opened(parts[:-1]), parts[-1]
        if self._is_there(above, name):
            self._require_force()
        return TargetFile(os.dup(above), name)

    def _opened(self, parts: Parts) -> int:
        """The descriptor of a directory below, which is closed by whoever comes next."""
        if not parts:
            return self._top
        if self._last is not None:
            if self._last[0] == parts:
                return self._last[1]
            os.close(self._last[1])
            self._last = None
        at = os.dup(self._top)
        for name in parts:
            try:
                below = os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
            finally:
                os.close(at)
            at = below
        self._last = parts, at
        return at

    def _is_there(self, above: int, name: bytes) -> bool:
        try:
            os.lstat(name, dir_fd=above)
        except FileNotFoundError:
            return False
        return True

    def _require_force(self) -> None:
        if not self._force:
            raise FSError(errno.EEXIST)


class TargetFile:
    """A file on its way. Either `finish` or `discard` it."""

    def __init__(self, above: int, name: bytes) -> None:
        self._above, self._name = above, name
        self._temporary = _temporary()
        try:
            self._descriptor = os.open(self._temporary, _FRESH, 0o600, dir_fd=above)
        except BaseException:
            os.close(above)
            raise

    def write(self, part: bytes) -> None:
        """All of it, after what was written before."""
        view = memoryview(part)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def finish(self, one: ViewEntry) -> None:
        """It has its name, its mode and its time. To be discarded if this fails."""
        os.fchmod(self._descriptor, one.mode & 0o777)
        os.utime(self._descriptor, ns=(one.mtime, one.mtime))
        os.rename(self._temporary, self._name, src_dir_fd=self._above, dst_dir_fd=self._above)
        self._close()

    def discard(self) -> None:
        try:
            os.unlink(self._temporary, dir_fd=self._above)
        finally:
            self._close()

    def _close(self) -> None:
        os.close(self._descriptor)
        os.close(self._above)


def _temporary() -> bytes:
    """A name that nothing has."""
    return b".dittofs-" + os.urandom(RANDOM_BYTES).hex().encode("ascii") + b".part"
