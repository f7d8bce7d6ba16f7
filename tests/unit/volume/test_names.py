"""Names: the local layer and the tree as one namespace."""

import errno
import os
from collections.abc import Callable

import pytest

from dittofs.errors import FSError
from dittofs.volume.browsing import Browsing
from dittofs.volume.renaming import EXCHANGE, NOREPLACE
from tests.simulation.rig import Rig


async def test_a_temporary_file_that_is_renamed_before_publication_leaves_no_trace(rig: Rig) -> None:
    await rig.write("tmp", b"content")
    await rig.rename("tmp", "final")
    await rig.publish()
    assert rig.listing("") == ["final"]
    kinds = {row.inode for row in rig.volume.replica.journal.history.before()}
    assert rig.walk("final").id in kinds
    assert rig.read("final") == b"content"


async def test_an_unpublished_file_renamed_over_a_published_one_is_its_next_version(rig: Rig) -> None:
    await rig.write("f", b"one")
    await rig.publish()
    identity = rig.walk("f").id
    await rig.write("tmp", b"two")
    number = rig.stat("tmp").number
    await rig.rename("tmp", "f")
    assert (rig.read("f"), rig.stat("f").number, rig.walk("f").id) == (b"two", number, identity)
    before = rig.stat("f")
    await rig.publish()
    assert (rig.read("f"), rig.stat("f").number, rig.walk("f").id) == (b"two", number, identity)
    assert rig.stat("f").ctime == before.ctime
    rig.abandon()
    rig.open()
    assert (rig.read("f"), rig.stat("f").number) == (b"two", number)


async def test_a_save_survives_the_death_of_the_process_before_its_publication(rig: Rig) -> None:
    await rig.write("f", b"one")
    await rig.publish()
    await rig.write("tmp", b"two")
    await rig.rename("tmp", "f")
    rig.abandon()
    rig.open()
    assert rig.listing("") == ["f"]
    assert rig.read("f") == b"two"
    await rig.publish()
    assert rig.read("f") == b"two"


async def test_a_published_file_renamed_over_another_keeps_its_content_and_number(rig: Rig) -> None:
    await rig.write("a", b"one")
    await rig.write("b", b"two")
    await rig.publish()
    number = rig.stat("a").number
    await rig.rename("a", "b")
    assert rig.listing("") == ["b"]
    assert (rig.read("b"), rig.stat("b").number) == (b"one", number)


async def test_the_other_name_of_a_file_that_is_renamed_over_keeps_the_old_content(rig: Rig) -> None:
    await rig.write("old", b"old")
    rig.link("old", "snapshot")
    await rig.publish()
    await rig.write("tmp", b"new")
    await rig.rename("tmp", "old")
    await rig.publish()
    assert (rig.read("old"), rig.read("snapshot")) == (b"new", b"old")
    assert rig.stat("snapshot").nlink == 1


async def test_exchange_and_noreplace_do_what_renameat2_says(rig: Rig) -> None:
    await rig.write("a", b"one")
    await rig.publish()
    await rig.write("b", b"two")
    with pytest.raises(FSError) as refused:
        await rig.rename("a", "b", NOREPLACE)
    assert refused.value.errno == errno.EEXIST
    await rig.rename("a", "b", EXCHANGE)
    assert (rig.read("a"), rig.read("b")) == (b"two", b"one")


async def test_a_directory_is_not_moved_into_itself_and_only_an_empty_one_is_replaced(rig: Rig) -> None:
    rig.mkdir("d")
    rig.mkdir("d/e")
    rig.mkdir("f")
    for old, new, number in [("d", "d/e/x", errno.EINVAL), ("f", "d", errno.ENOTEMPTY)]:
        with pytest.raises(FSError) as refused:
            await rig.rename(old, new)
        assert refused.value.errno == number
    await rig.rename("d", "f")
    assert rig.listing("") == ["f"]
    assert rig.listing("f") == ["e"]


