"""A local directory to mount on: what stands against it, and making it ready.

Command and daemon use the same functions: the command so that a refusal comes at once, the
daemon because it must judge for itself. All of them block; a directory where a live mount is
found is never touched, because a file system whose daemon hangs would hang the caller too.
"""

import errno
import os
import re
import shlex
import shutil
import subprocess
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from dittofs.control.faults import Refusal

MOUNTINFO: Final = Path("/proc/self/mountinfo")
FUSE_DEVICE: Final = Path("/dev/fuse")
FUSE_NUMBER: Final = os.makedev(10, 229)  # Documentation/admin-guide/devices.txt
FILE_SYSTEM_TYPE: Final = "fuse.dittofs"
ENTRIES_COUNTED_MAX: Final = 10_000
DETACH_S: Final = 20.0
ANSWER_S: Final = 5.0
_OCTAL: Final = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """A line of mountinfo (proc_pid_mountinfo(5))."""

    path: str
    file_system: str
    device: str
    """major:minor"""
    source: str
    """Of a mount of ours the name of its volume, unless -o fsname= said otherwise."""

    @property
    def is_ours(self) -> bool:
        return self.file_system == FILE_SYSTEM_TYPE


@dataclass(frozen=True, slots=True)
class Site:
    """A directory one could mount on. "live": a file system is mounted there that answers."""

    path: str
    state: Literal["empty", "absent", "stale", "live"]


@dataclass(frozen=True, slots=True)
class Mountpoint:
    """An empty directory, ready to be mounted on."""

    path: str
    is_new: bool
    was_stale: bool


def mounts(mountinfo: Path = MOUNTINFO) -> list[Mount]:
    """All mounts this process sees, in the order they were made: the last at a path is the one on top."""
    found = []
    for line in mountinfo.read_bytes().splitlines():
        left, _, right = line.partition(b" - ")
        fields = left.split(b" ")
        file_system, source = map(_plain, right.split(b" ")[:2])
        found.append(Mount(_plain(fields[4]), file_system, os.fsdecode(fields[2]), source))
    return found


def _plain(field: bytes) -> str:
    return os.fsdecode(_OCTAL.sub(lambda octal: bytes([int(octal[1], 8)]), field))


def mounted_at(path: str, known: Iterable[Mount]) -> Mount | None:
    """The mount on top at exactly `path`."""
    return next((mount for mount in reversed(list(known)) if mount.path == path), None)


def mounted_around(path: str, known: Iterable[Mount]) -> Mount | None:
    """The mount that holds `path`, which need not exist."""
    around = [mount for mount in known if mount.path == "/" or f"{path}/".startswith(f"{mount.path}/")]
    return max(reversed(around), key=lambda mount: len(mount.path), default=None)


def canonical(path: str) -> str:
    """`path` absolute and without symbolic links; a mount point itself is not touched.

    Refuses ("usage") an empty word: it would be the working directory.
    """
    if not path:
        raise Refusal(
            "usage", "the directory is an empty word, which names nothing", "dittofs mount ~/Shared"
        )
    absolute = os.path.abspath(path)  # noqa: PTH100 - also of names that are not UTF-8 and of `..` in what is absent
    known = mounts()
    parent, name = os.path.split(absolute)
    if mounted_at(absolute, known):
        return absolute
    direct = os.path.join(os.path.realpath(parent), name)  # noqa: PTH118 - text, as mounts are looked up
    return direct if mounted_at(direct, known) else os.path.realpath(direct)


