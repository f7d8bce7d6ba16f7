"""What only a real file system can show."""

import errno
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dittofs.disk import InUse
from dittofs.errors import ConfigError, DiskError, DiskFull
from dittofs.local_disk import LocalDisk, translated


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


def test_files_and_directories_are_for_their_owner_only(root: Path) -> None:
    before = os.umask(0)
    try:
        disk = LocalDisk(str(root))
        disk.make_directory("a/b")
        disk.open("a/b/c", create=True)
        disk.lock("lock")
    finally:
        os.umask(before)
    modes = {path.relative_to(root).as_posix(): path.stat().st_mode & 0o7777 for path in root.rglob("*")}
    assert modes == {"a": 0o700, "a/b": 0o700, "a/b/c": 0o600, "lock": 0o600}
    assert root.stat().st_mode & 0o7777 == 0o700


def test_descriptors_do_not_reach_other_programs(root: Path) -> None:
    disk = LocalDisk(str(root))
    file = disk.open("a", create=True)
    lock = disk.lock("lock")
    assert not any(os.get_inheritable(fd) for fd in (file._fd, lock._fd, disk._root_fd))


def test_a_symbolic_link_in_place_of_a_file_is_not_followed(root: Path, tmp_path: Path) -> None:
    disk = LocalDisk(str(root))
    outside = tmp_path / "outside"
    outside.write_bytes(b"precious")
    (root / "a").symlink_to(outside)
    with pytest.raises(DiskError):
        disk.open("a", create=True)
    with pytest.raises(DiskError):
        disk.lock("a")
    assert outside.read_bytes() == b"precious"


def test_a_moved_root_and_a_changed_working_directory_move_nothing(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = LocalDisk(str(root))
    root.rename(tmp_path / "moved")
    monkeypatch.chdir("/")
    disk.open("a", create=True).write(0, b"abc")
    assert (tmp_path / "moved" / "a").read_bytes() == b"abc"


def test_a_disk_that_nobody_holds_gives_its_descriptor_back(root: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - of this process alone
    for _ in range(10):
        LocalDisk(str(root))
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_a_root_that_is_a_file_is_refused_with_its_name(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"")
    with pytest.raises(ConfigError, match=f"{file} is not a directory"):
        LocalDisk(str(file))


@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.ENOSPC, DiskFull), (errno.EDQUOT, DiskFull), (errno.EIO, DiskError), (errno.EROFS, DiskError)],
)
def test_no_room_and_no_quota_are_a_full_disk_and_all_else_a_failing_one(number: int, kind: type) -> None:
    assert type(translated(OSError(number, os.strerror(number)), "writing a")) is kind


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """A limit that makes the kernel write less than it is asked to. No test may end within: what pytest
    reports may go to a file too."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


def test_a_short_write_is_carried_on_until_it_fails(root: Path) -> None:
    file = LocalDisk(str(root)).open("a", create=True)
    with file_size_limit(1000), pytest.raises(DiskError):
        file.write(0, b"x" * 2000)
    assert file.size() == 1000


def test_a_sync_that_failed_never_succeeds_again_on_that_file(root: Path) -> None:
    disk = LocalDisk(str(root))
    file = disk.open("a", create=True)
    good = os.dup(file._fd)
    reader, writer = os.pipe()
    os.dup2(writer, file._fd)  # a pipe cannot be synced: EINVAL
    with pytest.raises(DiskError):
        file.sync()
    os.dup2(good, file._fd)
    with pytest.raises(DiskError, match="earlier sync"):
        file.sync()
    for fd in (good, reader, writer):
        os.close(fd)


HOLD = """
import sys
from dittofs.local_disk import LocalDisk
lock = LocalDisk(sys.argv[1]).lock("lock")
print("held", flush=True)
sys.stdin.read()
"""


def test_the_lock_of_another_process_is_named_and_dies_with_it(root: Path) -> None:
    disk = LocalDisk(str(root))
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(InUse, match=f"process {holder.pid}$"):
            disk.lock("lock")
        holder.kill()
        holder.wait()
    disk.lock("lock")
