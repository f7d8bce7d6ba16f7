"""What can go wrong, each with the errno a program would see.

An error is raised where it is understood and translated once, at an edge: a FUSE
operation, a command, a peer task.
"""

import errno as _errno
import os
import shlex
from collections.abc import Iterable
from typing import ClassVar


class DittoError(Exception):
    """Anything DittoFS reports on purpose. `str()` is a sentence for a person."""

    errno: int = _errno.EIO


class FSError(DittoError):
    """A file operation refused for the reason POSIX names."""

    def __init__(self, number: int, detail: str = "") -> None:
        super().__init__(detail or os.strerror(number))
        self.errno = number


class DiskFull(DittoError):
    """The disk that holds the store has no room. Nothing acknowledged before is affected."""

    errno = _errno.ENOSPC


class DiskError(DittoError):
    """The disk failed to read or write."""

    errno = _errno.EIO


class FormatError(DittoError):
    """Bytes from a disk or a peer are not what their kind and version promise."""

    errno = _errno.EIO


class Behind(FormatError):
    """An update does not continue what is known here: a gap, or another epoch. A round mends it."""


class Forked(Behind):
    """Two histories wrote as `client`, which is this replica: it goes on as a fresh one, and must pull."""

    def __init__(self, client: int, detail: str) -> None:
        super().__init__(detail)
        self.client = client


class Contradiction(FormatError):
    """An update and what is known here cannot both be what `clients` wrote: forged, or a fork of theirs."""

    def __init__(self, clients: Iterable[int], detail: str) -> None:
        super().__init__(detail)
        self.clients = frozenset(clients)


class Damaged(DittoError):
    """Stored bytes fail their hash: `what` names the file and place."""

    errno = _errno.EIO

    def __init__(self, what: str, detail: str) -> None:
        super().__init__(f"{what}: {detail}")
        self.what = what
        self.detail = detail


class ChunkMissing(DittoError):
    """The chunk is not in the local store."""

    errno = _errno.EIO


class ChunkUnavailable(DittoError):
    """No device delivered a chunk that is not here, in time. Trying again may succeed."""

    errno = _errno.ETIMEDOUT

    def __init__(self, detail: str, number: int = _errno.ETIMEDOUT) -> None:
        super().__init__(detail)
        self.errno = number


class ReadOnlyVolume(DittoError):
    """The journal cannot be appended to, or this device may not, so the volume accepts no change."""

    errno = _errno.EROFS

    def __init__(self, detail: str, number: int = _errno.EROFS) -> None:
        """`number`: ENOSPC where what is missing is room."""
        super().__init__(detail)
        self.errno = number


class ReadOnlyHome(DittoError):
    """What a device has lies on a file system that is read-only: nothing is opened, nothing is lost."""

    errno = _errno.EROFS

    def __init__(self, state: str) -> None:
        super().__init__(
            f"{state} is on a file system that is read-only, and volumes are opened where they can be"
            " written; nothing of them is lost"
        )
        copy = f"mkdir -m 700 COPY && cp -a {shlex.quote(state)} COPY/state"
        self.mend = (
            "Mount it writable; or use a copy in its place, and never both:"
            f"  {copy} && DITTOFS_HOME=COPY dittofs mount DIR"
        )


class ConfigError(DittoError):
    """A setting, key file or directory is not usable; the message names the mending step."""

    exit_code: ClassVar[int] = 1


class Ambiguous(ConfigError):
    """A name that somebody typed may mean several."""
