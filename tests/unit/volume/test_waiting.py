"""Edits that wait for chunks of other devices are tried again, whatever happens or does not."""

import trio
from trio.testing import MockClock

from dittofs.volume.waiting import WAIT_MIN_S
from tests.simulation.disk import SimulatedDisk
from tests.simulation.pair import Pair


async def test_an_edit_that_begins_to_wait_is_tried_again_though_no_device_connects(
    autojump_clock: MockClock,  # noqa: ARG001
) -> None:
    pair = Pair(SimulatedDisk(), SimulatedDisk())
    pair.a.mkdir("d")
    await pair.a.write("d/f", b"long " * 50_000)
    await pair.settle()
    pair.from_a.is_gone = True
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.b.volume.publisher.run)
        await trio.sleep(1)  # nothing waits so far
        handle = pair.b.open_file("d/f", 2)
        pair.b.volume.files.write(handle.inode, 100, b"edited")
        pair.b.close_file(handle)
        await trio.sleep(10)
        assert pair.b.volume.publisher.waiting
        pair.from_a.is_gone = False
        await trio.sleep(20 * WAIT_MIN_S)
        assert not pair.b.volume.publisher.waiting
        nursery.cancel_scope.cancel()
    pair.carry()
    assert (await pair.a.fetch("d/f", 100, 6)) == b"edited"
    pair.abandon()