def inspect(path: str, known: Iterable[Mount] | None = None) -> Site:
    """What is at the canonical `path`. Refuses, naming the mending command, where nothing can be mounted."""
    present = list(mounts() if known is None else known)
    here = mounted_at(path, present)
    if here is not None:
        return _inspect_mounted(path, here)
    around = mounted_around(path, present)
    if around is not None and around.is_ours:
        raise Refusal(
            "refused",
            f"{path} is inside the mount {around.path}; a mount within a mount was not made",
            f"Choose a directory outside of it: {_suggest(around.path)}",
        )
    try:
        found = Path(path).stat()
    except FileNotFoundError:
        return Site(path, "absent")
    except NotADirectoryError as error:
        raise Refusal("refused", f"{path}: a part of it is not a directory", _suggest(path)) from error
    except OSError as error:
        raise _cannot(path, error) from error
    if not Path(path).is_dir():
        raise Refusal(
            "refused",
            f"{path} is not a directory; it was left as it is",
            f"Choose another name: {_suggest(path)}",
        )
    _check_empty(path)
    _check_allowed(path, found)
    return Site(path, "empty")


def _inspect_mounted(path: str, here: Mount) -> Site:
    try:
        _ask(path, here)
    except OSError as error:
        if error.errno == errno.ENOTCONN and here.file_system.startswith("fuse"):
            return Site(path, "stale")
        if not here.is_ours:
            raise _cannot(path, error) from error
    if not here.is_ours:
        raise Refusal(
            "refused",
            f"{path} is a mount point already ({here.file_system} is mounted there)",
            f"Unmount that first, or choose another directory: {_suggest(path)}",
        )
    return Site(path, "live")


def _ask(path: str, here: Mount) -> None:
    """Raise what statvfs(2) raises, or refuse ("no_answer") if it takes longer than `ANSWER_S`."""
    raised: list[OSError] = []

    def call() -> None:
        try:
            os.statvfs(path)  # asks the daemon each time; stat(2) is answered from caches that outlive it
        except OSError as error:
            raised.append(error)

    # Nothing but the end of the process ends a wait for a daemon that hangs.
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(ANSWER_S)
    if thread.is_alive():
        text = f"what is mounted at {path} has not answered for {ANSWER_S:g} s; nothing was changed"
        mend = f"Try again, or take it away:  dittofs unmount --force {shlex.quote(path)}"
        raise Refusal("no_answer", text, mend if here.is_ours else "")
    if raised:
        raise raised[0]


class NotEmpty(Refusal):
    """The directory has entries, which a mount would hide."""

    def __init__(self, path: str, count: int, first: str) -> None:
        self.path = path
        self.holds = f"{count:,}{' or more' if count == ENTRIES_COUNTED_MAX else ''} "
        self.holds += "entry" if count == 1 else "entries"
        self.first = first
        super().__init__(
            "refused",
            f"{path} is not empty: a mount would hide its {self.holds}; nothing was changed",
            f"Choose a new directory, into which `dittofs import {shlex.quote(path)}` takes what is here: "
            f"{_suggest(path)}",
        )

    def of_unmounted(self) -> Refusal:
        """The same where a volume was mounted before: whoever wrote there meant to write into the volume."""
        more = "" if self.holds.startswith("1 ") else " …"
        text = f"it holds {self.holds} written while nothing was mounted ({self.first}{more})"
        return Refusal("refused", f"{self.path}: {text}", "Move them away, then run this again")


def for_join(refusal: Refusal, invitation: str) -> Refusal:
    """What stands against a directory, told to who joins: `mount` would make another volume there."""
    mend = refusal.mend.replace("dittofs mount ", f"dittofs join {shlex.quote(invitation)} ")
    return Refusal(refusal.code, refusal.message, mend)


def prepare(path: str) -> Mountpoint:
    """Make `path` (canonical) ready: replace a mount left by a crash, make a missing directory.

    Refuses whatever `inspect` and `require_fuse` refuse, and a live mount: the caller knows its own.
    """
    require_fuse()
    site = inspect(path)
    was_stale = site.state == "stale"
    if was_stale:
        detach(path, lazy=True)
        site = inspect(path)
    if site.state in ("live", "stale"):
        raise Refusal(
            "refused",
            f"{path} is mounted already, by another daemon (another DITTOFS_HOME or user)",
            f"Choose another directory: {_suggest(path)}",
        )
    if site.state == "absent":
        try:
            Path(path).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _cannot(path, error) from error
    return Mountpoint(path, site.state == "absent", was_stale)


