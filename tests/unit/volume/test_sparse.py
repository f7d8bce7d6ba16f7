"""Holes, room and zeroes: fallocate, SEEK_DATA and SEEK_HOLE."""

import errno
import os
import random
from pathlib import Path

import pytest

from dittofs.errors import FSError
from dittofs.volume.files import Handle
from dittofs.volume.holes import KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE
from tests.simulation.rig import Rig

BLOCK = 4096
BLOCKS = 64
COLLAPSE_RANGE = 0x08
PUNCH = PUNCH_HOLE | KEEP_SIZE


def data_of(rig: Rig, handle: Handle) -> list[tuple[int, int]]:
    """What lseek(2) says is data, as cp(1) asks."""
    holes, offset = rig.volume.holes, 0
    found: list[tuple[int, int]] = []
    while True:
        try:
            start = holes.seek(handle.inode, offset, os.SEEK_DATA)
        except FSError as error:
            assert error.errno == errno.ENXIO
            return found
        offset = holes.seek(handle.inode, start, os.SEEK_HOLE)
        found.append((start, offset))


def native_data_of(descriptor: int) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    offset = 0
    while True:
        try:
            start = os.lseek(descriptor, offset, os.SEEK_DATA)
        except OSError:
            return found
        offset = os.lseek(descriptor, start, os.SEEK_HOLE)
        found.append((start, offset))


def writer(rig: Rig, path: str = "a") -> Handle:
    return rig.open_file(path, os.O_RDWR | os.O_CREAT)


async def test_a_punched_hole_reads_as_zeroes_published_or_not_and_after_a_crash(
    rig: Rig,
) -> None:
    data = random.Random(1).randbytes(600_000)
    await rig.write("a", data)
    await rig.publish()
    handle = writer(rig)
    rig.volume.holes.allocate(handle.inode, 100_000, 300_000, PUNCH)
    await rig.write_at(handle, 200_000, b"again")
    expected = data[:100_000] + bytes(100_000) + b"again" + bytes(199_995) + data[400_000:]
    assert rig.read("a") == expected
    rig.close_file(handle)
    rig.abandon()
    rig.open()
    assert rig.read("a") == expected
    await rig.publish()
    assert rig.read("a") == expected
    assert rig.stat("a").size == len(data)


async def test_zeroes_and_room_make_a_file_longer_unless_its_size_is_to_stay(rig: Rig) -> None:
    handle = writer(rig)
    await rig.write_at(handle, 0, b"x" * 100)
    allocate = rig.volume.holes.allocate
    allocate(handle.inode, 0, 1000, KEEP_SIZE)
    allocate(handle.inode, 50, 1000, ZERO_RANGE | KEEP_SIZE)
    assert rig.read("a") == b"x" * 50 + bytes(50)
    allocate(handle.inode, 40, 160, ZERO_RANGE)
    assert rig.read("a") == b"x" * 40 + bytes(160)
    allocate(handle.inode, 10, 290, 0)
    assert rig.read("a") == b"x" * 40 + bytes(260)
    rig.close_file(handle)


async def test_what_changes_nothing_makes_no_version(rig: Rig) -> None:
    await rig.write("a", b"x" * 100)
    await rig.publish()
    handle = writer(rig)
    rig.volume.holes.allocate(handle.inode, 0, 100, 0)
    rig.volume.holes.allocate(handle.inode, 200, 100, PUNCH)
    rig.close_file(handle)
    assert rig.volume.publisher.is_idle


@pytest.mark.parametrize("mode", [COLLAPSE_RANGE, PUNCH_HOLE, PUNCH_HOLE | ZERO_RANGE])
async def test_other_modes_of_fallocate_are_refused(rig: Rig, mode: int) -> None:
    handle = writer(rig)
    with pytest.raises(FSError) as caught:
        rig.volume.holes.allocate(handle.inode, 0, 100, mode)
    assert caught.value.errno == errno.EOPNOTSUPP
    rig.close_file(handle)


async def test_room_that_the_disk_has_not_got_is_refused(rig: Rig) -> None:
    handle = writer(rig)
    with pytest.raises(FSError) as caught:
        rig.volume.holes.allocate(handle.inode, 0, 1 << 60, 0)
    assert caught.value.errno == errno.ENOSPC
    rig.close_file(handle)


