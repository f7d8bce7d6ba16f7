"""`.dittofs/at/`: the past as files, for any program."""

import errno
import os

import pytest

from dittofs.errors import FSError
from dittofs.history.snapshots import create_snapshot
from dittofs.history.times import parse_time, time_name
from tests.simulation.pair import Pair
from tests.simulation.rig import Rig, settled

NOW = 1_795_269_727_123_456_789  # 2026-11-21T14:02:07.123456789Z


def test_times_are_understood_as_people_write_them() -> None:
    day = NOW - NOW % 86_400_000_000_000
    cases = {
        "2026-11-21": day,
        "2026-11-21T14:02": NOW - 7_123_456_789,
        "2026-11-21 14.02": NOW - 7_123_456_789,
        "2026-11-21T14:02:07Z": NOW - 123_456_789 + 999_999_999,
        "2026-11-21T14:02:07.123Z": NOW - 456_789 + 999_999,
        "now": NOW,
        "today": day,
        "yesterday": NOW - 86_400_000_000_000,
        "3h": NOW - 3 * 3_600_000_000_000,
        "90 min ago": NOW - 5_400_000_000_000,
    }
    for text, at in cases.items():
        assert parse_time(text, NOW) == at, text
    for text in ("", "2026-13-01", "then", "3 x", "2026-11-21T25:00", "99999999w", "../x"):
        assert parse_time(text, NOW) is None, text
    assert time_name(NOW) == "2026-11-21T14:02:07Z"
    assert time_name(NOW, 3) == "2026-11-21T14:02:07.123Z"


def at_now(rig: Rig) -> str:
    return ".dittofs/at/" + time_name(rig.volume.replica.journal.history.last_at, 9)


async def test_a_time_shows_names_bytes_modes_times_links_and_targets_as_they_were(rig: Rig) -> None:
    rig.mkdir("d", 0o750)
    await rig.write("d/a", b"first")
    rig.symlink("d/a", "s")
    await rig.publish()
    rig.link("d/a", "b")
    rig.chmod("d/a", 0o640)
    stat, listing = rig.stat("d/a"), rig.listing("")
    then = at_now(rig)
    rig.clock.advance(100)
    await rig.write("d/a", b"second!")
    await rig.rename("b", "c")
    await rig.unlink("s")
    await rig.publish()
    rig.chmod("d/a", 0o600)
    assert rig.listing(then) == listing == ["b", "d", "s"]
    assert rig.read(f"{then}/d/a") == rig.read(f"{then}/b") == b"first"
    past = rig.stat(f"{then}/d/a")
    assert (past.mode, past.size, past.mtime, past.nlink) == (0o640, 5, stat.mtime, 2)
    assert past.number == rig.stat(f"{then}/b").number != stat.number
    assert rig.stat(f"{then}/d").mode == 0o750
    assert rig.volume.names.target(rig.walk(f"{then}/s")) == b"d/a"
    assert rig.listing(at_now(rig)) == ["c", "d"]


async def test_nothing_in_it_can_be_changed(rig: Rig) -> None:
    rig.mkdir("d")
    await rig.write("d/a", b"first")
    await rig.publish()
    then = at_now(rig)
    for call in (
        lambda: rig.open_file(f"{then}/d/a", os.O_RDWR),
        lambda: rig.chmod(f"{then}/d/a", 0o777),
        lambda: rig.truncate(f"{then}/d/a", 0),
        lambda: rig.mkdir(f"{then}/new"),
        lambda: rig.link(f"{then}/d/a", "b"),
        lambda: rig.symlink("x", f"{then}/s"),
    ):
        with pytest.raises(FSError) as raised:
            call()
        assert raised.value.errno in (errno.EROFS, errno.EXDEV, errno.EPERM)
    for change in (rig.unlink(f"{then}/d/a"), rig.rename(f"{then}/d", "e"), rig.rename("d", f"{then}/e")):
        with pytest.raises(FSError) as raised:
            await change
        assert raised.value.errno in (errno.EROFS, errno.EXDEV)
    assert rig.listing("") == ["d"]


async def test_only_times_that_are_known_can_be_looked_at(rig: Rig) -> None:
    await rig.write("a", b"x")
    await rig.publish()
    for name in ("1y", "2001-01-01", "2100-01-01", "sometime"):
        assert not rig.exists(f".dittofs/at/{name}")
    rig.clock.advance(7200)
    assert rig.read(".dittofs/at/1h/a") == b"x"
    assert rig.walk(".dittofs/at/1h").number == rig.walk(".dittofs/at/1h").number
    assert any(name.endswith(":00") for name in rig.listing(".dittofs/at"))


async def test_what_nobody_refers_to_is_dropped(rig: Rig) -> None:
    for number in range(50):
        await rig.write(f"f{number}", b"x")
    await rig.publish()
    then = at_now(rig)
    for name in rig.listing(then):
        inode = rig.walk(f"{then}/{name}")
        inode.lookups = 1
        rig.volume.state.inodes.forget(inode, 1)
    assert sum(one.past is not None for one in rig.volume.state.inodes) <= 2


async def test_a_snapshot_is_read_on_another_device_that_fetches_what_it_needs(pair: Pair) -> None:
    pair.a.mkdir("d")
    await pair.a.write("d/a", b"first")
    await pair.a.publish()
    await create_snapshot(pair.a.volume.replica, pair.a.volume.publisher, "mine")
    await pair.a.write("d/a", b"other")
    await pair.settle()
    b = pair.b
    assert "mine" in b.listing(".dittofs/at")
    for path in (".dittofs/at/mine", ".dittofs/at/mine/d"):
        virtual = b.walk(path).virtual
        assert virtual is not None
        await settled(virtual.prepare())
    assert b.listing(".dittofs/at/mine") == ["d"]
    assert await b.fetch(".dittofs/at/mine/d/a") == b"first"


async def test_a_large_directory_is_read_in_slices_and_whole(rig: Rig) -> None:
    rig.mkdir("d")
    names = [f"{number:03}" for number in range(300)]
    for name in names:
        await rig.write(f"d/{name}", b"x")
    await rig.publish()
    then = at_now(rig)
    await rig.unlink("d/000")
    virtual = rig.walk(f"{then}/d").virtual
    assert virtual is not None
    waiting = virtual.prepare()
    assert waiting is not None
    await waiting
    assert virtual.prepare() is None
    assert rig.listing(f"{then}/d") == names
