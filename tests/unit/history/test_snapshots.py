"""Snapshots keep what a volume showed, on all devices, for little."""

import msgspec
import pytest

from dittofs.control.protocol import Finding
from dittofs.errors import FormatError, FSError
from dittofs.history.snapshots import (
    SETTING,
    Snapshot,
    SnapshotView,
    create_snapshot,
    delete_snapshot,
    find_snapshot,
    known_snapshot_roots,
    snapshot_roots,
    snapshots_of,
    unreadable_snapshots,
)
from dittofs.history.views import View, settled
from mountd.checking import check
from tests.simulation.pair import Pair
from tests.simulation.rig import Rig


async def snapshot_of(rig: Rig, name: str) -> Snapshot:
    return await create_snapshot(rig.volume.replica, rig.volume.publisher, name)


async def paths(view: View) -> dict[str, tuple[int, int, int]]:
    """Size, mode and time of all that a view shows."""
    found = {}
    waiting = [("", view.top())]
    while waiting:
        prefix, directory = waiting.pop()
        for name, entry in (await settled(view.entries(directory))).items():
            path = prefix + name.decode()
            found[path] = (entry.size, entry.mode, entry.mtime)
            if entry.kind == 2:
                found[path] = (0, entry.mode, entry.mtime)
                waiting.append((path + "/", entry))
    return found


async def test_a_snapshot_shows_what_was_whatever_happens_to_the_files(rig: Rig) -> None:
    rig.mkdir("d")
    await rig.write("d/a", b"1")
    await rig.write("b", b"22")
    await rig.publish()
    rig.chmod("b", 0o600)
    snapshot = await snapshot_of(rig, "before")
    assert (snapshot.files, snapshot.bytes) == (2, 3)
    shown = await paths(SnapshotView(rig.volume.state, snapshot))
    await rig.unlink("d/a")
    await rig.rmdir("d")
    await rig.write("b", b"other")
    await rig.publish()
    found = find_snapshot(rig.volume.replica, "before")
    assert found == snapshot
    assert await paths(SnapshotView(rig.volume.state, found)) == shown
    assert {path: one[0] for path, one in shown.items()} == {"d": 0, "d/a": 1, "b": 2}
    assert shown["b"][1] == 0o600


async def test_a_directory_that_did_not_change_costs_nothing_a_second_time(rig: Rig) -> None:
    for directory in ("d", "e"):
        rig.mkdir(directory)
        for number in range(20):
            await rig.write(f"{directory}/{number}", b"%d" % number)
    await rig.publish()
    await snapshot_of(rig, "one")
    await rig.write("d/new", b"n")
    await rig.publish()
    chunks = rig.volume.replica.chunks.statistics().chunks
    await snapshot_of(rig, "two")
    assert rig.volume.replica.chunks.statistics().chunks == chunks + 2  # the root and d


async def test_another_device_sees_a_snapshot_and_fetches_what_it_looks_at(pair: Pair) -> None:
    pair.a.mkdir("d")
    await pair.a.write("d/a", b"1")
    await pair.a.publish()
    snapshot = await snapshot_of(pair.a, "mine")
    await pair.settle()
    assert snapshots_of(pair.b.volume.replica) == [snapshot]
    shown = await paths(SnapshotView(pair.b.volume.state, snapshot))
    assert set(shown) == {"d", "d/a"}
    roots = list(snapshot_roots(pair.b.volume.replica))
    assert pair.a.volume.replica.tree.versions(pair.a.walk("d/a").id)[0].content in roots
    delete_snapshot(pair.b.volume.replica, "mine")
    await pair.settle()
    assert not snapshots_of(pair.a.volume.replica)


async def test_a_name_is_given_once_and_stands_in_a_path(rig: Rig) -> None:
    await snapshot_of(rig, "one")
    for name in ("one", "", "a/b", "..", "UPPER", "x" * 101):
        with pytest.raises(FSError):
            await snapshot_of(rig, name)
    with pytest.raises(FSError):
        delete_snapshot(rig.volume.replica, "two")


