"""Random histories of calls on one file: a mount and a native file system agree on every byte and result."""

import ctypes
import errno
import mmap
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from dittofs.chunks.manifest import HOLE_BLOCK_BYTES

SPAN = 400_000
STEPS = 60
BLOCK, BLOCKS = HOLE_BLOCK_BYTES, 64
SMALL = 128 << 10
KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 0x01, 0x02, 0x10  # linux/falloc.h
_fallocate = ctypes.CDLL(None, use_errno=True).fallocate64


def fallocate(descriptor: int, mode: int, offset: int, length: int) -> None:
    if _fallocate(descriptor, mode, ctypes.c_longlong(offset), ctypes.c_longlong(length)):
        raise OSError(ctypes.get_errno(), "fallocate")


class Side:
    """A file that is changed by system calls, and the ways to look at it."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.path = directory / "file"
        self.copy = directory / "copy"
        self.descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT)

    def do(self, act: Callable[["Side"], object]) -> object:
        try:
            return act(self)
        except OSError as error:
            return errno.errorcode[error.errno or 0]

    def content(self) -> bytes:
        size = os.fstat(self.descriptor).st_size
        data = os.pread(self.descriptor, size + 1, 0)
        assert data == self.path.read_bytes()
        return data

    def reopen(self) -> None:
        os.close(self.descriptor)
        self.descriptor = os.open(self.path, os.O_RDWR)

    def write_mapped(self, offset: int, data: bytes) -> None:
        size = os.fstat(self.descriptor).st_size
        if offset + len(data) > size:
            return
        with mmap.mmap(self.descriptor, size) as mapped:
            mapped[offset : offset + len(data)] = data

    def copy_whole(self) -> bytes:
        """Into another file, which then takes the place of this one."""
        target = os.open(self.copy, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        done, size = 0, os.fstat(self.descriptor).st_size
        while done < size:
            done += os.copy_file_range(self.descriptor, target, size - done, done, done)
        os.close(target)
        data = self.copy.read_bytes()
        self.copy.rename(self.path)
        self.reopen()
        return data

    def copy_part(self, offset: int, length: int, to: int) -> int:
        if offset + length > to and to + length > offset:
            return 0  # ranges that meet are EINVAL everywhere
        return os.copy_file_range(self.descriptor, self.descriptor, length, offset, to)


def step(chance: random.Random) -> tuple[str, Callable[[Side], object]]:
    place, length = chance.randrange(SPAN), chance.choice([1, 100, 4096, 5000, 70_000])
    place = place // 4096 * 4096 if chance.random() < 0.5 else place
    data = chance.randbytes(length)
    kind = chance.choice(
        [
            "write",
            "write",
            "append",
            "truncate",
            "punch",
            "zero",
            "allocate",
            "map",
            "part",
            "copy",
            "reopen",
            "sync",
        ]
    )
    keep = chance.choice([0, KEEP_SIZE])
    acts: dict[str, Callable[[Side], object]] = {
        "write": lambda side: os.pwrite(side.descriptor, data, place),
        "append": lambda side: os.pwrite(side.descriptor, data, os.fstat(side.descriptor).st_size),
        "truncate": lambda side: os.ftruncate(side.descriptor, place),
        "punch": lambda side: fallocate(side.descriptor, PUNCH_HOLE | KEEP_SIZE, place, length),
        "zero": lambda side: fallocate(side.descriptor, ZERO_RANGE | keep, place, length),
        "allocate": lambda side: fallocate(side.descriptor, keep, place, length),
        "map": lambda side: side.write_mapped(place, data),
        "part": lambda side: side.copy_part(place, length, SPAN - place),
        "copy": lambda side: side.copy_whole(),
        "reopen": lambda side: side.reopen(),
        "sync": lambda side: os.fsync(side.descriptor),
    }
    return f"{kind} {place} {length}", acts[kind]


@pytest.mark.parametrize("here", ["kernel"], indirect=True)
@pytest.mark.parametrize(
    "seeds", [range(12), pytest.param(range(12, 200), marks=pytest.mark.soak)], ids=["few", "many"]
)
def test_a_mount_and_a_native_file_system_agree_after_every_call(
    here: Path, tmp_path: Path, seeds: range
) -> None:
    for seed in seeds:
        chance = random.Random(seed)
        ours, theirs = Side(here / str(seed)), Side(tmp_path / str(seed))
        history: list[str] = []
        for _ in range(STEPS):
            what, act = step(chance)
            history.append(what)
            assert ours.do(act) == theirs.do(act), f"seed {seed}: {history}"
            assert ours.content() == theirs.content(), f"seed {seed}: {history}"
        for side in (ours, theirs):
            os.close(side.descriptor)


def data_of(descriptor: int) -> list[tuple[int, int]]:
    """What is no hole (lseek(2), SEEK_DATA)."""
    found: list[tuple[int, int]] = []
    offset = 0
    while True:
        try:
            start = os.lseek(descriptor, offset, os.SEEK_DATA)
        except OSError as error:
            assert error.errno == errno.ENXIO
            return found
        offset = os.lseek(descriptor, start, os.SEEK_HOLE)
        found.append((start, offset))


def block_step(chance: random.Random) -> tuple[str, Callable[[Side], object]]:
    """Of whole blocks: what a part of one leaves behind is for each file system to say.

    The file is larger than one chunk: a smaller one has no holes once it is published.
    Where room was allocated or zeroed ext4 tells of data or of holes as its page cache stands.
    """
    place, length = chance.randrange(BLOCKS) * BLOCK + SMALL, chance.choice([1, 1, 2, 7, 20]) * BLOCK
    acts: dict[str, Callable[[Side], object]] = {
        "write": lambda side: os.pwrite(side.descriptor, b"x" * length, place),
        "punch": lambda side: fallocate(side.descriptor, PUNCH_HOLE | KEEP_SIZE, place, length),
        "truncate": lambda side: os.ftruncate(side.descriptor, place),
        "reopen": lambda side: side.reopen(),
        "sync": lambda side: os.fsync(side.descriptor),
    }
    kind = chance.choice([*acts, "write", "punch"])
    return f"{kind} {place} {length}", acts[kind]


@pytest.mark.parametrize("here", ["kernel"], indirect=True)
@pytest.mark.parametrize(
    "seeds", [range(6), pytest.param(range(6, 200), marks=pytest.mark.soak)], ids=["few", "many"]
)
def test_holes_are_where_a_native_file_system_has_them(here: Path, tmp_path: Path, seeds: range) -> None:
    for seed in seeds:
        chance = random.Random(seed)
        ours, theirs = Side(here / f"holes{seed}"), Side(tmp_path / f"holes{seed}")
        history: list[str] = []
        for side in (ours, theirs):
            os.ftruncate(side.descriptor, 2 * SMALL)
        for _ in range(STEPS):
            what, act = block_step(chance)
            history.append(what)
            assert ours.do(act) == theirs.do(act), f"seed {seed}: {history}"
            assert data_of(ours.descriptor) == data_of(theirs.descriptor), f"seed {seed}: {history}"
        for side in (ours, theirs):
            os.close(side.descriptor)