@pytest.mark.parametrize("seed", range(12))
async def test_data_and_holes_are_where_a_native_file_system_has_them(
    rig: Rig, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    handle = writer(rig)
    is_exact = True
    native = os.open(tmp_path / "native", os.O_RDWR | os.O_CREAT)
    try:
        for _ in range(chance.randrange(4, 20)):
            place = chance.randrange(BLOCKS) * BLOCK
            length = chance.randrange(1, 6) * BLOCK
            kind = chance.choice(["write", "write", "punch", "truncate", "publish"])
            size = rig.volume.state.stat(handle.inode).size
            if kind == "write":
                data = chance.randbytes(length - chance.randrange(100))
                await rig.write_at(handle, place, data)
                os.pwrite(native, data, place)
            elif kind == "punch" and size:
                rig.volume.holes.allocate(handle.inode, place, length, PUNCH)
                # What fallocate(2) does to a file, where Python has no call for it.
                end = min(place + length, size)
                kept = os.pread(native, size, 0), native_data_of(native)
                rewrite(native, *kept, place, end)
            elif kind == "truncate":
                rig.truncate("a", place)
                os.ftruncate(native, place)
            else:
                rig.close_file(handle)
                await rig.publish()
                handle = writer(rig)
            assert rig.read("a") == os.pread(native, BLOCKS * 2 * BLOCK, 0)
            is_exact = is_exact and kind != "publish"
            ours, theirs = data_of(rig, handle), native_data_of(native)
            # A small hole is stored as zeroes: chunks are 16 KiB at least.
            assert ours == theirs if is_exact else is_covered(theirs, ours)
    finally:
        os.close(native)
        rig.close_file(handle)


def is_covered(inner: list[tuple[int, int]], outer: list[tuple[int, int]]) -> bool:
    return all(any(low <= start and end <= high for low, high in outer) for start, end in inner)


def rewrite(descriptor: int, content: bytes, data: list[tuple[int, int]], start: int, end: int) -> None:
    """The same file with a hole from `start` to `end`, which lie on blocks or behind the last byte."""
    os.ftruncate(descriptor, 0)
    os.ftruncate(descriptor, len(content))
    for low, high in data:
        for begin, stop in ((low, min(high, start)), (max(low, end), high)):
            if begin < stop:
                os.pwrite(descriptor, content[begin:stop], begin)


async def test_a_terabyte_of_nothing_costs_nothing_and_is_one_hole(rig: Rig) -> None:
    handle = writer(rig)
    rig.truncate("a", 1 << 40)
    await rig.write_at(handle, 1 << 39, b"x")
    assert data_of(rig, handle) == [(1 << 39, (1 << 39) + BLOCK)]
    rig.close_file(handle)
    await rig.publish()
    handle = rig.open_file("a")
    found = data_of(rig, handle)
    assert sum(end - start for start, end in found) < 1 << 20
    assert found[0][0] <= 1 << 39 < found[0][1]
    rig.volume.files.release(handle)


def told_blocks(rig: Rig, path: str) -> int:
    """st_blocks, in blocks of 4,096 bytes."""
    blocks, rest = divmod(rig.stat(path).blocks, 8)
    assert not rest
    return blocks


async def test_a_sparse_file_takes_the_blocks_that_were_written(rig: Rig) -> None:
    handle = writer(rig)
    rig.truncate("a", 1 << 40)
    assert told_blocks(rig, "a") == 0
    await rig.write_at(handle, 5 << 30, b"x" * BLOCK)
    await rig.write_at(handle, 700 << 30, b"y" * 10)
    assert told_blocks(rig, "a") == 2
    rig.close_file(handle)
    await rig.publish()
    assert told_blocks(rig, "a") == 2
    handle = writer(rig)
    rig.volume.holes.allocate(handle.inode, 5 << 30, BLOCK, PUNCH)
    rig.close_file(handle)
    await rig.publish()
    assert told_blocks(rig, "a") == 1


async def test_a_dense_file_takes_its_size_however_it_came_to_be(rig: Rig) -> None:
    handle = writer(rig)
    for offset in (0, 200_000, 100_000):
        await rig.write_at(handle, offset, b"x" * 100_000)
    assert told_blocks(rig, "a") == -(-300_000 // BLOCK)
    rig.close_file(handle)
    await rig.publish()
    handle = writer(rig)
    await rig.write_at(handle, 1000, b"y")
    await rig.write_at(handle, 290_000, b"z" * 20_000)
    assert told_blocks(rig, "a") == -(-310_000 // BLOCK)
    rig.close_file(handle)
    await rig.publish()
    assert told_blocks(rig, "a") == -(-310_000 // BLOCK)
    await rig.write("tiny", b"x")
    assert told_blocks(rig, "tiny") == 1
    rig.symlink("tiny", "link")
    assert told_blocks(rig, "link") == 0


async def test_a_hole_punched_where_one_is_already_takes_no_block_away(rig: Rig) -> None:
    data = random.Random(1).randbytes(100 * BLOCK)
    handle = writer(rig)
    await rig.write_at(handle, 0, data)
    rig.truncate("a", 200 * BLOCK)
    rig.close_file(handle)
    await rig.publish()
    assert told_blocks(rig, "a") == 100
    handle = writer(rig)
    for _ in range(2):
        rig.volume.holes.allocate(handle.inode, 100 * BLOCK, 100 * BLOCK, PUNCH)
        assert told_blocks(rig, "a") == 100
    await rig.write_at(handle, 10 * BLOCK, data[: 5 * BLOCK])
    assert told_blocks(rig, "a") >= 100
    rig.close_file(handle)
    assert told_blocks(rig, "a") >= 100
    await rig.publish()
    assert told_blocks(rig, "a") == 100


async def test_what_is_punched_out_of_a_dense_file_is_told_at_once(rig: Rig) -> None:
    await rig.write("a", random.Random(1).randbytes(100 * BLOCK - 10))
    await rig.publish()
    handle = writer(rig)
    rig.volume.holes.allocate(handle.inode, 80 * BLOCK, 20 * BLOCK, PUNCH)
    await rig.write_at(handle, 10 * BLOCK, b"x" * 5 * BLOCK)
    assert told_blocks(rig, "a") == 80
    rig.close_file(handle)


async def test_bytes_that_lie_across_two_blocks_take_both(rig: Rig) -> None:
    handle = writer(rig)
    rig.truncate("a", 20 * BLOCK)
    await rig.write_at(handle, 3 * BLOCK - 1, b"xx")
    assert told_blocks(rig, "a") == 2
    await rig.write_at(handle, 3 * BLOCK + 10, b"x")
    assert told_blocks(rig, "a") == 2, "a block is counted once"
    rig.close_file(handle)


def blocks_with_bytes(data: bytearray) -> int:
    """As few blocks as any file system could take for it."""
    return sum(any(data[start : start + BLOCK]) for start in range(0, len(data), BLOCK))


@pytest.mark.parametrize("seed", range(40))
async def test_no_edit_makes_a_file_tell_fewer_blocks_than_have_data(rig: Rig, seed: int) -> None:
    """Archivers take a file of no blocks for one hole, and never read it."""
    chance = random.Random(seed)
    handle = writer(rig)
    wanted = bytearray()
    for number in range(40):
        place = chance.randrange(BLOCKS * BLOCK)
        place -= place % BLOCK if chance.random() < 0.6 else 0
        length = chance.choice([1, BLOCK - 1, BLOCK, 5000, 20_000, 80_000])
        match chance.choice(["write", "write", "punch", "truncate", "close", "publish"]):
            case "write":
                wanted.extend(bytes(max(0, place + length - len(wanted))))
                wanted[place : place + length] = data = chance.randbytes(length)
                await rig.write_at(handle, place, data)
            case "punch":
                rig.volume.holes.allocate(handle.inode, place, length, PUNCH)
                end = min(place + length, len(wanted))
                wanted[place:end] = bytes(max(0, end - place))
            case "truncate":
                wanted.extend(bytes(max(0, place - len(wanted))))
                del wanted[place:]
                rig.truncate("a", place)
            case "close":
                rig.close_file(handle)
                handle = writer(rig)
            case _:
                rig.close_file(handle)
                await rig.publish()
                handle = writer(rig)
        told = told_blocks(rig, "a")
        assert blocks_with_bytes(wanted) <= told <= -(-len(wanted) // BLOCK), f"edit {number}"
    assert rig.read("a") == bytes(wanted)
    rig.close_file(handle)


@pytest.mark.parametrize("seed", range(8))
async def test_blocks_are_those_with_data_once_a_file_is_published(rig: Rig, seed: int) -> None:
    chance = random.Random(seed)
    handle = writer(rig)
    rig.truncate("a", BLOCKS * BLOCK)
    taken: set[int] = set()
    for _ in range(20):
        block = chance.randrange(BLOCKS - 4)
        count = chance.randrange(1, 5)
        if chance.random() < 0.7:
            await rig.write_at(handle, block * BLOCK, chance.randbytes(count * BLOCK))
            taken.update(range(block, block + count))
        else:
            rig.volume.holes.allocate(handle.inode, block * BLOCK, count * BLOCK, PUNCH)
            taken.difference_update(range(block, block + count))
        assert told_blocks(rig, "a") == len(taken)
        if chance.random() < 0.2:
            rig.close_file(handle)
            await rig.publish()
            assert told_blocks(rig, "a") == len(taken)
            rig.abandon()
            rig.open()
            await rig.volume.holdings.count()
            assert told_blocks(rig, "a") == len(taken), "it is counted again after a start"
            break
    else:
        rig.close_file(handle)
        await rig.publish()
        assert told_blocks(rig, "a") == len(taken)
