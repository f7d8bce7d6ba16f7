"""How closes become publication points: a stream in few, and at once when somebody waits."""

from collections.abc import Awaitable

import pytest
import trio
from trio.testing import MockClock

from dittofs.tree.record import META_SHARD
from dittofs.volume.publication import GATHER_S
from tests.simulation.rig import Rig

FILES = 40


@pytest.mark.usefixtures("autojump_clock")
async def test_a_stream_of_closes_is_published_in_few_points(rig: Rig) -> None:
    points: list[int] = []
    rig.volume.replica.listeners.append(
        lambda change: points.append(sum(number != META_SHARD for number, _, _ in change.updates))
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.volume.publisher.run)
        for number in range(FILES):
            await rig.write(f"f{number}", b"content")
            await trio.sleep(0.001)
        await trio.sleep(2 * GATHER_S)
        nursery.cancel_scope.cancel()
    assert rig.volume.publisher.is_idle
    published = [count for count in points if count]
    assert sum(published) == FILES
    assert len(published) <= 3


async def test_a_removal_does_not_wait_for_a_stream_to_gather(rig: Rig, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.volume.publisher.run)
        await rig.write("published", b"content")
        await trio.sleep(2 * GATHER_S)
        await rig.write("first", b"content")
        await trio.sleep(0.001)
        await rig.write("second", b"content")
        assert not rig.volume.publisher.is_idle
        begin = autojump_clock.current_time()
        answer = rig.volume.names.unlink(rig.volume.root, b"published")
        assert isinstance(answer, Awaitable)
        await answer
        assert autojump_clock.current_time() - begin < GATHER_S / 10
        assert not rig.exists("published")
        nursery.cancel_scope.cancel()
