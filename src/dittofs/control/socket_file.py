"""The Unix socket as a file: where it may lie, how it is bound and reached, who is at the other end."""

import os
import socket
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from dittofs.errors import ConfigError

SUN_PATH_BYTES: Final = 108  # of sockaddr_un, with its final NUL (unix(7))
BACKLOG: Final = 1024
_CREDENTIALS: Final = struct.Struct("3i")  # struct ucred: pid, uid, gid


class Credentials(NamedTuple):
    """Who connected, as the kernel recorded it at connect(2)."""

    pid: int
    uid: int
    gid: int


class ConnectedSocket(Protocol):
    """A socket of the standard library or of trio."""

    def getsockopt(self, level: int, option: int, size: int, /) -> bytes: ...


def peer_credentials(connected: ConnectedSocket) -> Credentials:
    """Who is at the other end of a connected Unix socket (SO_PEERCRED of unix(7))."""
    raw = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return Credentials(*_CREDENTIALS.unpack(raw))


@contextmanager
def short_address(path: Path) -> Iterator[str]:
    """An address for bind or connect that reaches `path`, however long. OSError: its directory is absent."""
    if len(os.fsencode(path)) < SUN_PATH_BYTES:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def make_private_directory(directory: Path, uid: int) -> None:
    """Make `directory` (0700) if absent. ConfigError unless it is a directory only `uid` may enter."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = directory.stat()
    except OSError as error:
        raise ConfigError(f"{directory} cannot be made: {error.strerror}") from error
    if found.st_uid != uid:
        raise ConfigError(f"{directory} belongs to user {found.st_uid}, not to you ({uid})")
    if stat.S_IMODE(found.st_mode) & 0o077:
        raise ConfigError(
            f"{directory} is open to other users (mode {stat.S_IMODE(found.st_mode):04o}): "
            f"chmod 700 {directory}"
        )


@contextmanager
def listening_socket(path: Path) -> Iterator[socket.socket]:
    """A socket that listens at `path`: 0600, in a directory 0700 of this user. The file goes when it closes.

    The caller holds the daemon's lock, so that nobody else listens there: a file left by a
    crash is replaced. The file appears when it can be connected to and has its mode, never before.
    """
    make_private_directory(path.parent, os.geteuid())
    listening = _bound(path)
    found = path.lstat()
    try:
        yield listening
    finally:
        listening.close()
        with suppress(FileNotFoundError):
            left = path.lstat()
            if (left.st_dev, left.st_ino) == (found.st_dev, found.st_ino):
                path.unlink()


def _bound(path: Path) -> socket.socket:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with suppress(FileNotFoundError):
        temporary.unlink()
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with short_address(temporary) as address:
            listening.bind(address)
        temporary.chmod(0o600)
        listening.listen(BACKLOG)
        temporary.rename(path)
    except OSError as error:
        listening.close()
        with suppress(OSError):
            temporary.unlink()
        raise ConfigError(f"the control socket {path} cannot be made: {error.strerror}") from error
    return listening
