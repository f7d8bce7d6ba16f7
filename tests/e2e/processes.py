"""Other processes, and system calls that Python does not wrap."""

import ctypes
import errno
import os
import pickle
import signal
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Final, Generic, TypeVar

NOBODY: Final = 65534
NOREPLACE: Final = 1
EXCHANGE: Final = 2
_AT_FDCWD: Final = -100

Result = TypeVar("Result")
libc: Final = ctypes.CDLL(None, use_errno=True)


class Child(Generic[Result]):
    """A forked process that computes something."""

    def __init__(
        self, function: Callable[[], Result], uid: int | None = None, umask: int | None = None
    ) -> None:
        self._is_over = False
        self._answer, answer = os.pipe()
        self.pid = os.fork()
        if self.pid:
            os.close(answer)
            return
        status = 1
        try:
            os.close(self._answer)
            if umask is not None:
                os.umask(umask)
            if uid is not None:
                os.setgroups([])
                os.setresgid(uid, uid, uid)
                os.setresuid(uid, uid, uid)
            with os.fdopen(answer, "wb") as pipe:
                try:
                    said: object = (True, function())
                except OSError as error:
                    said = (False, error)
                except BaseException:  # noqa: BLE001 - it is raised again by `result`
                    said = (False, AssertionError(traceback.format_exc()))
                pickle.dump(said, pipe)
            status = 0
        finally:
            os._exit(status)

    def result(self) -> Result:
        """Wait for the process; what it raised is raised here."""
        with os.fdopen(self._answer, "rb") as pipe:
            said = pipe.read()
        _, status = os.waitpid(self.pid, 0)
        self._is_over = True
        assert status == 0 and said, f"the child ended with status {status}"
        is_fine, value = pickle.loads(said)
        if not is_fine:
            raise value
        result: Result = value
        return result

    def end(self) -> None:
        """End the process if nobody waited for it: a test has failed."""
        if not self._is_over:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            os.close(self._answer)
            self._is_over = True


def in_child(function: Callable[[], Result], *, uid: int | None = None, umask: int | None = None) -> Result:
    """What `function` returns in another process, run as another user if `uid` is given (root only)."""
    return Child(function, uid, umask).result()


def outcome(function: Callable[[], object]) -> str:
    """`done`, or the name of the errno."""
    try:
        function()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "done"


def renameat2(source: Path, target: Path, flags: int) -> None:
    """rename(2) with RENAME_NOREPLACE or RENAME_EXCHANGE."""
    result = libc.renameat2(_AT_FDCWD, bytes(source), _AT_FDCWD, bytes(target), flags)
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(source))


class Stream:
    """A directory stream (readdir(3)) that can tell and seek."""

    class _Entry(ctypes.Structure):
        _fields_ = (
            ("number", ctypes.c_uint64),
            ("offset", ctypes.c_int64),
            ("length", ctypes.c_ushort),
            ("type", ctypes.c_ubyte),
            ("name", ctypes.c_char * 256),
        )

    def __init__(self, path: Path) -> None:
        libc.opendir.restype = ctypes.c_void_p
        libc.readdir.restype = ctypes.POINTER(self._Entry)
        libc.telldir.restype = ctypes.c_long
        self._stream = ctypes.c_void_p(libc.opendir(bytes(path)))
        assert self._stream

    def read(self) -> tuple[bytes, int, int] | None:
        """Name, inode number and type of the next entry."""
        entry = libc.readdir(self._stream)
        if not entry:
            return None
        found = entry.contents
        return found.name, found.number, found.type

    def names(self) -> list[bytes]:
        """All that is left."""
        found = []
        while (entry := self.read()) is not None:
            found.append(entry[0])
        return found

    def tell(self) -> int:
        return int(libc.telldir(self._stream))

    def seek(self, position: int) -> None:
        libc.seekdir(self._stream, ctypes.c_long(position))

    def close(self) -> None:
        libc.closedir(self._stream)
