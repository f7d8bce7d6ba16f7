"""Conflicts as the volume finds and resolves them, and as rm, mv and cp do."""

import errno
import os

import pytest
import trio

from dittofs.errors import FSError
from dittofs.merging.conflicts import Conflict, Conflicts
from dittofs.merging.resolving import Resolving, Unclear, chosen
from tests.simulation.pair import Pair
from tests.simulation.rig import Rig

BOTH = [b"of laptop", b"of phone"]


async def apart(pair: Pair, path: str = "f.txt", base: bytes = b"base") -> None:
    """Both devices change one file without hearing of each other; the phone does so later."""
    await pair.a.write(path, base)
    await pair.settle()
    await pair.a.write(path, b"of laptop")
    pair.b.clock.advance(2)
    await pair.b.write(path, b"of phone")
    await pair.settle()


def only(rig: Rig) -> Conflict:
    (found,) = Conflicts(rig.volume.state).walk()
    return found


async def contents(rig: Rig, path: str = "") -> dict[str, bytes]:
    prefix = f"{path}/" if path else ""
    return {name: await rig.fetch(prefix + name) for name in rig.listing(path)}


async def resolve(rig: Rig, keep: str) -> list[str]:
    """As `dittofs conflicts resolve`: the devices whose versions gave way."""
    conflict = only(rig)
    await rig.publish()
    gone = await Resolving(rig.volume).keep(conflict, chosen(conflict, keep))
    return [side.device for side in gone]


async def test_both_devices_list_the_same_sides_and_each_knows_its_own(pair: Pair) -> None:
    pair.a.mkdir("d")
    await apart(pair, "d/f.txt")
    one, other = only(pair.a), only(pair.b)
    assert (one.path, one.name) == (other.path, other.name) == (b"d/", b"f.txt")
    assert [(side.name, side.device, side.size) for side in one.sides] == [
        (side.name, side.device, side.size) for side in other.sides
    ]
    assert [(side.device, side.is_mine) for side in one.sides] == [("phone", False), ("laptop", True)]
    assert [(side.device, side.is_mine) for side in other.sides] == [("phone", True), ("laptop", False)]
    assert one.is_of_versions
    found = Conflicts(pair.a.volume.state)
    assert found.find([b"d", b"f.txt"]) == found.find([b"d", one.asides[0].name]) == one
    assert list(found.walk([b"d"])) == list(found.walk([b"d", b"f.txt"])) == [one]


async def test_what_is_not_there_is_told_from_what_has_no_conflict(pair: Pair) -> None:
    await pair.a.write("calm", b"x")
    await pair.a.publish()
    assert Conflicts(pair.a.volume.state).find([b"calm"]) is None
    assert list(Conflicts(pair.a.volume.state).walk()) == []
    with pytest.raises(FSError) as raised:
        Conflicts(pair.a.volume.state).find([b"nothing"])
    assert raised.value.errno == errno.ENOENT


@pytest.mark.parametrize(
    ("keep", "kept", "gone"),
    [("mine", b"of laptop", ["phone"]), ("theirs", b"of phone", ["laptop"]),
     ("phone", b"of phone", ["laptop"]), ("shown", b"of phone", ["laptop"]),
     ("beside", b"of laptop", ["phone"])],
)  # fmt: skip
async def test_one_side_is_kept_everywhere(pair: Pair, keep: str, kept: bytes, gone: list[str]) -> None:
    await apart(pair)
    assert await resolve(pair.a, keep) == gone
    await pair.settle()
    for rig in (pair.a, pair.b):
        assert await contents(rig) == {"f.txt": kept}
        assert rig.volume.summary().conflicts == 0


async def test_a_side_that_gives_way_stays_in_the_history(pair: Pair) -> None:
    await apart(pair)
    (aside,) = only(pair.a).asides
    assert aside.version is not None
    await resolve(pair.a, "shown")
    rows = pair.a.volume.replica.journal.history.of_inode(aside.entry.inode)
    assert any(aside.version.root in row.before for row in rows)


async def test_both_are_kept_as_ordinary_files(pair: Pair) -> None:
    await apart(pair)
    await pair.a.write("f (laptop).txt", b"taken")
    await pair.a.publish()
    named = await Resolving(pair.a.volume).keep_all(only(pair.a))
    assert [(side.device, name) for side, name in named] == [("laptop", b"f (laptop 2).txt")]
    await pair.settle()
    for rig in (pair.a, pair.b):
        assert await contents(rig) == {
            "f.txt": b"of phone",
            "f (laptop).txt": b"taken",
            "f (laptop 2).txt": b"of laptop",
        }
        assert rig.volume.summary().conflicts == 0


async def test_files_made_apart_under_one_name_are_a_conflict_and_resolve_alike(pair: Pair) -> None:
    await pair.a.write("new", b"of laptop")
    pair.b.clock.advance(2)
    await pair.b.write("new", b"of phone")
    await pair.settle()
    conflict = only(pair.b)
    assert not conflict.is_of_versions
    assert [(side.device, side.is_mine) for side in conflict.sides] == [("laptop", False), ("phone", True)]
    assert await resolve(pair.b, "mine") == ["laptop"]
    await pair.settle()
    for rig in (pair.a, pair.b):
        assert await contents(rig) == {"new": b"of phone"}


