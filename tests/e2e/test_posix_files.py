"""What POSIX says about open files, on a native file system and on a mount alike."""

import errno
import fcntl
import hashlib
import mmap
import os
import random
import resource
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.e2e.processes import Child, in_child, outcome

BLOCK = 1 << 20


def open_with(path: Path, flags: int, mode: int = 0o644) -> None:
    os.close(os.open(path, flags, mode))


def test_open_flags_decide_what_may_be_opened(here: Path) -> None:
    (here / "file").write_bytes(b"content")
    (here / "directory").mkdir()
    (here / "link").symlink_to("file")
    (here / "dangling").symlink_to("absent")
    expected = [
        ("absent", os.O_RDONLY, "ENOENT"),
        ("file", os.O_CREAT | os.O_EXCL | os.O_WRONLY, "EEXIST"),
        ("link", os.O_CREAT | os.O_EXCL | os.O_WRONLY, "EEXIST"),
        ("dangling", os.O_CREAT | os.O_EXCL | os.O_WRONLY, "EEXIST"),
        ("directory", os.O_WRONLY, "EISDIR"),
        ("directory", os.O_RDWR | os.O_CREAT, "EISDIR"),
        ("directory", os.O_RDONLY | os.O_DIRECTORY, "done"),
        ("file", os.O_RDONLY | os.O_DIRECTORY, "ENOTDIR"),
        ("link", os.O_RDONLY | os.O_NOFOLLOW, "ELOOP"),
        ("link", os.O_RDONLY, "done"),
        ("file/below", os.O_RDONLY, "ENOTDIR"),
        ("file/below", os.O_WRONLY | os.O_CREAT, "ENOTDIR"),
        ("file", os.O_RDWR | os.O_CREAT, "done"),
        ("file", os.O_WRONLY | os.O_APPEND, "done"),
    ]
    found = [(name, flags, outcome(partial(open_with, here / name, flags))) for name, flags, _ in expected]
    assert found == expected
    assert (here / "file").read_bytes() == b"content"


def test_creating_through_a_dangling_link_makes_its_target(here: Path) -> None:
    (here / "link").symlink_to("target")
    (here / "link").write_bytes(b"x")
    assert (here / "target").read_bytes() == b"x"


def test_a_descriptor_does_only_what_it_was_opened_for(here: Path) -> None:
    path = here / "file"
    path.write_bytes(b"content")
    reader = os.open(path, os.O_RDONLY)
    writer = os.open(path, os.O_WRONLY)
    assert outcome(lambda: os.write(reader, b"x")) == "EBADF"
    assert outcome(lambda: os.read(writer, 1)) == "EBADF"
    assert outcome(lambda: os.ftruncate(reader, 0)) == "EINVAL"
    os.close(reader)
    os.close(writer)
    assert path.read_bytes() == b"content"


def test_the_creator_writes_whatever_the_mode_says(here: Path) -> None:
    descriptor = os.open(here / "file", os.O_CREAT | os.O_RDWR, 0)
    os.write(descriptor, b"mine")
    assert os.pread(descriptor, 9, 0) == b"mine"
    os.close(descriptor)
    assert os.stat(here / "file").st_mode & 0o7777 == 0


def test_truncating_on_open_empties_the_file_for_everybody(here: Path) -> None:
    path = here / "file"
    path.write_bytes(b"content")
    reader = os.open(path, os.O_RDONLY)
    assert os.pread(reader, 99, 0) == b"content"
    open_with(path, os.O_WRONLY | os.O_TRUNC)
    assert os.pread(reader, 99, 0) == b""
    assert os.fstat(reader).st_size == 0
    os.close(reader)


def test_appenders_in_four_processes_lose_and_tear_nothing(here: Path) -> None:
    path = here / "log"
    path.touch()
    count = 150

    def append(who: int) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
        for number in range(count):
            line = f"{who} {number} ".encode()
            os.write(descriptor, line + b"x" * (100 - len(line) - 1) + b"\n")
        os.close(descriptor)

    children = [Child(partial(append, who)) for who in range(4)]
    for child in children:
        child.result()
    lines = path.read_bytes().splitlines()
    assert {len(line) for line in lines} == {99}
    for who in range(4):
        mine = [int(line.split()[1]) for line in lines if line.startswith(b"%d " % who)]
        assert mine == list(range(count))


def test_an_appender_writes_at_the_end_wherever_it_has_sought(here: Path) -> None:
    path = here / "file"
    path.write_bytes(b"0123456789")
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND)
    os.lseek(descriptor, 2, os.SEEK_SET)
    os.write(descriptor, b"end")
    assert os.lseek(descriptor, 0, os.SEEK_CUR) == 13
    os.close(descriptor)
    assert path.read_bytes() == b"0123456789end"


