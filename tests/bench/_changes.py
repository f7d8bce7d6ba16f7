"""What is done on one device, and until when the other one has it.

Two clocks, both from the moment the last program on A was done: *visible*, names, sizes and times are right
on B and a first piece can be read; *materialised*, all bytes lie on B.
"""

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Final

from tests.bench._pairs import MIB, STATUS_LOOK_S, DittoPair, Pair, SyncthingPair, await_true, noise

BLOCK_BYTES: Final = MIB
SMALL_BYTES: Final = 4096
FILES_A_DIRECTORY: Final = 100
PAUSE_S: Final = 0.1  # between two single changes
READS: Final = 20
SHIPPED_TRIALS: Final = 3


@dataclass(frozen=True, slots=True)
class Clocks:
    """Seconds."""

    visible_s: float
    materialised_s: float
    wrote_s: float = 0.0
    """What the programs on A took before."""
    trials_s: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Material:
    """How much is moved, and the bytes of the large file."""

    files: int
    large: bytes
    trials: int
    changes: int

    @property
    def middle(self) -> int:
        return len(self.large) // 2 // MIB * MIB


def until_there(pair: Pair, is_visible: Callable[[], object], fresh_bytes: int, before: int | None) -> Clocks:
    """Run both clocks from now on. `fresh_bytes` beyond `before` are to lie on B."""
    begun = time.perf_counter()
    pair.tell()
    await_true(is_visible, "the change is visible on B")
    visible_s = time.perf_counter() - begun
    if before is not None:
        goal = before + fresh_bytes
        await_true(lambda: (pair.stored_bytes() or 0) >= goal, "all bytes are on B")
    return Clocks(visible_s, time.perf_counter() - begun)


def write_large(path: Path, data: bytes) -> float:
    """Write a file anew; seconds until it was closed."""
    begun = time.perf_counter()
    view = memoryview(data)
    with path.open("wb", buffering=0) as file:
        for start in range(0, len(data), BLOCK_BYTES):
            file.write(view[start : start + BLOCK_BYTES])
    return time.perf_counter() - begun


def _arrived(pair: Pair, name: str, offset: int, expected: bytes) -> Callable[[], bool]:
    """Whether B shows A's size and time of a file, and a first piece of what is expected."""
    status = (pair.a / name).stat()

    def is_visible() -> bool:
        there = (pair.b / name).stat()
        if (there.st_size, there.st_mtime_ns) != (status.st_size, status.st_mtime_ns):
            return False
        with (pair.b / name).open("rb", buffering=0) as file:
            return os.pread(file.fileno(), len(expected), offset) == expected

    return is_visible


def large_file(pair: Pair, material: Material) -> Clocks:
    """A file of 1 GiB that nobody has seen."""
    before = pair.stored_bytes()
    wrote_s = write_large(pair.a / "large", material.large)
    is_visible = _arrived(pair, "large", 0, material.large[:SMALL_BYTES])
    found = until_there(pair, is_visible, len(material.large), before)
    return Clocks(found.visible_s, found.materialised_s, wrote_s)


def edit_in_place(pair: Pair, material: Material) -> Clocks:
    """Write 1 MiB in the middle of the file of 1 GiB."""
    before = pair.stored_bytes()
    fresh = noise("in place", MIB)
    begun = time.perf_counter()
    with (pair.a / "large").open("r+b", buffering=0) as file:
        os.pwrite(file.fileno(), fresh, material.middle)
    wrote_s = time.perf_counter() - begun
    found = until_there(pair, _arrived(pair, "large", material.middle, fresh[:SMALL_BYTES]), MIB, before)
    return Clocks(found.visible_s, found.materialised_s, wrote_s)


def edit_rewritten(pair: Pair, material: Material) -> Clocks:
    """Write the file anew, with another MiB in its middle."""
    before = pair.stored_bytes()
    fresh = noise("rewritten", MIB)
    middle = material.middle
    wrote_s = write_large(
        pair.a / "large", b"".join((material.large[:middle], fresh, material.large[middle + MIB :]))
    )
    found = until_there(pair, _arrived(pair, "large", middle, fresh[:SMALL_BYTES]), MIB, before)
    return Clocks(found.visible_s, found.materialised_s, wrote_s)


def insert_at_start(pair: Pair, material: Material) -> Clocks:
    """Write the file anew, with ten bytes more at its start."""
    before = pair.stored_bytes()
    wrote_s = write_large(pair.a / "large", b"0123456789" + material.large)
    found = until_there(pair, _arrived(pair, "large", 0, b"0123456789"), 0, before)
    return Clocks(found.visible_s, found.materialised_s, wrote_s)


