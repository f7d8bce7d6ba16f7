"""What POSIX says about directories and the times of what is in them, native and mounted alike."""

import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.processes import EXCHANGE, Stream, outcome, renameat2

LONG_AGO_NS = 10**18
CLOCK_REALTIME_COARSE = 5  # linux/time.h: the clock that native file systems take times from


def until_the_clock_moves(path: Path) -> None:
    """Return when the kernel's coarse clock is past the change time of `path`: a few milliseconds."""
    deadline = time.monotonic() + 2
    changed = path.lstat().st_ctime_ns
    while time.clock_gettime_ns(CLOCK_REALTIME_COARSE) <= changed:
        assert time.monotonic() < deadline, f"{path} changed in the future"


def test_a_listing_names_everything_once_with_numbers_and_types(here: Path) -> None:
    (here / "file").touch()
    (here / "directory").mkdir()
    (here / "link").symlink_to("file")
    os.mkfifo(here / "fifo")
    stream = Stream(here)
    listed = {}
    while (entry := stream.read()) is not None:
        name, number, kind = entry
        assert name not in listed
        listed[name] = (number, kind)
    stream.close()
    for name, (number, kind) in listed.items():
        status = os.lstat(os.fsencode(here) + b"/" + name)
        assert stat.S_IFMT(status.st_mode) >> 12 == kind
        assert status.st_ino == number
    assert set(listed) == {b".", b"..", b"file", b"directory", b"link", b"fifo"}


def test_what_is_there_throughout_is_listed_once_while_others_come_and_go(here: Path) -> None:
    stable = {b"stable-%d" % number for number in range(1000)}
    for name in stable:
        (here / os.fsdecode(name)).touch()
    for number in range(500):
        (here / f"going-{number}").touch()
    stream = Stream(here)
    listed: list[bytes] = []
    number = 0
    while (entry := stream.read()) is not None:
        listed.append(entry[0])
        if len(listed) % 3 == 0 and number < 500:
            (here / f"going-{number}").unlink()
            (here / f"coming-{number}").touch()
            number += 1
    stream.close()
    assert number > 300
    assert len(listed) == len(set(listed))
    assert stable <= set(listed)


def test_removing_what_was_listed_removes_all(here: Path) -> None:
    for number in range(1500):
        (here / f"name-{number}").touch()
    stream = Stream(here)
    while (entry := stream.read()) is not None:
        if entry[0] not in (b".", b".."):
            os.unlink(os.fsencode(here) + b"/" + entry[0])
    stream.close()
    here.rmdir()


def test_a_position_in_a_directory_survives_changes(here: Path) -> None:
    for number in range(600):
        (here / f"name-{number}").touch()
    stream = Stream(here)
    before = [stream.read() for _ in range(300)]
    position = stream.tell()
    rest = stream.names()
    assert len(rest) == 302
    for entry in before[2:200]:
        if entry is not None and entry[0] not in (b".", b".."):
            os.unlink(os.fsencode(here) + b"/" + entry[0])
    stream.seek(position)
    assert stream.names() == rest
    stream.seek(0)
    again = stream.names()
    assert len(again) == len(set(again))
    assert set(rest) <= set(again)
    stream.close()


def test_a_rewound_stream_sees_what_was_made_since(here: Path) -> None:
    stream = Stream(here)
    assert sorted(stream.names()) == [b".", b".."]
    (here / "made").touch()
    stream.seek(0)
    assert sorted(stream.names()) == [b".", b"..", b"made"]
    stream.close()


def test_a_removed_directory_is_empty_and_takes_nothing(here: Path) -> None:
    (here / "gone").mkdir()
    descriptor = os.open(here / "gone", os.O_RDONLY)
    os.rmdir(here / "gone")
    assert os.listdir(descriptor) == []
    assert os.fstat(descriptor).st_nlink == 0
    with pytest.raises(FileNotFoundError):
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=descriptor))
    with pytest.raises(FileNotFoundError):
        os.mkdir("below", dir_fd=descriptor)
    os.close(descriptor)


def test_a_directory_counts_itself_and_what_points_back(here: Path) -> None:
    top = here / "top"
    top.mkdir()
    assert top.stat().st_nlink == 2
    (top / "one").mkdir()
    (top / "two").mkdir()
    (top / "file").touch()
    assert top.stat().st_nlink == 4
    os.rename(top / "one", here / "one")
    assert top.stat().st_nlink == 3
    os.rmdir(top / "two")
    assert top.stat().st_nlink == 2
    assert os.stat(top / "..").st_ino == here.stat().st_ino