def test_holes_read_as_zeroes(here: Path) -> None:
    path = here / "file"
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR)
    os.pwrite(descriptor, b"far", 3 * BLOCK)
    os.pwrite(descriptor, b"near", 10)
    assert os.fstat(descriptor).st_size == 3 * BLOCK + 3
    os.close(descriptor)
    content = path.read_bytes()
    assert content == b"\0" * 10 + b"near" + b"\0" * (3 * BLOCK - 14) + b"far"


def test_what_is_cut_off_comes_back_as_zeroes(here: Path) -> None:
    path = here / "file"
    path.write_bytes(b"x" * 10_000)
    os.truncate(path, 100)
    os.truncate(path, 5_000)
    assert path.read_bytes() == b"x" * 100 + b"\0" * 4_900
    with path.open("r+b") as file:
        file.truncate(50)
        file.seek(200)
        file.write(b"y")
    assert path.read_bytes() == b"x" * 50 + b"\0" * 150 + b"y"


def test_a_cut_is_seen_by_open_descriptors(here: Path) -> None:
    path = here / "file"
    path.write_bytes(b"x" * 10_000)
    reader = os.open(path, os.O_RDONLY)
    writer = os.open(path, os.O_WRONLY)
    os.truncate(path, 10)
    assert os.fstat(reader).st_size == 10
    assert os.pread(reader, 100, 0) == b"x" * 10
    os.pwrite(writer, b"y", 20)
    assert os.pread(reader, 100, 0) == b"x" * 10 + b"\0" * 10 + b"y"
    os.ftruncate(writer, 0)
    assert os.pread(reader, 100, 0) == b""
    os.close(reader)
    os.close(writer)


def test_truncate_refuses_what_makes_no_sense(here: Path) -> None:
    (here / "file").touch()
    (here / "directory").mkdir()
    assert outcome(lambda: os.truncate(here / "file", -1)) == "EINVAL"
    assert outcome(lambda: os.truncate(here / "directory", 0)) == "EISDIR"
    assert outcome(lambda: os.truncate(here / "absent", 0)) == "ENOENT"


@pytest.mark.parametrize("seed", range(3))
def test_random_writes_cuts_and_reopens_read_back(here: Path, seed: int) -> None:
    chance = random.Random(seed)
    path = here / "file"
    expected = bytearray()
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR)
    for _ in range(150):
        match chance.randrange(8):
            case 0:
                size = chance.randrange(1_500_000)
                os.ftruncate(descriptor, size)
                expected = expected[:size].ljust(size, b"\0")
            case 1:
                os.close(descriptor)
                descriptor = os.open(path, os.O_RDWR)
            case 2:
                offset, length = chance.randrange(1_500_000), chance.randrange(300_000)
                assert os.pread(descriptor, length, offset) == expected[offset : offset + length]
            case 3:
                os.fsync(descriptor)
            case _:
                offset = chance.randrange(1_200_000)
                data = chance.randbytes(chance.choice((1, 17, 4096, 70_000, 300_000)))
                assert os.pwrite(descriptor, data, offset) == len(data)
                if len(expected) < offset:
                    expected = expected.ljust(offset, b"\0")
                expected[offset : offset + len(data)] = data
    os.close(descriptor)
    assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(expected).digest()


def test_every_byte_of_data_is_found_by_seek_data(here: Path) -> None:
    descriptor = os.open(here / "file", os.O_CREAT | os.O_RDWR)
    os.pwrite(descriptor, b"x" * 4096, BLOCK)
    os.ftruncate(descriptor, 3 * BLOCK)
    assert os.lseek(descriptor, 0, os.SEEK_DATA) <= BLOCK
    assert os.lseek(descriptor, BLOCK, os.SEEK_DATA) == BLOCK
    assert os.lseek(descriptor, BLOCK, os.SEEK_HOLE) >= BLOCK + 4096
    assert outcome(lambda: os.lseek(descriptor, 3 * BLOCK, os.SEEK_DATA)) == "ENXIO"
    os.close(descriptor)


@pytest.mark.parametrize(
    "sync", [os.fsync, os.fdatasync, lambda _: os.sync()], ids=["fsync", "fdatasync", "sync"]
)
def test_syncs_return_for_files_and_directories(here: Path, sync: Callable[[int], None]) -> None:
    (here / "file").write_bytes(b"x" * 300_000)
    for path, flags in ((here / "file", os.O_RDONLY), (here / "file", os.O_RDWR), (here, os.O_RDONLY)):
        descriptor = os.open(path, flags)
        sync(descriptor)
        os.close(descriptor)
    descriptor = os.open(here / "synced", os.O_CREAT | os.O_WRONLY | os.O_SYNC)
    os.write(descriptor, b"y")
    os.close(descriptor)
    assert (here / "synced").read_bytes() == b"y"


