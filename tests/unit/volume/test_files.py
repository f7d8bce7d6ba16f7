"""Open files, staging and publication, without a kernel."""

import errno
import os

import pytest

from dittofs.errors import FSError
from dittofs.volume.attributes import Wanted
from tests.simulation.rig import Rig

BIG = os.urandom(700_000)


async def test_what_was_written_is_read_before_and_after_publication(rig: Rig) -> None:
    await rig.write("a", b"hello")
    assert rig.read("a") == b"hello"
    await rig.publish()
    assert rig.read("a") == b"hello"
    assert not len(rig.volume.state.local)
    assert not len(rig.volume.state.contents)


async def test_a_closed_file_survives_the_death_of_the_process_published_or_not(rig: Rig) -> None:
    await rig.write("small", b"x" * 100)
    await rig.write("big", BIG)
    await rig.write("empty", b"")
    rig.abandon()
    rig.open()
    assert [rig.read(name) for name in ("small", "big", "empty")] == [b"x" * 100, BIG, b""]
    await rig.publish()
    rig.abandon()
    rig.open()
    assert [rig.read(name) for name in ("small", "big", "empty")] == [b"x" * 100, BIG, b""]
    assert not rig.disk.listdir("staging")


@pytest.mark.logs_warning("in no queue")
async def test_a_closed_file_that_no_queue_has_is_published_all_the_same(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    await rig.write("a", b"old")
    await rig.publish()
    with monkeypatch.context() as forgetting:
        forgetting.setattr(rig.volume.publisher, "enqueue", lambda _ref: None)
        await rig.write("a", b"new")
    writer = rig.open_file("b", os.O_WRONLY | os.O_CREAT)
    await rig.write_at(writer, 0, b"still being written")
    rig.volume.save()
    await rig.publish()
    assert [content.ref for content in rig.volume.state.contents] == [writer.inode.ref]
    rig.close_file(writer)


async def test_number_and_times_are_the_same_unpublished_published_and_reopened(rig: Rig) -> None:
    await rig.write("a", b"hello")
    before = rig.stat("a")
    await rig.publish()
    after = rig.stat("a")
    await rig.close()
    rig.open()
    for stat in (after, rig.stat("a")):
        assert (stat.number, stat.mtime, stat.ctime, stat.birth) == (
            before.number,
            before.mtime,
            before.ctime,
            before.birth,
        )


async def test_an_unclosed_overwrite_leaves_the_last_whole_version_and_is_kept_beside_it(rig: Rig) -> None:
    await rig.write("a.txt", b"whole")
    await rig.publish()
    handle = rig.open_file("a.txt", os.O_WRONLY | os.O_TRUNC)
    await rig.write_at(handle, 0, b"par")
    rig.volume.save()
    rig.abandon()
    rig.open()
    assert rig.read("a.txt") == b"whole"
    beside = [name for name in rig.listing("") if name != "a.txt"]
    assert len(beside) == 1
    assert beside[0].startswith("a (recovered, laptop, ")
    assert beside[0].endswith("Z).txt")
    assert rig.read(beside[0]) == b"par"
    await rig.publish()
    assert rig.read(beside[0]) == b"par"


async def test_fsynced_content_is_at_its_name_after_a_crash_even_if_never_closed(rig: Rig) -> None:
    await rig.write("db", b"0" * 5000)
    await rig.publish()
    handle = rig.open_file("db", os.O_RDWR)
    await rig.write_at(handle, 1000, b"new")
    await rig.volume.files.fsync(handle.inode)
    rig.abandon()
    rig.open()
    assert rig.read("db") == b"0" * 1000 + b"new" + b"0" * 3997
    assert rig.listing("") == ["db"]


async def test_a_file_that_was_created_and_never_written_nor_closed_never_was(rig: Rig) -> None:
    rig.open_file("lock", os.O_WRONLY | os.O_CREAT)
    rig.abandon()
    rig.open()
    assert rig.listing("") == []


async def test_a_write_after_a_close_does_not_touch_the_closed_version(rig: Rig) -> None:
    await rig.write("a", b"first")
    handle = rig.open_file("a", os.O_RDWR)
    await rig.write_at(handle, 0, b"SECOND")
    assert rig.read("a") == b"SECOND"
    rig.abandon()
    rig.open()
    assert rig.read("a") == b"first"


async def test_every_close_is_a_version_even_when_they_come_faster_than_publication(rig: Rig) -> None:
    for number in range(3):
        await rig.write("a", b"version %d" % number)
    await rig.publish()
    assert rig.read("a") == b"version 2"
    versions = list(rig.volume.replica.journal.history.of_inode(rig.walk("a").id))
    assert len(versions) >= 3


async def test_an_unlinked_open_file_stays_readable_and_writable_until_closed(rig: Rig) -> None:
    await rig.write("a", b"hello")
    await rig.publish()
    handle = rig.open_file("a", os.O_RDWR)
    handle.inode.lookups = 1
    await rig.unlink("a")
    await rig.write_at(handle, 5, b" there")
    assert rig.volume.files.read(handle.inode, 0, 100) == b"hello there"
    assert rig.volume.state.stat(handle.inode).nlink == 0
    rig.close_file(handle)
    assert rig.listing("") == []
    assert rig.volume.publisher.is_idle


async def test_truncating_and_extending_reads_zeroes_in_the_hole(rig: Rig) -> None:
    await rig.write("a", b"0123456789")
    await rig.publish()
    rig.truncate("a", 4)
    rig.truncate("a", 8)
    assert rig.read("a") == b"0123\0\0\0\0"
    await rig.publish()
    assert rig.read("a") == b"0123\0\0\0\0"


async def test_a_large_file_edited_in_the_middle_reads_back_whole(rig: Rig) -> None:
    await rig.write("big", BIG)
    await rig.publish()
    handle = rig.open_file("big", os.O_RDWR)
    await rig.write_at(handle, 300_000, b"edit")
    rig.close_file(handle)
    expected = BIG[:300_000] + b"edit" + BIG[300_004:]
    assert rig.read("big") == expected
    await rig.publish()
    assert rig.read("big") == expected


async def test_a_write_beyond_the_largest_file_is_refused(rig: Rig) -> None:
    handle = rig.open_file("a", os.O_WRONLY | os.O_CREAT)
    with pytest.raises(FSError) as refused:
        await rig.write_at(handle, (1 << 63) - 2, b"xxx")
    assert refused.value.errno == errno.EFBIG


async def test_a_thousand_cuts_before_a_publication_read_back_right(rig: Rig) -> None:
    await rig.write("a", b"x" * 5_000)
    for size in range(4_999, 3_999, -1):
        rig.truncate("a", size)
    assert rig.read("a") == b"x" * 4_000
    rig.abandon()
    rig.open()
    assert rig.read("a") == b"x" * 4_000
    await rig.publish()
    assert rig.read("a") == b"x" * 4_000


async def test_more_attributes_than_a_record_holds_are_refused_before_publication(rig: Rig) -> None:
    await rig.write("a", b"content")
    with pytest.raises(FSError) as refused:
        for number in range(40):
            rig.volume.attributes.set_xattr(rig.walk("a"), b"user.%d" % number, b"v" * 4_000)
    assert refused.value.errno == errno.ENOSPC
    await rig.publish()
    assert not rig.volume.publisher.stuck
    assert rig.read("a") == b"content"


async def test_the_access_time_moves_with_the_first_read_after_each_change(rig: Rig) -> None:
    await rig.write("f", b"first")
    await rig.publish()
    inode = rig.walk("f")
    inode.lookups = 1
    attributes = rig.volume.attributes
    attributes.note_access(inode)
    first = rig.stat("f").atime
    assert first > rig.stat("f").ctime
    attributes.note_access(inode)
    assert rig.stat("f").atime == first
    await rig.write("f", b"second")
    attributes.note_access(inode)
    second = rig.stat("f").atime
    assert second > rig.stat("f").ctime > first
    attributes.set(inode, Wanted(atime=1))
    assert rig.stat("f").atime == 1
    attributes.note_access(inode)
    assert rig.stat("f").atime > second
