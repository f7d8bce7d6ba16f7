"""Narrow windows, each found by somebody who wanted to break a volume."""

import errno
import os

import pytest
import trio

from dittofs.chunks.chunker import Chunking
from dittofs.errors import FSError
from dittofs.local_disk import LocalDisk
from dittofs.tree.record import Kind
from dittofs.volume.attributes import Wanted
from dittofs.volume.jobs import store_jobs
from dittofs.volume.recovery import recovered_name
from tests.simulation.rig import USER, Rig

IGNORES_BUILD = b"build/\n"


async def test_waiting_for_a_file_that_was_removed_meanwhile_ends(rig: Rig) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.volume.publisher.run)
        for name in "ab":
            handle = rig.open_file(name, os.O_WRONLY | os.O_CREAT)
            await rig.write_at(handle, 0, b"abc")
            await rig.volume.files.fsync(handle.inode)
            await trio.sleep(0.1)
            parent, encoded = rig.place(name)
            rig.volume.names.unlink(parent, encoded)
            rig.close_file(handle)
        with trio.fail_after(5):
            await rig.volume.publisher.drain_all()
        nursery.cancel_scope.cancel()


async def test_an_ignored_file_takes_any_number_of_appends(rig: Rig) -> None:
    for number in range(8):
        handle = rig.open_file("a-shm", os.O_WRONLY | os.O_CREAT)
        await rig.write_at(handle, number * 3, b"abc")
        rig.close_file(handle)
    assert rig.read("a-shm") == b"abc" * 8


async def test_a_file_moved_to_an_ignored_directory_while_it_is_published_stays_local(rig: Rig) -> None:
    await rig.write(".dittoignore", IGNORES_BUILD)
    await rig.publish()
    rig.mkdir("build")
    await rig.write("f", b"x" * 1000)
    publisher, replica = rig.volume.publisher, rig.volume.replica
    jobs = publisher._freeze()
    store_jobs(replica.chunks, replica.slot, jobs, Chunking.CONTENT_DEFINED)
    parent, name = rig.place("f")
    rig.volume.renaming.rename(parent, name, rig.walk("build"), b"g", 0)
    publisher._commit(jobs)
    assert rig.read("build/g") == b"x" * 1000


async def test_an_unpublished_file_gets_no_name_in_an_ignored_directory(rig: Rig) -> None:
    """It would have no place in the tree, and be published never."""
    await rig.write(".dittoignore", IGNORES_BUILD)
    await rig.publish()
    rig.mkdir("build")
    await rig.write("f", b"x")
    with pytest.raises(FSError) as raised:
        rig.link("f", "build/g")
    assert raised.value.errno == errno.EXDEV


async def test_a_writer_of_a_renamed_file_makes_no_conflict_with_itself(rig: Rig) -> None:
    await rig.write("a", b"aaa")
    await rig.write("b", b"bbb")
    await rig.publish()
    handle = rig.open_file("a", os.O_WRONLY)
    await rig.rename("a", "b")
    await rig.write_at(handle, 0, b"new")
    rig.close_file(handle)
    await rig.publish()
    assert rig.listing("") == ["b"]
    assert rig.read("b") == b"new"


@pytest.mark.parametrize("year", [1600, 2300, 3000, 9000])
async def test_a_time_no_register_can_hold_becomes_the_nearest(rig: Rig, year: int) -> None:
    time = (year - 1970) * 365 * 86_400 * 10**9
    handle = rig.open_file("f", os.O_WRONLY | os.O_CREAT)
    await rig.write_at(handle, 0, b"abc")
    rig.volume.attributes.set(handle.inode, Wanted(mtime=time, atime=time))
    rig.close_file(handle)
    await rig.publish()
    rig.volume.attributes.set(rig.walk("f"), Wanted(mtime=time, atime=time))
    assert rig.stat("f").mtime == rig.stat("f").atime == (-(1 << 63) if year < 1970 else (1 << 63) - 1)


@pytest.mark.parametrize(
    "name", ["é" * 127, "日" * 85, "a" + "日" * 84, "ab" + "日" * 84, "é" * 120 + ".txt"]
)
@pytest.mark.parametrize("label", ["x", "ab", "abc"])
def test_a_recovered_name_ends_at_a_character_boundary(name: str, label: str) -> None:
    recovered = recovered_name(name.encode(), label, 1_790_000_000 * 10**9, 1)
    assert 250 < len(recovered) <= 255
    assert recovered.decode().startswith(name[:60])


@pytest.mark.logs_warning("staged content cannot be read")
async def test_a_file_that_cannot_be_read_hides_no_other(rig: Rig) -> None:
    await rig.write("a", b"aaa")
    await rig.publish()
    handle = rig.open_file("a", os.O_WRONLY)
    await rig.write_at(handle, 0, b"z" * 400_000)
    rig.close_file(handle)
    await rig.write("b", b"bbb")
    rig.abandon()
    assert isinstance(rig.disk, LocalDisk)
    for name in rig.disk.listdir("staging"):
        rig.disk.unlink(f"staging/{name}")
    rig.open()
    await rig.publish()
    assert rig.listing("") == ["a", "b"]
    assert rig.stat("a").kind is Kind.FILE
    assert rig.read("b") == b"bbb"


async def test_reading_a_directory_shows_what_stays_once_and_nothing_removed(rig: Rig) -> None:
    rig.mkdir("d")
    directory = rig.walk("d")
    for number in range(100):
        rig.volume.names.make(directory, b"%d" % number, Kind.FILE, 0o644, USER)
    handle = rig.volume.directories.open(directory)
    seen: list[bytes] = []
    after, step, gone = 0, 0, 0
    while listed := rig.volume.directories.read(handle, after, 10):
        assert all(rig.exists(f"d/{os.fsdecode(line.name)}") for line in listed if line.cookie > 2)
        seen += [line.name for line in listed]
        after, step = listed[-1].cookie, step + 1
        if step == 3:
            await rig.publish()
        left = [number for number in range(100) if b"%d" % number not in seen and number % 3 == 0]
        if left and rig.exists(f"d/{left[0]}"):
            await rig.unlink(f"d/{left[0]}")
            gone += 1
    assert len(seen) == len(set(seen)) == 102 - gone
    assert gone
