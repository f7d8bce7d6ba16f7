"""A better link opens beside the one in use and takes its place: nothing is lost, or asked for twice."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial

import pytest
import trio
from trio.testing import MockClock

from dittofs.chunks.seal import ChunkKind
from dittofs.errors import ChunkUnavailable
from dittofs.identity.records import Role
from dittofs.ids import ChunkId
from dittofs.links.link import LinkBroken
from dittofs.replication.custody import HOLD
from dittofs.replication.fetcher import ALONE_PATIENCE_S
from dittofs.replication.session_groups import BESIDE_MAX
from dittofs.sync import messages as wire
from tests.simulation.disk import SimulatedDisk
from tests.simulation.rig import Rig
from tests.unit.replication.pair import Attacker, Side, sides, until

WEBRTC = "webrtc 192.0.2.7:1"
TCP = "tcp 192.0.2.7:7347"


@asynccontextmanager
async def reached_twice(
    first: str, second: str
) -> AsyncIterator[tuple[Attacker, Attacker, Side, trio.Nursery]]:
    """A device, with one session open to another, and a second link to that ready to be opened."""
    async with sides(Role.WRITER) as (target, other), trio.open_nursery() as nursery:
        one, two = Attacker(target, other.device, first), Attacker(target, other.device, second)
        nursery.start_soon(one.serve)
        await one.open()
        await trio.sleep(10)  # they are not begun at the same time
        nursery.start_soon(two.serve)
        yield one, two, target, nursery
        nursery.cancel_scope.cancel()


def used(target: Side, attacker: Attacker) -> str:
    session = target.peers.session(attacker.device.id)
    return "" if session is None else session.link.description


async def answering_pings(attacker: Attacker) -> None:
    """Be there, and take whatever is said."""
    while True:
        await attacker.hear()


async def having_nothing(attacker: Attacker) -> None:
    """Be there, and lack whatever is asked for."""
    while True:
        message, _ = await attacker.hear_a(wire.Get)
        assert isinstance(message, wire.Get)
        await attacker.say(wire.Absent(tuple(want.request for want in message.wants)))


async def asked(attacker: Attacker, patience_s: float) -> list[wire.Wanted]:
    """What it is asked for within a while."""
    found: list[wire.Wanted] = []
    with trio.move_on_after(patience_s):
        while True:
            message, _ = await attacker.hear_a(wire.Get)
            assert isinstance(message, wire.Get)
            found += message.wants
    return found


async def test_what_was_asked_over_the_worse_link_still_comes_and_the_rest_is_asked_over_the_better(
    autojump_clock: MockClock,
) -> None:
    source = Rig(SimulatedDisk(), seed=5)
    await source.write("first", b"first")
    await source.write("second", b"second")
    await source.publish()
    store = source.volume.replica.chunks
    early, late = [one for one in store.ids() if one[0] is ChunkKind.DATA]
    async with reached_twice(WEBRTC, TCP) as (webrtc, tcp, target, nursery):
        nursery.start_soon(partial(target.peers.fetcher.fetch, b"", [early]))
        (want,) = await asked(webrtc, 0.5)
        await tcp.greet()
        await tcp.say(wire.Ready(target.peers.replica.root_digest()))
        await until(lambda: used(target, tcp) == TCP)
        assert not await asked(tcp, 0.5), "it is on its way"
        nursery.start_soon(partial(target.peers.fetcher.fetch, b"", [late]))
        (other,) = await asked(tcp, 0.5)
        assert other.chunk == late[1]
        sealed = store.sealed(ChunkKind(want.kind), ChunkId(want.chunk))
        await webrtc.say(wire.Chunks(((want.request, len(sealed)),)), sealed)
        await until(lambda: target.rig.volume.replica.chunks.has(*early), 1)
        nursery.start_soon(answering_pings, tcp)
        with trio.fail_after(10):
            with suppress(LinkBroken):
                await answering_pings(webrtc)
        assert used(target, tcp) == TCP
        assert [event for event, _ in target.events] == ["up", "up"], "it was reached all the time"


async def test_the_link_in_use_stays_until_the_better_one_is_open(autojump_clock: MockClock) -> None:
    async with reached_twice(WEBRTC, TCP) as (webrtc, tcp, target, nursery):
        nursery.start_soon(answering_pings, webrtc)
        await tcp.greet()  # and no more
        await trio.sleep(5)
        assert used(target, webrtc) == WEBRTC
        await tcp.link.aclose()
        await trio.sleep(5)
        assert used(target, webrtc) == WEBRTC


async def test_a_device_holds_no_more_than_some_links_however_many_it_opens(
    autojump_clock: MockClock,
) -> None:
    async with reached_twice(TCP, TCP) as (first, second, target, nursery):
        nursery.start_soon(answering_pings, first)
        await second.greet()
        refused = 0
        for _ in range(3 * BESIDE_MAX):
            further = Attacker(target, first.device, TCP)
            nursery.start_soon(further.serve)
            try:
                await further.greet()
            except LinkBroken:
                refused += 1
        assert refused > 2 * BESIDE_MAX
        assert used(target, first) == TCP


async def test_a_worse_link_is_not_taken_while_the_better_one_answers(autojump_clock: MockClock) -> None:
    async with reached_twice(TCP, WEBRTC) as (tcp, webrtc, target, nursery):
        nursery.start_soon(answering_pings, tcp)
        await trio.sleep(1)  # it is in doubt no more
        peers = target.peers
        digest = target.members.membership.digest()
        await webrtc.say(
            wire.Hello(wire.VERSION, peers.volume, b"\xee" * 16, b"\xcc" * 16, 0, digest, "x", 0)
        )
        message, _ = await webrtc.hear_a(wire.Refuse)
        assert isinstance(message, wire.Refuse)
        assert message.code == "second"
        assert used(target, tcp) == TCP


async def test_what_a_link_that_was_left_says_somebody_holds_is_not_counted_on(
    autojump_clock: MockClock,
) -> None:
    """It may be older than what was said over the other link: that it holds it no more."""
    async with reached_twice(WEBRTC, TCP) as (webrtc, tcp, target, nursery):
        nursery.start_soon(
            partial(target.peers.fetcher.fetch, b"", [(ChunkKind.DATA, ChunkId(b"\x05" * 32))])
        )
        await asked(webrtc, 0.5)  # so that the link stays for a while
        await tcp.greet()
        await tcp.say(wire.Ready(target.peers.replica.root_digest()))
        await until(lambda: used(target, tcp) == TCP)
        await webrtc.say(wire.Holds(1), wire.encode_roots([b"\x07" * 33]))
        await webrtc.say(wire.Ping(1))
        await webrtc.hear_a(wire.Pong)
        await trio.sleep(0.1)
        journal = target.rig.volume.replica.journal
        assert not list(journal.scan_local(HOLD, tcp.device.id))
        await tcp.say(wire.Holds(1), wire.encode_roots([b"\x07" * 33]))
        await until(lambda: list(journal.scan_local(HOLD, tcp.device.id)), 5)


async def test_no_read_waits_for_a_link_that_was_left_to_come_back(autojump_clock: MockClock) -> None:
    async with reached_twice(WEBRTC, TCP) as (webrtc, tcp, target, nursery):
        await tcp.greet()
        await tcp.say(wire.Ready(target.peers.replica.root_digest()))
        await until(lambda: used(target, tcp) == TCP)
        nursery.start_soon(having_nothing, tcp)
        with suppress(LinkBroken):
            await answering_pings(webrtc)
        begun = trio.current_time()
        with pytest.raises(ChunkUnavailable):
            await target.peers.fetcher.fetch(b"", [(ChunkKind.DATA, ChunkId(b"n" * 32))])
        assert trio.current_time() - begun < ALONE_PATIENCE_S + 1
