"""Fetching many chunks: one that is late keeps no other."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
from trio.testing import MockClock

from dittofs.chunks.seal import ChunkKind
from dittofs.chunks.store import ChunkStore
from dittofs.errors import ChunkUnavailable
from dittofs.identity.records import Role
from dittofs.ids import ChunkId
from dittofs.replication.fetcher import FETCH_PATIENCE_S
from dittofs.replication.wholeness import Missing, Wanted
from dittofs.sync import messages as wire
from tests.simulation.disk import SimulatedDisk
from tests.simulation.rig import Rig
from tests.unit.replication.pair import Attacker, Side, attacked, sides, until_ended

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


LEAF = ChunkId(b"L" * 32)


@asynccontextmanager
async def given_up() -> AsyncIterator[tuple[Attacker, Attacker, Side, ChunkStore, Wanted]]:
    """Two devices of which the first was asked for the only chunk of a page and says nothing; the second is
    not connected yet.
    """
    source = Rig(SimulatedDisk(), seed=5)
    await source.write("file", b"its only chunk")
    await source.publish()
    store = source.volume.replica.chunks
    (wanted,) = [one for one in store.ids() if one[0] is ChunkKind.DATA]
    async with sides(Role.WRITER, Role.WRITER) as (target, one, two), trio.open_nursery() as nursery:
        first, second = Attacker(target, one.device), Attacker(target, two.device)
        nursery.start_soon(first.serve)
        await first.open()
        yield first, second, target, store, wanted
        nursery.cancel_scope.cancel()


async def _give(peer: Attacker, store: ChunkStore) -> None:
    """Wait until something is asked for, and answer."""
    message, _ = await peer.hear_a(wire.Get)
    assert isinstance(message, wire.Get)
    for one in message.wants:
        sealed = store.sealed(ChunkKind(one.kind), ChunkId(one.chunk))
        await peer.say(wire.Chunks(((one.request, len(sealed)),)), sealed)


async def _page(target: Side, wanted: Wanted) -> None:
    await target.peers.fetcher.fetch_page(b"", Missing([wanted], [(LEAF, [wanted[1]])], 0))


async def _give_if_asked(peer: Attacker, store: ChunkStore) -> None:
    """Say of every leaf to have nothing of it, and give what is asked for all the same."""
    while True:
        message, body = await peer.hear()
        if isinstance(message, wire.Having) and message.is_fetching:
            sets = [(leaf, b"\0") for leaf, _ in wire.decode_have_sets(body)]
            await peer.say(wire.Having(is_fetching=False), wire.encode_have_sets(sets))
        elif isinstance(message, wire.Get):
            for one in message.wants:
                sealed = store.sealed(ChunkKind(one.kind), ChunkId(one.chunk))
                await peer.say(wire.Chunks(((one.request, len(sealed)),)), sealed)


async def test_a_late_chunk_of_a_page_that_was_given_up_is_asked_of_others(autojump_clock: MockClock) -> None:
    async with given_up() as (first, second, target, store, wanted), trio.open_nursery() as nursery:
        nursery.start_soon(until_ended, first)
        nursery.start_soon(second.serve)
        await second.open()
        nursery.start_soon(_give_if_asked, second, store)
        with pytest.raises(ChunkUnavailable):
            await _page(target, wanted)
        await first.link.aclose()
        await target.peers.fetcher.fetch(b"", [wanted], is_bulk=True)
        assert target.peers.replica.chunks.has(*wanted)
        nursery.cancel_scope.cancel()


async def test_who_reads_a_chunk_of_a_page_that_is_given_up_gets_it(autojump_clock: MockClock) -> None:
    async with given_up() as (first, second, target, store, wanted), trio.open_nursery() as nursery:
        nursery.start_soon(until_ended, first)

        async def paging() -> None:
            with pytest.raises(ChunkUnavailable):
                await _page(target, wanted)
            nursery.start_soon(second.serve)
            await second.open()
            nursery.start_soon(_give, second, store)

        nursery.start_soon(paging)
        await trio.sleep(FETCH_PATIENCE_S - 5)
        await target.peers.fetcher.fetch(b"", [wanted])
        assert target.peers.replica.chunks.has(*wanted)
        nursery.cancel_scope.cancel()
