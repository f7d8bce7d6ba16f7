"""A filled directory joins a filled volume."""

import errno
import os
import stat
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any, TypeVar

import pytest
import trio

from dittofs.blocking import run_inline
from dittofs.errors import FSError
from dittofs.ids import ROOT
from dittofs.importing.importing import Importing, Note, Progress, Totals
from dittofs.importing.making import Making
from dittofs.importing.source import entries, store
from dittofs.merging.conflicts import Conflicts
from dittofs.volume.attributes import TIME_MAX
from tests.simulation.pair import Pair
from tests.simulation.rig import Rig

Result = TypeVar("Result")


class FullAfter:
    """Runs what it is given, and finds the disk full after so many times."""

    def __init__(self, times: int) -> None:
        self._left = times

    async def __call__(self, function: Callable[..., Result], *arguments: Any) -> Result:
        self._left -= 1
        if self._left < 0:
            raise FSError(errno.ENOSPC, "the disk is full")
        return await run_inline(function, *arguments)


async def join(rig: Rig, source: Path, *names: bytes, is_dry: bool = False) -> tuple[Totals, list[Note]]:
    await rig.publish()
    importing = Importing(rig.volume, os.fsencode(source), names, is_dry=is_dry)
    notes = [item async for item in importing.run() if isinstance(item, Note)]
    return importing.totals, notes


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory with something of every kind."""
    top = tmp_path / "tree"
    (top / "d/empty").mkdir(parents=True)
    (top / "same").write_bytes(b"the same")
    (top / "differs").write_bytes(b"of the directory")
    (top / "d/large").write_bytes(os.urandom(300_000))
    (top / "d/script").write_bytes(b"#!/bin/sh\n")
    (top / "d/script").chmod(0o750)
    os.link(top / "d/large", top / "d/linked")
    (top / "d/link").symlink_to("large")
    os.mkfifo(top / "d/pipe")
    with (top / "d/sparse").open("wb") as file:
        file.truncate(5 << 20)
        file.seek(4 << 20)
        file.write(b"end")
    os.setxattr(top / "d/script", "user.colour", b"blue")
    os.utime(top / "d/script", ns=(1, 1_500_000_000_123_456_789))
    os.utime(top / "d/empty", ns=(1, 1_400_000_000_000_000_000))
    os.utime(top / "d", ns=(1, 1_450_000_000_000_000_000))
    return top


async def test_what_is_absent_is_added_with_all_its_attributes(rig: Rig, tree: Path) -> None:
    totals, notes = await join(rig, tree)
    assert notes == []
    assert (totals.added, totals.directories, totals.same, totals.conflicts) == (8, 2, 0, 0)
    assert rig.listing("d") == ["empty", "large", "link", "linked", "pipe", "script", "sparse"]
    assert rig.read("d/large") == (tree / "d/large").read_bytes()
    assert rig.read("d/sparse") == (tree / "d/sparse").read_bytes()
    script = rig.stat("d/script")
    assert (script.mode, script.mtime) == (0o750, 1_500_000_000_123_456_789)
    assert rig.volume.attributes.get_xattr(rig.walk("d/script"), b"user.colour") == b"blue"
    assert rig.stat("d/large").number == rig.stat("d/linked").number
    assert rig.stat("d/large").nlink == 2
    assert rig.volume.names.target(rig.walk("d/link")) == b"large"
    assert rig.stat("d/pipe").full_mode & stat.S_IFMT(0o170000) == stat.S_IFIFO
    assert rig.stat("d").mtime == 1_450_000_000_000_000_000
    assert rig.stat("d/empty").mtime == 1_400_000_000_000_000_000


async def test_the_same_content_is_no_conflict_and_keeps_what_the_volume_has(rig: Rig, tree: Path) -> None:
    await rig.write("same", b"the same")
    before = rig.stat("same")
    await join(rig, tree)
    after = rig.stat("same")
    assert (after.mtime, after.number) == (before.mtime, before.number)
    assert rig.volume.summary().conflicts == 0


async def test_a_file_that_differs_is_kept_beside_and_the_volumes_stays_at_the_name(
    rig: Rig, tree: Path
) -> None:
    await rig.write("differs", b"of the volume")
    totals, notes = await join(rig, tree)
    assert (totals.conflicts, totals.conflict_bytes) == (1, 16)
    assert rig.read("differs") == b"of the volume"
    (conflict,) = Conflicts(rig.volume.state).walk()
    assert rig.read(os.fsdecode(conflict.asides[0].name)) == b"of the directory"
    assert [(note.what, note.path, os.fsencode(note.detail)) for note in notes] == [
        ("conflict", b"differs", conflict.asides[0].name)
    ]


async def test_an_import_done_again_does_nothing(rig: Rig, tree: Path) -> None:
    await rig.write("differs", b"of the volume")
    await join(rig, tree)
    before = {name: rig.stat(name).ctime for name in rig.listing("")}
    totals, notes = await join(rig, tree)
    assert (totals.added, totals.directories, totals.conflicts, totals.same) == (0, 0, 0, 8)
    assert notes == []
    assert {name: rig.stat(name).ctime for name in rig.listing("")} == before


async def test_an_import_that_was_interrupted_goes_on(rig: Rig, tree: Path) -> None:
    for number in range(200):
        (tree / f"many{number:03}").write_text(str(number))
    os.link(tree / "many000", tree / "many199 too")
    replica = rig.volume.replica
    replica.run_blocking = FullAfter(4)  # type: ignore[assignment]  # it takes whatever it is given
    with pytest.raises(FSError, match="the disk is full"):
        await join(rig, tree)
    replica.run_blocking = run_inline
    begun = len(rig.listing(""))
    assert 0 < begun < 200
    totals, _ = await join(rig, tree)
    assert totals.same >= begun - 1
    assert sum(name.startswith("many") for name in rig.listing("")) == 201
    assert rig.stat("many000").number == rig.stat("many199 too").number
    assert rig.volume.summary().conflicts == 0


async def test_a_dry_run_says_the_same_and_does_nothing(rig: Rig, tree: Path) -> None:
    await rig.write("differs", b"of the volume")
    await rig.write("same", b"the same")
    await rig.publish()
    stored = rig.volume.replica.chunks.statistics().chunks
    said, notes = await join(rig, tree, is_dry=True)
    assert rig.listing("") == ["differs", "same"]
    assert rig.volume.replica.chunks.statistics().chunks == stored
    assert [note.path for note in notes] == [b"differs"]
    done, _ = await join(rig, tree)
    assert said == done


async def test_the_directory_is_left_as_it_is(rig: Rig, tree: Path) -> None:
    def seen() -> list[tuple[object, ...]]:
        found = []
        for path in sorted(tree.rglob("*")):
            one = path.lstat()
            found.append((path, one.st_mode, one.st_size, one.st_mtime_ns, one.st_ctime_ns, one.st_atime_ns))
        return [entry for entry in found if not Path(str(entry[0])).is_dir()]

    (tree / "same").read_bytes()
    before = seen()
    await join(rig, tree)
    after = seen()
    assert [one[:5] for one in after] == [one[:5] for one in before]


@pytest.mark.parametrize("kind", ["directory over file", "file over directory", "link over file"])
async def test_of_different_kinds_both_are_kept_and_a_directory_keeps_its_name(
    rig: Rig, tmp_path: Path, kind: str
) -> None:
    top = tmp_path / "tree"
    top.mkdir()
    if kind == "directory over file":
        await rig.write("x", b"file")
        (top / "x").mkdir()
        (top / "x/inside").write_bytes(b"inside")
    elif kind == "file over directory":
        rig.mkdir("x")
        (top / "x").write_bytes(b"file")
    else:
        await rig.write("x", b"file")
        (top / "x").symlink_to("target")
    totals, notes = await join(rig, top)
    assert (totals.conflicts, len(notes)) == (1, 1)
    names = rig.listing("")
    assert len(names) == 2
    if kind == "link over file":
        assert rig.read("x") == b"file"
    else:
        other = next(name for name in names if name != "x")
        assert stat.S_ISDIR(rig.stat("x").full_mode)
        assert rig.read(other) == b"file"
        assert rig.listing("x") == (["inside"] if kind == "directory over file" else [])
    again, notes = await join(rig, top)
    assert (again.conflicts, notes) == (0, [])


async def test_what_is_ignored_or_reserved_is_left_out_and_said(rig: Rig, tree: Path) -> None:
    await rig.write(".dittoignore", b"*.tmp\nbuild/\n")
    rig.volume.load_rules()
    (tree / "x.tmp").write_text("x")
    (tree / "build").mkdir()
    (tree / "build/y").write_text("y")
    (tree / ".dittofs").mkdir()
    totals, notes = await join(rig, tree)
    assert totals.left_out == 3
    assert {note.path for note in notes} == {b"x.tmp", b"build", b".dittofs"}
    assert not rig.exists("x.tmp")
    assert not rig.exists("build")
    (tree / "d/.dittofs").mkdir()
    totals, notes = await join(rig, tree, b"photos", b"2019")
    assert b"photos/2019/.dittofs" in {note.path for note in notes}
    assert not rig.exists("photos/2019/.dittofs")
    assert rig.exists("photos/2019/d/.dittofs")


@pytest.mark.parametrize("names", [(b".dittofs",), (b".dittofs", b"d")])
@pytest.mark.parametrize("is_dry", [True, False])
async def test_nothing_is_imported_under_the_reserved_name(
    rig: Rig, tree: Path, names: tuple[bytes, ...], is_dry: bool
) -> None:
    with pytest.raises(FSError) as refused:
        await join(rig, tree, *names, is_dry=is_dry)
    assert refused.value.errno == errno.EPERM
    assert rig.volume.replica.tree.lookup(ROOT, b".dittofs") is None


async def test_two_filled_trees_with_the_same_files_become_one_without_conflicts(
    pair: Pair, tree: Path
) -> None:
    """Both devices import a copy of one tree before they have ever heard of each other."""
    (tree / "d/pipe").unlink()  # it has no content by which two could be told to be the same
    for rig in (pair.a, pair.b):
        await join(rig, tree, b"photos", b"2026")
        rig.clock.advance(60)
    pair.carry()
    for rig in (pair.a, pair.b):
        assert rig.volume.summary().conflicts == 0
        assert rig.listing("photos/2026/d") == ["empty", "large", "link", "linked", "script", "sparse"]
        assert await rig.fetch("photos/2026/d/large") == (tree / "d/large").read_bytes()


async def test_a_place_that_is_a_file_is_refused(rig: Rig, tree: Path) -> None:
    await rig.write("f", b"x")
    with pytest.raises(FSError, match="f is no directory"):
        await join(rig, tree, b"f")


async def test_a_file_that_changes_while_it_is_read_is_not_taken(rig: Rig, tree: Path) -> None:
    found, problem = entries(os.fsencode(tree))
    assert not problem
    (tree / "same").write_text("written just now")
    (tree / "differs").unlink()
    store(rig.volume.replica.chunks, rig.volume.replica.slot, found)
    assert {item.name: item.problem for item in found if item.problem} == {
        b"differs": "No such file or directory",
        b"same": "it changed just now",
    }


def test_a_directory_that_cannot_be_read_says_why(tree: Path) -> None:
    assert entries(os.fsencode(tree / "gone")) == ([], "No such file or directory")


async def test_how_far_it_is_is_told_in_bytes_while_one_large_file_is_read(rig: Rig, tree: Path) -> None:
    (tree / "d/large").write_bytes(os.urandom(5 << 20))
    hold = Held()
    rig.volume.replica.run_blocking = hold  # type: ignore[assignment]  # it takes whatever it is given
    importing = Importing(rig.volume, os.fsencode(tree), ())
    told: list[tuple[int, int]] = []
    async with aclosing(importing.run()) as run:
        async for item in run:
            if isinstance(item, Progress) and not item.is_counting:
                told.append((item.bytes_done, item.bytes_total))
                hold.may_go.set()
    assert told
    assert 0 < told[0][0] <= told[0][1] == sum(item.lstat().st_size for item in files_of(tree))


async def test_a_slice_that_fails_is_told_and_leaves_nothing_running(rig: Rig, tree: Path) -> None:
    rig.volume.replica.run_blocking = FullAfter(3)  # type: ignore[assignment]  # as above
    with pytest.raises(FSError, match="the disk is full"):
        await join(rig, tree)
    assert rig.volume.replica.read_only is None


async def test_a_file_that_got_the_number_of_a_removed_one_is_not_joined_with_it(
    rig: Rig, tmp_path: Path
) -> None:
    """A file with two names is removed while the import runs, and its inode number is given to another."""
    (tmp_path / "one").write_bytes(b"of one")
    (tmp_path / "two").write_bytes(b"of two")
    for name in ("one", "two"):
        os.link(tmp_path / name, tmp_path / f"{name} again")
    found = {item.name.decode(): item for item in entries(os.fsencode(tmp_path))[0] if item.is_linked}
    first, second = found["one"].stat, found["two"].stat
    reused = {name: getattr(second, name) for name in ("st_mtime_ns", "st_ctime_ns", "st_mtime", "st_ctime")}
    for name in ("two", "two again"):
        found[name].stat = os.stat_result((second[0], first.st_ino, *second[2:]), reused)
        (found[name].root, found[name].node) = (b"t" * 32, b"")
    for name in ("one", "one again"):
        (found[name].root, found[name].node) = (b"o" * 32, b"")
    making = Making(rig.volume.state)
    for item in found.values():
        with rig.volume.replica.change() as change:
            making.make(change, ROOT, item, is_free=True)
    numbers = {name: rig.stat(name).number for name in found}
    assert numbers["one"] == numbers["one again"] != numbers["two"] == numbers["two again"]
    for name in ("one", "two"):
        version = rig.volume.replica.tree.version(rig.walk(name).ref)
        assert version is not None
        assert version.root[:1] == name[:1].encode()


async def test_a_time_that_cannot_be_kept_becomes_the_nearest_that_can(rig: Rig, tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old/directory").mkdir()
    (tmp_path / "old/file").write_bytes(b"x")
    (tmp_path / "old/link").symlink_to("x")
    for name in ("file", "link", "directory"):
        late = 10_413_792_000  # the year 2300, which ext4 keeps
        os.utime(tmp_path / "old" / name, (late, late), follow_symlinks=False)
    totals, notes = await join(rig, tmp_path / "old")
    assert (totals.added, totals.directories, notes) == (2, 1, [])
    for _ in range(2):
        assert [rig.stat(name).mtime for name in rig.listing("")] == [TIME_MAX] * 3
        await rig.close()
        rig.open()


def files_of(tree: Path) -> list[Path]:
    return [path for path in tree.rglob("*") if path.is_file() and not path.is_symlink()]


class Held:
    """Reads the first files whole, and then stops until `may_go`."""

    def __init__(self) -> None:
        self.may_go = trio.Event()

    async def __call__(self, function: Callable[..., Result], *arguments: Any) -> Result:
        result = await run_inline(function, *arguments)
        if function is store and any(item.done for item in arguments[2]):
            await self.may_go.wait()
        return result
