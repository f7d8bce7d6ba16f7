"""Which contents the history knows: every close is a version, and nothing else is."""

import os

from dittofs.ids import InodeId
from dittofs.volume.events import is_written
from tests.simulation.pair import Pair
from tests.simulation.rig import Rig


def versions(rig: Rig, inode: InodeId) -> list[int]:
    """Sizes of all versions of a file, the oldest first."""
    rows = reversed(list(rig.volume.replica.journal.history.of_inode(inode)))
    return [found.size for found in map(is_written, rows) if found is not None]


async def test_each_of_two_closes_within_one_publication_is_a_version(rig: Rig) -> None:
    for size in (1, 2, 3):
        await rig.write("a", bytes(size))
    await rig.publish()
    assert versions(rig, rig.walk("a").id) == [1, 2, 3]


async def test_points_of_a_file_that_stays_open_replace_each_other(rig: Rig) -> None:
    await rig.write("a", b"before")
    await rig.publish()
    handle = rig.open_file("a", os.O_RDWR)
    for size in (10, 20, 30):
        await rig.write_at(handle, 0, bytes(size))
        await rig.volume.files.fsync(handle.inode)
        await rig.publish()
        assert versions(rig, handle.inode.id) == [6, size]
    await rig.write_at(handle, 0, bytes(40))
    rig.close_file(handle)
    await rig.publish()
    assert versions(rig, rig.walk("a").id) == [6, 40]


async def test_what_was_published_before_its_close_is_a_version_too(rig: Rig) -> None:
    for size in (10, 20):
        handle = rig.open_file("a", os.O_RDWR | os.O_CREAT)
        await rig.write_at(handle, 0, bytes(size))
        await rig.volume.files.fsync(handle.inode)
        await rig.publish()
        rig.close_file(handle)
    await rig.publish()
    assert versions(rig, rig.walk("a").id) == [10, 20]


async def test_a_close_while_its_content_is_being_published_is_a_version(rig: Rig) -> None:
    handle = rig.open_file("a", os.O_RDWR | os.O_CREAT)
    await rig.write_at(handle, 0, bytes(10))
    await rig.volume.files.fsync(handle.inode)
    jobs = rig.volume.publisher._freeze()
    rig.close_file(handle)
    other = rig.open_file("a", os.O_RDWR)
    await rig.write_at(other, 0, bytes(20))
    await rig.volume.publisher._store(jobs)
    rig.volume.publisher._commit(jobs)
    rig.close_file(other)
    await rig.publish()
    assert versions(rig, rig.walk("a").id) == [10, 20]


async def test_other_devices_keep_the_same_versions(pair: Pair) -> None:
    await pair.a.write("a", b"before")
    await pair.settle()
    handle = pair.a.open_file("a", os.O_RDWR)
    for size in (10, 20):
        await pair.a.write_at(handle, 0, bytes(size))
        await pair.a.volume.files.fsync(handle.inode)
        await pair.settle()
    await pair.a.write_at(handle, 0, bytes(30))
    pair.a.close_file(handle)
    await pair.settle()
    await pair.b.write("a", b"four")
    await pair.settle()
    for rig in (pair.a, pair.b):
        assert versions(rig, rig.walk("a").id) == [6, 30, 4]


async def test_edits_of_conflict_entries_are_versions_on_their_side(pair: Pair) -> None:
    await pair.a.write("a", b"1")
    await pair.settle()
    await pair.a.write("a", b"22")
    await pair.b.write("a", b"333")
    await pair.settle()
    (aside,) = [name for name in pair.a.listing("") if name != "a"]
    await pair.a.write(aside, b"4444")
    await pair.settle()
    for rig in (pair.a, pair.b):
        assert sorted(versions(rig, rig.walk("a").id)) == [1, 2, 3, 4]
        assert len(rig.listing("")) == 2


async def test_a_process_that_dies_with_a_file_open_leaves_its_last_point_as_a_version(rig: Rig) -> None:
    handle = rig.open_file("a", os.O_RDWR | os.O_CREAT)
    await rig.write_at(handle, 0, bytes(10))
    await rig.volume.files.fsync(handle.inode)
    await rig.publish()
    rig.abandon()
    rig.open()
    await rig.write("a", bytes(20))
    await rig.publish()
    assert versions(rig, rig.walk("a").id) == [10, 20]
