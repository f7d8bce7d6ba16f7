"""Long files are cut while they are written: a kill or a power cut in the middle costs nothing of them."""

import os
import random
from dataclasses import dataclass

import pytest
import trio

from dittofs.chunks.ahead import DIRECTORY as AHEAD
from dittofs.volume import ahead
from tests.simulation.disk import SimulatedDisk
from tests.simulation.rig import Rig

KIB = 1 << 10
PIECE = 128 * KIB
STRAYS = f"chunks/{AHEAD}"
AHEAD_EVENTS = 20

pytestmark = pytest.mark.logs_warning("staged content was never durable", "staged content cannot be read")


@dataclass
class Instant:
    """A copy of the disk just before an event; what was closed, and what was durable too, by then."""

    event: str
    disk: SimulatedDisk
    closed: dict[str, bytes]
    durable: dict[str, bytes]


@pytest.fixture(scope="module")
def instants() -> list[Instant]:
    """Three files: streamed, rewritten behind the cut, and appended to after it was published open."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ahead, "BEGIN_BYTES", 256 * KIB)
        patch.setattr(ahead, "STEP_BYTES", 384 * KIB)
        patch.setattr(ahead, "BEHIND_BYTES", 16 * KIB)
        return trio.run(tell)


async def tell() -> list[Instant]:
    disk = SimulatedDisk()
    rig = Rig(disk)
    told: list[Instant] = []
    closed: dict[str, bytes] = {}
    durable: dict[str, bytes] = {}
    disk.hook = lambda event: told.append(Instant(event, disk.fork(), dict(closed), dict(durable)))
    for number, name in enumerate(("streamed", "rewritten", "synced")):
        data = bytearray(random.Random(number).randbytes(10 * PIECE))
        handle = rig.open_file(name, os.O_RDWR | os.O_CREAT)
        for offset in range(0, len(data), PIECE):
            await rig.write_at(handle, offset, bytes(data[offset : offset + PIECE]))
            while await rig.volume.publisher.ahead.step():
                pass
            if name == "rewritten" and offset == 7 * PIECE:
                await rig.write_at(handle, 1000, b"rewritten")
                data[1000:1009] = b"rewritten"
            if name == "synced" and offset == 5 * PIECE:
                await rig.volume.files.fsync(handle.inode)
                await rig.publish()
        rig.close_file(handle)
        closed[name] = bytes(data)
        await rig.publish()
        await rig.volume.files.sync()
        durable[name] = bytes(data)
    disk.hook = None
    return told


def assert_sound(rig: Rig, disk: SimulatedDisk, promised: dict[str, bytes]) -> None:
    """What was promised is there whole, all that is there can be read, and nothing is left over."""
    assert not disk.listdir(STRAYS)
    for name in rig.listing(""):
        rig.read(name)
    for name, data in promised.items():
        assert rig.read(name) == data
    rig.abandon()


def test_all_was_seen(instants: list[Instant]) -> None:
    assert sum(AHEAD in instant.event for instant in instants) > AHEAD_EVENTS
    assert any(instant.event.startswith("rename") and AHEAD in instant.event for instant in instants)


def test_after_a_kill_what_was_closed_is_there_and_nothing_is_left_over(instants: list[Instant]) -> None:
    for instant in instants:
        disk = instant.disk.fork()
        disk.kill()
        rig = Rig(disk, seed=9)
        assert not rig.volume.replica.chunks.notes
        trio.run(rig.publish)
        assert_sound(rig, disk, instant.closed)


def test_after_a_power_cut_nothing_is_named_that_was_not_durable(instants: list[Instant]) -> None:
    for seed, instant in enumerate(instants):
        disk = instant.disk.fork()
        disk.crash(seed)
        rig = Rig(disk, seed=9, machine="machine/boot-2")
        trio.run(rig.publish)
        assert_sound(rig, disk, instant.durable)
