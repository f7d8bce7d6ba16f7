"""What every `Disk` promises: the real one and the simulated one keep the same suite."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dittofs.disk import Disk, InUse
from dittofs.errors import DiskError
from dittofs.local_disk import LocalDisk
from tests.simulation.disk import SimulatedDisk

MAKERS: dict[str, Callable[[Path], Disk]] = {
    "local": lambda path: LocalDisk(str(path / "root")),
    "simulated": lambda path: SimulatedDisk(),  # noqa: ARG005
}


@pytest.fixture(params=MAKERS)
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Disk:
    return MAKERS[request.param](tmp_path)


def put(disk: Disk, path: str, data: bytes) -> None:
    file = disk.open(path, create=True)
    file.write(0, data)
    file.close()


def content(disk: Disk, path: str) -> bytes:
    file = disk.open(path, read_only=True)
    try:
        return file.read(0, file.size())
    finally:
        file.close()


def test_what_is_written_is_read_back_at_its_offset(disk: Disk) -> None:
    file = disk.open("a", create=True)
    file.write(3, b"abc")
    file.write(5, bytearray(b"CD"))
    file.write(0, memoryview(b"xy"))
    assert file.read(0, 100) == b"xy\0abCD"
    assert file.read(2, 3) == b"\0ab"
    assert file.size() == 7


def test_reading_ends_at_the_end_of_the_file(disk: Disk) -> None:
    put(disk, "a", b"abc")
    file = disk.open("a")
    assert file.read(2, 10) == b"c"
    assert file.read(3, 10) == b""
    assert file.read(1000, 1) == b""


def test_an_empty_write_changes_nothing(disk: Disk) -> None:
    file = disk.open("a", create=True)
    file.write(10, b"")
    assert file.size() == 0


def test_truncate_cuts_and_grows_with_zeros(disk: Disk) -> None:
    put(disk, "a", b"abcdef")
    file = disk.open("a")
    file.truncate(2)
    file.truncate(4)
    assert file.read(0, 9) == b"ab\0\0"


def test_all_open_files_of_a_path_see_one_content(disk: Disk) -> None:
    one, other = disk.open("a", create=True), disk.open("a", create=True)
    one.write(0, b"abc")
    assert other.read(0, 3) == b"abc"


def test_opening_what_is_not_there_says_so(disk: Disk) -> None:
    with pytest.raises(FileNotFoundError):
        disk.open("a")
    with pytest.raises(FileNotFoundError):
        disk.open("none/a", create=True)
    with pytest.raises(FileNotFoundError):
        disk.unlink("a")
    with pytest.raises(FileNotFoundError):
        disk.rename("a", "b")
    with pytest.raises(FileNotFoundError):
        disk.sync_directory("none")
    assert not disk.exists("a")
    assert not disk.exists("none/a")


def test_a_file_opened_for_reading_cannot_be_written(disk: Disk) -> None:
    put(disk, "a", b"abc")
    file = disk.open("a", read_only=True)
    with pytest.raises(DiskError):
        file.write(0, b"x")
    with pytest.raises(DiskError):
        file.truncate(0)
    assert file.read(0, 3) == b"abc"


def test_rename_replaces_and_open_files_keep_their_content(disk: Disk) -> None:
    put(disk, "a", b"new")
    put(disk, "b", b"old")
    old = disk.open("b")
    disk.rename("a", "b")
    disk.sync_directory("")
    assert content(disk, "b") == b"new"
    assert old.read(0, 3) == b"old"
    assert not disk.exists("a")


def test_an_unlinked_file_stays_usable_while_open(disk: Disk) -> None:
    file = disk.open("a", create=True)
    disk.unlink("a")
    file.write(0, b"abc")
    assert file.read(0, 3) == b"abc"
    assert disk.listdir("") == []


def test_directories_are_made_with_their_parents_and_listed_in_order(disk: Disk) -> None:
    disk.make_directory("d/e")
    disk.make_directory("d/e")
    disk.make_directory("")
    for name in ("z", "b", "a"):
        put(disk, f"d/{name}", b"")
    put(disk, "d/e/deep", b"")
    assert disk.listdir("d") == ["a", "b", "e", "z"]
    assert disk.listdir("") == ["d"]
    assert disk.listdir("none") == []
    assert disk.exists("d/e")


def test_a_directory_is_not_a_file_and_a_file_is_not_a_directory(disk: Disk) -> None:
    disk.make_directory("d")
    put(disk, "f", b"")
    with pytest.raises(DiskError):
        disk.open("d")
    with pytest.raises(DiskError):
        disk.make_directory("f")


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../a", "a/../../b", "a/..", ".", "./a", "a//b", "a/", "a\0b", ""]
)
def test_no_path_leaves_the_root(disk: Disk, path: str) -> None:
    disk.make_directory("a")
    for attempt in (
        lambda: disk.open(path, create=True),
        lambda: disk.unlink(path),
        lambda: disk.rename(path, "x"),
        lambda: disk.rename("a", path),
        lambda: disk.exists(path),
        lambda: disk.lock(path),
        lambda: disk.database_uri(path),
    ):
        with pytest.raises(ValueError, match="not a path below the root"):
            attempt()
    if path:
        with pytest.raises(ValueError, match="not a path below the root"):
            disk.make_directory(path)


def test_a_lock_has_one_holder_and_the_refusal_names_it(disk: Disk) -> None:
    lock = disk.lock("lock")
    with pytest.raises(InUse) as refusal:
        disk.lock("lock")
    assert refusal.value.holder.isdecimal()
    assert f"in use by process {refusal.value.holder}" in str(refusal.value)
    lock.close()
    disk.lock("lock").close()


def test_sync_and_space_answer(disk: Disk) -> None:
    file = disk.open("a", create=True)
    file.write(0, b"abc")
    file.sync()
    disk.sync_directory("")
    assert 0 < disk.free_bytes() <= disk.total_bytes()
