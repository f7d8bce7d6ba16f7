"""What another device saved while its name shows something else here is not taken away with that name."""

import os
from collections.abc import Awaitable, Callable

import pytest
import trio

from dittofs.volume.inodes import Inode
from tests.simulation.pair import Pair
from tests.simulation.rig import Rig, settled

THEIRS = b"of a, while b was writing"


async def put(rig: Rig, path: str, data: bytes) -> None:
    """Written and closed, and not published yet."""
    handle = rig.open_file(path, os.O_RDWR | os.O_CREAT)
    await rig.write_at(handle, 0, data)
    rig.close_file(handle)


async def contents(rig: Rig) -> dict[str, bytes]:
    return {name: await rig.fetch(name) for name in rig.listing("")}


async def take_away(rig: Rig, how: str) -> None:
    root: Inode = rig.volume.root

    async def rename(source: bytes) -> None:
        await settled(rig.volume.renaming.rename(root, source, root, b"f", 0))

    if how == "save again":
        await put(rig, "tmp", b"second of b")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.volume.publisher.run)
        if how == "unlink":
            await settled(rig.volume.names.unlink(root, b"f"))
        else:
            await rename(b"tmp" if how == "save again" else b"other")
        await rig.volume.publisher.drain_all()
        nursery.cancel_scope.cancel()


async def closed(rig: Rig) -> None:
    await put(rig, "f", b"first of b")


async def written(rig: Rig) -> None:
    handle = rig.open_file("f", os.O_RDWR)
    await rig.write_at(handle, 0, b"first of b")


async def opened(rig: Rig) -> None:
    rig.open_file("f", os.O_RDWR)


@pytest.mark.parametrize("how", ["unlink", "rename over", "save again"])
@pytest.mark.parametrize("use", [closed, written, opened])
async def test_what_was_not_shown_here_survives_the_removal_of_its_name(
    pair: Pair, how: str, use: Callable[[Rig], Awaitable[None]]
) -> None:
    a, b = pair.a, pair.b
    for name, data in (("f", b"base"), ("other", b"other")):
        await a.write(name, data)
    await pair.settle()
    await use(b)
    await a.write("f", THEIRS)
    await a.publish()
    pair.carry()
    assert await b.fetch("f") != THEIRS, "it is not shown while the file is written here"
    await take_away(b, how)
    for _ in range(3):
        await pair.settle()
    for rig in (a, b):
        shown = await contents(rig)
        assert THEIRS in shown.values()
        assert b"base" not in shown.values()
        if how == "unlink":
            assert sorted(shown.values()) == [THEIRS, b"other"], "what was shown here is gone"
        else:
            new = b"second of b" if how == "save again" else b"other"
            assert sorted(value for name, value in shown.items() if name != "other") == sorted([THEIRS, new])
            assert how == "save again" or "other" not in shown


@pytest.mark.parametrize("how", ["unlink", "rename over", "save again"])
async def test_what_is_written_here_alone_is_taken_away_as_everywhere(pair: Pair, how: str) -> None:
    a, b = pair.a, pair.b
    for name, data in (("f", b"base"), ("other", b"other")):
        await a.write(name, data)
    await pair.settle()
    await written(b)
    await take_away(b, how)
    for _ in range(3):
        await pair.settle()
    for rig in (a, b):
        shown = await contents(rig)
        assert not [name for name in shown if "conflict" in name]
        assert ("f" in shown) == (how != "unlink")
