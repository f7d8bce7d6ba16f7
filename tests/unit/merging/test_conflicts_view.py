"""`.dittofs/conflicts/`: the sides of conflicts as files."""

import errno
import os

import pytest

from dittofs.errors import FSError
from tests.simulation.pair import Pair

TOP = ".dittofs/conflicts"


async def apart(pair: Pair, path: str) -> None:
    await pair.a.write(path, b"base")
    await pair.settle()
    await pair.a.write(path, b"of laptop")
    pair.b.clock.advance(2)
    await pair.b.write(path, b"of phone")
    await pair.settle()


async def test_each_side_is_a_read_only_file_below_the_path_of_its_conflict(pair: Pair) -> None:
    pair.a.mkdir("notes")
    await apart(pair, "notes/todo.txt")
    for rig in (pair.a, pair.b):
        assert rig.listing(TOP) == ["notes"]
        assert rig.listing(f"{TOP}/notes") == ["todo.txt"]
        names = rig.listing(f"{TOP}/notes/todo.txt")
        assert [name.split(",")[:2] for name in names] == [
            ["todo (beside", " laptop"],
            ["todo (shown", " phone"],
        ]
        found = [await rig.fetch(f"{TOP}/notes/todo.txt/{name}") for name in names]
        assert found == [b"of laptop", b"of phone"]
        stat = rig.stat(f"{TOP}/notes/todo.txt/{names[0]}")
        assert (stat.mode, stat.size) == (0o444, 9)
        with pytest.raises(FSError) as raised:
            rig.open_file(f"{TOP}/notes/todo.txt/{names[0]}", os.O_RDWR)
        assert raised.value.errno == errno.EROFS
        inode = rig.walk(f"{TOP}/notes/todo.txt")
        assert rig.volume.names.parent(inode) is rig.walk(f"{TOP}/notes")


async def test_what_is_resolved_is_not_there_any_more_and_what_is_open_can_be_read_to_its_end(
    pair: Pair,
) -> None:
    await apart(pair, "f.txt")
    (beside, _) = pair.a.listing(f"{TOP}/f.txt")
    handle = pair.a.open_file(f"{TOP}/f.txt/{beside}")
    aside = next(name for name in pair.a.listing("") if name != "f.txt")
    await pair.a.unlink(aside)
    assert pair.a.listing(TOP) == []
    assert not pair.a.exists(f"{TOP}/f.txt")
    assert pair.a.volume.files.read(handle.inode, 0, 100) == b"of laptop"
    pair.a.volume.files.release(handle)


async def test_a_volume_without_conflicts_has_an_empty_directory(pair: Pair) -> None:
    await pair.a.write("f", b"x")
    await pair.publish()
    assert pair.a.listing(TOP) == []
    assert "conflicts" in pair.a.listing(".dittofs")
    with pytest.raises(FSError):
        pair.a.mkdir(f"{TOP}/d")
