"""What status says is on this device is there."""

import os
import random

import pytest
import trio

from dittofs.volume.holdings import COUNT_PATIENCE_S, INODES_IN_A_ROW, Holdings
from tests.simulation.pair import Pair

BIG = random.Random(2).randbytes(2 << 20)


async def test_what_is_here_is_counted_as_files_come_and_chunks_follow(pair: Pair) -> None:
    await pair.a.write("early", b"x" * 1000)
    await pair.settle()
    holdings = Holdings(pair.b.volume.replica)
    assert holdings.bytes_here is None
    await holdings.count()
    assert holdings.bytes_here == 0
    await pair.a.write("big", BIG)
    await pair.settle()
    assert holdings.bytes_here is None, "not looked at yet"
    await holdings.look_again()
    assert holdings.bytes_here == 0
    await pair.b.fetch("big", 0, 100_000)
    await holdings.look_again()
    assert holdings.bytes_here is not None
    assert 100_000 <= holdings.bytes_here < len(BIG)
    await pair.b.fetch("big")
    await pair.b.fetch("early")
    await holdings.look_again()
    assert holdings.bytes_here == len(BIG) + 1000


async def test_a_look_that_was_cut_short_is_made_again(pair: Pair) -> None:
    paths = [f"f{number}" for number in range(2 * INODES_IN_A_ROW)]
    for path in paths:
        await pair.a.write(path, path.encode())
    await pair.settle()
    holdings = Holdings(pair.b.volume.replica)
    await holdings.count()
    for path in paths:
        await pair.b.fetch(path)
    with trio.CancelScope() as scope:
        scope.cancel()
        await holdings.look_again()
    await holdings.look_again()
    assert holdings.bytes_here == sum(map(len, paths))


async def test_what_is_written_here_is_here_at_once_and_what_is_borrowed_is_not(pair: Pair) -> None:
    await pair.a.write("big", BIG)
    await pair.settle()
    holdings = Holdings(pair.b.volume.replica)
    await holdings.count()
    await pair.b.write("mine", b"y" * 500)
    await pair.b.publish()
    assert holdings.bytes_here == 500
    handle = pair.b.open_file("big", os.O_RDWR)
    await pair.b.write_at(handle, 1_000_000, b"#")
    pair.b.close_file(handle)
    await pair.b.publish()
    await holdings.look_again()
    assert holdings.bytes_here is not None
    assert holdings.bytes_here < len(BIG)
    await pair.b.unlink("big")
    await holdings.look_again()
    assert holdings.bytes_here == 500


async def test_a_device_that_holds_everything_looks_at_nothing(pair: Pair) -> None:
    holdings = Holdings(pair.a.volume.replica)
    await holdings.count()
    await pair.a.write("big", BIG)
    await pair.a.publish()
    assert holdings.bytes_here == len(BIG), "without looking again"


@pytest.mark.usefixtures("autojump_clock")
async def test_many_files_are_counted_once_the_mount_is_in_use_and_few_at_once(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        await pair.a.write(f"f{number}", b"x")
    await pair.a.publish()
    for most, is_at_once in ((3, True), (2, False)):
        monkeypatch.setattr("dittofs.volume.holdings.COUNTED_AT_ONCE_MAX", most)
        holdings = Holdings(pair.a.volume.replica)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(holdings.run)
            await trio.sleep(1)
            assert (holdings.bytes_here is not None) == is_at_once
            await trio.sleep(COUNT_PATIENCE_S)
            assert holdings.bytes_here == 3
            nursery.cancel_scope.cancel()


async def test_holes_of_what_another_device_wrote_are_counted_and_the_mounts_look_again(pair: Pair) -> None:
    a, b = pair.a, pair.b
    handle = a.open_file("sparse", os.O_RDWR | os.O_CREAT)
    a.truncate("sparse", 1 << 30)
    await a.write_at(handle, 0, b"x" * 4096)
    a.close_file(handle)
    await a.publish()
    await pair.settle()
    inode = b.walk("sparse")
    inode.lookups += 1  # a kernel knows it
    await b.volume.holdings.count()
    assert b.stat("sparse").blocks == (1 << 30) // 512, "its manifest is not here: nothing is known"
    told: list[object] = []
    b.volume.state.listeners.append(lambda one, _name, _origin: told.append(one))
    await b.fetch("sparse", 0, 4096)
    await b.volume.holdings.look_again()
    assert b.stat("sparse").blocks == 8
    assert told == [inode]


async def test_a_file_is_whole_only_if_reading_it_fetches_nothing(pair: Pair) -> None:
    await pair.a.write("big", BIG)
    await pair.settle()
    holdings, volume = pair.b.volume.holdings, pair.b.volume
    assert volume.reach(pair.b.walk("big")) == (len(BIG), False), "not counted yet"
    await holdings.count()
    assert volume.reach(pair.b.walk("big")) == (len(BIG), False)
    await pair.b.write("mine", BIG[::-1])
    assert volume.reach(pair.b.walk("mine")) == (len(BIG), True)
    await pair.b.publish()
    assert volume.reach(pair.b.walk("mine")) == (len(BIG), True)
    await pair.b.fetch("big")
    await holdings.look_again()
    assert volume.reach(pair.b.walk("big")) == (len(BIG), True)
    await pair.a.write("big", BIG[::-1] + b"more")
    await pair.settle()
    assert volume.reach(pair.b.walk("big")) == (len(BIG) + 4, False), "what another device wrote"


async def test_a_copy_of_what_is_elsewhere_is_not_whole(pair: Pair) -> None:
    await pair.a.write("big", BIG)
    await pair.settle()
    await pair.b.volume.holdings.count()
    source = pair.b.walk("big")
    handle = pair.b.open_file("copy", os.O_RDWR | os.O_CREAT)
    assert pair.b.volume.copying.copy_range(source, 0, handle.inode, 0, len(BIG)) == len(BIG)
    assert pair.b.volume.reach(handle.inode) == (len(BIG), False)
    pair.b.close_file(handle)
    await pair.b.publish()
    assert pair.b.volume.reach(pair.b.walk("copy")) == (len(BIG), False)
