"""What was can be had again, by new changes: nothing that is shown is lost by it."""

import errno
import os
from dataclasses import replace

import pytest
import trio

from dittofs.chunks.chunker import Chunking
from dittofs.chunks.content import store_content
from dittofs.chunks.source import BytesSource
from dittofs.errors import FSError
from dittofs.history.listing import encode_listing
from dittofs.history.past import Pasts
from dittofs.history.restoring import Restored, Restoring
from dittofs.history.restoring_views import ViewRestoring
from dittofs.history.snapshots import SnapshotView, create_snapshot, snapshots_of
from dittofs.history.trash import forget, forgotten_since, trash
from dittofs.history.versions import log_of
from dittofs.history.views import ViewEntry
from dittofs.ids import ROOT, ChunkId, InodeId, inode_id
from dittofs.tree.record import Kind
from dittofs.volume.events import Past
from tests.simulation.pair import Pair
from tests.simulation.rig import Rig
from tests.unit.history.test_listings import announce


def now(rig: Rig) -> int:
    return rig.volume.replica.journal.history.last_at


async def test_an_older_version_becomes_the_newest_and_the_present_one_stays_in_the_history(rig: Rig) -> None:
    await rig.write("a", b"first")
    await rig.publish()
    then, inode = now(rig), rig.walk("a").id
    await rig.write("a", b"second")
    await rig.publish()
    before, pasts = now(rig), Pasts(rig.volume.replica)
    past = pasts.of(inode, then)
    assert past is not None
    assert past.main is not None
    stored = rig.volume.replica.chunks.statistics().chunks
    done = await Restoring(rig.volume).content(inode, past.main)
    assert (done.path, done.what, done.missing_bytes) == (b"a", "version", 0)
    assert rig.read("a") == b"first"
    assert rig.volume.replica.chunks.statistics().chunks == stored + 1  # a version node
    present = pasts.of(inode, before)
    assert present is not None
    await Restoring(rig.volume).content(inode, present.contents[0])
    assert rig.read("a") == b"second"
    assert (await Restoring(rig.volume).content(inode, present.contents[0])).what == "same"


async def test_a_removed_file_comes_back_with_all_it_had_and_its_directories(rig: Rig) -> None:
    rig.mkdir("d")
    rig.mkdir("d/e", 0o700)
    await rig.write("d/e/f", b"x")
    await rig.publish()
    rig.chmod("d/e/f", 0o600)
    inode, stat, then = rig.walk("d/e/f").id, rig.stat("d/e/f"), now(rig)
    await rig.unlink("d/e/f")
    await rig.rmdir("d/e")
    await rig.rmdir("d")
    past = Pasts(rig.volume.replica).of(inode, then)
    assert past is not None
    done = await Restoring(rig.volume).back(inode, past, at=then)
    assert (done.path, done.what) == (b"d/e/f", "back")
    assert rig.read("d/e/f") == b"x"
    assert (rig.stat("d/e/f").mode, rig.stat("d/e/f").mtime) == (stat.mode, stat.mtime)
    assert rig.stat("d/e").mode == 0o700
    assert rig.walk("d/e/f").id == inode


async def conflict(pair: Pair) -> tuple[InodeId, str]:
    """A file that two devices wrote apart, and the name of its conflict entry."""
    await pair.a.write("a", b"1")
    await pair.settle()
    await pair.a.write("a", b"22")
    await pair.b.write("a", b"333")
    await pair.settle()
    (aside,) = [name for name in pair.a.listing("") if name != "a"]
    return pair.a.walk("a").id, aside


@pytest.mark.parametrize("is_shown_first", [True, False])
async def test_a_removed_file_in_conflict_comes_back_in_whatever_order_it_went(
    pair: Pair, is_shown_first: bool
) -> None:
    inode, aside = await conflict(pair)
    rig = pair.a
    sizes = {name: rig.stat(name).size for name in ("a", aside)}
    first, last = ("a", aside) if is_shown_first else (aside, "a")
    for name in (first, last):
        await rig.unlink(name)
        await rig.publish()
    assert rig.listing("") == []
    restoring = Restoring(rig.volume)
    (removed,) = [one for one in trash(rig.volume.replica, b"") if one is not None]
    assert removed.past.main is not None
    assert removed.past.main.size == sizes[last]
    done = await restoring.back(inode, removed.past, at=removed.at - 1)
    assert (done.path, done.what, done.size) == (b"a", "back", sizes[last])
    assert rig.stat("a").size == sizes[last]
    versions = [one.version for one in log_of(rig.volume.replica, inode) if one is not None]
    other = next(one for one in versions if one is not None and one.size == sizes[first])
    await restoring.version(inode, other)
    assert rig.stat("a").size == sizes[first]


