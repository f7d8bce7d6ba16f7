"""Fetching many chunks: one that is late keeps no other."""

from functools import partial

import trio
from trio.testing import MockClock

from dittofs.chunks.seal import ChunkKind
from dittofs.identity.records import Role
from dittofs.ids import ChunkId
from dittofs.sync import messages as wire
from tests.simulation.disk import SimulatedDisk
from tests.simulation.rig import Rig
from tests.unit.replication.pair import Attacker, attacked

CHUNKS = 400


async def _asked(peer: Attacker, patience_s: float) -> list[wire.Wanted]:
    """What the target asks for within a while."""
    found: list[wire.Wanted] = []
    with trio.move_on_after(patience_s):
        while True:
            message, _ = await peer.hear_a(wire.Get)
            assert isinstance(message, wire.Get)
            found += message.wants
    return found


async def test_what_nobody_waits_for_goes_on_while_one_chunk_is_late(autojump_clock: MockClock) -> None:
    source = Rig(SimulatedDisk(), seed=5)
    for number in range(CHUNKS):
        await source.write(f"file {number}", str(number).encode())
    await source.publish()
    store = source.volume.replica.chunks
    wanted = [one for one in store.ids() if one[0] is ChunkKind.DATA]
    async with attacked(Role.WRITER) as (peer, target), trio.open_nursery() as nursery:
        await peer.open()
        nursery.start_soon(partial(target.peers.fetcher.fetch, b"", wanted, is_bulk=True))
        asked = await _asked(peer, 0.5)
        waiting = asked[1:]  # the first one is not answered
        for patience_s in (1.8, 0.5, 0.5):  # it is late when these are over, and then the others go on
            assert 0 < len(asked) < CHUNKS
            for one in waiting:
                sealed = store.sealed(ChunkKind(one.kind), ChunkId(one.chunk))
                await peer.say(wire.Chunks(((one.request, len(sealed)),)), sealed)
            waiting = await _asked(peer, patience_s)
            assert waiting
            asked += waiting
        nursery.cancel_scope.cancel()
