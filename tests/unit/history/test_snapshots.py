"""Snapshots keep what a volume showed, on all devices, for little."""

import pytest

from dittofs.errors import FSError
from dittofs.history.snapshots import (
    Snapshot,
    SnapshotView,
    create_snapshot,
    delete_snapshot,
    find_snapshot,
    known_snapshot_roots,
    snapshot_roots,
    snapshots_of,
)
from dittofs.history.views import View, settled
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
