"""What another device changes, as open files, numbers and kernel caches here see it."""

import errno
import os

import pytest

from dittofs.errors import FSError
from dittofs.ids import Number
from dittofs.volume.inodes import Inode
from tests.simulation.pair import Pair
from tests.simulation.rig import Rig, settled


def known(rig: Rig, path: str) -> Inode:
    """The inode, as if a kernel had looked it up."""
    inode = rig.walk(path)
    inode.lookups += 1
    return inode


class Announced:
    """What the mounts of a volume are told."""

    def __init__(self, rig: Rig) -> None:
        self.numbers: set[Number] = set()
        self.names: set[tuple[Number, str]] = set()
        self.count = 0
        rig.volume.state.listeners.append(self._hear)

    def _hear(self, inode: Inode, name: bytes | None, origin: object) -> None:
        assert origin is None
        self.count += 1
        if name is None:
            self.numbers.add(inode.number)
        else:
            self.names.add((inode.number, os.fsdecode(name)))


async def both_have(pair: Pair, path: str, data: bytes) -> None:
    await pair.a.write(path, data)
    await pair.settle()
    assert await pair.b.fetch(path) == data


async def test_new_content_is_announced_and_read(pair: Pair) -> None:
    await both_have(pair, "f", b"old")
    inode, heard = known(pair.b, "f"), Announced(pair.b)
    await pair.a.write("f", b"newer")
    await pair.settle()
    assert inode.number in heard.numbers
    assert pair.b.stat("f").size == 5
    assert await pair.b.fetch("f") == b"newer"


@pytest.mark.parametrize("how", ["write", "mkdir", "unlink", "rename", "link"])
async def test_names_that_come_and_go_are_announced_also_where_there_was_none(pair: Pair, how: str) -> None:
    pair.a.mkdir("d")
    await both_have(pair, "d/f", b"x")
    directory, heard = known(pair.b, "d"), Announced(pair.b)
    number = directory.number
    match how:
        case "write":
            await pair.a.write("d/g", b"y")
        case "mkdir":
            pair.a.mkdir("d/g")
        case "unlink":
            await pair.a.unlink("d/f")
        case "rename":
            await pair.a.rename("d/f", "d/g")
        case "link":
            pair.a.link("d/f", "d/g")
    await pair.settle()
    wanted = {"write": {"g"}, "mkdir": {"g"}, "unlink": {"f"}, "rename": {"f", "g"}, "link": {"g"}}[how]
    assert {(number, name) for name in wanted} <= heard.names
    assert number in heard.numbers, "its times and link count"


async def test_attributes_are_announced(pair: Pair) -> None:
    await both_have(pair, "f", b"x")
    inode, heard = known(pair.b, "f"), Announced(pair.b)
    pair.a.chmod("f", 0o600)
    await pair.settle()
    assert inode.number in heard.numbers
    assert pair.b.stat("f").mode == 0o600


async def test_what_no_kernel_knows_is_not_announced(pair: Pair) -> None:
    pair.a.mkdir("d")
    await pair.a.write("d/0", b"x")
    await pair.settle()
    pair.b.listing("d")
    handle = pair.b.open_file("d/0")  # in use here, and unknown to every kernel
    heard = Announced(pair.b)
    for number in range(50):
        await pair.a.write(f"d/{number}", b"y")
    await pair.settle()
    assert heard.count == 0
    assert len(pair.b.listing("d")) == 50
    pair.b.volume.files.release(handle)


async def test_a_file_removed_after_it_was_changed_keeps_the_content_it_had_last(pair: Pair) -> None:
    await both_have(pair, "f", b"first")
    handle = pair.b.open_file("f")
    await pair.a.write("f", b"second")
    await pair.settle()
    await pair.a.unlink("f")
    await pair.settle()
    assert await settled(pair.b.volume.files.read(handle.inode, 0, 100)) == b"second"
    assert pair.b.volume.state.stat(handle.inode).size == 6
    pair.b.volume.files.release(handle)


