"""What programs that have a file open, or look at its path, see when another device writes it."""

import mmap
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

from tests.e2e.network import Device, eventually, network

PATIENCE_S = 30.0
BYTES = 300_000
"""More than one request reads, and than one chunk holds."""
MTIME_NS = 1_600_000_000_123_456_789
Pair = tuple[Device, Device]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Two devices with one volume, for all tests here: each has a directory of its own in it."""
    with network(tmp_path_factory.mktemp("net")) as net:
        a, b = net.device("alder"), net.device("birch")
        net.cable(a, b)
        a.found()
        a.share_with(b)
        yield a, b


def place(pair: Pair, name: str, data: bytes = b"", linked: str = "") -> tuple[Path, Path]:
    """A directory that both devices see, with `data` in `file` unless there is none."""
    a, b = pair
    here = a.root / name
    here.mkdir()
    if data:
        (here / "file").write_bytes(data)
    if linked:
        os.link(here / "file", here / linked)
    a.await_in_step()
    return here, b.root / name


def saved(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def appended(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data[path.stat().st_size :])


def cut(path: Path, data: bytes) -> None:
    os.truncate(path, len(data))


def renamed_over(path: Path, data: bytes) -> None:
    beside = path.with_name("beside")
    beside.write_bytes(data)
    beside.rename(path)


OLD = b"o" * BYTES
CHANGES: dict[str, tuple[Callable[[Path, bytes], None], bytes]] = {
    "saved-longer": (saved, b"n" * (BYTES + 70_000)),
    "saved-shorter": (saved, b"n" * 10_000),
    "saved-of-one-size": (saved, b"n" * BYTES),
    "appended": (appended, OLD + b"n" * 70_000),
    "cut": (cut, OLD[:10_001]),
    "emptied": (cut, b""),
    "renamed-over": (renamed_over, b"n" * 5_000),
}


RARER = {"saved-shorter", "appended", "emptied"}


@pytest.mark.parametrize(
    "change", [pytest.param(one, marks=[pytest.mark.soak] if one in RARER else []) for one in CHANGES]
)
def test_what_another_device_saves_is_at_every_name_and_in_what_is_open_without_zeroes(
    pair: Pair, change: str
) -> None:
    a, b = pair
    act, new = CHANGES[change]
    here, there = place(pair, change, OLD, linked="linked")
    path = there / "file"
    with path.open("rb") as kept, path.open("rb") as half:
        assert kept.read() == OLD
        assert half.read(4096) == OLD[:4096]
        assert (there / "linked").read_bytes() == OLD
        act(here / "file", new)
        os.utime(here / "file", ns=(MTIME_NS, MTIME_NS))
        a.await_in_step()
        eventually(lambda: path.stat().st_mtime_ns == MTIME_NS, PATIENCE_S)
        assert path.stat().st_size == len(new)
        assert path.read_bytes() == new
        kept.seek(0)
        assert kept.read() == (OLD if change == "renamed-over" else new), "a clean descriptor follows"
        assert set(half.read()) <= {*OLD, *new}
    other = OLD if change == "renamed-over" else new
    eventually(lambda: (there / "linked").stat().st_size == len(other), PATIENCE_S)
    assert (there / "linked").read_bytes() == other
    assert {entry.name: entry.stat().st_size for entry in os.scandir(there)} == {
        "file": len(new),
        "linked": len(other),
    }
    assert b.status()["volumes"][0]["pending"]["files"] == 0, "who looks changes nothing"
    b.await_in_step()
    assert (here / "file").stat().st_mtime_ns == MTIME_NS


def both_last(pair: Pair, name: str, *versions: bytes) -> None:
    """On each device there are exactly these, under one name each."""
    for device in pair:
        where = device.root / name
        eventually(lambda where=where: len(os.listdir(where)) == len(versions), PATIENCE_S)  # type: ignore[misc]
    pair[0].await_in_step()
    for device in pair:
        assert {one.read_bytes() for one in (device.root / name).iterdir()} == set(versions)


def test_what_a_writer_has_not_closed_yet_and_what_comes_meanwhile_both_last(pair: Pair) -> None:
    here, there = place(pair, "written", OLD)
    with (there / "file").open("r+b", buffering=0) as writer:
        writer.write(b"birch")
        (here / "file").write_bytes(b"of alder")
        pair[0].await_in_step()
        assert os.fstat(writer.fileno()).st_size == BYTES, "who writes goes on with what he opened"
        writer.seek(100_000)
        writer.write(b"birch")
        assert os.pread(writer.fileno(), 10, 0) == b"birchooooo"
        assert (there / "file").read_bytes()[:10] == b"birchooooo"
    mine = bytearray(OLD)
    mine[:5] = mine[100_000:100_005] = b"birch"
    both_last(pair, "written", bytes(mine), b"of alder")


def test_what_was_written_into_a_mapping_and_what_comes_meanwhile_both_last(pair: Pair) -> None:
    here, there = place(pair, "mapped", OLD)
    with (there / "file").open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapping:
        mapping[:5] = b"birch"
        (here / "file").write_bytes(b"of alder")
        pair[0].await_in_step()
        mapping[200_000:200_005] = b"birch"
    mine = bytearray(OLD)
    mine[:5] = mine[200_000:200_005] = b"birch"
    both_last(pair, "mapped", bytes(mine), b"of alder")


def test_who_follows_a_growing_file_reads_every_line_once_and_no_zeroes(pair: Pair) -> None:
    here, there = place(pair, "growing", b"line 0\n")
    command = ["tail", "-n", "+1", "-s", "0.1", "-f", str(there / "file")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as tail:
        try:
            assert tail.stdout is not None
            os.set_blocking(tail.stdout.fileno(), False)
            assert next_line(tail.stdout) == b"line 0\n"
            for number in range(1, 6):
                with (here / "file").open("ab") as log:
                    log.write(b"line %d\n" % number)
                assert next_line(tail.stdout) == b"line %d\n" % number
        finally:
            tail.terminate()


def next_line(stream: IO[bytes]) -> bytes:
    """All that comes until a line is whole."""
    found = bytearray()

    def is_whole() -> bool:
        found.extend(stream.read() or b"")
        return found.endswith(b"\n")

    eventually(is_whole, PATIENCE_S)
    return bytes(found)


def test_a_time_that_was_set_elsewhere_is_shown_and_what_is_done_here_later_leaves_it(pair: Pair) -> None:
    here, there = place(pair, "timed", OLD)
    with (there / "file").open("rb") as kept:
        kept.read()
        os.utime(here / "file", ns=(MTIME_NS, MTIME_NS))
        pair[0].await_in_step()
        eventually(lambda: (there / "file").stat().st_mtime_ns == MTIME_NS, PATIENCE_S)
        (there / "file").chmod(0o640)
    os.link(there / "file", there / "second")
    (there / "file").rename(there / "moved")
    descriptor = os.open(there, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
    pair[1].await_in_step()
    for where in (here, there):
        assert {one.name: one.stat().st_mtime_ns for one in where.iterdir()} == {
            "moved": MTIME_NS,
            "second": MTIME_NS,
        }


def test_git_sees_what_another_device_did_to_its_files_and_no_more(pair: Pair) -> None:
    here, there = place(pair, "work")

    def git(where: Path, *words: str) -> str:
        who = ("-c", "safe.directory=*", "-c", "user.name=A", "-c", "user.email=a@example.org")
        command = ["git", *who, "-C", str(where), *words]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout

    git(here, "init", "-q")
    for number in range(20):
        (here / f"f{number}").write_text(f"{number}\n" * 50)
    git(here, "add", ".")
    git(here, "commit", "-q", "-m", "begun")
    pair[0].await_in_step()
    assert git(there, "status", "--porcelain") == ""
    before = (here / "f7").read_text()
    for text, told in ((before.replace("7", "8"), " M f7\n"), (before, "")):
        (here / "f7").write_text(text)
        pair[0].await_in_step()
        eventually(lambda told=told: git(there, "status", "--porcelain") == told, PATIENCE_S)  # type: ignore[misc]


def test_a_copy_of_what_a_program_is_still_writing_holds_all_that_was_written(pair: Pair) -> None:
    """cp(1) asks where data is before it reads, and makes holes of the rest."""
    here, _ = place(pair, "running")
    blocks = [bytes([65 + number]) * 4096 for number in range(20)]
    with (here / "file").open("wb", buffering=0) as running:
        for block in blocks:
            running.write(block)
        assert os.lseek(running.fileno(), 0, os.SEEK_DATA) == 0
        for how in ("auto", "always"):
            copy = here / how
            subprocess.run(["cp", f"--sparse={how}", here / "file", copy], check=True, timeout=60)
            assert copy.read_bytes() == b"".join(blocks)