async def test_ignored_names_stay_local_and_survive_a_restart(rig: Rig) -> None:
    await rig.write(".dittoignore", b"build/\n*.log\n")
    await rig.publish()
    rig.mkdir("build")
    await rig.write("build/x.o", os.urandom(100_000))
    await rig.write("a.log", b"log")
    await rig.publish()
    data = rig.read("build/x.o")
    assert len(rig.volume.state.local) == 3
    await rig.close()
    rig.open()
    assert rig.listing("") == [".dittoignore", "a.log", "build"]
    assert rig.read("build/x.o") == data
    assert rig.volume.replica.tree.counts().files == 1


async def test_what_is_not_ignored_any_more_enters_the_tree(rig: Rig) -> None:
    await rig.write(".dittoignore", b"build/\n")
    rig.mkdir("build")
    await rig.write("build/x", b"x")
    await rig.publish()
    await rig.write(".dittoignore", b"")
    await rig.publish()
    assert not len(rig.volume.state.local)
    assert rig.read("build/x") == b"x"


async def test_a_new_directory_times_and_links_are_as_on_any_file_system(rig: Rig) -> None:
    rig.mkdir("d")
    before = rig.stat("d")
    assert before.nlink == 2
    await rig.write("d/f", b"")
    after = rig.stat("d")
    assert after.mtime > before.mtime
    await rig.publish()
    assert rig.stat("d").mtime == after.mtime
    rig.chmod("d", 0o700)
    assert rig.stat("d").mtime == after.mtime
    assert rig.stat("d").ctime > after.ctime
    rig.mkdir("d/sub")
    assert rig.stat("d").nlink == 3


async def test_the_reserved_name_is_reachable_and_never_listed_nor_made(rig: Rig) -> None:
    assert rig.listing("") == []
    assert b"DittoFS" in rig.read(".dittofs/README.txt")
    with pytest.raises(FSError):
        rig.mkdir(".dittofs")
    with pytest.raises(FSError):
        await rig.write(".dittofs/x", b"")


async def test_the_reserved_directory_is_neither_removed_nor_moved(rig: Rig) -> None:
    await rig.write("a", b"")
    parent, name = rig.place(".dittofs")
    calls: list[Callable[[], object]] = [
        lambda: rig.volume.names.rmdir(parent, name),
        lambda: rig.volume.names.unlink(parent, name),
        lambda: rig.volume.renaming.rename(parent, name, parent, b"b", 0),
        lambda: rig.volume.renaming.rename(parent, b"a", parent, name, 0),
    ]
    for call in calls:
        with pytest.raises(FSError) as refused:
            call()
        assert refused.value.errno == errno.EPERM


async def test_a_walk_lists_by_name_and_a_directory_before_what_is_in_it(rig: Rig) -> None:
    for name in ("b", "a", "c"):
        rig.mkdir(name)
        await rig.write(f"{name}/z", b"")
        await rig.write(f"{name}/y", b"")
    paths = [seen.path for seen in Browsing(rig.volume).walk([], recursive=True)]
    assert paths == [b"a", b"a/y", b"a/z", b"b", b"b/y", b"b/z", b"c", b"c/y", b"c/z"]
    assert [seen.path for seen in Browsing(rig.volume).walk([], recursive=False)] == [b"a", b"b", b"c"]


async def test_a_walk_leaves_nothing_in_memory(rig: Rig) -> None:
    for number in range(20):
        await rig.write(f"f{number}", b"")
    await rig.publish()
    rig.abandon()
    rig.open()
    before = len(rig.volume.state.inodes)
    assert len(list(Browsing(rig.volume).walk([], recursive=True))) == 20
    assert len(rig.volume.state.inodes) <= before + 1


async def test_a_file_has_a_bounded_number_of_names_published_or_not(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dittofs.volume.linking.LINKS_MAX", 3)
    for name in ("published", "young"):
        await rig.write(name, b"x")
        if name == "published":
            await rig.publish()
        rig.link(name, f"{name} 2")
        rig.link(name, f"{name} 3")
        with pytest.raises(FSError) as refused:
            rig.link(name, f"{name} 4")
        assert refused.value.errno == errno.EMLINK
        await rig.unlink(f"{name} 2")
        rig.link(name, f"{name} 4")
        assert rig.stat(name).nlink == 3
