"""Calls that only our own front end passes on: fallocate, SEEK_HOLE, copies, unnamed files, birth times."""

import errno
import os
import random
import stat
import statistics
import subprocess
import time
from pathlib import Path

import pytest

from mountd.kernel.reading_ahead import FAR_KIB
from tests.e2e.node import Node, read_ahead_kib
from tests.e2e.processes import in_child, outcome

BLOCK = 4096
BLOCKS = 64
COPY_S_MAX = 5.0  # of a copy that moves no data, on a machine with other work; of its bytes it would be more
LARGE = 256 << 20
GIBIBYTE = 1 << 30

both = pytest.mark.parametrize("here", ["native", "kernel"], indirect=True)
on_kernel = pytest.mark.parametrize("front_end", ["kernel"])


def fallocate(path: Path, *arguments: str) -> None:
    subprocess.run(["fallocate", *arguments, path], check=True, timeout=60, capture_output=True)


def data_of(path: Path) -> list[tuple[int, int]]:
    """What is no hole."""
    found, offset = [], 0
    descriptor = os.open(path, os.O_RDONLY)
    try:
        while True:
            start = os.lseek(descriptor, offset, os.SEEK_DATA)
            offset = os.lseek(descriptor, start, os.SEEK_HOLE)
            found.append((start, offset))
    except OSError as error:
        assert error.errno == errno.ENXIO
        return found
    finally:
        os.close(descriptor)


@both
def test_room_holes_and_zeroes_are_made_and_the_size_follows_when_asked(here: Path) -> None:
    path = here / "file"
    path.write_bytes(b"x" * 4 * BLOCK)
    fallocate(path, "-l", str(8 * BLOCK))
    assert path.read_bytes() == b"x" * 4 * BLOCK + bytes(4 * BLOCK)
    fallocate(path, "-n", "-l", str(16 * BLOCK))
    assert path.stat().st_size == 8 * BLOCK
    fallocate(path, "-p", "-o", str(BLOCK), "-l", str(BLOCK))
    fallocate(path, "-z", "-o", str(3 * BLOCK), "-l", str(9 * BLOCK))
    expected = b"x" * BLOCK + bytes(BLOCK) + b"x" * BLOCK + bytes(9 * BLOCK)
    assert path.read_bytes() == expected