async def test_any_version_of_a_removed_file_in_conflict_comes_back(pair: Pair) -> None:
    inode, aside = await conflict(pair)
    rig = pair.a
    sizes = {rig.stat(name).size for name in ("a", aside)}
    for name in ("a", aside):
        await rig.unlink(name)
        await rig.publish()
    versions = [one.version for one in log_of(rig.volume.replica, inode) if one is not None]
    for size in sizes:
        version = next(one for one in versions if one is not None and one.size == size)
        done = await Restoring(rig.volume).version(inode, version)
        assert (done.path, done.size) == (b"a", size)
        assert rig.stat("a").size == size
        await rig.unlink("a")
        await rig.publish()


async def test_the_version_of_a_name_that_went_comes_back_beside_the_conflict_entry_that_stayed(
    pair: Pair,
) -> None:
    inode, aside = await conflict(pair)
    rig = pair.a
    sizes = [rig.stat(name).size for name in ("a", aside)]
    past = Pasts(rig.volume.replica).now(inode)
    assert past is not None
    assert past.main is not None
    await rig.unlink("a")
    await rig.publish()
    done = await Restoring(rig.volume).version(inode, past.main)
    assert done.path == b"a"
    assert rig.stat("a").size == sizes[0]
    assert sorted(rig.stat(name).size for name in rig.listing("")) == sorted(sizes)


async def test_a_name_that_was_removed_beside_its_conflict_entry_is_in_the_trash_and_comes_back(
    pair: Pair,
) -> None:
    inode, aside = await conflict(pair)
    rig = pair.a
    size = rig.stat("a").size
    await rig.unlink("a")
    await rig.publish()
    assert rig.listing("") == [aside]
    (removed,) = [one for one in trash(rig.volume.replica, b"") if one is not None]
    assert removed.path == b"a"
    done = await Restoring(rig.volume).back(inode, removed.past, at=removed.at - 1)
    assert (done.path, done.what, rig.stat("a").size) == (b"a", "version", size)
    assert sorted(rig.listing("")) == sorted(["a", aside])
    assert not any(trash(rig.volume.replica, b""))
    await rig.unlink(aside)
    await rig.publish()
    assert not any(trash(rig.volume.replica, b"")), "the name is there"


async def test_a_removed_name_is_forgotten_and_the_conflict_entry_beside_it_stays(pair: Pair) -> None:
    inode, aside = await conflict(pair)
    rig = pair.a
    await rig.unlink("a")
    await rig.publish()
    then = now(rig)
    await rig.write("later", b"x")
    await rig.publish()
    replica = rig.volume.replica
    found = [one for one in trash(replica, b"") if one is not None]
    await forget(replica, found)
    assert not any(trash(replica, b""))
    assert sorted(rig.listing("")) == sorted([aside, "later"])
    past = Pasts(replica).of(inode, then)
    assert past is not None
    assert past.main is None
    assert ROOT not in forgotten_since(replica, then)
    assert ROOT in forgotten_since(replica, found[0].at - 1)


async def test_others_are_served_while_a_large_directory_is_searched_for_what_was_forgotten(rig: Rig) -> None:
    rig.mkdir("d")
    for number in range(30):
        rig.mkdir(f"d/{number}")
    await rig.write("other", b"x")
    await rig.write("d/7/lost", b"x")
    await rig.publish()
    replica, then = rig.volume.replica, now(rig)
    entry = Pasts(replica).lookup([b"d"], then)
    assert entry is not None

    async def turns_while_searched(*, finds: bool) -> int:
        turns = 0
        async with trio.open_nursery() as nursery:

            async def other() -> None:
                nonlocal turns
                while True:
                    await trio.lowlevel.checkpoint()
                    turns += 1

            nursery.start_soon(other)
            assert await Restoring(rig.volume).has_forgotten(entry, then) is finds
            nursery.cancel_scope.cancel()
        return turns

    assert await turns_while_searched(finds=False) <= 1, "nothing was forgotten at all"
    await rig.unlink("other")
    await rig.publish()
    await forget(replica, [one for one in trash(replica, b"") if one is not None])
    assert await turns_while_searched(finds=False) >= 30
    await rig.unlink("d/7/lost")
    await rig.publish()
    await forget(replica, [one for one in trash(replica, b"") if one is not None])
    assert await turns_while_searched(finds=True) >= 1