def test_a_size_limit_stops_a_writer_with_efbig(here: Path) -> None:
    def write() -> str:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
        descriptor = os.open(here / "file", os.O_CREAT | os.O_WRONLY)
        os.write(descriptor, b"x" * 8192)
        return outcome(lambda: os.write(descriptor, b"y"))

    assert in_child(write) == "EFBIG"
    assert (here / "file").stat().st_size == 8192


def test_shared_mappings_and_reads_see_each_other(here: Path) -> None:
    path = here / "file"
    path.write_bytes(b"a" * 10_000)
    descriptor = os.open(path, os.O_RDWR)
    with mmap.mmap(descriptor, 0) as mapping:
        mapping[5_000:5_003] = b"map"
        assert os.pread(descriptor, 3, 5_000) == b"map"
        os.pwrite(descriptor, b"write", 100)
        assert mapping[100:105] == b"write"
        mapping.flush()
    os.close(descriptor)
    content = path.read_bytes()
    assert content[5_000:5_003] == b"map"
    assert content[100:105] == b"write"
    assert len(content) == 10_000


def test_a_mapping_outlives_its_descriptor(here: Path) -> None:
    path = here / "file"
    path.write_bytes(b"a" * 8192)
    descriptor = os.open(path, os.O_RDWR)
    mapping = mmap.mmap(descriptor, 0)
    os.close(descriptor)
    mapping[0:4] = b"late"
    mapping.flush()
    mapping.close()
    assert path.read_bytes()[:6] == b"lateaa"


def test_private_mappings_change_nothing(here: Path) -> None:
    path = here / "file"
    path.write_bytes(b"a" * 4096)
    descriptor = os.open(path, os.O_RDWR)
    with mmap.mmap(descriptor, 0, flags=mmap.MAP_PRIVATE) as mapping:
        mapping[0:4] = b"mine"
    os.close(descriptor)
    assert path.read_bytes() == b"a" * 4096


def test_a_file_without_a_name_lives_until_it_is_closed(here: Path) -> None:
    path = here / "file"
    path.write_bytes(b"content")
    descriptor = os.open(path, os.O_RDWR)
    path.unlink()
    assert not list(here.iterdir())
    assert os.fstat(descriptor).st_nlink == 0
    os.pwrite(descriptor, b"more" * 100_000, 7)
    assert os.pread(descriptor, 11, 0) == b"contentmore"
    assert os.fstat(descriptor).st_size == 400_007
    os.ftruncate(descriptor, 3)
    os.fchmod(descriptor, 0o600)
    os.fsync(descriptor)
    again = os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY)
    assert os.read(again, 9) == b"con"
    # With a directory given, Python asks linkat(2) to follow the link in /proc to the file itself.
    assert outcome(lambda: os.link(f"/proc/self/fd/{descriptor}", path, src_dir_fd=again)) == "ENOENT"
    path.write_bytes(b"another")
    assert os.pread(descriptor, 9, 0) == b"con"
    assert os.fstat(descriptor).st_ino != path.stat().st_ino
    os.close(descriptor)
    os.close(again)
    assert path.read_bytes() == b"another"


def test_a_file_renamed_over_lives_until_it_is_closed(here: Path) -> None:
    (here / "old").write_bytes(b"old content")
    (here / "new").write_bytes(b"new content")
    old = os.open(here / "old", os.O_RDWR)
    new_number = (here / "new").stat().st_ino
    os.rename(here / "new", here / "old")
    assert os.pread(old, 99, 0) == b"old content"
    os.pwrite(old, b"OLD", 0)
    assert os.fstat(old).st_nlink == 0
    assert (here / "old").read_bytes() == b"new content"
    assert (here / "old").stat().st_ino == new_number
    os.close(old)
    assert (here / "old").read_bytes() == b"new content"


def test_a_writer_follows_its_file_through_renames(here: Path) -> None:
    writer = os.open(here / "a", os.O_CREAT | os.O_RDWR)
    os.write(writer, b"one ")
    os.rename(here / "a", here / "b")
    os.write(writer, b"two ")
    (here / "c").write_bytes(b"in the way")
    os.rename(here / "b", here / "c")
    os.write(writer, b"three")
    os.close(writer)
    assert (here / "c").read_bytes() == b"one two three"
    assert sorted(path.name for path in here.iterdir()) == ["c"]


def test_locks_exclude_other_processes(here: Path) -> None:
    path = here / "lock"
    path.touch()
    first = os.open(path, os.O_RDWR)

    def flock_again() -> None:
        fcntl.flock(os.open(path, os.O_RDWR), fcntl.LOCK_EX | fcntl.LOCK_NB)

    def lockf_again() -> None:
        fcntl.lockf(os.open(path, os.O_RDWR), fcntl.LOCK_EX | fcntl.LOCK_NB, 10)

    fcntl.flock(first, fcntl.LOCK_EX)
    assert outcome(lambda: in_child(flock_again)) == "EAGAIN"
    fcntl.flock(first, fcntl.LOCK_UN)
    in_child(flock_again)
    fcntl.lockf(first, fcntl.LOCK_EX, 20)
    assert outcome(lambda: in_child(lockf_again)) == "EAGAIN"
    os.close(first)
    in_child(lockf_again)