async def test_a_renamed_directory_is_found_under_its_new_name_alone(pair: Pair) -> None:
    pair.a.mkdir("d")
    await both_have(pair, "d/f", b"x")
    directory, heard = known(pair.b, "d"), Announced(pair.b)
    await pair.a.rename("d", "e")
    await pair.settle()
    root = pair.b.volume.root.number
    assert {(root, "d"), (root, "e")} <= heard.names
    assert pair.b.walk("e") is directory
    assert await pair.b.fetch("e/f") == b"x"
    assert not pair.b.exists("d")


async def test_a_file_removed_elsewhere_while_open_keeps_its_content(pair: Pair) -> None:
    await both_have(pair, "f", b"content")
    handle = pair.b.open_file("f")
    handle.inode.lookups += 1
    await pair.a.unlink("f")
    await pair.settle()
    assert not pair.b.exists("f")
    assert await settled(pair.b.volume.files.read(handle.inode, 0, 100)) == b"content"
    stat = pair.b.volume.state.stat(handle.inode)
    assert (stat.nlink, stat.size) == (0, 7)
    pair.b.volume.files.release(handle)
    with pytest.raises(FSError) as raised:
        pair.b.volume.state.stat(handle.inode)
    assert raised.value.errno == errno.ESTALE


async def test_bytes_written_to_what_was_removed_elsewhere_bring_it_back(pair: Pair) -> None:
    await both_have(pair, "f", b"content")
    handle = pair.b.open_file("f", os.O_RDWR)
    await pair.a.unlink("f")
    await pair.settle()
    await pair.b.write_at(handle, 0, b"C")
    pair.b.close_file(handle)
    await pair.settle()
    assert pair.b.read("f") == b"Content"
    assert await pair.a.fetch("f") == b"Content"


async def test_a_directory_removed_elsewhere_while_open_is_empty(pair: Pair) -> None:
    pair.a.mkdir("d")
    await pair.settle()
    handle = pair.b.volume.directories.open(pair.b.walk("d"))
    await pair.a.rmdir("d")
    await pair.settle()
    assert pair.b.volume.directories.read(handle, 0, 10) == []
    assert pair.b.volume.state.stat(handle.inode).nlink == 0
    with pytest.raises(FSError):
        pair.b.volume.names.lookup(handle.inode, b"x")
    pair.b.volume.directories.release(handle)


async def test_a_writer_whose_file_moved_on_makes_a_version_beside_it(pair: Pair) -> None:
    await both_have(pair, "f", b"base")
    handle = pair.b.open_file("f", os.O_RDWR)
    pair.b.clock.advance(1)
    await pair.a.write("f", b"from a")
    await pair.settle()
    assert pair.b.volume.files.read(handle.inode, 0, 100) == b"base", "a writer keeps what it opened"
    assert pair.b.volume.state.stat(handle.inode).size == 4
    await pair.b.write_at(handle, 4, b"+b")
    pair.b.close_file(handle)
    await pair.settle()
    for rig in (pair.a, pair.b):
        names = rig.listing("")
        assert len(names) == 2, names
        assert {await rig.fetch(name) for name in names} == {b"from a", b"base+b"}


async def test_a_writer_that_wrote_nothing_makes_no_version_and_then_follows(pair: Pair) -> None:
    await both_have(pair, "f", b"base")
    handle = pair.b.open_file("f", os.O_RDWR)
    handle.inode.lookups += 1
    await pair.a.write("f", b"from a")
    await pair.settle()
    heard = Announced(pair.b)
    pair.b.close_file(handle)
    await pair.settle()
    assert handle.inode.number in heard.numbers
    assert pair.b.listing("") == ["f"]
    assert await pair.b.fetch("f") == b"from a"


async def test_a_save_over_what_moved_on_before_its_publication_keeps_both(pair: Pair) -> None:
    await both_have(pair, "f", b"base")
    await pair.b.write("f.new", b"from b")
    await pair.b.rename("f.new", "f")
    await pair.a.write("f", b"from a")
    await pair.settle()
    await pair.settle()
    for rig in (pair.a, pair.b):
        assert {await rig.fetch(name) for name in rig.listing("")} == {b"from a", b"from b"}


