"""Many programs at once while another device changes the same files: nothing hangs, nothing goes wrong."""

import errno
import mmap
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import pytest

from tests.e2e.alike import assert_alike
from tests.e2e.network import Device, Network
from tests.e2e.node import await_end
from tests.e2e.processes import Child
from tests.e2e.watching import Watcher

STUCK_S: Final = 60.0
"""Longer than any wait that the mount allows itself, with room for a busy machine."""
DIRECTORIES: Final = ("", "d", "d/d", "e")
NAMES: Final = tuple("abcdefgh")
BYTES_MAX: Final = 200_000
USUAL: Final = frozenset(
    {
        *(errno.ENOENT, errno.EEXIST, errno.ENOTEMPTY, errno.EISDIR, errno.ENOTDIR, errno.EINVAL),
        *(errno.ESTALE, errno.EPERM, errno.ENODATA, errno.ENXIO, errno.ELOOP),
    }
)
"""What ext4 says too when somebody was quicker. ESTALE: another device was, after the lookup."""
Pair = tuple[Network, Device, Device]
Result = TypeVar("Result")


def one_call(chance: random.Random, root: Path) -> None:
    """Anything a program may do, to anything."""

    def place() -> Path:
        return root / chance.choice(DIRECTORIES) / chance.choice(NAMES)

    path, other, data = place(), place(), chance.randbytes(chance.choice((1, 100, 5000, 70_000)))
    calls: tuple[Callable[[], object], ...] = (
        lambda: path.write_bytes(data),
        lambda: path.write_bytes(data),
        lambda: append(path, data),
        lambda: path.read_bytes(),
        lambda: path.read_bytes(),
        lambda: look(path),
        lambda: mapped(root, data),
        lambda: os.truncate(path, chance.randrange(BYTES_MAX)),
        lambda: path.rename(other),
        lambda: path.unlink(),
        lambda: path.mkdir(),
        lambda: path.rmdir(),
        lambda: os.link(path, other),
        lambda: path.symlink_to(other.name),
        lambda: path.chmod(chance.choice((0o600, 0o644, 0o755))),
        lambda: os.setxattr(path, "user.x", data[:50]),
        lambda: os.listdir(path.parent),
        lambda: synced(path, data),
        lambda: shutil.copyfile(path, other),
    )
    try:
        chance.choice(calls)()
    except shutil.SameFileError:
        pass
    except OSError as error:
        # shutil says without a number that a file became a directory and went.
        if error.errno not in USUAL and not (error.errno is None and isinstance(error, FileNotFoundError)):
            raise


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def look(path: Path) -> None:
    with path.open("rb") as file:
        assert len(file.read()) >= 0
        os.fstat(file.fileno())


def mapped(directory: Path, data: bytes) -> None:
    """Of a file that nobody else cuts: who reads past the end of one is sent SIGBUS everywhere."""
    path = directory / f"mapped{os.getpid()}"
    path.write_bytes(data)
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        memory[:1] = b"\0"
        memory.flush()
    assert path.read_bytes() == b"\0" + data[1:]


def synced(path: Path, data: bytes) -> None:
    with path.open("r+b") as file:
        file.write(data)
        os.fsync(file.fileno())


def calls_until(end: float, seed: int, root: Path) -> tuple[int, float]:
    """How many calls were made, and the longest that one took."""
    chance, count, longest_s = random.Random(seed), 0, 0.0
    while time.monotonic() < end:
        begun = time.monotonic()
        one_call(chance, root)
        longest_s = max(longest_s, time.monotonic() - begun)
        count += 1
    return count, longest_s


@pytest.mark.parametrize(
    "duration_s", [5.0, pytest.param(600.0, marks=pytest.mark.soak)], ids=["short", "long"]
)
def test_eight_programs_a_watcher_and_another_device_neither_hang_nor_fail(
    pair: Pair, duration_s: float
) -> None:
    _, a, b = pair
    for directory in DIRECTORIES[1:]:
        (a.root / directory).mkdir()
    a.await_in_step()
    with Watcher(*(b.root / directory for directory in DIRECTORIES)) as watcher:
        end = time.monotonic() + duration_s
        here = [Child(partial(calls_until, end, seed, b.root)) for seed in range(8)]
        there = [Child(partial(calls_until, end, seed, a.root)) for seed in range(8, 10)]
        while time.monotonic() < end:
            watcher.read()
            watcher.seen.clear()
            time.sleep(0.05)  # a watcher that is not always looking
        done = ended(here + there)
    assert all(count for count, _ in done)
    assert max(longest_s for _, longest_s in done) < STUCK_S
    a.await_in_step(STUCK_S)
    b.await_in_step(STUCK_S)
    assert_alike(a, b, has_numbers=False)


def ended(children: list[Child[Result]]) -> list[Result]:
    """What they computed. AssertionError, with where it waits, if one does not come to its end."""
    limit = time.monotonic() + STUCK_S
    for child in children:
        try:
            await_end(child.pid, max(0.0, limit - time.monotonic()))
        except AssertionError as error:
            state = Path(f"/proc/{child.pid}/status").read_text().splitlines()[2]
            waits = Path(f"/proc/{child.pid}/wchan").read_text()
            for other in children:
                os.kill(other.pid, signal.SIGKILL)
            raise AssertionError(f"a program hangs: {state}, in {waits}") from error
    return [child.result() for child in children]


def reads_until(end: float, path: Path) -> int:
    """Whole versions only: a version is one byte, many times."""
    count = 0
    while time.monotonic() < end:
        try:
            data = path.read_bytes()
        except OSError as error:
            # The kernel looks again once. A name that is replaced twice meanwhile is ESTALE all the same.
            assert error.errno == errno.ESTALE
            continue
        assert len(set(data)) <= 1, "a read shows parts of two versions"
        count += 1
    return count


def test_readers_and_a_writer_of_one_file_survive_its_changes_elsewhere(pair: Pair) -> None:
    """Pages that are invalidated while they are read, on the loop that answers reads, hang for good."""
    _, a, b = pair
    (a.root / "hot").write_bytes(b"\1" * BYTES_MAX)
    (b.root / "own").mkdir()
    a.await_in_step()
    end = time.monotonic() + 6.0
    readers = [Child(partial(reads_until, end, b.root / "hot")) for _ in range(3)]
    writer = Child(partial(calls_until, end, 1, b.root / "own"))
    number = 1
    while time.monotonic() < end:
        number = number % 255 + 1
        new = a.root / "new"
        new.write_bytes(bytes([number]) * BYTES_MAX)
        new.rename(a.root / "hot")
    reads = ended(readers)
    assert all(reads)
    assert ended([writer])
    a.await_in_step()
    assert (b.root / "hot").read_bytes() == (a.root / "hot").read_bytes()
