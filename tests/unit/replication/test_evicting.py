"""Contents go from a device only when others have just proven that they have them."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple

import pytest
import trio
from trio.testing import MockClock

from dittofs.identity.records import Role
from dittofs.links.link import LinkBroken
from dittofs.replication.targets import Evicted
from dittofs.sync import messages as wire
from dittofs.sync.proofs import PROVES_MAX, Piece, Refusal, decode_proofs, encode_pieces
from tests.unit.replication.evictions import Evictor
from tests.unit.replication.pair import Attacker, Side, attacked, connect, sides, until, until_ended
from tests.unit.replication.sweeping import in_step, on_demand

LARGE = random.Random(3).randbytes(1_500_000)
SMALL = b"a few bytes"


class Pair(NamedTuple):
    a: Evictor
    b: Evictor
    cut: trio.testing.MemorySendStream
    nursery: trio.Nursery


@asynccontextmanager
async def holding(*, copies: bytes = b"2") -> AsyncIterator[Pair]:
    """Two devices, both with both files; then as many copies are asked for as is said."""
    async with sides(Role.WRITER) as (a, b), trio.open_nursery() as nursery:
        one, two = Evictor(a), Evictor(b)
        await a.write("large", LARGE)
        await a.write("small", SMALL)
        cut, _ = connect(nursery, a, b)
        await in_step(a, b)
        await until(lambda: one.believes(b, "large") and one.believes(b, "small"))
        await until(lambda: two.believes(a, "large") and two.believes(a, "small"))
        with a.rig.volume.replica.change() as change:
            change.group.set_setting("copies", copies)
        await in_step(a, b)
        await settled(a, b)
        yield Pair(one, two, cut, nursery)
        nursery.cancel_scope.cancel()


async def settled(*all_sides: Side) -> None:
    await until(lambda: not any(side.peers.custody.is_counting for side in all_sides))


async def test_what_another_device_proves_to_have_goes_and_is_read_from_there(
    autojump_clock: MockClock,
) -> None:
    async with holding(copies=b"on-demand") as (a, b, _, _):
        before = a.side.rig.volume.replica.chunks.statistics().chunks
        done = await a.evict("large")
        assert [why for _, why in done.kept] == []
        assert done.bytes == len(LARGE)
        assert a.side.rig.volume.replica.chunks.statistics().chunks < before
        assert not a.has("large")
        assert a.has("small")
        assert not b.believes(a.side, "large")
        assert b.believes(a.side, "small")
        await settled(a.side, b.side)
        assert (a.side.peers.custody.tally().only_elsewhere, b.side.peers.custody.tally().only_here) == (1, 1)
        assert await a.side.rig.fetch("large") == LARGE


async def test_what_would_be_refused_is_known_before_and_that_with_the_same_words(
    autojump_clock: MockClock,
) -> None:
    async with holding() as (a, _, _, _):
        refused = a.evicting.refused(a.items("large", "small"))
        assert len(refused) == 2
        done = await a.evict("large", "small")
        assert sorted(done.kept) == sorted(refused)
        assert not a.evicting.refused(a.items("large", "small"), is_forced=True)


async def test_below_the_number_of_copies_it_stays_unless_that_is_forced_and_then_is_not_taken_back(
    autojump_clock: MockClock,
) -> None:
    async with holding() as (a, b, _, _):
        done = await a.evict("large")
        assert not done.gone
        assert "copies = 2" in done.kept[0][1]
        assert (await a.evict("large", is_forced=True)).gone
        await trio.sleep(120)
        await settled(a.side, b.side)
        assert not a.has("large")
        assert await a.side.rig.fetch("large") == LARGE
        await until(lambda: b.believes(a.side, "large"))


async def test_the_last_copy_never_goes_whatever_is_asked(autojump_clock: MockClock) -> None:
    async with holding(copies=b"on-demand") as (a, b, _, _):
        assert (await a.evict()).gone
        done = await b.evict(is_forced=True)
        assert not done.gone
        assert {why for _, why in done.kept} == {"proven by 0 other devices: first does not have all of it"}
        assert b.has("large")
        assert b.has("small")


async def test_with_nobody_connected_nothing_goes(autojump_clock: MockClock) -> None:
    async with holding(copies=b"on-demand") as (a, b, cut, _):
        await cut.aclose()
        await until(lambda: not a.side.peers.open_sessions)
        done = await a.evict()
        assert not done.gone
        assert "no other device is connected" in done.kept[0][1]
        assert b.believes(a.side, "large")


async def ask_for(who: Evictor, copies: bytes, *others: Evictor) -> None:
    with who.side.rig.volume.replica.change() as change:
        change.group.set_setting("copies", copies)
    await in_step(who.side, *(other.side for other in others))


async def at_once(*evictors: Evictor) -> list[Evicted]:
    """All let everything go at the same instant."""
    done: list[Evicted] = []

    async def evict(who: Evictor) -> None:
        done.append(await who.evict())

    async with trio.open_nursery() as nursery:
        for one in evictors:
            nursery.start_soon(evict, one)
    return done


async def test_two_devices_that_let_the_same_go_at_once_do_not_both(autojump_clock: MockClock) -> None:
    async with holding(copies=b"on-demand") as (a, b, _, _):
        for _ in range(2):
            done = await at_once(a, b)
            assert a.has("large") or b.has("large")
            assert a.has("small") or b.has("small")
            assert sum(len(one.gone) for one in done) == 2, [why for one in done for _, why in one.kept]
            await ask_for(a, b"all", b)
            await until(lambda: a.believes(b.side, "large") and b.believes(a.side, "large"))
            await until(lambda: a.believes(b.side, "small") and b.believes(a.side, "small"))
            await ask_for(a, b"on-demand", b)
            await settled(a.side, b.side)


async def test_of_three_devices_that_let_the_same_go_at_once_one_keeps_it(autojump_clock: MockClock) -> None:
    async with sides(Role.WRITER, Role.WRITER) as (a, b, c), trio.open_nursery() as nursery:
        three = [Evictor(one) for one in (a, b, c)]
        await ask_for(three[0], b"all")
        await a.write("large", LARGE)
        for one, other in ((a, b), (b, c), (a, c)):
            connect(nursery, one, other)
        for _ in range(2):
            await ask_for(three[0], b"all", *three)
            await until(
                lambda: all(one.believes(o.side, "large") for one in three for o in three if o is not one)
            )
            await ask_for(three[0], b"on-demand", *three)
            await settled(a, b, c)
            done = await at_once(*three)
            left = sum(one.has("large") for one in three)
            assert left >= 1
            assert left == 3 - sum(len(one.gone) for one in done), [
                why for one in done for _, why in one.kept
            ]
        nursery.cancel_scope.cancel()


async def test_what_is_open_written_or_shared_with_another_file_stays(autojump_clock: MockClock) -> None:
    async with holding(copies=b"on-demand") as (a, b, _, _):
        handle = a.side.rig.open_file("large", 0)
        assert [why for _, why in (await a.evict("large")).kept] == ["a program has it open"]
        a.side.rig.close_file(handle)
        await a.side.write("twin", LARGE)
        await in_step(a.side, b.side)
        done = await a.evict("large")
        assert [why for _, why in done.kept] == ["another file, or a program, has the same content"]
        assert a.has("large")
        await a.side.write("alike", LARGE[:1_000_000] + b"another end")
        await in_step(a.side, b.side)
        await a.evict("large", "twin")
        assert a.has("alike"), "what it has in common with the others stays"


async def test_a_file_that_comes_while_the_proof_is_awaited_keeps_what_it_has(
    autojump_clock: MockClock,
) -> None:
    async with holding(copies=b"on-demand") as (a, _, _, _):
        made = a.evicting._asking.prove

        async def late(*arguments: object) -> None:
            await made(*arguments)  # type: ignore[arg-type]
            await a.side.write("twin", LARGE)

        a.evicting._asking.prove = late  # type: ignore[method-assign, assignment]
        done = await a.evict("large")
        assert not done.gone
        assert a.has("twin")
        assert a.has("large")


@pytest.mark.parametrize("copies", [b"2", b"all"])
async def test_nothing_goes_below_a_number_of_copies_that_is_asked_for_while_the_proof_is_awaited(
    autojump_clock: MockClock, copies: bytes
) -> None:
    async with holding(copies=b"on-demand") as (a, _, _, _):
        made = a.evicting._asking.prove

        async def proven(*arguments: object) -> None:
            await made(*arguments)  # type: ignore[arg-type]
            with a.side.rig.volume.replica.change() as change:
                change.group.set_setting("copies", copies)

        a.evicting._asking.prove = proven  # type: ignore[method-assign, assignment]
        done = await a.evict("large")
        assert not done.gone
        assert [f"copies = {copies.decode()}" in why for _, why in done.kept] == [True]
        assert a.has("large")


async def test_who_is_away_believes_nothing_that_it_heard_before_when_it_is_back(
    autojump_clock: MockClock,
) -> None:
    async with sides(Role.WRITER, Role.WRITER) as (a, b, c), trio.open_nursery() as nursery:
        one, three = Evictor(a), Evictor(c)
        with a.rig.volume.replica.change() as change:
            change.group.set_setting("copies", b"all")
        await a.write("large", LARGE)
        connect(nursery, a, b)
        async with trio.open_nursery() as first:
            connect(first, a, c)
            await in_step(a, b, c)
            await until(lambda: three.believes(a, "large") and one.believes(b, "large"))
            first.cancel_scope.cancel()
        await on_demand(a)
        await in_step(a, b)
        assert (await one.evict("large")).gone
        assert three.believes(a, "large"), "it cannot know"
        connect(nursery, c, a)
        await until(lambda: c.peers.session(a.device.id) is not None)
        assert not three.believes(a, "large")
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("how", ["disconnects", "is retired"])
async def test_nothing_goes_on_the_proof_of_a_device_that_has_gone_since(
    autojump_clock: MockClock, how: str
) -> None:
    async with holding(copies=b"on-demand") as (a, b, cut, _):
        made = a.evicting._asking.prove

        async def proven(*arguments: object) -> None:
            await made(*arguments)  # type: ignore[arg-type]
            if how == "disconnects":
                await cut.aclose()
                await until(lambda: not a.side.peers.open_sessions)
            else:
                a.side.peers.retired = lambda: frozenset([b.side.device.id])

        a.evicting._asking.prove = proven  # type: ignore[method-assign, assignment]
        done = await a.evict("large")
        assert not done.gone
        assert [why for _, why in done.kept] == ["a device that had proven it has gone"]
        assert a.has("large")


async def test_a_session_that_began_before_something_went_never_opens(autojump_clock: MockClock) -> None:
    async with sides(Role.WRITER, Role.WRITER) as (a, b, c), trio.open_nursery() as nursery:
        one = Evictor(a)
        with a.rig.volume.replica.change() as change:
            change.group.set_setting("copies", b"all")
        await a.write("large", LARGE)
        connect(nursery, a, b)
        await in_step(a, b)
        await until(lambda: one.believes(b, "large"))
        await on_demand(a)
        await in_step(a, b)
        beginning = Attacker(a, c.device)
        nursery.start_soon(beginning.serve)
        await beginning.greet()  # told by which number it may go on believing what it once heard
        assert (await one.evict("large")).gone
        await beginning.say(wire.Ready(a.peers.replica.root_digest()))
        assert await until_ended(beginning) == "something went from here while the session began"
        assert a.peers.session(c.device.id) is None
        nursery.cancel_scope.cancel()


async def test_a_device_that_is_not_there_to_stay_proves_nothing(autojump_clock: MockClock) -> None:
    async with holding(copies=b"on-demand") as (a, b, _, _):
        b.side.peers.proving.keeps = lambda: False
        done = await a.evict("large")
        assert "does not keep contents for others" in done.kept[0][1]
        b.side.peers.proving.keeps = lambda: True
        a.side.peers.retired = lambda: frozenset([b.side.device.id])
        done = await a.evict("large")
        assert not done.gone


async def test_what_others_cannot_read_is_not_proven(autojump_clock: MockClock) -> None:
    async with holding(copies=b"on-demand") as (a, b, _, _):
        theirs = b.side.rig.volume.replica.chunks
        lost = next(
            chunk for kind, chunk in theirs.ids() if kind == 1 and len(theirs.get(kind, chunk)) > 9999
        )
        theirs._lose(lost)
        done = await a.evict("large")
        assert not done.gone
        assert "does not have all of it" in done.kept[0][1]


@pytest.mark.logs_warning("a peer's proof is wrong")
async def test_a_wrong_proof_ends_the_session_and_nothing_goes(autojump_clock: MockClock) -> None:
    async with attacked(Role.WRITER) as (liar, target), trio.open_nursery() as nursery:
        await on_demand(target)
        await target.write("large", LARGE)
        await liar.open()
        mine = Evictor(target)
        kept: list[object] = []

        async def evict() -> None:
            kept.extend((await mine.evict("large")).kept)

        nursery.start_soon(evict)
        message, _ = await liar.hear_a(wire.Prove)
        assert isinstance(message, wire.Prove)
        pieces = wire.encode_roots([b"x" * 32])
        await liar.say(wire.Proof(message.request), pieces)
        assert "claims to have" in await until_ended(liar)
        await until(lambda: kept)
        assert mine.has("large")
        assert target.peers.is_banned(liar.device.id)


@pytest.mark.logs_warning("a peer broke the protocol")
async def test_a_peer_that_asks_for_a_million_proofs_is_sent_away(autojump_clock: MockClock) -> None:
    async with attacked(Role.WRITER) as (greedy, target):
        await target.write("large", LARGE)
        await greedy.open()
        ((inode, root, size),) = Evictor(target).items("large")
        question = encode_pieces([Piece(inode, root, size, 0, size, True)] * 40)
        for number in range(1, PROVES_MAX + 1):
            await greedy.say(wire.Prove(number, b"n" * 32), question)
        for _ in range(PROVES_MAX):
            _, body = await greedy.hear_a(wire.Proof)
            assert len(decode_proofs(body)) == 40
        with suppress(LinkBroken):
            for number in range(1_000_000):
                await greedy.say(wire.Prove(number, b"n" * 32), question)
        assert "more proofs than can be made" in await until_ended(greedy)


async def test_what_nobody_may_ask_for_is_refused(autojump_clock: MockClock) -> None:
    async with attacked(Role.WRITER) as (asker, target):
        await target.write("large", LARGE)
        await asker.open()
        ((inode, root, size),) = Evictor(target).items("large")
        other = root[:1] + bytes(32)
        pieces = [Piece(inode, other, size, 0, size, True), Piece("A" * 16, root, size, 0, size, True)]
        await asker.say(wire.Prove(1, b"n" * 32), encode_pieces(pieces))
        _, body = await asker.hear_a(wire.Proof)
        assert decode_proofs(body) == [Refusal.UNKNOWN, Refusal.UNKNOWN]