async def test_what_comes_back_takes_no_name_from_anybody(rig: Rig) -> None:
    await rig.write("a", b"first")
    await rig.publish()
    inode, then = rig.walk("a").id, now(rig)
    await rig.unlink("a")
    await rig.write("a", b"second")
    past = Pasts(rig.volume.replica).of(inode, then)
    assert past is not None
    done = await Restoring(rig.volume).back(inode, past, at=then)
    assert done.is_renamed
    assert done.path.startswith(b"a (restored, laptop, ")
    assert rig.read("a") == b"second"
    assert rig.read(done.path.decode()) == b"first"


async def test_a_directory_is_set_back_to_a_time_and_what_came_since_stays(rig: Rig) -> None:
    rig.mkdir("d")
    await rig.write("d/a", b"a1")
    await rig.write("d/b", b"b1")
    rig.symlink("a", "d/s")
    await rig.publish()
    rig.link("d/b", "d/c")
    then = now(rig)
    await rig.write("d/a", b"a2")
    await rig.publish()
    await rig.unlink("d/b")
    await rig.unlink("d/c")
    await rig.unlink("d/s")
    await rig.write("d/new", b"n")
    await rig.publish()
    restoring = Restoring(rig.volume)
    entry = Pasts(rig.volume.replica).lookup([b"d"], then)
    assert entry is not None
    planned = [inode for _, inode, _ in restoring.inside(entry, then)]
    done = [one async for one in restoring.directory(entry, then)]
    assert len(planned) == len(set(planned)) == len(done), "a file of two names once"
    assert {one.path: one.what for one in done} == {
        b"d": "same",
        b"d/a": "version",
        b"d/b": "back",
        b"d/s": "back",
    }
    assert rig.listing("d") == ["a", "b", "c", "new", "s"]
    assert (rig.read("d/a"), rig.read("d/b"), rig.stat("d/c").nlink) == (b"a1", b"b1", 2)
    assert rig.volume.names.target(rig.walk("d/s")) == b"a"


async def test_of_a_directory_all_is_set_back_that_can_be_and_the_rest_is_named(rig: Rig) -> None:
    rig.mkdir("d")
    for name in "abc":
        await rig.write(f"d/{name}", f"first {name}".encode())
    await rig.publish()
    then = now(rig)
    root = rig.volume.replica.tree.versions(rig.walk("d/b").id)[0].root
    for name in "abc":
        await rig.write(f"d/{name}", f"second {name}".encode())
    await rig.publish()
    rig.volume.replica.chunks.damaged.add(ChunkId(root[1:]))
    rig.volume.state.may_borrow = lambda: False  # others did not wait for this device
    entry = Pasts(rig.volume.replica).lookup([b"d"], then)
    assert entry is not None
    with pytest.raises(FSError, match="1 could not be restored, all others were: d/b is not all on this"):
        async for _ in Restoring(rig.volume).directory(entry, then):
            pass
    assert [rig.read(f"d/{name}") for name in "abc"] == [b"first a", b"second b", b"first c"]


async def test_who_writes_while_his_file_is_restored_gets_his_version_beside_it(rig: Rig) -> None:
    await rig.write("a", b"first")
    await rig.publish()
    inode, then = rig.walk("a").id, now(rig)
    await rig.write("a", b"second")
    await rig.publish()
    handle = rig.open_file("a", os.O_RDWR)
    past = Pasts(rig.volume.replica).of(inode, then)
    assert past is not None
    await Restoring(rig.volume).content(inode, past.contents[0])
    await rig.write_at(handle, 0, b"THIRD!")
    rig.close_file(handle)
    await rig.publish()
    names = rig.listing("")
    assert {rig.read(name) for name in names} == {b"first", b"THIRD!"}


async def test_what_another_device_removed_comes_back_on_both(pair: Pair) -> None:
    await pair.a.write("a", b"x")
    await pair.settle()
    inode, then = pair.b.walk("a").id, now(pair.b)
    await pair.a.unlink("a")
    await pair.settle()
    past = Pasts(pair.b.volume.replica).of(inode, then)
    assert past is not None
    done = await Restoring(pair.b.volume).back(inode, past, at=then)
    assert done.missing_bytes == 1
    await pair.settle()
    assert pair.a.read("a") == b"x"
    assert await pair.b.fetch("a") == b"x"


async def set_back(rig: Rig, names: list[bytes], name: str, *, dry_run: bool = False) -> list[Restored]:
    found = [one for one in snapshots_of(rig.volume.replica) if one.name == name]
    run = ViewRestoring(rig.volume, SnapshotView(rig.volume.state, found[0]))
    return [one async for one in run.run(names, dry_run=dry_run)]


