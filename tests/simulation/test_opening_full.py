"""A volume is opened on a disk without any room: it is read, says so, and goes on when there is room."""

import errno
import os

import pytest

from dittofs.errors import DittoError
from dittofs.ids import ROOT
from tests.simulation.disk import SimulatedDisk
from tests.simulation.rig import Rig

ROOM = 1 << 40
BYTES = b"o" * 300_000

pytestmark = pytest.mark.logs_warning(
    "volume turned read-only", "background sync failed", "recovered", "publication failed", "saving failed"
)


def fill(disk: SimulatedDisk) -> None:
    disk.capacity = disk.total_bytes() - disk.free_bytes()


async def left() -> Rig:
    """A device that dies: a file is published, one is closed, one is being written, and the log is long."""
    rig = Rig(SimulatedDisk())
    await rig.write("published", BYTES)
    for number in range(60):  # more than the database file has room for
        await rig.write(f"small {number}", b"s" * 500)
    await rig.publish()
    await rig.write("closed", b"just closed")
    await rig.write("edited", b"first")
    await rig.publish()
    handle = rig.open_file("edited", os.O_RDWR)
    await rig.write_at(handle, 0, b"FIRST and more")
    rig.volume.save()
    await rig.write("closed", b"closed again")
    await rig.volume.background_sync()
    return rig


def expect_refused(rig: Rig) -> None:
    for refused in (
        lambda: rig.mkdir("d"),
        lambda: rig.open_file("published", os.O_RDWR),
        lambda: rig.open_file("fresh", os.O_WRONLY | os.O_CREAT),
        lambda: rig.chmod("published", 0o600),
        lambda: rig.truncate("published", 0),
    ):
        with pytest.raises(DittoError) as refusal:
            refused()
        assert refusal.value.errno == errno.ENOSPC


async def finish(rig: Rig) -> None:
    """There is room: the volume goes on by itself, and once more when it is opened again."""
    rig.disk.capacity = ROOM  # type: ignore[attr-defined]
    await rig.volume.background_sync()
    assert rig.volume.summary().read_only is None
    for _ in range(2):
        assert rig.read("published") == BYTES
        assert rig.read("closed") == b"closed again"
        await rig.write("after", b"it goes on")
        await rig.publish()
        recovered = [name for name in rig.listing("") if "recovered" in name]
        assert rig.read("edited") == b"FIRST and more" or rig.read(recovered[0]) == b"FIRST and more"
        rig.abandon()
        rig.open()
    rig.abandon()


@pytest.mark.parametrize("is_power_cut", [False, True], ids=["kill", "power cut"])
async def test_a_volume_on_a_full_disk_is_read_says_why_and_goes_on_when_there_is_room(
    *, is_power_cut: bool
) -> None:
    rig = await left()
    rig.abandon()
    disk = rig.disk
    assert isinstance(disk, SimulatedDisk)
    if is_power_cut:
        disk.crash(1)
        rig.machine = "machine/boot-2"
    fill(disk)
    rig.open()
    assert "the disk is full" in str(rig.volume.summary().read_only)
    assert rig.read("published") == BYTES
    assert rig.read("small 7") == b"s" * 500
    expect_refused(rig)
    await rig.volume.background_sync()
    assert "the disk is full" in str(rig.volume.summary().read_only)
    await finish(rig)


async def test_what_is_not_decided_yet_is_refused_and_never_shown_as_it_was() -> None:
    """After a power cut every unpublished content takes a row before it can be read."""
    rig = await left()
    rig.abandon()
    disk = rig.disk
    assert isinstance(disk, SimulatedDisk)
    disk.crash(1)
    rig.machine = "machine/boot-2"
    fill(disk)
    rig.open()
    with pytest.raises(DittoError) as refusal:
        rig.read("edited")
    assert refusal.value.errno == errno.ENOSPC
    heard: list[tuple[object, bytes | None]] = []
    rig.volume.state.listeners.append(lambda inode, name, _: heard.append((inode.id, name)))
    edited = rig.walk("edited").id
    await finish(rig)
    assert (edited, None) in heard
    assert any(inode == ROOT and name is not None for inode, name in heard)


async def test_a_volume_that_was_never_there_is_not_made_on_a_full_disk() -> None:
    with pytest.raises(DittoError) as refusal:
        Rig(SimulatedDisk(capacity=0))
    assert refusal.value.errno == errno.ENOSPC


async def test_a_disk_with_any_little_room_opens_a_volume_and_loses_nothing() -> None:
    """Wherever opening runs out of room: what it began is ended once there is more."""
    rig = await left()
    rig.abandon()
    disk = rig.disk
    assert isinstance(disk, SimulatedDisk)
    for room in range(0, 60_000, 3_000):
        again = Rig.__new__(Rig)
        again.__dict__.update(rig.__dict__)
        again.disk = disk.fork()
        again.disk.crash(1)
        again.machine = f"machine/boot-{room + 2}"
        fill(again.disk)
        again.disk.capacity += room
        again.open()
        assert again.read("published") == BYTES
        await finish(again)


async def test_who_could_not_claim_a_writer_writes_as_one_that_was_claimed() -> None:
    rig = await left()
    before = rig.volume.replica.slot
    rig.abandon()
    disk = rig.disk
    assert isinstance(disk, SimulatedDisk)
    fill(disk)
    rig.open()
    provisional = rig.volume.replica.slot
    assert provisional != before
    assert provisional not in rig.volume.replica.journal.own_slots()
    disk.capacity = ROOM
    await rig.volume.background_sync()
    assert rig.volume.replica.slot != provisional
    assert rig.volume.replica.slot in rig.volume.replica.journal.own_slots()
    await rig.write("after", b"it goes on")
    await rig.publish()
    states = rig.volume.replica.tree.exchange.states()
    assert states
    rig.abandon()
