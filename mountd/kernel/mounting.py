"""A directory becomes a mount: by mount(2) as root, through fusermount3 as anybody else."""

import array
import ctypes
import errno
import os
import socket
import stat
import subprocess
from contextlib import suppress
from pathlib import Path

from dittofs.control.options import MountOptions
from dittofs.errors import FSError

DEVICE = "/dev/fuse"
TYPE = "fuse.dittofs"
FUSERMOUNT = "fusermount3"
FUSERMOUNT_S = 30.0
# linux/mount.h
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_SYNCHRONOUS = 1, 2, 4, 8, 16
MS_DIRSYNC, MS_NOATIME, MS_NODIRATIME = 128, 1024, 2048
UNLESS_ASKED = {"suid": MS_NOSUID, "dev": MS_NODEV}
FLAGS = {
    "ro": MS_RDONLY,
    "noexec": MS_NOEXEC,
    "sync": MS_SYNCHRONOUS,
    "dirsync": MS_DIRSYNC,
    "noatime": MS_NOATIME,
    "nodiratime": MS_NODIRATIME,
}


def mount(path: str, source: str, options: MountOptions) -> int:
    """Blocking: mount on `path` and return the open, non-blocking device. FSError if that is refused."""
    try:
        descriptor = _by_system_call(path, source, options) if os.geteuid() == 0 else None
    except PermissionError:
        descriptor = None  # root of a container that lacks the right: fusermount3 says more
    if descriptor is None:
        descriptor = _by_fusermount(path, source, options)
    os.set_blocking(descriptor, False)
    return descriptor


def unmount_at_once(path: str) -> None:
    """Blocking: take a mount away that nobody answers."""
    command = ["umount", "-l", path] if os.geteuid() == 0 else [FUSERMOUNT, "-u", "-q", "-z", path]
    with suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(command, check=False, capture_output=True, timeout=FUSERMOUNT_S)


def _by_system_call(path: str, source: str, options: MountOptions) -> int:
    descriptor = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    try:
        mode = stat.S_IFMT(Path(path).stat().st_mode)
        data = f"fd={descriptor},rootmode={mode:o},user_id={os.geteuid()},group_id={os.getegid()}"
        data = ",".join([data, *_for_kernel(options)])
        _mount(source, path, _flags(options), data)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _flags(options: MountOptions) -> int:
    asked = set(options.kernel)
    flags = sum(bit for word, bit in FLAGS.items() if word in asked)
    return flags | sum(bit for word, bit in UNLESS_ASKED.items() if word not in asked)


def _for_kernel(options: MountOptions) -> list[str]:
    """What the file system type itself understands (Documentation/filesystems/fuse/fuse.rst)."""
    words = ["default_permissions"]
    # The kernel has no allow_root: it lets everybody in, and the front end turns the others away.
    if "allow_other" in options.kernel or "allow_root" in options.kernel:
        words.append("allow_other")
    return words + [word for word in options.kernel if word.startswith("max_read=")]


def _mount(source: str, path: str, flags: int, data: str) -> None:
    """mount(2). OSError."""
    library = ctypes.CDLL(None, use_errno=True)
    given = [os.fsencode(word) for word in (source, path, TYPE)]
    if library.mount(*given, ctypes.c_ulong(flags), data.encode("ascii")):
        number = ctypes.get_errno()
        raise OSError(number, f"cannot mount on {path}: {os.strerror(number)}")


def _by_fusermount(path: str, source: str, options: MountOptions) -> int:
    name = source.replace("\\", "\\\\").replace(",", "\\,")
    words = [word for word in options.kernel if word in FLAGS or word == "exec"]
    words += [*_for_kernel(options), f"fsname={name}", "subtype=dittofs", "nosuid", "nodev"]
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(FUSERMOUNT_S)
        command = [FUSERMOUNT, "-o", ",".join(words), "--", path]
        environment = {**os.environ, "_FUSE_COMMFD": str(theirs.fileno())}
        try:
            process = subprocess.Popen(
                command,
                env=environment,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
        except OSError as error:
            raise FSError(errno.EIO, f"{FUSERMOUNT} cannot be run: {error.strerror}") from error
        theirs.close()
        with process:
            descriptor = _received(ours)
            _, said = process.communicate(timeout=FUSERMOUNT_S)
    if descriptor is None:
        raise FSError(errno.EIO, f"cannot mount on {path}: {said.decode(errors='replace').strip()}")
    return descriptor


def _received(connection: socket.socket) -> int | None:
    """The descriptor that fusermount3 sends (util/fusermount.c, send_fd); None if it gave up."""
    try:
        _, descriptors, _, _ = socket.recv_fds(connection, array.array("B", [0]).itemsize, 1)
    except TimeoutError:
        return None
    if not descriptors:
        return None
    os.set_inheritable(descriptors[0], False)
    return descriptors[0]
