"""A long file is cut while it is written, and only what is there at its end counts."""

import os
import random

import pytest

from dittofs.chunks import ahead as packs_ahead
from dittofs.chunks.ahead import DIRECTORY as AHEAD
from dittofs.errors import DiskError, FSError
from dittofs.volume import ahead, cut_ahead
from dittofs.volume.files import Handle
from dittofs.volume.holes import KEEP_SIZE, PUNCH_HOLE
from dittofs.volume.room import FREE_BYTES_FLOOR
from dittofs.volume.staging import Layer
from tests.simulation.disk import SimulatedDisk
from tests.simulation.rig import Rig

KIB = 1 << 10
PIECE = 256 * KIB
STRAYS = f"chunks/{AHEAD}"
WRITER = os.O_RDWR | os.O_CREAT


@pytest.fixture
def disk() -> SimulatedDisk:
    return SimulatedDisk()


@pytest.fixture
def rig(disk: SimulatedDisk) -> Rig:
    return Rig(disk)


@pytest.fixture(autouse=True)
def short_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of a few MiB are as long ones."""
    monkeypatch.setattr(ahead, "BEGIN_BYTES", 1024 * KIB)
    monkeypatch.setattr(ahead, "STEP_BYTES", 512 * KIB)
    monkeypatch.setattr(ahead, "BEHIND_BYTES", 64 * KIB)


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


async def cut(rig: Rig) -> None:
    """All that may be cut by now."""
    while await rig.volume.publisher.ahead.step():
        pass


async def stream(rig: Rig, handle: Handle, data: bytes, start: int = 0) -> None:
    """Write in pieces, and have them cut as they come."""
    for offset in range(0, len(data), PIECE):
        await rig.write_at(handle, start + offset, data[offset : offset + PIECE])
        await cut(rig)


def layer_of(rig: Rig, handle: Handle) -> Layer:
    content = rig.volume.state.content(handle.inode)
    assert content is not None
    return content.top


def cut_bytes(rig: Rig, handle: Handle) -> int:
    """What is known of the file already."""
    found = layer_of(rig, handle).ahead
    return 0 if found is None else sum(length for _, length, _ in found.known)


def strays(rig: Rig) -> list[str]:
    return list(rig.disk.listdir(STRAYS))


async def assert_published(rig: Rig, path: str, data: bytes) -> None:
    """The file has these bytes, its root is that of bytes written at once, and nothing is left over."""
    await rig.publish()
    assert rig.read(path) == data
    assert not strays(rig)
    await rig.write("plain", data)
    await rig.publish()
    shown, plain = (rig.volume.state.newest(rig.walk(one)) for one in (path, "plain"))
    assert (shown.root, shown.size) == (plain.root, plain.size)


async def test_a_long_file_is_cut_while_it_is_open_and_published_whole(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = noise(4 * 1024 * KIB)
    handle = rig.open_file("long", WRITER)
    await stream(rig, handle, data)
    assert cut_bytes(rig, handle) > len(data) - 1024 * KIB
    layer = layer_of(rig, handle)
    reads: list[int] = []
    read_own = layer.read_own

    def noted(start: int, end: int) -> bytes:
        reads.append(start)
        return read_own(start, end)

    monkeypatch.setattr(layer, "read_own", noted)
    rig.close_file(handle)
    await rig.publish()
    assert min(reads) > len(data) - 1024 * KIB, "what was cut is not read again"
    await assert_published(rig, "long", data)


async def test_a_file_of_some_megabytes_is_not_cut_ahead(rig: Rig) -> None:
    handle = rig.open_file("short", WRITER)
    await stream(rig, handle, noise(1000 * KIB))
    assert layer_of(rig, handle).ahead is None
    assert not strays(rig)


async def test_a_header_written_last_costs_the_chunks_around_it(rig: Rig) -> None:
    data = noise(3 * 1024 * KIB)
    handle = rig.open_file("film", WRITER)
    await stream(rig, handle, data)
    before = cut_bytes(rig, handle)
    await rig.write_at(handle, 0, b"header")
    assert before - 256 * KIB <= cut_bytes(rig, handle) < before
    rig.close_file(handle)
    await assert_published(rig, "film", b"header" + data[6:])


@pytest.mark.parametrize("size", [0, 10, 700 * KIB, 2 * 1024 * KIB + 1])
async def test_what_is_cut_off_is_forgotten(rig: Rig, size: int) -> None:
    data = noise(3 * 1024 * KIB)
    handle = rig.open_file("cut", WRITER)
    await stream(rig, handle, data)
    rig.truncate("cut", size)
    assert cut_bytes(rig, handle) <= size
    tail = noise(100 * KIB, 2)
    await stream(rig, handle, tail, size)
    rig.close_file(handle)
    await assert_published(rig, "cut", data[:size] + tail)


async def test_a_hole_punched_into_what_was_cut_is_a_hole(rig: Rig) -> None:
    data = noise(3 * 1024 * KIB)
    handle = rig.open_file("holed", WRITER)
    await stream(rig, handle, data)
    rig.volume.holes.allocate(handle.inode, 500_000, 800_000, PUNCH_HOLE | KEEP_SIZE)
    rig.close_file(handle)
    await rig.publish()
    assert rig.read("holed") == data[:500_000] + bytes(800_000) + data[1_300_000:]
    assert not strays(rig)


async def test_what_is_written_behind_a_hole_is_cut_too(rig: Rig) -> None:
    data = noise(2 * 1024 * KIB)
    handle = rig.open_file("sparse", WRITER)
    await stream(rig, handle, data)
    await stream(rig, handle, data, 5 * 1024 * KIB)
    assert cut_bytes(rig, handle) > 3 * 1024 * KIB
    rig.close_file(handle)
    await rig.publish()
    assert rig.read("sparse") == data + bytes(3 * 1024 * KIB) + data
    assert not strays(rig)


async def test_what_is_appended_to_a_published_file_is_cut_ahead(rig: Rig) -> None:
    old, new = noise(900_000), noise(3 * 1024 * KIB, 2)
    await rig.write("log", old)
    await rig.publish()
    handle = rig.open_file("log", os.O_WRONLY)
    await stream(rig, handle, new, len(old))
    assert cut_bytes(rig, handle) > 2 * 1024 * KIB
    rig.close_file(handle)
    await assert_published(rig, "log", old + new)


async def test_two_writers_of_one_file_are_both_kept(rig: Rig) -> None:
    data, other = noise(3 * 1024 * KIB), noise(3 * 1024 * KIB, 2)
    one, two = rig.open_file("both", WRITER), rig.open_file("both", os.O_RDWR)
    wanted = bytearray(data)
    for offset in range(0, len(data), PIECE):
        await rig.write_at(one, offset, data[offset : offset + PIECE])
        await cut(rig)
        behind = max(0, offset - 3 * PIECE)
        await rig.write_at(two, behind, other[behind : behind + 1000])
        wanted[behind : behind + 1000] = other[behind : behind + 1000]
    rig.close_file(one)
    rig.close_file(two)
    await assert_published(rig, "both", bytes(wanted))


async def test_what_is_rewritten_over_and_over_is_not_cut_any_more(rig: Rig) -> None:
    handle = rig.open_file("database", WRITER)
    await stream(rig, handle, noise(3 * 1024 * KIB))
    chance = random.Random(3)
    for _ in range(40):
        await rig.write_at(handle, 4096 * chance.randrange(700), bytes(4096))
    found = layer_of(rig, handle).ahead
    assert found is not None
    assert found.is_over
    end = found.end
    await stream(rig, handle, noise(3 * 1024 * KIB, 2), 3 * 1024 * KIB)
    assert found.end == end


async def test_one_page_rewritten_at_each_commit_does_not_end_it(rig: Rig) -> None:
    handle = rig.open_file("growing", WRITER)
    wanted = bytearray()
    for number in range(16):
        wanted[number * PIECE :] = noise(PIECE, number)
        await stream(rig, handle, bytes(wanted[number * PIECE :]), number * PIECE)
        wanted[:100] = noise(100, 50 + number)
        await rig.write_at(handle, 0, bytes(wanted[:100]))
    assert cut_bytes(rig, handle) > 3 * 1024 * KIB
    rig.close_file(handle)
    await assert_published(rig, "growing", bytes(wanted))


async def test_what_is_written_while_it_is_cut_does_not_count(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = bytearray(noise(3 * 1024 * KIB))
    handle = rig.open_file("racing", WRITER)
    monkeypatch.setattr(cut_ahead, "WASTE_SHIFT", 0)
    raced: list[int] = []
    chance = random.Random(5)
    read_own = Layer.read_own

    def racing(self: Layer, start: int, end: int) -> bytes:
        """Between the bytes that were read and what is made of them somebody writes."""
        found = read_own(self, start, end)
        if self.ahead is not None and self.ahead.is_cutting and end - start > PIECE:
            place = chance.randrange(start, end)
            self.write(place, b"raced")
            data[place : place + 5] = b"raced"
            raced.append(place)
        return found

    monkeypatch.setattr(Layer, "read_own", racing)
    for offset in range(0, len(data), PIECE):
        await rig.write_at(handle, offset, bytes(data[offset : offset + PIECE]))
        await cut(rig)
    layer = layer_of(rig, handle)
    assert len(raced) > 3
    assert layer.ahead is not None
    assert len(layer.ahead.known)
    rig.close_file(handle)
    monkeypatch.setattr(Layer, "read_own", read_own)
    await assert_published(rig, "racing", bytes(data))


async def test_a_file_removed_while_it_is_written_gives_everything_back(rig: Rig) -> None:
    handle = rig.open_file("temporary", WRITER)
    await stream(rig, handle, noise(3 * 1024 * KIB))
    assert strays(rig)
    await rig.unlink("temporary")
    assert not strays(rig)
    await stream(rig, handle, noise(3 * 1024 * KIB, 2), 3 * 1024 * KIB)
    assert not strays(rig), "nobody will publish it"
    rig.close_file(handle)
    assert not list(rig.volume.replica.chunks.ids())


async def test_what_stays_on_this_device_is_not_cut(rig: Rig) -> None:
    await rig.write(".dittoignore", b"*.tmp\n")
    handle = rig.open_file("scratch.tmp", WRITER)
    await stream(rig, handle, noise(3 * 1024 * KIB))
    assert layer_of(rig, handle).ahead is None
    rig.close_file(handle)


async def test_a_file_saved_over_another_keeps_what_was_cut(rig: Rig) -> None:
    await rig.write("document", b"old")
    await rig.publish()
    data = noise(3 * 1024 * KIB)
    handle = rig.open_file("document.new", WRITER)
    await stream(rig, handle, data)
    await rig.rename("document.new", "document")
    assert cut_bytes(rig, handle) > 2 * 1024 * KIB
    rig.close_file(handle)
    await assert_published(rig, "document", data)


async def test_what_is_published_while_it_is_open_goes_on_being_cut(rig: Rig) -> None:
    data = noise(6 * 1024 * KIB)
    half = len(data) // 2
    handle = rig.open_file("long", WRITER)
    await stream(rig, handle, data[:half])
    await rig.volume.files.fsync(handle.inode)
    await rig.publish()
    assert not strays(rig)
    await stream(rig, handle, data[half:], half)
    assert cut_bytes(rig, handle) > 2 * 1024 * KIB
    rig.close_file(handle)
    await assert_published(rig, "long", data)


async def test_what_is_written_on_while_the_last_version_waits_is_cut_too(rig: Rig) -> None:
    data = noise(4 * 1024 * KIB)
    handle = rig.open_file("log", WRITER)
    await rig.write_at(handle, 0, data[:100_000])
    rig.close_file(handle)
    handle = rig.open_file("log", WRITER)
    await stream(rig, handle, data[100_000:], 100_000)
    assert cut_bytes(rig, handle) > 3 * 1024 * KIB
    rig.close_file(handle)
    await assert_published(rig, "log", data)


async def test_a_full_disk_takes_back_what_was_cut_before_a_writer_is_refused(
    rig: Rig, disk: SimulatedDisk
) -> None:
    handle = rig.open_file("long", WRITER)
    data = noise(4 * 1024 * KIB)
    await stream(rig, handle, data[: 3 * 1024 * KIB])
    cut_so_far = cut_bytes(rig, handle)
    assert cut_so_far > 2 * 1024 * KIB
    # Room for the rest of the file, if what was cut is not there.
    disk.capacity = disk.total_bytes() - disk.free_bytes() - cut_so_far + FREE_BYTES_FLOOR + 1024 * KIB
    rig.volume.files._until_room_check = 0
    await stream(rig, handle, data[3 * 1024 * KIB :], 3 * 1024 * KIB)
    assert not strays(rig)
    with pytest.raises(FSError, match="nearly full"):
        rig.volume.files._until_room_check = 0
        await stream(rig, handle, data, 4 * 1024 * KIB)
    disk.capacity = 1 << 40
    rig.truncate("long", len(data))
    rig.close_file(handle)
    await assert_published(rig, "long", data)


@pytest.mark.parametrize("event", ["read", "write"])
async def test_a_writer_has_the_room_back_while_a_thread_still_cuts(
    rig: Rig, disk: SimulatedDisk, monkeypatch: pytest.MonkeyPatch, event: str
) -> None:
    monkeypatch.setattr(packs_ahead, "PACK_BYTES_MAX", 700 * KIB)  # most packs are finished
    handle = rig.open_file("long", WRITER)
    data = noise(4 * 1024 * KIB)
    await stream(rig, handle, data[: 3 * 1024 * KIB])
    assert len(strays(rig)) == 3
    await rig.write_at(handle, 3 * 1024 * KIB, data[3 * 1024 * KIB : -1000])
    told: list[int] = []

    def write() -> None:
        """Somebody fills the disk while the thread is at it, and the writer goes on."""
        if told:
            return
        disk.capacity = disk.total_bytes() - disk.free_bytes() + FREE_BYTES_FLOOR
        rig.volume.files._until_room_check = 0
        told.append(disk.free_bytes())
        written = rig.volume.files.write(handle.inode, len(data) - 1000, data[-1000:])
        assert written == 1000
        told.append(disk.free_bytes())

    read_own = Layer.read_own

    def reading(self: Layer, start: int, end: int) -> bytes:
        if event == "read":
            write()
        return read_own(self, start, end)

    def writing(what: str) -> None:
        if event == "write" and what.startswith(f"write {STRAYS}"):
            write()

    monkeypatch.setattr(Layer, "read_own", reading)
    disk.hook = writing
    await cut(rig)
    before, after = told
    assert after > before + 2 * 1024 * KIB
    disk.hook = None
    disk.capacity = 1 << 40
    rig.close_file(handle)
    await assert_published(rig, "long", data)


async def test_a_write_that_finds_the_disk_full_is_tried_again_without_what_was_cut(
    rig: Rig, disk: SimulatedDisk
) -> None:
    handle = rig.open_file("long", WRITER)
    data = noise(4 * 1024 * KIB)
    await stream(rig, handle, data[: 3 * 1024 * KIB])
    rig.volume.files._until_room_check = 1 << 30  # nobody looks at the room before the disk says so
    disk.capacity = disk.total_bytes() - disk.free_bytes() + 1000
    await stream(rig, handle, data[3 * 1024 * KIB :], 3 * 1024 * KIB)
    assert not strays(rig)
    disk.capacity = 1 << 40
    rig.close_file(handle)
    await assert_published(rig, "long", data)


async def test_nothing_is_cut_ahead_where_room_is_short(rig: Rig, disk: SimulatedDisk) -> None:
    disk.capacity = disk.total_bytes() - disk.free_bytes() + FREE_BYTES_FLOOR + 4 * 1024 * KIB
    handle = rig.open_file("long", WRITER)
    await stream(rig, handle, noise(3 * 1024 * KIB))
    found = layer_of(rig, handle).ahead
    assert found is None or found.bytes <= 1024 * KIB


async def test_a_disk_that_fails_while_it_is_cut_changes_nothing_for_the_writer(
    rig: Rig, disk: SimulatedDisk
) -> None:
    data = noise(3 * 1024 * KIB)
    handle = rig.open_file("long", WRITER)

    def fail(event: str) -> None:
        if event.startswith(("write", "sync")) and AHEAD in event:
            raise DiskError("now")

    disk.hook = fail
    await stream(rig, handle, data)
    assert not cut_bytes(rig, handle)
    assert not strays(rig)
    disk.hook = None
    rig.close_file(handle)
    await assert_published(rig, "long", data)


@pytest.mark.parametrize("seed", range(25))
async def test_any_writing_is_published_as_if_nothing_was_cut_ahead(rig: Rig, seed: int) -> None:
    chance = random.Random(seed)
    wanted = bytearray()
    handle = rig.open_file("any", WRITER)
    for _ in range(chance.randrange(4, 14)):
        size = len(wanted)
        match chance.choice(["append"] * 5 + ["rewrite", "rewrite", "truncate", "skip", "punch", "sync"]):
            case "append":
                data = noise(chance.choice([10, 70_000, 900_000, 1_500_000]), chance.randrange(1000))
                await stream(rig, handle, data, size)
                wanted += data
            case "rewrite" if size:
                place = chance.randrange(size)
                data = noise(chance.choice([1, 5_000, 300_000]), chance.randrange(1000))
                await stream(rig, handle, data, place)
                wanted[place : place + len(data)] = data
            case "truncate" if size:
                size = chance.randrange(size)
                rig.truncate("any", size)
                del wanted[size:]
            case "skip":
                size += chance.choice([1, 4096, 200_000])
                rig.truncate("any", size)
                wanted.extend(bytes(size - len(wanted)))
            case "punch" if size:
                place = chance.randrange(size)
                length = min(size - place, chance.choice([1, 10_000, 500_000]))
                rig.volume.holes.allocate(handle.inode, place, length, PUNCH_HOLE | KEEP_SIZE)
                wanted[place : place + length] = bytes(length)
            case "sync":
                await rig.volume.files.fsync(handle.inode)
                await rig.publish()
    rig.close_file(handle)
    await rig.publish()
    assert rig.read("any") == bytes(wanted)
    assert not strays(rig)