def test_room_can_be_reserved_and_ranges_copied(here: Path) -> None:
    source = os.open(here / "source", os.O_CREAT | os.O_RDWR)
    os.posix_fallocate(source, 0, 100_000)
    assert os.fstat(source).st_size == 100_000
    os.pwrite(source, b"part", 50_000)
    target = os.open(here / "target", os.O_CREAT | os.O_RDWR)
    copied = 0
    while copied < 60_000:
        step = os.copy_file_range(source, target, 60_000 - copied)
        assert step, errno.EIO
        copied += step
    assert os.pread(target, 4, 50_000) == b"part"
    os.close(source)
    os.close(target)
    assert (here / "target").stat().st_size == 60_000


def test_a_duplicate_shares_its_position_and_outlives_the_first_close(here: Path) -> None:
    descriptor = os.open(here / "file", os.O_CREAT | os.O_RDWR)
    os.write(descriptor, b"one")
    copy = os.dup(descriptor)
    os.close(descriptor)
    assert (here / "file").read_bytes() == b"one"
    os.write(copy, b"two")
    os.close(copy)
    assert (here / "file").read_bytes() == b"onetwo"


def require_direct(here: Path, request: pytest.FixtureRequest) -> None:
    """Not every native file system has O_DIRECT, tmpfs for one; every mount of ours has."""
    if request.node.callspec.params["here"] == "native":
        made = outcome(lambda: open_with(here / "probe", os.O_RDWR | os.O_CREAT | os.O_DIRECT))
        if made == "EINVAL":
            pytest.skip("the native file system has no O_DIRECT")


def test_direct_reads_and_writes_and_those_through_the_cache_see_each_other(
    here: Path, request: pytest.FixtureRequest
) -> None:
    require_direct(here, request)
    path = here / "file"
    page = mmap.PAGESIZE
    with mmap.mmap(-1, 4 * page) as buffer:  # where it begins is as aligned as O_DIRECT asks
        path.write_bytes(b"a" * (3 * page) + b"tail")
        cached = os.open(path, os.O_RDWR)
        assert os.pread(cached, 4 * page, 0) == b"a" * (3 * page) + b"tail"
        direct = os.open(path, os.O_RDWR | os.O_DIRECT)
        buffer[:page] = b"d" * page
        assert os.pwritev(direct, [memoryview(buffer)[:page]], page) == page
        assert os.pread(cached, 3 * page, 0) == b"a" * page + b"d" * page + b"a" * page
        os.pwrite(cached, b"cached", 2 * page)
        assert os.preadv(direct, [buffer], 0) == 3 * page + 4
        assert buffer[page : 2 * page] == b"d" * page
        assert buffer[2 * page : 2 * page + 6] == b"cached"
        assert buffer[3 * page : 3 * page + 4] == b"tail"
        os.ftruncate(cached, page)
        assert os.preadv(direct, [buffer], 0) == page
        assert os.preadv(direct, [buffer], page) == 0
        buffer[:page] = b"e" * page
        assert os.pwritev(direct, [memoryview(buffer)[:page]], 4 * page) == page
        os.fsync(direct)
        os.close(direct)
        os.close(cached)
    assert path.read_bytes() == b"a" * page + bytes(3 * page) + b"e" * page


def test_what_was_written_through_a_mapping_is_there_after_msync(
    here: Path, request: pytest.FixtureRequest
) -> None:
    require_direct(here, request)
    path = here / "file"
    path.write_bytes(bytes(5 * mmap.PAGESIZE - 100))
    before = path.stat()
    os.utime(path, ns=(10**18, 10**18))
    descriptor = os.open(path, os.O_RDWR)
    direct = os.open(path, os.O_RDONLY | os.O_DIRECT)
    with mmap.mmap(descriptor, 0) as mapping, mmap.mmap(-1, 5 * mmap.PAGESIZE) as buffer:
        mapping[mmap.PAGESIZE : mmap.PAGESIZE + 6] = b"synced"
        mapping.flush(mmap.PAGESIZE, mmap.PAGESIZE)
        assert os.preadv(direct, [buffer], 0) == before.st_size
        assert buffer[mmap.PAGESIZE : mmap.PAGESIZE + 6] == b"synced"
        mapping[-3:] = b"end"
        mapping.flush()
        assert path.stat().st_mtime_ns > 10**18
        assert path.stat().st_size == before.st_size
    os.close(direct)
    os.close(descriptor)
    assert path.read_bytes()[-5:] == b"\0\0end"