def require_fuse(device: Path = FUSE_DEVICE) -> None:
    """Refuse, saying how to mend it, if this user cannot mount a FUSE file system here."""
    try:
        descriptor = os.open(device, os.O_RDWR | os.O_CLOEXEC)
        is_fuse = os.fstat(descriptor).st_rdev == FUSE_NUMBER
        os.close(descriptor)
    except FileNotFoundError as error:
        raise Refusal(
            "refused",
            f"{device} does not exist: this system offers no FUSE file systems",
            "sudo modprobe fuse   (in a container: start it with --device /dev/fuse --cap-add SYS_ADMIN)",
        ) from error
    except OSError as error:
        raise Refusal(
            "refused",
            f"{device} cannot be used: {error.strerror}",
            f"sudo chmod 666 {device}   (in a container: start it with --device /dev/fuse)",
        ) from error
    if not is_fuse:
        raise Refusal(
            "refused",
            f"{device} is not the FUSE device: something else lies there",
            "In a container: start it with --device /dev/fuse --cap-add SYS_ADMIN",
        )
    if os.geteuid() and fusermount() is None:
        raise Refusal("refused", "the program fusermount3 is missing", "sudo apt install fuse3")


def fusermount() -> str | None:
    """The program by which users other than root mount and unmount; None if it is not installed."""
    return shutil.which("fusermount3") or shutil.which("fusermount")


def detach(path: str, *, lazy: bool) -> None:
    """Unmount `path`; lazily it is out of sight at once, although in use. Refuses "busy" or "failed"."""
    if os.geteuid() == 0:
        command = ["umount", *(["-l"] if lazy else []), "--", path]
    else:
        command = [fusermount() or "fusermount3", "-u", *(["-z"] if lazy else []), "--", path]
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=DETACH_S, check=False, env={**os.environ, "LC_ALL": "C"}
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Refusal("failed", f"{path} cannot be unmounted: {error}") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().rpartition("\n")[2] or "no reason was given"
        raise Refusal("busy" if "busy" in said else "failed", f"{path} cannot be unmounted: {said}")


def _check_empty(path: str) -> None:
    try:
        with os.scandir(path) as entries:
            names = [entry.name for entry, _ in zip(entries, range(ENTRIES_COUNTED_MAX), strict=False)]
    except OSError as error:
        raise _cannot(path, error) from error
    if names:
        raise NotEmpty(path, len(names), min(names))


def _check_allowed(path: str, found: os.stat_result) -> None:
    # fusermount3 asks for write access, and for ownership where the sticky bit is set.
    is_sticky_of_other = found.st_mode & 0o1000 and found.st_uid != os.geteuid()
    if os.geteuid() and (is_sticky_of_other or not os.access(path, os.W_OK, effective_ids=True)):
        raise Refusal(
            "forbidden", f"you may not write to {path}, so you may not mount there", _suggest("~/Shared")
        )


def _cannot(path: str, error: OSError) -> Refusal:
    code = "forbidden" if error.errno in (errno.EACCES, errno.EPERM) else "failed"
    return Refusal(code, f"{path} cannot be mounted on: {error.strerror}", _suggest("~/Shared"))


def _suggest(path: str) -> str:
    return f"dittofs mount {path if path.startswith('~') else shlex.quote(_beside(path))}"


def _beside(path: str) -> str:
    """A directory that is not there yet, beside `path`; in the home if nothing can be made there."""
    home = os.path.expanduser("~")  # noqa: PTH111 - Path.home raises where none is known
    if not os.access(os.path.dirname(path), os.W_OK):  # noqa: PTH120 - names that are not UTF-8
        path = f"{home}/{os.path.basename(path)}"  # noqa: PTH119 - as above
    names = (f"{path}-shared{number}" for number in ("", *range(2, 100)))
    return next((name for name in names if not os.path.lexists(name)), f"{path}-shared")
