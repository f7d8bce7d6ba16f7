"""Devices that say they have everything, answer pings, and never deliver: they keep nobody from a content."""

from functools import partial
from random import Random
from typing import Final

import trio
from trio.testing import MockClock

from dittofs.chunks.content import ContentReader
from dittofs.identity.records import Role
from dittofs.links.link import LinkBroken
from dittofs.sync import messages as wire
from tests.unit.replication.pair import Attacker, Side, connect, sides, until
from tests.unit.replication.test_allowance import Limited
from tests.unit.replication.test_swarm import content, has_all

SIZE: Final = 2 << 20
INSTANCE: Final = b"\xee" * 16


async def mute(attacker: Attacker, *, is_beside: bool = False) -> None:
    """Holds a session, or another link for chunks alone, and claims to have all."""
    peers, membership = attacker.target.peers, attacker.target.members.membership
    hello = wire.Hello(
        wire.VERSION, peers.volume, INSTANCE, b"\xcc" * 16, 0, membership.digest(), "mute", 0, is_beside
    )
    await attacker.say(hello)
    await attacker.hear_a(wire.Ready)
    await attacker.say(wire.Ready(peers.replica.root_digest()))
    while True:
        try:
            message, body = await attacker.hear()
        except LinkBroken:
            return
        if isinstance(message, wire.Having):
            sets = [(leaf, b"\xff" * 128) for leaf, _ in wire.decode_have_sets(body)]
            await attacker.say(wire.Having(is_fetching=False), wire.encode_have_sets(sets))


async def reads(target: Side) -> None:
    """A program reads the beginning of the only file."""
    root, size = content(target)
    chunks = ContentReader(target.rig.volume.replica.chunks, root, size).absent()[:3]
    await target.peers.fetcher.fetch(root, chunks)


async def test_a_device_that_delivers_over_none_of_its_links_keeps_no_reader_from_another(
    autojump_clock: MockClock,
) -> None:
    async with sides(Role.WRITER, Role.READER) as (target, honest, liar), trio.open_nursery() as nursery:
        await honest.write("large", Random(4).randbytes(SIZE))
        target.peers.keeping.want = lambda contents: None  # type: ignore[method-assign]  # noqa: ARG005 - nothing is fetched ahead
        connect(nursery, target, honest)
        await until(lambda: list(target.peers.custody.content.content_roots()))
        for session in target.peers.open_sessions:
            session.end("pulled")
        for is_beside in (False, True):
            attacker = Attacker(target, liar.device)
            nursery.start_soon(attacker.serve)
            nursery.start_soon(partial(mute, attacker, is_beside=is_beside))
            await trio.sleep(1)
        with trio.move_on_after(10):
            await reads(target)  # of the mute one alone
        connect(nursery, target, honest)
        await trio.sleep(3)
        with trio.fail_after(10):
            await reads(target)
        nursery.cancel_scope.cancel()


async def test_under_a_limit_what_never_comes_takes_no_place_from_what_does(
    autojump_clock: MockClock,
) -> None:
    async with sides(Role.WRITER, Role.READER) as (target, honest, liar), trio.open_nursery() as nursery:
        Limited(target).choose("down 300kB/s")
        await honest.write("large", Random(5).randbytes(6 * SIZE))
        attacker = Attacker(target, liar.device)
        nursery.start_soon(attacker.serve)
        nursery.start_soon(mute, attacker)
        await until(lambda: target.peers.open_sessions)
        connect(nursery, target, honest)
        await until(lambda: len(target.peers.open_sessions) == 2)
        await until(lambda: list(target.peers.custody.content.content_roots()))
        target.peers.keeping.want([content(target)])
        with trio.fail_after(120):
            while not has_all(target):  # noqa: ASYNC110 - as `until`, looking less often: it looks at much
                await trio.sleep(1)
        nursery.cancel_scope.cancel()
