"""Several links to one device: chunks come over all of them, and all else over one."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from random import Random
from typing import Final

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from dittofs.address import Address
from dittofs.identity.keys import Device
from dittofs.identity.records import Role
from dittofs.links.link import Admits, Alpn, Link, LinkBroken
from dittofs.replication import greeting
from dittofs.replication.connector import Connector
from dittofs.replication.lanes import IDLE_S, REST_S
from dittofs.replication.session_groups import BESIDE_CHUNKS_MAX
from dittofs.replication.wholeness import missing
from dittofs.sync import messages as wire
from tests.unit.replication.pair import SECRETS, Attacker, MemoryLink, Side, sides, until, until_ended
from tests.unit.replication.test_swarm import content, has_all

RATE: Final = 2e6
DATA: Final = Random(9).randbytes(12 << 20)


class PacedLink(MemoryLink):
    """It carries so much a second, and pauses once after a while."""

    rate = RATE
    pause_s = 0.0
    sent_bytes = 0

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.sleep(len(data) / self.rate)
        self.sent_bytes += len(data)
        if self.sent_bytes > len(DATA) // 8:
            pause_s, self.pause_s = self.pause_s, 0.0
            await trio.sleep(pause_s)
        await super().send_all(data)


def linked(
    nursery: trio.Nursery,
    dialler: Side,
    other: Side,
    *,
    is_beside: bool,
    pause_s: float = 0.0,
    description: str = "memory",
    rate: float = RATE,
) -> tuple[trio.testing.MemorySendStream, ...]:
    """A link between two devices. Returns both sending ends."""
    near, far = trio.testing.memory_stream_pair()
    link = PacedLink(near, other.device.id, is_dialer=True, description=description)
    nursery.start_soon(partial(greeting.dialled, link, dialler.peers, is_beside=is_beside))
    nursery.start_soon(partial(accept, far, dialler, other, pause_s=pause_s, rate=rate))
    return near.send_stream, far.send_stream


async def accept(
    far: trio.abc.Stream, dialler: Side, other: Side, *, pause_s: float = 0.0, rate: float = RATE
) -> None:
    """The other end of a link: of who was dialled."""
    accepted = PacedLink(far, dialler.device.id, is_dialer=False)
    accepted.pause_s, accepted.rate = pause_s, rate
    _, theirs, reader = await greeting.accepted(accepted, lambda _volume: other.peers)
    await greeting.answered(accepted, other.peers, theirs, reader)


async def fetched(target: Side) -> None:
    """Fetch all of the only file."""
    root, size = content(target)
    store = target.rig.volume.replica.chunks
    with trio.fail_after(120):
        page = missing(store, root, size)
        while page.chunks:
            await target.peers.fetcher.fetch_page(root, page)
            page = missing(store, root, size, page.after)
    assert has_all(target)


@asynccontextmanager
async def two_links() -> AsyncIterator[tuple[Side, Side, list[trio.testing.MemorySendStream], trio.Nursery]]:
    """A device with a large file, and another with two links to it. The ends of the first link can be cut."""
    async with sides(Role.WRITER) as (seed, target), trio.open_nursery() as nursery:
        await seed.write("large", DATA)
        ends = list(linked(nursery, target, seed, is_beside=False))
        await until(lambda: target.peers.open_sessions and seed.peers.open_sessions)
        await until(lambda: list(target.peers.custody.content.content_roots()))
        linked(nursery, target, seed, is_beside=True)
        await until(lambda: target.peers.beside(seed.device.id) and seed.peers.beside(target.device.id))
        yield seed, target, ends, nursery
        nursery.cancel_scope.cancel()


async def test_chunks_come_over_both_links_and_each_over_one_of_them(autojump_clock: MockClock) -> None:
    async with two_links() as (seed, target, _, _):
        (used,) = target.peers.open_sessions
        (lane,) = target.peers.beside(seed.device.id)
        before = used.bytes_received + lane.bytes_received
        await fetched(target)
        assert lane.bytes_received > len(DATA) // 10
        assert used.bytes_received + lane.bytes_received - before < len(DATA) * 1.05
        (status,) = target.peers.status()
        assert status.path == "memory + memory"
        assert status.bytes_received == used.bytes_received + lane.bytes_received


async def test_after_a_pause_the_only_link_is_asked_at_once(autojump_clock: MockClock) -> None:
    async with sides(Role.WRITER) as (seed, target), trio.open_nursery() as nursery:
        await seed.write("large", DATA)
        linked(nursery, target, seed, is_beside=False, pause_s=5.0)
        await until(lambda: target.peers.open_sessions and seed.peers.open_sessions)
        await until(lambda: list(target.peers.custody.content.content_roots()))
        with trio.fail_after(len(DATA) / RATE + 10):
            await fetched(target)
        nursery.cancel_scope.cancel()


async def test_when_the_link_in_use_is_cut_the_rest_comes_over_the_other(autojump_clock: MockClock) -> None:
    async with two_links() as (seed, target, ends, _):
        (lane,) = target.peers.beside(seed.device.id)

        async def cutting() -> None:
            await until(lambda: lane.bytes_received > len(DATA) // 8)
            for end in ends:
                end.close()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(cutting)
            await fetched(target)
        await until(lambda: not target.peers.open_sessions)


async def test_a_device_that_is_banned_loses_all_its_links(autojump_clock: MockClock) -> None:
    async with two_links() as (seed, target, _, _):
        (lane,) = target.peers.beside(seed.device.id)
        target.peers.ban(lane, "it sent a wrong chunk")
        await until(lambda: not target.peers.open_sessions and not target.peers.beside(seed.device.id))


@asynccontextmanager
async def attacked_twice() -> AsyncIterator[tuple[Attacker, Attacker, Side, trio.Nursery]]:
    """An attacker with an open session, and further links of its own."""
    async with sides(Role.WRITER) as (target, other), trio.open_nursery() as nursery:
        first, second = Attacker(target, other.device), Attacker(target, other.device)
        nursery.start_soon(first.serve)
        await first.open()
        nursery.start_soon(second.serve)
        yield first, second, target, nursery
        nursery.cancel_scope.cancel()


@pytest.mark.logs_warning("a peer broke the protocol")
async def test_a_change_over_a_link_for_chunks_ends_it_and_nothing_else(autojump_clock: MockClock) -> None:
    async with attacked_twice() as (first, second, target, _):
        await second.greet(is_beside=True)
        await second.say(wire.Ready(target.peers.replica.root_digest()))
        await until(lambda: target.peers.beside(first.device.id))
        await second.say(wire.Stale(1))
        assert "over a link for chunks" in await until_ended(second)
        assert target.peers.session(first.device.id) is not None


async def test_links_for_chunks_are_few_and_none_without_a_session(autojump_clock: MockClock) -> None:
    async with attacked_twice() as (first, second, target, nursery):
        for number in range(BESIDE_CHUNKS_MAX + 2):
            further = second if not number else Attacker(target, first.device)
            if number:
                nursery.start_soon(further.serve)
            try:
                await further.greet(is_beside=True)
            except LinkBroken:
                assert number >= BESIDE_CHUNKS_MAX
            else:
                assert number < BESIDE_CHUNKS_MAX
        await first.link.aclose()
        await until(lambda: target.peers.session(first.device.id) is None)
        stranger = Attacker(target, first.device)
        nursery.start_soon(stranger.serve)
        with pytest.raises(LinkBroken):
            await stranger.greet(is_beside=True)


HERE, ELSEWHERE = Address("127.0.0.1", 7347), Address("127.0.0.2", 7347)


@asynccontextmanager
async def two_addresses(
    rate: float, *, is_answering: bool
) -> AsyncIterator[tuple[Side, Side, list[tuple[float, str]]]]:
    """A device with a large file, and another that has a link to it and knows one address more of it.

    With them the attempts to reach it: when, and where.
    """
    dialled: list[tuple[float, str]] = []
    async with sides(Role.WRITER) as (seed, target), trio.open_nursery() as nursery:

        async def dial(
            host: str, _port: int, _device: Device, *, alpn: Alpn, admits: Admits, patience_s: float
        ) -> Link:
            dialled.append((trio.current_time(), host))
            assert admits(seed.device.id, alpn)
            if not is_answering:
                await trio.sleep(patience_s)
                raise LinkBroken("nobody answers")
            near, far = trio.testing.memory_stream_pair()
            nursery.start_soon(partial(accept, far, target, seed, rate=rate))
            return PacedLink(near, seed.device.id, is_dialer=True, description=f"tcp {ELSEWHERE}")

        await seed.write("large", DATA)
        linked(nursery, target, seed, is_beside=False, description=f"tcp {HERE}", rate=rate)
        await until(lambda: target.peers.open_sessions and seed.peers.open_sessions)
        await until(lambda: list(target.peers.custody.content.content_roots()))
        connector = Connector(target.device, clock=target.rig.clock, dial=dial)
        connector.add(target.peers, SECRETS.secret, [(seed.device.id, one) for one in (HERE, ELSEWHERE)])
        nursery.start_soon(connector.run)
        yield seed, target, dialled
        nursery.cancel_scope.cancel()


async def test_an_address_that_brought_no_link_is_left_alone_for_a_minute(autojump_clock: MockClock) -> None:
    async with two_addresses(len(DATA) / 90, is_answering=False) as (_, target, dialled):
        await fetched(target)
        (first, second) = [when for when, host in dialled if host == ELSEWHERE.host]
        assert second - first >= REST_S


async def test_a_further_link_that_carries_nothing_for_ten_seconds_ends(autojump_clock: MockClock) -> None:
    async with two_addresses(RATE / 2, is_answering=True) as (seed, target, dialled):
        await fetched(target)
        (lane,) = target.peers.beside(seed.device.id)
        assert lane.bytes_received > len(DATA) // 10
        assert [host for _, host in dialled] == [ELSEWHERE.host]
        await trio.sleep(IDLE_S / 2)
        assert target.peers.beside(seed.device.id) == [lane]
        await until(lambda: not target.peers.beside(seed.device.id))
        assert target.peers.session(seed.device.id) is not None