async def test_later_writes_of_a_writer_that_stands_aside_stay_aside(pair: Pair) -> None:
    await both_have(pair, "f", b"base")
    handle = pair.b.open_file("f", os.O_RDWR)
    await pair.b.write_at(handle, 0, b"BASE")
    await pair.b.volume.files.fsync(handle.inode)
    pair.a.clock.advance(5)
    await pair.a.write("f", b"from a")
    await pair.settle()
    pair.b.clock.advance(60)
    await pair.b.write_at(handle, 4, b"+more")
    pair.b.close_file(handle)
    await pair.settle()
    assert await pair.b.fetch("f") == b"from a"
    (aside,) = (name for name in pair.b.listing("") if name != "f")
    assert pair.b.read(aside) == b"BASE+more"


async def test_a_save_elsewhere_moves_the_number_and_old_descriptors_keep_theirs(pair: Pair) -> None:
    await both_have(pair, "f", b"old")
    await both_have(pair, "f.new", b"new")
    old, new = known(pair.b, "f"), known(pair.b, "f.new")
    reader = pair.b.open_file("f")
    follower = pair.b.open_file("f.new")
    await pair.a.rename("f.new", "f")
    await pair.settle()
    assert pair.b.walk("f") is new
    assert pair.b.stat("f").number == pair.a.stat("f").number == new.number != old.number
    assert pair.b.volume.files.read(reader.inode, 0, 10) == b"old"
    assert pair.b.volume.files.read(follower.inode, 0, 10) == b"new"
    assert pair.b.volume.state.stat(old).nlink == 0
    pair.b.volume.files.release(reader)
    pair.b.volume.files.release(follower)


@pytest.mark.parametrize("is_open", [True, False])
async def test_the_name_that_a_save_elsewhere_gives_another_number_is_announced(
    pair: Pair, is_open: bool
) -> None:
    """Or a program that looks the name up would be shown the old content for as long as one has it open."""
    await both_have(pair, "f", b"old")
    root, _ = known(pair.b, ""), known(pair.b, "f")
    reader = pair.b.open_file("f") if is_open else None
    heard = Announced(pair.b)
    await pair.a.write("f.new", b"new")
    await pair.a.rename("f.new", "f")
    await pair.settle()
    assert (root.number, "f") in heard.names
    if reader is not None:
        pair.b.volume.files.release(reader)


@pytest.mark.parametrize("is_closed", [True, False])
async def test_a_writer_whose_file_is_saved_over_another_elsewhere_writes_into_neither_and_is_published(
    pair: Pair, is_closed: bool
) -> None:
    """Looking the other name up must not make the number, and with it the writer, stand for that file."""
    await both_have(pair, "f", b"old")
    await both_have(pair, "f.new", b"new")
    writer = pair.b.open_file("f.new", os.O_WRONLY)
    await pair.b.write_at(writer, 3, b" and mine")
    if is_closed:
        pair.b.close_file(writer)
    await pair.a.publish()
    await pair.a.rename("f.new", "f")
    pair.carry()
    assert "f" in pair.b.listing("")
    assert pair.b.stat("f").size == 3
    if not is_closed:
        await pair.b.write_at(writer, 12, b", later")
        pair.b.close_file(writer)
    await pair.settle()
    assert not list(pair.b.volume.state.contents), "all is published"
    mine = b"new and mine" if is_closed else b"new and mine, later"
    for rig in (pair.a, pair.b):
        shown = {name: await rig.fetch(name) for name in rig.listing("")}
        assert shown["f"] == b"new"
        assert mine in shown.values()