async def test_a_snapshot_is_set_back_exactly_though_the_history_is_forgotten(rig: Rig) -> None:
    rig.mkdir("d", 0o750)
    await rig.write("d/a", b"a1")
    await rig.write("d/gone", b"g")
    await rig.write("d/moved", b"m")
    rig.symlink("a", "d/s")
    await rig.publish()
    rig.link("d/gone", "d/again")
    await create_snapshot(rig.volume.replica, rig.volume.publisher, "kept")
    await rig.write("d/a", b"a2")
    await rig.rename("d/moved", "elsewhere")
    await rig.publish()
    for name in ("d/gone", "d/again", "d/s"):
        await rig.unlink(name)
    await rig.write("d/new", b"n")
    await rig.publish()
    with rig.volume.replica.change():
        for row in list(rig.volume.replica.journal.history.since(0)):
            rig.volume.replica.journal.history.remove(row)
    would = await set_back(rig, [b"d"], "kept", dry_run=True)
    assert rig.read("d/a") == b"a2"
    done = await set_back(rig, [b"d"], "kept")
    assert {(one.path, one.what) for one in would} == {(one.path, one.what) for one in done}
    assert rig.listing("d") == ["a", "again", "gone", "moved", "new", "s"]
    assert (rig.read("d/a"), rig.read("d/gone"), rig.read("d/moved")) == (b"a1", b"g", b"m")
    assert rig.stat("d/gone").nlink == 2
    assert await set_back(rig, [b"d"], "kept") == []


async def test_of_a_file_with_several_names_all_come_back_though_one_is_taken(rig: Rig) -> None:
    rig.mkdir("d")
    await rig.write("d/a", b"two names")
    await rig.publish()
    rig.link("d/a", "d/b")
    await rig.write("d/z", b"the last one")
    await rig.publish()
    await create_snapshot(rig.volume.replica, rig.volume.publisher, "kept")
    for name in "abz":
        await rig.unlink(f"d/{name}")
    await rig.write("d/b", b"new")
    await rig.publish()
    done = await set_back(rig, [], "kept")
    assert [(one.what, one.is_renamed) for one in done] == [("back", False), ("back", True), ("back", False)]
    (other,) = (name for name in rig.listing("d") if "restored" in name)
    assert rig.listing("d") == ["a", "b", other, "z"]
    assert rig.stat("d/a").number == rig.stat(f"d/{other}").number
    assert [rig.read(f"d/{name}") for name in ("a", "b", "z")] == [b"two names", b"new", b"the last one"]


async def test_what_nothing_but_a_snapshot_knows_is_made_anew_with_all_its_names(rig: Rig) -> None:
    await rig.write("known", b"content")
    await rig.publish()
    version = rig.volume.replica.tree.version(rig.walk("known").ref)
    assert version is not None
    directory, file = inode_id(b"\5" * 12), inode_id(b"\6" * 12)
    entry = ViewEntry(b"a", Kind.FILE, (file,), 0o640, None, 10**18, 10**18, version.size, version.root, 2)
    below = encode_listing([entry, replace(entry, name=b"b")])
    chunks = rig.volume.replica.chunks
    root = store_content(chunks, BytesSource(below), b"", 0, chunking=Chunking.CONTENT_DEFINED)
    above = replace(entry, kind=Kind.DIRECTORY, inodes=(directory,), mode=0o750, size=len(below), root=root)
    announce(rig, "kept", encode_listing([replace(above, name=b"d")]))
    await set_back(rig, [b"d"], "kept")
    assert rig.listing("") == ["d", "known"]
    assert rig.listing("d") == ["a", "b"]
    assert rig.stat("d/a").number == rig.stat("d/b").number
    assert (rig.stat("d").mode, rig.stat("d/b").mode, rig.read("d/b")) == (0o750, 0o640, b"content")


async def test_what_cannot_be_restored_is_named_at_the_end_and_stops_nothing_else(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "z"):
        await rig.write(name, name.encode())
    await rig.publish()
    await create_snapshot(rig.volume.replica, rig.volume.publisher, "kept")
    for name in ("a", "b", "z"):
        await rig.unlink(name)
    await rig.publish()
    back = Restoring.back

    async def fails_for_b(self: Restoring, inode: InodeId, past: Past, *, at: int, is_kept: bool) -> Restored:
        if any(name.name == b"b" for name in past.names.values()):
            raise FSError(errno.EMLINK, "too many")
        return await back(self, inode, past, at=at, is_kept=is_kept)

    monkeypatch.setattr(Restoring, "back", fails_for_b)
    with pytest.raises(FSError, match="1 could not be restored, all others were: b: too many"):
        await set_back(rig, [], "kept")
    assert rig.listing("") == ["a", "z"]