async def test_a_directory_keeps_its_name_against_a_file(pair: Pair) -> None:
    await pair.a.write("x", b"file")
    pair.b.mkdir("x")
    await pair.settle()
    conflict = only(pair.a)
    with pytest.raises(FSError) as raised:
        await resolve(pair.a, "mine")
    assert raised.value.errno == errno.EISDIR
    named = await Resolving(pair.a.volume).keep_all(conflict)
    assert [name for _, name in named] == [b"x (laptop)"]
    await pair.settle()
    assert pair.b.listing("") == ["x", "x (laptop)"]


async def test_of_a_removed_file_the_side_that_is_left_can_have_the_name_again(pair: Pair) -> None:
    await apart(pair)
    await pair.a.unlink("f.txt")
    conflict = only(pair.a)
    assert conflict.main is None
    with pytest.raises(Unclear):
        chosen(conflict, "shown")
    assert await resolve(pair.a, "mine") == []
    await pair.settle()
    assert await contents(pair.b) == {"f.txt": b"of laptop"}
    assert pair.b.volume.summary().conflicts == 0


async def test_which_side_is_meant_must_be_clear(pair: Pair) -> None:
    await apart(pair)
    with pytest.raises(Unclear, match="none of the 2 versions is of tablet; they are of: laptop, phone"):
        chosen(only(pair.a), "tablet")


async def test_nothing_is_resolved_while_a_program_writes_one_side(pair: Pair) -> None:
    await apart(pair)
    (aside,) = only(pair.a).asides
    handle = pair.a.open_file(os.fsdecode(aside.name), os.O_RDWR)
    with pytest.raises(FSError) as raised:
        await resolve(pair.a, "shown")
    assert raised.value.errno == errno.EBUSY
    assert len(pair.a.listing("")) == 2
    pair.a.close_file(handle)
    await resolve(pair.a, "shown")
    assert pair.a.listing("") == ["f.txt"]


async def test_a_side_that_changed_since_it_was_looked_at_is_not_decided_about(pair: Pair) -> None:
    await apart(pair)
    conflict = only(pair.a)
    await pair.b.write("f.txt", b"once more")
    await pair.settle()
    (aside,) = conflict.asides
    await pair.b.write(os.fsdecode(aside.name), b"and this side")
    await pair.settle()
    with pytest.raises(FSError) as raised:
        await Resolving(pair.a.volume).keep(conflict, conflict.sides[0])
    assert raised.value.errno == errno.EBUSY
    assert sorted((await contents(pair.a)).values()) == [b"and this side", b"once more"]


@pytest.mark.parametrize("who", ["a", "b"])
@pytest.mark.parametrize("how", ["remove the entry", "rename the entry over", "copy the entry over"])
async def test_ordinary_programs_resolve(pair: Pair, how: str, who: str) -> None:
    await apart(pair)
    rig = pair.a if who == "a" else pair.b
    aside = os.fsdecode(only(rig).asides[0].name)
    kept = b"of laptop"
    if how == "remove the entry":
        await rig.unlink(aside)
        kept = b"of phone"
    elif how == "rename the entry over":
        await rig.rename(aside, "f.txt")
    else:
        data = await rig.fetch(aside)
        await rig.write("f.txt", data)
        await rig.publish()
    await pair.settle()
    for one in (pair.a, pair.b):
        assert await contents(one) == {"f.txt": kept}
        assert one.volume.summary().conflicts == 0


async def test_an_edit_of_a_side_is_not_lost_where_another_device_resolves(pair: Pair) -> None:
    """Edit beats delete, for conflict entries as for files."""
    await apart(pair)
    (aside,) = only(pair.a).asides
    await pair.b.write(os.fsdecode(aside.name), b"of laptop, edited")
    await resolve(pair.a, "shown")
    await pair.settle()
    for rig in (pair.a, pair.b):
        assert sorted((await contents(rig)).values()) == [b"of laptop, edited", b"of phone"]


async def test_conflicts_in_merged_directories_are_found(pair: Pair) -> None:
    for rig, text in ((pair.a, b"of laptop"), (pair.b, b"of phone")):
        rig.mkdir("d")
        rig.mkdir("d/e")
        await rig.write("d/e/f", text)
    await pair.settle()
    for rig in (pair.a, pair.b):
        assert [(one.path, one.name) for one in Conflicts(rig.volume.state).walk()] == [(b"d/e/", b"f")]


async def test_a_volume_without_conflicts_is_not_gone_through(pair: Pair) -> None:
    for number in range(200):
        await pair.a.write(f"f{number}", b"x")
    await pair.a.publish()
    asked = pair.a.volume.replica.tree.conflicted()
    assert list(asked) == []
    await trio.lowlevel.checkpoint()


async def test_a_name_that_a_directory_shows_is_found_by_it_and_what_is_below_too(pair: Pair) -> None:
    pair.a.mkdir("d")
    await pair.a.write("d/f", b"base")
    await pair.b.write("d", b"a file")
    await pair.settle()
    for rig, content in ((pair.a, b"of laptop"), (pair.b, b"of phone")):
        await rig.write("d/f", content)
    await pair.settle()
    for rig in (pair.a, pair.b):
        found = Conflicts(rig.volume.state)
        whole = list(found.walk())
        assert [one.path + one.name for one in whole] == [b"d", b"d/f"]
        assert list(found.walk([b"d"])) == whole
        assert list(found.walk([whole[0].asides[0].name])) == whole[:1]


async def test_a_name_that_shows_nothing_is_found_by_it(pair: Pair) -> None:
    await apart(pair)
    await pair.a.unlink("f.txt")
    await pair.settle()
    for rig in (pair.a, pair.b):
        found = Conflicts(rig.volume.state)
        for one in found.walk():
            assert list(found.walk([one.name])) == [one]
