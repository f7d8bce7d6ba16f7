"""Edits of files that are elsewhere: published with what is around the edit, or kept until it comes."""

import os
import random

import pytest
import trio
from trio.testing import MockClock

from dittofs.chunks.chunker import CHUNK_BYTES_MAX
from dittofs.volume.publication import HOLD_S
from dittofs.volume.source import NoSource
from tests.simulation.pair import Pair
from tests.simulation.rig import Rig

BIG = random.Random(4).randbytes(6 << 20)


async def shared(pair: Pair, path: str, data: bytes) -> None:
    await pair.a.write(path, data)
    await pair.a.publish()
    pair.carry()


async def edit(rig: Rig, path: str, offset: int, data: bytes) -> None:
    handle = rig.open_file(path, os.O_RDWR)
    await rig.write_at(handle, offset, data)
    rig.close_file(handle)


@pytest.mark.parametrize("offset", [0, 3_000_000, len(BIG) - 100, len(BIG)])
async def test_an_edit_fetches_only_what_is_around_it(pair: Pair, offset: int) -> None:
    await shared(pair, "f", BIG)
    new = b"#" * 4096
    await edit(pair.b, "f", offset, new)
    await pair.b.publish()
    assert not len(pair.b.volume.state.contents), "it is published"
    assert pair.from_a.data_chunks * CHUNK_BYTES_MAX < len(BIG) // 2
    assert pair.from_a.data_chunks <= 12
    pair.carry()
    wanted = BIG[:offset] + new + BIG[offset + 4096 :]
    assert await pair.a.fetch("f") == wanted
    assert await pair.b.fetch("f") == wanted


@pytest.mark.parametrize("size", [100, 1_000_000])
async def test_a_file_cut_short_fetches_only_its_new_end(pair: Pair, size: int) -> None:
    await shared(pair, "f", BIG)
    pair.b.truncate("f", size)
    await pair.b.publish()
    assert pair.from_a.data_chunks <= 2
    pair.carry()
    assert await pair.a.fetch("f") == BIG[:size]


async def test_many_edits_of_one_file_are_published_with_few_requests(pair: Pair) -> None:
    await shared(pair, "f", BIG)
    wanted = bytearray(BIG)
    handle = pair.b.open_file("f", os.O_RDWR)
    for offset in range(100_000, len(BIG), 1_000_000):
        await pair.b.write_at(handle, offset, b"#" * 10)
        wanted[offset : offset + 10] = b"#" * 10
    pair.b.close_file(handle)
    await pair.b.publish()
    assert len(pair.from_a.fetched) <= 6
    pair.carry()
    assert await pair.a.fetch("f") == wanted


async def test_an_edit_that_cannot_be_published_stays_staged_and_holds_up_nothing(pair: Pair) -> None:
    await shared(pair, "f", BIG)
    pair.from_a.is_gone = True
    await edit(pair.b, "f", 3_000_000, b"#" * 10)
    await pair.b.write("g", b"small")
    await pair.b.publish()
    assert pair.b.volume.publisher.is_idle
    assert not len(pair.b.volume.state.local), "g is published"
    summary = pair.b.volume.summary()
    assert (summary.pending_files, summary.waiting) == (1, ("the other device is gone",))
    assert summary.damage == ()
    assert pair.b.volume.files.read(pair.b.walk("f"), 3_000_000, 10) == b"#" * 10
    await pair.b.unlink("g")
    await pair.b.rename("f", "h")

    pair.from_a.is_gone = False
    await pair.b.volume.publisher.left_behind.retry()
    await pair.settle()
    assert pair.b.volume.summary().pending_files == 0
    assert (await pair.a.fetch("h"))[3_000_000:3_000_010] == b"#" * 10


async def test_a_point_goes_on_without_a_file_whose_chunks_do_not_come(
    pair: Pair, autojump_clock: MockClock
) -> None:
    await shared(pair, "f", BIG)
    pair.from_a.hold()
    begin = autojump_clock.current_time()
    await edit(pair.b, "f", 3_000_000, b"#" * 10)
    await pair.b.write("g", b"small")
    await pair.b.publish()
    assert not len(pair.b.volume.state.local)
    assert autojump_clock.current_time() - begin <= HOLD_S + 0.01
    assert len(pair.b.volume.publisher.waiting) == 1


async def test_chunks_that_come_soon_keep_the_order(pair: Pair) -> None:
    await shared(pair, "f", BIG)
    await edit(pair.b, "f", 3_000_000, b"#" * 10)
    await pair.b.write("g", b"small")
    await pair.b.publish()
    pair.carry()
    assert pair.a.exists("g")
    assert not pair.b.volume.publisher.waiting
    assert (await pair.a.fetch("f"))[3_000_000:3_000_010] == b"#" * 10


async def test_what_waits_is_tried_again_when_a_device_connects(
    pair: Pair, autojump_clock: MockClock
) -> None:
    begin = autojump_clock.current_time()
    await shared(pair, "f", BIG)
    source, pair.b.volume.state.source = pair.b.volume.state.source, NoSource()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.b.volume.publisher.run)
        await edit(pair.b, "f", 3_000_000, b"#" * 10)
        await trio.sleep(10)
        assert len(pair.b.volume.publisher.waiting) == 1
        pair.b.volume.state.source = source
        pair.b.volume.source_changed()
        await trio.sleep(1)
        assert pair.b.volume.publisher.pending() == (0, 0)
        assert autojump_clock.current_time() - begin < 12
        nursery.cancel_scope.cancel()
    pair.carry()
    assert (await pair.a.fetch("f"))[3_000_000:3_000_010] == b"#" * 10


async def test_an_edit_that_waits_survives_the_death_of_the_process(pair: Pair) -> None:
    await shared(pair, "f", BIG)
    pair.from_a.is_gone = True
    await edit(pair.b, "f", 3_000_000, b"#" * 10)
    await pair.b.publish()
    pair.b.abandon()
    pair.b.open()
    pair.connect()
    await pair.b.publish()
    assert pair.b.volume.summary().pending_files == 0
    assert (await pair.b.fetch("f"))[2_999_990:3_000_020] == BIG[2_999_990:3_000_000] + b"#" * 10 + BIG[
        3_000_010:3_000_020
    ]


async def test_closes_while_an_edit_waits_are_all_published_in_order(pair: Pair) -> None:
    await shared(pair, "f", BIG)
    pair.from_a.is_gone = True
    for number in range(6):
        await edit(pair.b, "f", 3_000_000 + number, b"#")
        await pair.b.publish()
    assert pair.b.volume.files.read(pair.b.walk("f"), 3_000_000, 6) == b"#" * 6
    pair.from_a.is_gone = False
    await pair.b.volume.publisher.left_behind.retry()
    await pair.settle()
    assert (await pair.a.fetch("f"))[3_000_000:3_000_006] == b"#" * 6
    assert pair.a.listing("") == ["f"]