@pytest.mark.parametrize("is_source_open", [True, False])
async def test_a_writer_of_what_another_device_saves_over_goes_on_alone_and_makes_one_version(
    pair: Pair, is_source_open: bool
) -> None:
    """The number that the save takes along is known here too: two numbers must not stand for one file."""
    await both_have(pair, "f", b"old")
    await both_have(pair, "f.new", b"new")
    known(pair.b, "f.new")
    known(pair.b, "f")
    reader = pair.b.open_file("f.new", os.O_RDONLY) if is_source_open else None
    writer = pair.b.open_file("f", os.O_WRONLY)
    await pair.b.write_at(writer, 3, b", mine")
    await pair.a.publish()
    await pair.a.rename("f.new", "f")
    pair.carry()
    pair.b.volume.save()
    assert pair.b.volume.publisher.is_idle, "what is being written is in no hurry"
    await pair.b.volume.files.fsync(writer.inode)
    await pair.b.publish()
    await pair.b.write_at(writer, 9, b", later")
    if reader is not None:
        assert await settled(pair.b.volume.files.read(reader.inode, 0, 100)) == b"new"
        pair.b.close_file(reader)
    pair.b.close_file(writer)
    await pair.settle()
    for rig in (pair.a, pair.b):
        shown = [await rig.fetch(name) for name in rig.listing("")]
        assert sorted(shown) == [b"new", b"old, mine, later"]


async def test_what_is_being_written_is_found_by_the_number_that_a_save_elsewhere_gave_it(pair: Pair) -> None:
    await both_have(pair, "f", b"old")
    writer = pair.b.open_file("f", os.O_WRONLY)
    await pair.b.write_at(writer, 0, b"O")
    await pair.a.write("f.new", b"new")
    await pair.a.rename("f.new", "f")
    await pair.a.publish()
    pair.carry()
    number = pair.a.stat("f").number
    assert number != writer.inode.number
    assert pair.b.volume.names.by_number(number) is writer.inode
    pair.b.volume.save()
    assert pair.b.volume.publisher.is_idle, "it is known to be written"
    pair.b.close_file(writer)
    await pair.settle()
    assert sorted([await pair.a.fetch(name) for name in pair.a.listing("")]) == [b"Old", b"new"]


async def test_a_number_nobody_has_open_is_stale_after_a_save_elsewhere(pair: Pair) -> None:
    await both_have(pair, "f", b"old")
    old = known(pair.b, "f")
    await pair.a.write("f.new", b"new")
    await pair.a.rename("f.new", "f")
    await pair.settle()
    assert pair.b.walk("f") is not old
    assert pair.b.stat("f").number == pair.a.stat("f").number
    with pytest.raises(FSError) as raised:
        pair.b.volume.state.stat(old)
    assert raised.value.errno == errno.ESTALE


@pytest.mark.parametrize("how", ["save", "unlink"])
@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_RDWR, os.O_RDWR | os.O_TRUNC])
async def test_what_went_elsewhere_after_it_was_looked_up_cannot_be_opened(
    pair: Pair, how: str, flags: int
) -> None:
    """The kernel, told ESTALE, looks the name up again; an open that succeeded would only fail later."""
    await both_have(pair, "f", b"old")
    inode = known(pair.b, "f")
    if how == "save":
        await pair.a.write("t", b"new")
        await pair.a.rename("t", "f")
    else:
        await pair.a.unlink("f")
    await pair.settle()
    with pytest.raises(FSError) as refused:
        pair.b.volume.files.open(inode, flags)
    assert refused.value.errno == errno.ESTALE
    assert not inode.opens


async def test_directories_made_apart_become_one_with_one_number(pair: Pair) -> None:
    pair.a.mkdir("d")
    pair.b.mkdir("d")
    mine = known(pair.b, "d")
    await pair.a.write("d/from a", b"a")
    await pair.b.write("d/from b", b"b")
    await pair.settle()
    assert pair.b.listing("d") == ["from a", "from b"]
    assert pair.b.walk("d") is mine
    assert pair.b.volume.state.stat(mine).number == mine.number
    await pair.b.write("d/later", b"c")
    await pair.a.rename("d/from a", "moved")
    await pair.settle()
    assert pair.a.listing("d") == pair.b.listing("d") == ["from b", "later"]


