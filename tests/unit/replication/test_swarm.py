"""Several devices that fetch one content: all get it, whatever some of them say or keep to themselves."""

from contextlib import suppress
from random import Random
from typing import Final

import pytest
import trio
from trio.testing import MockClock

from dittofs.chunks.content import ContentReader
from dittofs.identity.records import Role
from dittofs.links.link import LinkBroken
from dittofs.replication.wholeness import whole
from dittofs.sync import messages as wire
from tests.unit.replication.pair import Attacker, Side, connect, sides, until, until_ended

SIZE: Final = 12 << 20
DATA: Final = Random(8).randbytes(SIZE)


def content(side: Side) -> tuple[bytes, int]:
    """The root and size of the only file."""
    ((_, root, size),) = side.peers.custody.content.content_roots()
    return root, size


def has_all(side: Side) -> bool:
    return whole(side.rig.volume.replica.chunks, [content(side)])[0]


async def test_three_that_want_a_content_get_it_and_tell_each_other_what_they_have(
    autojump_clock: MockClock,
) -> None:
    async with sides(Role.WRITER, Role.WRITER, Role.WRITER) as every, trio.open_nursery() as nursery:
        seed, *others = every
        await seed.write("large", DATA)
        for number, one in enumerate(every):
            for other in every[number + 1 :]:
                connect(nursery, one, other)
        await until(lambda: all(len(one.peers.open_sessions) == 3 for one in every))
        await until(lambda: all(list(one.peers.custody.content.content_roots()) for one in others))
        for one in others:
            one.peers.keeping.want([content(one)])
        await until(lambda: all(map(has_all, others)))
        nursery.cancel_scope.cancel()


async def test_a_device_that_pretends_to_have_all_of_it_keeps_nobody_from_it(
    autojump_clock: MockClock,
) -> None:
    """It says so of every leaf, and has nothing: each chunk is had of the other device."""
    async with sides(Role.WRITER, Role.WRITER) as (target, honest, liar), trio.open_nursery() as nursery:
        await honest.write("large", DATA)
        connect(nursery, target, honest)
        attacker = Attacker(target, liar.device)
        nursery.start_soon(attacker.serve)
        await attacker.open()

        async def lying() -> None:
            while True:
                message, body = await attacker.hear()
                match message:
                    case wire.Having():
                        sets = [(leaf, b"\xff" * 128) for leaf, _ in wire.decode_have_sets(body)]
                        await attacker.say(wire.Having(is_fetching=False), wire.encode_have_sets(sets))
                    case wire.Get(wants=wants):
                        await attacker.say(wire.Absent(tuple(want.request for want in wants)))

        nursery.start_soon(lying)
        await until(lambda: list(target.peers.custody.content.content_roots()))
        target.peers.keeping.want([content(target)])
        await until(lambda: has_all(target))
        nursery.cancel_scope.cancel()


async def test_who_asks_what_is_here_of_a_content_is_told_without_fetching_it(
    autojump_clock: MockClock,
) -> None:
    async with sides(Role.WRITER) as (target, other), trio.open_nursery() as nursery:
        await target.write("large", DATA)
        root, size = content(target)
        store = target.rig.volume.replica.chunks
        leaves = [one.chunk for one in ContentReader(store, root, size).leaves(0, size)]
        attacker = Attacker(target, other.device)
        nursery.start_soon(attacker.serve)
        await attacker.open()
        sets = [(leaf, b"\0") for leaf in (*leaves, b"?" * 32)]
        await attacker.say(wire.Having(is_fetching=True), wire.encode_have_sets(sets))
        _, body = await attacker.hear_a(wire.Having)
        told = dict(wire.decode_have_sets(body))
        assert set(told) == {*leaves, b"?" * 32}
        assert all(int.from_bytes(told[leaf], "little").bit_count() for leaf in leaves)
        assert not any(told[b"?" * 32])
        nursery.cancel_scope.cancel()


@pytest.mark.logs_warning("a peer broke the protocol")
async def test_who_asks_so_without_end_loses_its_session(autojump_clock: MockClock) -> None:
    async with sides(Role.WRITER) as (target, other), trio.open_nursery() as nursery:
        attacker = Attacker(target, other.device)
        nursery.start_soon(attacker.serve)
        await attacker.open()
        body = wire.encode_have_sets([(number.to_bytes(32, "big"), b"\xff" * 128) for number in range(64)])

        with suppress(LinkBroken):
            for _ in range(1000):
                await attacker.say(wire.Having(is_fetching=True), body)
        assert "more messages than a peer has reason to send" in await until_ended(attacker)
        nursery.cancel_scope.cancel()
