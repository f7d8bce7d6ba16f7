"""What a check says of bytes that are not on this device."""

import random
from pathlib import Path

import pytest
import trio

from dittofs.control.protocol import CheckDone, CheckItem, Finding
from dittofs.errors import Damaged
from dittofs.local_disk import LocalDisk
from dittofs.volume.opening import rescue_replica
from dittofs.volume.room import FREE_BYTES_FLOOR
from mountd.checking import Elsewhere, check
from mountd.reports import findings
from tests.simulation.disk import SimulatedDisk
from tests.simulation.pair import Pair
from tests.simulation.rig import Rig


async def test_bytes_on_another_device_are_missing_and_no_damage_unless_there_is_no_other(
    tmp_path: Path,
) -> None:
    pair = Pair(LocalDisk(str(tmp_path / "a")), LocalDisk(str(tmp_path / "b")))
    await pair.a.write("f", b"x" * 100_000)
    await pair.settle()
    await pair.b.write("mine", b"y" * 100)
    await pair.b.publish()
    items = [item async for item in check(pair.b.volume, [], Elsewhere(is_alone=False))]
    (finding,) = (item for item in items if isinstance(item, Finding))
    assert (finding.severity, finding.what) == ("warning", "missing")
    assert finding.detail.startswith("1 file is not whole on this device: ")
    assert "100000 bytes" in finding.detail
    assert finding.detail.endswith(": f")
    assert isinstance(items[-1], CheckDone)
    assert (items[-1].files, items[-1].bytes, items[-1].findings) == (2, 100, 0)

    items = [item async for item in check(pair.b.volume, [])]
    assert [(one.severity, one.path) for one in items if isinstance(one, Finding)] == [("damage", "f")]
    assert not pair.from_a.fetched, "a check fetches nothing"
    pair.abandon()


def flipped(directory: Path) -> None:
    """One bit of the first pack, in the middle of its largest frame."""
    pack = min(directory.rglob("*.pack"))
    raw = bytearray(pack.read_bytes())
    raw[len(raw) // 2] ^= 1
    pack.write_bytes(raw)


async def test_what_was_found_damaged_is_known_after_a_restart_until_it_is_whole(tmp_path: Path) -> None:
    rig = Rig(LocalDisk(str(tmp_path / "a")))
    data = random.Random(1).randbytes(100_000)
    await rig.write("f", data)
    await rig.write("sound", b"s" * 100_000)
    await rig.publish()
    flipped(tmp_path)
    with pytest.raises(Damaged):
        rig.read("f")
    await counted(rig)
    assert len(rig.volume.holdings.damaged) == 1
    rig.abandon()
    rig.open()
    await counted(rig)
    assert [inode for inode, _ in rig.volume.holdings.damaged] == [rig.walk("f").id]
    flipped(tmp_path)  # as it was
    rig.abandon()
    rig.open()
    await counted(rig)
    assert not rig.volume.holdings.damaged
    assert rig.read("f") == data
    rig.abandon()


async def counted(rig: Rig) -> None:
    """What the volume does in the background, once through."""
    holdings = rig.volume.holdings
    async with trio.open_nursery() as nursery:
        nursery.start_soon(holdings.run)
        with trio.fail_after(5):
            while holdings.missing is None or holdings.bytes_here is None:  # noqa: ASYNC110 - it tells nobody
                await trio.sleep(0.01)
        await trio.sleep(0.05)  # it is written down after that
        nursery.cancel_scope.cancel()


async def test_what_a_check_or_a_read_finds_damaged_is_known_until_nothing_shown_needs_it(
    tmp_path: Path,
) -> None:
    rig = Rig(LocalDisk(str(tmp_path / "a")))
    await rig.write("f", random.Random(1).randbytes(100_000))
    await rig.publish()
    holdings = rig.volume.holdings
    async with trio.open_nursery() as nursery:
        nursery.start_soon(holdings.run)
        while holdings.missing is None:  # noqa: ASYNC110 - it tells nobody
            await trio.sleep(0.01)
        assert (list(holdings.missing), list(holdings.damaged)) == ([], [])
        flipped(tmp_path)
        with pytest.raises(Damaged):
            rig.read("f")
        with trio.fail_after(5):
            while not holdings.damaged:  # noqa: ASYNC110 - it tells nobody
                await trio.sleep(0.01)
        ((_, lost),) = holdings.damaged
        assert list(holdings.missing or ()) == [lost]
        nursery.cancel_scope.cancel()
    await holdings.count()
    assert holdings.damaged
    found = [one async for one in check(rig.volume, []) if isinstance(one, Finding)]
    assert {one.severity for one in found} == {"damage"}

    await rig.unlink("f")
    await rig.publish()
    await holdings.look_again()
    assert not holdings.damaged
    assert not holdings.missing
    again = [one async for one in check(rig.volume, [], repair=True) if isinstance(one, Finding)]
    assert [one.severity for one in again] == ["warning"], "a frame that nothing shown needs is no damage"
    assert "nothing that is shown needs it" in again[0].detail


async def test_a_check_has_told_the_status_what_it_found_when_it_ends(tmp_path: Path) -> None:
    rig = Rig(LocalDisk(str(tmp_path / "a")))
    await rig.write("f", random.Random(1).randbytes(100_000))
    await rig.write("sound", random.Random(2).randbytes(10))
    await rig.publish()
    await rig.volume.holdings.count()
    flipped(tmp_path)
    items = [one async for one in check(rig.volume, [])]
    assert isinstance(items[-1], CheckDone)
    assert [inode for inode, _ in rig.volume.holdings.damaged] == [rig.walk("f").id]


async def test_what_an_open_journal_cannot_be_mended_of_is_mended_before_it_is_opened_again(
    tmp_path: Path,
) -> None:
    rig = Rig(LocalDisk(str(tmp_path / "a")))
    await rig.write("f", b"x" * 100_000)
    await rig.publish()
    journal = rig.volume.replica.journal
    with journal.transaction():
        journal.put_local("kind", b"key", b"value")
        journal._database.statements.run("test", "UPDATE local SET value=zeroblob(5) WHERE kind='kind'")

    def damage(found: list[CheckItem]) -> list[str]:
        return [one.detail for one in found if isinstance(one, Finding) and one.severity == "damage"]

    assert damage([one async for one in check(rig.volume, [])])
    assert not list(findings(rig.volume, tmp_path))
    rig.abandon()
    rig.open()  # a check alone changes nothing
    found = [one async for one in check(rig.volume, [], repair=True)]
    assert damage(found)
    assert isinstance(found[-1], CheckDone)
    assert found[-1].mended < found[-1].findings
    assert any("daemon --stop" in one.mend for one in found if isinstance(one, Finding))
    (told,) = findings(rig.volume, tmp_path)
    assert (told.severity, told.what) == ("damage", "journal")
    assert "daemon --stop" in told.mend
    rig.abandon()
    with pytest.raises(Damaged, match=r"journal\.db"):
        rig.open()
    (lost,) = rescue_replica(rig.disk)
    assert "rows of this device" in lost.detail
    rig.open()
    assert not damage([one async for one in check(rig.volume, [])])
    assert rig.read("f") == b"x" * 100_000
    rig.abandon()


async def test_status_says_that_the_disk_leaves_writers_no_room() -> None:
    disk = SimulatedDisk()
    rig = Rig(disk)
    assert not list(findings(rig.volume, Path("/state")))
    disk.capacity += FREE_BYTES_FLOOR - disk.free_bytes()
    (told,) = findings(rig.volume, Path("/state"))
    assert told.what == "disk"
    assert "refused until there is more" in told.detail
    rig.abandon()