async def test_conflict_entries_that_appear_and_vanish_are_announced(pair: Pair) -> None:
    await both_have(pair, "f", b"base")
    await pair.a.write("f", b"from a")
    await pair.b.write("f", b"from b")
    await pair.settle()
    (aside,) = (name for name in pair.b.listing("") if name != "f")
    entry = known(pair.b, aside)
    root, heard = pair.b.volume.root.number, Announced(pair.b)
    await pair.a.unlink(next(name for name in pair.a.listing("") if name != "f"))
    await pair.settle()
    assert (root, aside) in heard.names
    assert not pair.b.exists(aside)
    with pytest.raises(FSError):
        pair.b.volume.state.stat(entry)


async def test_a_conflict_entry_renamed_elsewhere_keeps_its_number(pair: Pair) -> None:
    await both_have(pair, "f", b"base")
    await pair.a.write("f", b"from a")
    await pair.b.write("f", b"from b")
    await pair.settle()
    (aside,) = (name for name in pair.b.listing("") if name != "f")
    entry = known(pair.b, aside)
    await pair.a.rename(next(name for name in pair.a.listing("") if name != "f"), "mine")
    await pair.settle()
    assert pair.b.walk("mine") is entry
    assert pair.b.volume.state.stat(entry).number == entry.number


@pytest.mark.parametrize("how", ["rename", "rename over", "rename onto its own name", "link"])
@pytest.mark.parametrize("is_closed", [True, False])
async def test_what_is_being_written_into_a_conflict_entry_goes_with_it_when_it_gets_another_name(
    pair: Pair, how: str, is_closed: bool
) -> None:
    await both_have(pair, "f", b"old")
    await both_have(pair, "g", b"other")
    await pair.a.write("f", b"of a")
    await pair.b.write("f", b"of b")
    await pair.settle()
    (aside,) = (name for name in pair.b.listing("") if "conflict" in name)
    name = {"rename over": "g", "rename onto its own name": "f"}.get(how, "mine")
    mine = b"OF " + pair.b.read(aside)[3:]
    writer = pair.b.open_file(aside, os.O_WRONLY)
    await pair.b.write_at(writer, 0, b"OF")
    if is_closed:
        pair.b.close_file(writer)
    if how == "link":
        pair.b.link(aside, name)
    else:
        await pair.b.rename(aside, name)
    if not is_closed:
        await pair.b.write_at(writer, len(mine), b", later")
        pair.b.close_file(writer)
        mine += b", later"
    await pair.settle()
    assert not list(pair.b.volume.state.contents), "all is published"
    for rig in (pair.a, pair.b):
        shown = {name: await rig.fetch(name) for name in rig.listing("")}
        assert shown.pop(name) == mine
        if how == "link":
            assert shown.pop(aside) == mine
        assert not [name for name in shown if "conflict" in name]


async def test_a_remote_name_that_meets_an_unpublished_file_keeps_the_name(pair: Pair) -> None:
    handle = pair.b.open_file("f.txt", os.O_RDWR | os.O_CREAT)
    await pair.b.write_at(handle, 0, b"from b")
    await pair.a.write("f.txt", b"from a")
    await pair.a.publish()
    pair.carry()
    assert pair.b.read("f.txt") == b"from b", "it is being written here"
    heard = Announced(pair.b)
    pair.b.close_file(handle)
    await pair.settle()
    for rig in (pair.a, pair.b):
        (aside,) = (name for name in rig.listing("") if name != "f.txt")
        assert aside.startswith("f (conflict, phone, ")
        assert aside.endswith(").txt")
        assert await rig.fetch("f.txt") == b"from a"
        assert await rig.fetch(aside) == b"from b"
    assert (pair.b.volume.root.number, "f.txt") in heard.names


async def test_rules_from_another_device_are_taken_up_even_if_they_have_to_be_fetched(pair: Pair) -> None:
    await pair.a.write(".dittoignore", b"*.tmp\n")
    await pair.settle()
    assert pair.b.volume.state.are_rules_stale
    text = pair.b.volume._read_rules()
    assert not isinstance(text, bytes)
    pair.b.volume._take_up(await text)
    assert pair.b.volume.state.is_ignored(pair.b.volume.root.id, b"x.tmp", is_directory=False)


