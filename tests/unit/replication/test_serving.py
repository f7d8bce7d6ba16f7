"""Chunks asked of us: what somebody waits for is not held up by what nobody waits for."""

from functools import partial

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from dittofs.chunks.seal import ChunkKind
from dittofs.replication.outbox import BULK_BYTES_MAX, Outbox
from dittofs.replication.serving import Serving
from dittofs.sync import messages as wire
from tests.simulation.disk import SimulatedDisk
from tests.simulation.rig import Rig


async def test_a_chunk_that_is_waited_for_is_read_while_bulk_waits_for_the_link(
    autojump_clock: MockClock,
) -> None:
    rig, outbox = Rig(SimulatedDisk()), Outbox()
    await rig.write("file", b"content")
    await rig.publish()
    kind, chunk = next(one for one in rig.volume.replica.chunks.ids() if one[0] is ChunkKind.DATA)
    serving = Serving(outbox, rig.volume.replica, lambda: None)
    outbox.put(wire.Pong(1), bytes(BULK_BYTES_MAX + 1), is_bulk=True)  # the link takes nothing
    async with trio.open_nursery() as nursery:
        for is_bulk in (True, False):
            nursery.start_soon(partial(serving.run, is_bulk=is_bulk))
        serving.take((wire.Wanted(1, int(kind), chunk),), is_bulk=True)
        await wait_all_tasks_blocked()
        assert not outbox.urgent_bytes
        serving.take((wire.Wanted(2, int(kind), chunk),), is_bulk=False)
        await wait_all_tasks_blocked()
        assert outbox.urgent_bytes
        nursery.cancel_scope.cancel()