@pytest.mark.parametrize("name", ["yesterday", "today", "now", "2h", "3min", "2026-11-21"])
async def test_a_name_that_reads_as_a_time_is_refused(rig: Rig, name: str) -> None:
    with pytest.raises(FSError, match="reads as a time"):
        await snapshot_of(rig, name)
    assert snapshots_of(rig.volume.replica) == []


async def test_two_snapshots_of_one_name_taken_apart_are_both_kept(pair: Pair) -> None:
    await pair.a.write("of a", b"1")
    await pair.b.write("of b", b"22")
    await pair.publish()
    pair.b.clock.advance(10)
    for rig in (pair.a, pair.b):
        await snapshot_of(rig, "daily")
    await pair.settle()
    label = pair.b.volume.replica.label
    for rig in (pair.a, pair.b):
        found = {one.name: (one.device, one.bytes) for one in snapshots_of(rig.volume.replica)}
        assert found == {"daily": (pair.a.volume.replica.label, 1), f"daily.{label}": (label, 2)}
        names = {one.name: one.root for one in snapshots_of(rig.volume.replica)}
        assert set(names.values()) <= {root for root, _ in known_snapshot_roots(rig.volume.replica)}
    delete_snapshot(pair.a.volume.replica, f"daily.{label}")
    await pair.settle()
    assert [one.name for one in snapshots_of(pair.b.volume.replica)] == ["daily"]


SOUND = [1, b"", 0, 1, "laptop", 0, 0]
NESTED = b"\x98" + b"".join(map(msgspec.msgpack.encode, SOUND)) + b"\x91" * 30_000
BROKEN = {
    "nothing": b"",
    "noise": b"\xff" * 50,
    "a deep nest": b"\x91" * 30_000,
    "a sound one with a deep nest behind": NESTED,
    "no text": msgspec.msgpack.encode([1, b"", 0, 1]) + b"\xa1\xff",
    "a time that is none": msgspec.msgpack.encode([*SOUND[:3], (1 << 64) - 1, *SOUND[4:]]),
    "a size that is none": msgspec.msgpack.encode([1, b"", -1, *SOUND[3:]]),
    "format 0": msgspec.msgpack.encode([0, *SOUND[1:]]),
}


@pytest.mark.parametrize("value", BROKEN.values(), ids=BROKEN.keys())
async def test_a_setting_that_is_no_snapshot_is_said_holds_nothing_up_and_can_be_deleted(
    rig: Rig, value: bytes
) -> None:
    replica = rig.volume.replica
    sound = await snapshot_of(rig, "sound")
    with replica.change() as change:
        change.group.set_setting(f"{SETTING}broken/0123456789ab", value)
    assert snapshots_of(replica) == [sound]
    (bad,) = unreadable_snapshots(replica)
    assert bad.name == "broken/0123456789ab"
    assert not bad.is_later
    list(snapshot_roots(replica))
    (finding,) = [one async for one in check(rig.volume, []) if isinstance(one, Finding)]
    assert (finding.severity, finding.what) == ("warning", "snapshot")
    assert bad.name in finding.mend
    delete_snapshot(replica, bad.name)
    assert not unreadable_snapshots(replica)
    assert snapshots_of(replica) == [sound]


@pytest.mark.parametrize("name", ["-/0123456789ab", "no-writer", "", "a/0123456789ab/more"])
async def test_a_setting_of_a_name_that_no_snapshot_has_is_said(rig: Rig, name: str) -> None:
    setting = SETTING + name
    with rig.volume.replica.change() as change:
        change.group.set_setting(setting, msgspec.msgpack.encode(SOUND))
    assert [one.setting for one in unreadable_snapshots(rig.volume.replica)] == [setting]


async def test_a_snapshot_of_a_later_version_is_said_and_nothing_is_swept_that_it_may_keep(rig: Rig) -> None:
    with rig.volume.replica.change() as change:
        change.group.set_setting(f"{SETTING}new/0123456789ab", msgspec.msgpack.encode([2, {"other": "form"}]))
    (bad,) = unreadable_snapshots(rig.volume.replica)
    assert bad.is_later
    with pytest.raises(FormatError, match="later version"):
        list(snapshot_roots(rig.volume.replica))
