"""What other devices did, as calls for programs that watch."""

from collections.abc import Awaitable

from dittofs.tree.entry import Change
from dittofs.volume.echoes import Deed, Echo, Reading
from tests.simulation.pair import Pair
from tests.simulation.rig import Rig

Told = tuple[str, str]


def watch(rig: Rig, path: str) -> list[Echo]:
    """What a watcher of a directory is told from now on."""
    inode = rig.walk(path)
    inode.lookups += 1
    told: list[Echo] = []

    def follow(change: Change) -> None:
        if change.via:
            reading = Reading(rig.volume.state, frozenset({inode.number}))
            reading.take(change.effects)
            told.extend(reading.told())

    rig.volume.replica.listeners.append(follow)
    return told


def words(told: list[Echo]) -> list[Told]:
    return [(one.deed.name, one.place.name.decode()) for one in told]


async def after(pair: Pair, told: list[Echo], act: Awaitable[None] | None) -> list[Told]:
    """What is told of one thing that the other device does."""
    told.clear()
    if act is not None:
        await act
    await pair.settle()
    return words(told)


async def test_each_call_of_another_device_is_told_as_that_call(pair: Pair) -> None:
    pair.a.mkdir("d")
    pair.a.mkdir("e")
    await pair.settle()
    told = watch(pair.b, "d")
    assert await after(pair, told, pair.a.write("d/f", b"1")) == [("MAKE", "f"), ("WRITE", "f")]
    assert await after(pair, told, pair.a.write("d/f", b"22")) == [("WRITE", "f")]
    assert await after(pair, told, pair.a.rename("d/f", "d/g")) == [("MOVE", "g")]
    assert told[0].source is not None and told[0].source.name == b"f"
    assert told[0].number == pair.b.stat("d/g").number
    assert await after(pair, told, pair.a.rename("d/g", "e/g")) == [("REMOVE", "g")]
    assert await after(pair, told, pair.a.rename("e/g", "d/g")) == [("MAKE", "g")]
    pair.a.chmod("d/g", 0o600)
    assert await after(pair, told, None) == [("TOUCH", "g")]
    assert await after(pair, told, pair.a.unlink("d/g")) == [("REMOVE", "g")]


async def test_what_nobody_watches_is_not_told(pair: Pair) -> None:
    pair.a.mkdir("d")
    await pair.settle()
    told = watch(pair.b, "")
    assert await after(pair, told, pair.a.write("d/f", b"1")) == []


async def test_a_watched_file_is_told_of_where_its_directory_is_not_watched(pair: Pair) -> None:
    pair.a.mkdir("d")
    await pair.a.write("d/f", b"1")
    await pair.settle()
    pair.b.walk("d").lookups += 1
    told = watch(pair.b, "d/f")
    assert await after(pair, told, pair.a.write("d/f", b"2")) == [("WRITE", "f")]


async def test_a_file_renamed_over_another_is_one_move(pair: Pair) -> None:
    await pair.a.write("f", b"1")
    await pair.a.write("g", b"2")
    await pair.settle()
    told = watch(pair.b, "")
    found = await after(pair, told, pair.a.rename("f", "g"))
    assert not {Deed.MAKE, Deed.REMOVE} & {one.deed for one in told if one.place.name == b"g"}, found


async def test_a_writer_here_goes_on_with_his_version_and_hears_of_no_other(pair: Pair) -> None:
    await pair.a.write("f", b"1")
    await pair.settle()
    handle = pair.b.open_file("f", 1)
    told = watch(pair.b, "")
    assert await after(pair, told, pair.a.write("f", b"2")) == []
    pair.b.close_file(handle)