def prepared(here: Path) -> None:
    (here / "directory/below").mkdir(parents=True)
    (here / "other").mkdir()
    (here / "directory/file").write_bytes(b"x")
    (here / "directory/second").write_bytes(b"x")
    (here / "directory/link").symlink_to("file")
    (here / "outside").write_bytes(b"x")


CHANGES: dict[str, Callable[[Path], object]] = {
    "create": lambda d: (d / "new").touch(),
    "mkdir": lambda d: (d / "new").mkdir(),
    "symlink": lambda d: (d / "new").symlink_to("x"),
    "mkfifo": lambda d: os.mkfifo(d / "new"),
    "link": lambda d: os.link(d / "file", d / "new"),
    "unlink": lambda d: (d / "file").unlink(),
    "unlink a symlink": lambda d: (d / "link").unlink(),
    "rmdir": lambda d: (d / "below").rmdir(),
    "rename within": lambda d: os.rename(d / "file", d / "new"),
    "rename over": lambda d: os.rename(d / "file", d / "second"),
    "rename out": lambda d: os.rename(d / "file", d.parent / "other/new"),
    "rename in": lambda d: os.rename(d.parent / "outside", d / "new"),
    "rename a directory out": lambda d: os.rename(d / "below", d.parent / "other/new"),
    "exchange": lambda d: renameat2(d / "file", d.parent / "outside", EXCHANGE),
}
OTHERS: dict[str, Callable[[Path], object]] = {
    "write": lambda d: (d / "file").write_bytes(b"y"),
    "chmod below": lambda d: (d / "file").chmod(0o600),
    "list": lambda d: list(d.iterdir()),
    "create deeper": lambda d: (d / "below/new").touch(),
    "failed create": lambda d: outcome((d / "below").mkdir),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_name_moves_the_times_of_its_directory(here: Path, change: str) -> None:
    prepared(here)
    directory = here / "directory"
    os.utime(directory, ns=(LONG_AGO_NS, LONG_AGO_NS))
    before = directory.stat()
    until_the_clock_moves(directory)
    CHANGES[change](directory)
    after = directory.stat()
    assert after.st_mtime_ns > before.st_ctime_ns
    assert after.st_ctime_ns > before.st_ctime_ns


@pytest.mark.parametrize("change", OTHERS)
def test_nothing_else_moves_them(here: Path, change: str) -> None:
    prepared(here)
    directory = here / "directory"
    os.utime(directory, ns=(LONG_AGO_NS, LONG_AGO_NS))
    before = directory.stat()
    until_the_clock_moves(directory)
    OTHERS[change](directory)
    after = directory.stat()
    assert (after.st_mtime_ns, after.st_ctime_ns) == (before.st_mtime_ns, before.st_ctime_ns)


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


INODE_CHANGES: dict[str, tuple[Callable[[Path], object], bool]] = {
    # what is done, and whether it is a change of the content
    "write": (lambda f: f.write_bytes(b"changed"), True),
    "append": (append, True),
    "truncate": (lambda f: os.truncate(f, 1), True),
    "chmod": (lambda f: f.chmod(0o600), False),
    "link": (lambda f: os.link(f, f.parent / "link"), False),
    "rename": (lambda f: os.rename(f, f.parent / "renamed"), False),
    "setxattr": (lambda f: os.setxattr(f, "user.name", b"value"), False),
}


@pytest.mark.parametrize("change", INODE_CHANGES)
def test_a_changed_file_moves_its_own_times(here: Path, change: str) -> None:
    path = here / "file"
    path.write_bytes(b"content")
    descriptor = os.open(path, os.O_RDONLY)
    os.utime(path, ns=(LONG_AGO_NS, LONG_AGO_NS))
    before = os.fstat(descriptor)
    until_the_clock_moves(path)
    act, is_content = INODE_CHANGES[change]
    act(path)
    after = os.fstat(descriptor)
    os.close(descriptor)
    assert after.st_ctime_ns > before.st_ctime_ns
    assert (after.st_mtime_ns != LONG_AGO_NS) == is_content


def test_unlinking_one_name_moves_the_change_time_of_the_rest(here: Path) -> None:
    (here / "a").touch()
    os.link(here / "a", here / "b")
    before = (here / "b").stat().st_ctime_ns
    until_the_clock_moves(here / "b")
    (here / "a").unlink()
    assert (here / "b").stat().st_ctime_ns > before