async def test_a_file_of_both_is_in_a_listing_that_was_begun_before(pair: Pair) -> None:
    pair.a.mkdir("d")
    await pair.settle()
    handle = pair.b.volume.directories.open(pair.b.walk("d"))
    pair.b.volume.directories.read(handle, 0, 1)
    await pair.a.write("d/f", b"x")
    await pair.settle()
    names = [line.name for line in pair.b.volume.directories.read(handle, 2, 10)]
    pair.b.volume.directories.release(handle)
    assert names == [b"f"]


async def test_a_file_not_yet_published_brings_back_the_directory_removed_around_it(pair: Pair) -> None:
    pair.a.mkdir("d")
    pair.a.mkdir("d/e")
    await pair.settle()
    handle = pair.b.open_file("d/e/f", os.O_RDWR | os.O_CREAT)
    await pair.b.write_at(handle, 0, b"kept")
    await pair.a.rmdir("d/e")
    await pair.a.rmdir("d")
    pair.carry()
    assert not pair.b.exists("d")
    heard = Announced(pair.b)
    pair.b.close_file(handle)
    await pair.settle()
    assert pair.b.read("d/e/f") == b"kept"
    assert await pair.a.fetch("d/e/f") == b"kept"
    assert (pair.b.volume.root.number, "d") in heard.names
    assert not pair.b.volume.publisher.stuck


@pytest.mark.parametrize("is_written", ["before the rename", "after the rename"])
async def test_a_file_that_moved_on_elsewhere_and_is_renamed_over_another_here_keeps_both_contents(
    pair: Pair, is_written: str
) -> None:
    await both_have(pair, "source", b"base")
    await both_have(pair, "target", b"other")
    handle = pair.a.open_file("source", os.O_RDWR)
    await pair.b.write("source", b"what the phone wrote")
    if is_written == "before the rename":
        await pair.a.write_at(handle, 0, b"mine")
    await pair.settle()
    await pair.a.rename("source", "target")
    if is_written == "after the rename":
        await pair.a.write_at(handle, 0, b"mine")
    pair.a.close_file(handle)
    await pair.settle()
    await pair.settle()
    for rig in (pair.a, pair.b):
        contents = {await rig.fetch(name) for name in rig.listing("")}
        assert {b"what the phone wrote", b"mine"} <= contents
    assert pair.a.listing("") == pair.b.listing("")


@pytest.mark.parametrize("how", ["unlink", "rename over"])
async def test_a_file_that_comes_back_while_its_removed_self_is_open_is_read_and_written_as_it_is_now(
    pair: Pair, how: str
) -> None:
    await both_have(pair, "f", b"old")
    handle = pair.b.open_file("f", os.O_RDWR)
    if how == "unlink":
        await pair.b.unlink("f")
    else:
        await pair.b.write("g", b"over it")
        await pair.b.publish()
        await pair.b.rename("g", "f")
        await pair.b.unlink("f")
    await pair.a.write("f", b"written meanwhile")
    await pair.settle()
    assert await pair.b.fetch("f") == b"written meanwhile"
    assert await settled(pair.b.volume.files.read(handle.inode, 0, 99)) == b"old"
    await pair.b.write("f", b"and replaced here")
    known(pair.b, "f")
    pair.b.close_file(handle)
    await pair.settle()
    assert await pair.a.fetch("f") == b"and replaced here"
    await pair.a.write("f", b"and there")
    await pair.settle()
    assert await pair.b.fetch("f") == b"and there"
    assert known(pair.b, "f") is pair.b.walk("f")


async def test_a_directory_that_comes_back_can_be_used_though_a_program_still_has_its_removed_self(
    pair: Pair,
) -> None:
    pair.a.mkdir("d")
    await pair.settle()
    known(pair.b, "d")
    await pair.b.rmdir("d")
    await pair.a.write("d/f", b"written meanwhile")
    await pair.settle()
    assert await pair.b.fetch("d/f") == b"written meanwhile"
    await pair.b.write("d/g", b"beside")
    await pair.settle()
    assert await pair.a.fetch("d/g") == b"beside"