@both
def test_data_and_holes_are_found_in_what_was_written_sparsely(here: Path) -> None:
    chance = random.Random(5)
    for number in range(6):
        path = here / f"file{number}"
        blocks = sorted(chance.sample(range(BLOCKS), 12))
        with path.open("wb") as file:
            for block in blocks:
                os.pwrite(file.fileno(), b"x" * BLOCK, block * BLOCK)
            os.truncate(path, BLOCKS * BLOCK)
            data = data_of(path)
        found = {start for low, high in data for start in range(low // BLOCK, high // BLOCK)}
        assert found == set(blocks)


@both
def test_a_terabyte_of_hole_is_made_and_copied_in_no_time(here: Path) -> None:
    path = here / "file"
    path.touch()
    os.truncate(path, 1 << 40)
    descriptor = os.open(path, os.O_RDWR)
    os.pwrite(descriptor, b"end", (1 << 40) - 3)
    os.close(descriptor)
    assert data_of(path) == [((1 << 40) - BLOCK, 1 << 40)]
    subprocess.run(["cp", path, here / "copy"], check=True, timeout=60)
    assert (here / "copy").stat().st_size == 1 << 40


@both
def test_ranges_are_copied_within_and_between_files(here: Path) -> None:
    content = random.Random(7).randbytes(300_000)
    (here / "source").write_bytes(content)
    source = os.open(here / "source", os.O_RDONLY)
    target = os.open(here / "target", os.O_RDWR | os.O_CREAT)
    try:
        done = 0
        while done < 200_000:
            done += os.copy_file_range(source, target, 200_000 - done, 50_000 + done, done)
    finally:
        os.close(source)
        os.close(target)
    assert (here / "target").read_bytes() == content[50_000:250_000]


def give_name(descriptor: int, path: Path) -> None:
    """As open(2) says for O_TMPFILE. With a directory given, Python calls linkat(2), which follows."""
    os.link(f"/proc/self/fd/{descriptor}", path, src_dir_fd=descriptor, follow_symlinks=True)


@both
def test_an_unnamed_file_is_used_and_may_get_a_name(here: Path) -> None:
    descriptor = os.open(here, os.O_TMPFILE | os.O_RDWR, 0o640)
    os.write(descriptor, b"content")
    assert os.fstat(descriptor).st_nlink == 0
    assert os.listdir(here) == []
    give_name(descriptor, here / "named")
    os.write(descriptor, b", and more")
    os.close(descriptor)
    found = (here / "named").stat()
    assert (found.st_nlink, stat.S_IMODE(found.st_mode)) == (1, 0o640)
    assert (here / "named").read_bytes() == b"content, and more"
    lost = os.open(here, os.O_TMPFILE | os.O_WRONLY | os.O_EXCL)
    assert outcome(lambda: give_name(lost, here / "x")) == "ENOENT"
    os.close(lost)


@both
def test_the_time_of_birth_is_told(here: Path) -> None:
    before = int(time.time())
    (here / "file").touch()
    os.utime(here / "file", (1, 1))
    said = subprocess.run(["stat", "-c", "%W", here / "file"], capture_output=True, check=True, timeout=60)
    assert before <= int(said.stdout) <= time.time() + 1


@both
def test_flags_are_listed_and_none_is_set(here: Path) -> None:
    (here / "file").touch()
    said = subprocess.run(["lsattr", here / "file"], capture_output=True, text=True, check=True, timeout=60)
    assert set(said.stdout.split()[0]) <= {"-", "e"}


@both
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to act as two users")
def test_who_writes_to_a_program_takes_its_set_id_bits(here: Path) -> None:
    here.chmod(0o777)
    path = here / "program"
    path.write_bytes(b"x")

    def write() -> None:
        with path.open("ab") as file:
            file.write(b"y")

    def cut() -> None:
        os.truncate(path, 1)

    def open_cut() -> None:
        os.close(os.open(path, os.O_WRONLY | os.O_TRUNC))

    for change in (write, cut, open_cut):
        path.chmod(0o6777)
        in_child(change, uid=1000)
        assert stat.S_IMODE(path.stat().st_mode) == 0o777
    path.chmod(0o6777)
    write()
    assert stat.S_IMODE(path.stat().st_mode) == 0o6777


@on_kernel
def test_a_whole_copy_takes_no_time_and_no_room(mounted: Node) -> None:
    path, copy = mounted.root / "large", mounted.root / "copy"
    with path.open("wb") as file:
        for number in range(LARGE >> 20):
            file.write(random.Random(number).randbytes(1 << 20))
    mounted.run("sync", check=False)
    before = stored(mounted)
    begin = time.monotonic()
    subprocess.run(["cp", path, copy], check=True, timeout=60)
    assert time.monotonic() - begin < COPY_S_MAX
    assert subprocess.run(["cmp", path, copy], timeout=60).returncode == 0
    mounted.unmount()
    mounted.mount()
    assert stored(mounted) - before < 1 << 20
    assert subprocess.run(["cmp", path, copy], timeout=60).returncode == 0


@on_kernel
@pytest.mark.soak
def test_a_gibibyte_is_copied_within_fifty_milliseconds_and_no_chunk_is_stored(mounted: Node) -> None:
    path = mounted.root / "large"
    block = random.Random(1).randbytes(1 << 20)
    with path.open("wb") as file:
        for number in range(GIBIBYTE >> 20):
            file.write(number.to_bytes(8, "big") + block[8:])
    mounted.run("sync", check=False, timeout_s=600)
    before, took = stored(mounted), []
    for number in range(7):
        source = os.open(path, os.O_RDONLY)
        target = os.open(mounted.root / f"copy{number}", os.O_WRONLY | os.O_CREAT)
        begin = time.monotonic()
        assert os.copy_file_range(source, target, GIBIBYTE) == GIBIBYTE
        os.close(target)
        took.append(time.monotonic() - begin)
        os.close(source)
    assert statistics.median(took) < 0.05, took
    mounted.run("sync", check=False, timeout_s=600)
    assert stored(mounted) - before < 64 << 10, "rows of versions, and no content"
    assert subprocess.run(["cmp", path, mounted.root / "copy6"], timeout=600).returncode == 0


def stored(node: Node) -> int:
    """Bytes in the node's stores."""
    return sum(path.stat().st_size for path in node.home.rglob("*.pack") if path.is_file())


@on_kernel
@pytest.mark.skipif(not os.access("/sys/class/bdi", os.W_OK), reason="root alone says how far is read ahead")
def test_the_kernel_reads_far_ahead_in_a_large_file_alone_and_what_it_reads_is_true(mounted: Node) -> None:
    content = random.Random(9).randbytes(12 << 20)
    (mounted.root / "large").write_bytes(content)
    (mounted.root / "small").write_bytes(content[:BLOCK])
    mounted.run("sync", check=False)
    mounted.restart()
    usual = read_ahead_kib(mounted.root)
    assert (mounted.root / "large").read_bytes() == content
    assert read_ahead_kib(mounted.root) == FAR_KIB
    assert (mounted.root / "small").read_bytes() == content[:BLOCK]
    assert read_ahead_kib(mounted.root) == usual < FAR_KIB


@on_kernel
def test_what_is_read_ahead_and_damaged_is_an_error_for_who_gets_to_it_alone(mounted: Node) -> None:
    content = random.Random(11).randbytes(12 << 20)
    (mounted.root / "large").write_bytes(content)
    mounted.run("sync", check=False)
    mounted.unmount()
    mounted.end_daemon()
    pack = max(mounted.home.rglob("*.pack"), key=lambda path: path.stat().st_size)
    with pack.open("r+b") as file:
        file.seek(6 << 20)
        file.write(b"damaged")
    mounted.expects_errors = True
    mounted.mount()
    with (mounted.root / "large").open("rb", buffering=0) as file:
        good = 0
        with pytest.raises(OSError, match="Input/output") as found:
            while piece := file.read(16 << 10):
                assert piece == content[good : good + len(piece)]
                good += len(piece)
        assert found.value.errno == errno.EIO
        assert 5 << 20 < good < 7 << 20, "all before it was read"
        assert os.pread(file.fileno(), 4 << 20, 8 << 20) == content[8 << 20 :]