def read_elsewhere(pair: DittoPair, material: Material, wire_bytes: Callable[[], int]) -> tuple[float, float]:
    """Read 1 MiB in the middle of a file whose bytes are on A only: median seconds, bytes on the wire."""
    pair.set_copies("on-demand")
    data = material.large[::-1]
    write_large(pair.a / "elsewhere", data)
    await_true(lambda: (pair.b / "elsewhere").stat().st_size == len(data), "the file is visible on B")
    took, moved = [], []
    for number in range(READS):
        offset = (len(data) // 2 + (number - READS // 2) * (len(data) // (2 * READS))) & -BLOCK_BYTES
        before = wire_bytes()
        begun = time.perf_counter()
        with (pair.b / "elsewhere").open("rb", buffering=0) as file:
            found = os.pread(file.fileno(), MIB, offset)
        took.append(time.perf_counter() - begun)
        time.sleep(PAUSE_S)
        moved.append(wire_bytes() - before)
        assert found == data[offset : offset + MIB], "B reads what A wrote"
    pair.set_copies("2")
    return median(took), median(moved)


def single_changes(pair: Pair, trials: int, *, is_new: bool, is_told: bool = True) -> Clocks:
    """Write 4 KiB on A, read them on B, one after the other: each from before the write until it is read."""
    took = []
    for number in range(trials):
        data = os.urandom(SMALL_BYTES)
        name = f"single{number}" if is_new else "changing"
        path = pair.b / name
        begun = time.perf_counter()
        (pair.a / name).write_bytes(data)
        if is_told:
            pair.tell(name)
        await_true(lambda path=path, data=data: path.read_bytes() == data, "4 KiB are on B")  # type: ignore[misc]
        took.append(time.perf_counter() - begun)
        time.sleep(PAUSE_S)
    return Clocks(median(took), median(took), trials_s=took)


def as_shipped(pair: Pair, _: Material) -> Clocks:
    """4 KiB with the delay Syncthing is installed with."""
    assert isinstance(pair, SyncthingPair)
    pair.set_delay(10)
    found = single_changes(pair, SHIPPED_TRIALS, is_new=True, is_told=False)
    pair.set_delay(1)
    return found


def many_files(pair: Pair, material: Material) -> Clocks:
    """10,000 files of 4 KiB in 100 directories."""
    before = pair.stored_bytes()
    top = pair.a / "many"
    data = noise(pair.name, SMALL_BYTES * material.files)
    begun = time.perf_counter()
    top.mkdir()
    for number in range(material.files):
        directory = top / str(number // FILES_A_DIRECTORY)
        if number % FILES_A_DIRECTORY == 0:
            directory.mkdir()
        (directory / str(number)).write_bytes(data[number * SMALL_BYTES : (number + 1) * SMALL_BYTES])
    wrote_s = time.perf_counter() - begun
    is_visible = _all_names(pair.b / "many", material.files)
    found = until_there(pair, is_visible, SMALL_BYTES * material.files, before)
    for path in (pair.b / "many").glob("*/*"):
        assert path.stat().st_size == SMALL_BYTES, "sizes are right on B"
    return Clocks(found.visible_s, found.materialised_s, wrote_s)


def _all_names(top: Path, files: int) -> Callable[[], bool]:
    """Whether all files are there; directories found full are not looked at again."""
    waiting = [top / str(number) for number in range(files // FILES_A_DIRECTORY)]

    def is_visible() -> bool:
        while waiting and _count(waiting[-1]) >= FILES_A_DIRECTORY:
            waiting.pop()
        return not waiting

    return is_visible


def _count(directory: Path) -> int:
    return sum(1 for _ in directory.iterdir())


def rename_directory(pair: Pair, material: Material) -> Clocks:
    """The directory with all of them gets another name."""
    begun = time.perf_counter()
    (pair.a / "many").rename(pair.a / "renamed")
    wrote_s = time.perf_counter() - begun
    last = pair.b / "renamed" / str(material.files // FILES_A_DIRECTORY - 1)

    def is_visible() -> bool:
        return _count(last) == FILES_A_DIRECTORY and not (pair.b / "many").exists()

    found = until_there(pair, is_visible, 0, None)
    return Clocks(found.visible_s, found.materialised_s, wrote_s)


def delete_many(pair: Pair, _: Material) -> Clocks:
    """All of them are removed."""
    begun = time.perf_counter()
    shutil.rmtree(pair.a / "renamed")
    wrote_s = time.perf_counter() - begun
    found = until_there(pair, lambda: not (pair.b / "renamed").exists(), 0, None)
    return Clocks(found.visible_s, found.materialised_s, wrote_s)


def restart(pair: Pair, _: Material) -> Clocks:
    """B ends, A changes, B starts: until the change is visible there."""
    pair.stop_b()
    name = f"meanwhile{time.time_ns()}"
    (pair.a / name).write_bytes(b"written meanwhile")
    pair.tell()
    begun = time.perf_counter()
    pair.start_b()
    await_true(lambda: (pair.b / name).read_bytes() == b"written meanwhile", "B is back")
    took = time.perf_counter() - begun
    return Clocks(took, took)


def apart(pair: Pair, material: Material, pull: Callable[[], None], plug: Callable[[], None]) -> Clocks:
    """The cable is pulled, both sides make files, it is plugged in: until both have all names."""
    for side in (pair.a, pair.b):
        (side / f"apart-{side.parent.name}").mkdir()
    names = [f"apart-{side.parent.name}" for side in (pair.a, pair.b)]
    pair.tell()
    if isinstance(pair, SyncthingPair):
        pair.tell_b()
    for side in (pair.a, pair.b):
        await_true(lambda side=side: all((side / name).is_dir() for name in names), "both directories")  # type: ignore[misc]
    if isinstance(pair, SyncthingPair):
        pull, plug = pair.pause, pair.resume  # it takes minutes to notice a pulled cable
    pull()
    for side, name in zip((pair.a, pair.b), names, strict=True):
        for number in range(material.changes):
            (side / name / str(number)).write_bytes(noise(f"{name}{number}", SMALL_BYTES))
    pair.tell()
    if isinstance(pair, SyncthingPair):
        pair.tell_b()
    if isinstance(pair, DittoPair):
        await_true(pair.is_parted, "both have noticed", look_s=STATUS_LOOK_S)
    begun = time.perf_counter()
    plug()
    await_true(
        lambda: all(_count(side / name) == material.changes for side in (pair.a, pair.b) for name in names),
        "both have all names",
    )
    took = time.perf_counter() - begun
    return Clocks(took, took)
