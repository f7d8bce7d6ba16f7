"""Limits: as much as they allow goes, and no more; what somebody waits for never waits behind them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random

import pytest
import trio
from trio.testing import MockClock

from dittofs.chunks.seal import ChunkKind
from dittofs.identity.records import Role
from dittofs.ids import ChunkId
from dittofs.rate_limits import Direction, RateLimit
from dittofs.replication.allowance import BURST_S, DEBT_S, Allowance, Allowances
from dittofs.replication.peers import Peers
from dittofs.sync import messages as wire
from tests.unit.identity.devices import DESKTOP, NAS
from tests.unit.replication.pair import Side, attacked, connect, sides, until

RATE = 100_000
CHUNK = 64 << 10
SATURDAY_S = 1_774_656_000  # 2026-03-28, 00:00 UTC


@dataclass
class WallClock:
    """A wall clock that goes with trio's, from a time on."""

    begins_s: int = SATURDAY_S

    def now_ns(self) -> int:
        return int((self.begins_s + trio.current_time()) * 1e9)

    def monotonic(self) -> float:
        return trio.current_time()


@dataclass
class Sender:
    """Sends chunks for ever, as fast as it may."""

    allowance: Allowance
    sent: list[float] = field(default_factory=list)

    async def run(self) -> None:
        while True:
            await self.allowance.turn()
            self.allowance.sent(CHUNK)
            self.sent.append(trio.current_time())
            await trio.lowlevel.checkpoint()

    def bytes_within(self, begin: float, end: float) -> int:
        return CHUNK * sum(begin <= one < end for one in self.sent)


def limited(*lines: str) -> Allowances:
    made = Allowances(WallClock())
    made.choose(map(RateLimit.parse, lines))
    return made


async def run_for(seconds: float, senders: Sequence[Sender]) -> None:
    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:
            for sender in senders:
                nursery.start_soon(sender.run)


def is_about(found: float, wanted: float, spare: float = 0.0) -> bool:
    return abs(found - wanted) <= 0.02 * wanted + spare


async def test_over_a_long_time_as_much_goes_as_the_limit_says(autojump_clock: MockClock) -> None:
    sender = Sender(limited(f"up {RATE}").of(NAS.id))
    await run_for(1000, [sender])
    assert is_about(sender.bytes_within(0, 1000), 1000 * RATE, CHUNK)


async def test_after_a_pause_no_more_goes_at_once_than_a_second_s_worth(autojump_clock: MockClock) -> None:
    sender = Sender(limited(f"up {RATE}").of(NAS.id))
    sender.allowance.sent(1)
    await trio.sleep(1000)
    begun = trio.current_time()
    await run_for(100, [sender])
    assert sender.bytes_within(begun, begun + 0.01) <= RATE * BURST_S + CHUNK
    assert is_about(sender.bytes_within(begun, begun + 100), 101 * RATE, CHUNK)


async def test_the_links_of_a_device_share_its_limit_and_all_devices_the_common_one_evenly(
    autojump_clock: MockClock,
) -> None:
    made = limited(f"up {3 * RATE}", f"up {RATE} device {NAS.id.hex()}")
    nas = [Sender(made.of(NAS.id)) for _ in range(3)]
    other = [Sender(made.of(DESKTOP.id))]
    await run_for(1000, nas + other)
    of_nas = sum(one.bytes_within(0, 1000) for one in nas)
    assert is_about(of_nas, 1000 * RATE, 3 * CHUNK)
    assert all(is_about(one.bytes_within(0, 1000), of_nas / 3, 2 * CHUNK) for one in nas)
    assert is_about(of_nas + other[0].bytes_within(0, 1000), 3000 * RATE, 4 * CHUNK)


async def test_what_is_waited_for_goes_at_once_and_bulk_waits_the_longer(autojump_clock: MockClock) -> None:
    allowance = limited(f"up {RATE}").of(NAS.id)
    sender = Sender(allowance)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sender.run)
        for _ in range(100):
            allowance.sent(RATE // 2)  # nothing waits here
            await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert is_about(sender.bytes_within(0, 100), 50 * RATE, 2 * CHUNK)


async def test_what_was_waited_for_holds_bulk_up_for_a_minute_at_most(autojump_clock: MockClock) -> None:
    allowance = limited(f"up {RATE}").of(NAS.id)
    allowance.sent(1 << 40)
    begun = trio.current_time()
    await allowance.turn()
    assert trio.current_time() - begun <= DEBT_S + 1


async def test_a_limit_is_in_force_at_once_and_so_is_its_end(autojump_clock: MockClock) -> None:
    made = limited("up 32kB/s")
    sender = Sender(made.of(NAS.id))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sender.run)
        await trio.sleep(100)
        made.choose([])
        begun = trio.current_time()
        for _ in range(50):
            await trio.lowlevel.checkpoint()
        assert trio.current_time() == begun and sender.bytes_within(begun, begun + 1) > 10 * CHUNK
        made.choose([RateLimit.parse("up 32kB/s")])
        count = len(sender.sent)
        await trio.sleep(100)
        assert is_about(CHUNK * (len(sender.sent) - count), 3_200_000, 2 * CHUNK)
        nursery.cancel_scope.cancel()


async def test_the_timetable_is_followed_while_bytes_go(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "UTC")
    made = limited(f"up {RATE}", f"up {10 * RATE} at sat 00:10-00:20", "up 32kB/s at sat 00:15-00:20")
    sender = Sender(made.of(NAS.id))
    sender.allowance.sent(1)
    await run_for(1500, [sender])
    assert is_about(sender.bytes_within(0, 600), 600 * RATE, CHUNK)
    assert is_about(sender.bytes_within(601, 900), 299 * 10 * RATE, 10 * RATE)
    assert is_about(sender.bytes_within(901, 1200), 299 * 32_000, 10 * RATE)
    assert is_about(sender.bytes_within(1202, 1500), 298 * RATE, RATE)
    assert made.rate(Direction.UP) == RATE


async def test_no_more_is_asked_for_than_may_come(autojump_clock: MockClock) -> None:
    allowance = limited(f"down {RATE}").of(NAS.id)
    came = 0
    async with trio.open_nursery() as nursery:

        async def arrive() -> None:
            nonlocal came
            await trio.sleep(0.2)
            allowance.asked(-CHUNK)
            allowance.received(3 * CHUNK)  # larger than was thought
            came += 3 * CHUNK

        begun = trio.current_time()
        while trio.current_time() < begun + 1000:
            while allowance.may_ask():
                allowance.asked(CHUNK)
                nursery.start_soon(arrive)
            await trio.sleep(0.25)
    assert is_about(came, 1000 * RATE, 6 * CHUNK)


class Limited:
    """A side whose limits the test chooses."""

    def __init__(self, side: Side) -> None:
        self.allowances = Allowances(WallClock())
        self.peers: Peers = side.peers
        side.peers.allowance = self.allowances.of

    def choose(self, *lines: str) -> None:
        self.allowances.choose(map(RateLimit.parse, lines))


LARGE = Random(1).randbytes(3 << 20)
WANTED = Random(2).randbytes(300_000)


async def test_a_read_is_served_at_once_while_bulk_is_held_back_for_long(autojump_clock: MockClock) -> None:
    async with sides(Role.WRITER) as (a, b), trio.open_nursery() as nursery:
        Limited(a).choose("up 32kB/s")
        await a.write("large", LARGE)
        await a.write("wanted", WANTED)
        connect(nursery, b, a)
        await until(lambda: b.rig.volume.replica.tree.counts().files == 2)
        await until(lambda: b.peers.fetcher.bytes_fetched > 0)
        begun, fetched = trio.current_time(), b.peers.fetcher.bytes_fetched
        assert await b.rig.fetch("wanted") == WANTED
        assert trio.current_time() - begun < 1
        assert b.peers.fetcher.bytes_fetched - fetched < 2 * len(WANTED)  # the rest is held back
        begun = trio.current_time()
        await until(lambda: b.peers.fetcher.bytes_fetched >= len(LARGE) + len(WANTED), 600)
        assert trio.current_time() - begun > 60
        nursery.cancel_scope.cancel()


async def test_what_is_received_is_limited_by_asking_for_less(autojump_clock: MockClock) -> None:
    async with sides(Role.WRITER) as (a, b), trio.open_nursery() as nursery:
        Limited(b).choose("down 100kB/s")
        await a.write("large", LARGE)
        connect(nursery, b, a)
        begun = trio.current_time()
        await until(lambda: b.peers.fetcher.bytes_fetched >= len(LARGE), 600)
        took_s = trio.current_time() - begun
        assert is_about(len(LARGE) / took_s, RATE, RATE / 8)
        await a.write("wanted", WANTED)
        await until(lambda: b.rig.exists("wanted"))
        begun = trio.current_time()
        assert await b.rig.fetch("wanted") == WANTED
        assert trio.current_time() - begun < 1
        nursery.cancel_scope.cancel()


async def test_contents_do_not_ride_with_their_names_while_they_have_to_wait(
    autojump_clock: MockClock,
) -> None:
    async with sides(Role.WRITER) as (a, b), trio.open_nursery() as nursery:
        Limited(a).choose("up 32kB/s")
        connect(nursery, b, a)
        await until(lambda: a.peers.open_sessions)
        begun = trio.current_time()
        for number in range(100):
            await a.write(f"file {number}", Random(number).randbytes(20_000))
        await until(lambda: b.rig.volume.replica.tree.counts().files == 100)
        assert trio.current_time() - begun < 5  # names wait for nothing
        assert a.peers.open_sessions[0].outbox.total_bytes < 500_000
        await until(lambda: not a.peers.custody.tally().unsent, 600)
        assert trio.current_time() - begun > 55
        nursery.cancel_scope.cancel()


async def test_a_chunk_asked_for_as_bulk_overtakes_once_somebody_waits_for_it(
    autojump_clock: MockClock,
) -> None:
    async with attacked(Role.WRITER) as (peer, target):
        Limited(target).choose("up 32kB/s")
        await target.write("large", LARGE)
        await peer.open()
        chunks = list(target.rig.volume.replica.chunks.ids())
        wants = tuple(wire.Wanted(number, int(kind), one) for number, (kind, one) in enumerate(chunks, 1))
        await peer.say(wire.Get(wants, True))
        await peer.hear_a(wire.Chunks)
        begun, last = trio.current_time(), wants[-1].request
        await peer.say(wire.Hurry((last, 7_000)))  # of the second nothing is known
        heard = 0
        while heard != last:
            message, _ = await peer.hear_a(wire.Chunks)
            assert isinstance(message, wire.Chunks)
            heard = message.sizes[0][0]
        assert trio.current_time() - begun < 0.1


async def test_what_was_asked_for_as_bulk_is_hurried_when_a_program_reads_it(
    autojump_clock: MockClock,
) -> None:
    async with attacked(Role.WRITER) as (peer, target), trio.open_nursery() as nursery:
        await peer.open()
        wanted = [(ChunkKind.DATA, ChunkId(bytes([number]) * 32)) for number in range(3)]
        fetch = target.peers.fetcher.fetch
        nursery.start_soon(partial(fetch, b"", wanted, is_bulk=True))
        asked, _ = await peer.hear_a(wire.Get)
        nursery.start_soon(fetch, b"", wanted[1:2])
        hurried, _ = await peer.hear_a(wire.Hurry)
        assert isinstance(asked, wire.Get) and asked.is_bulk and isinstance(hurried, wire.Hurry)
        assert hurried.requests == (asked.wants[1].request,)
        nursery.cancel_scope.cancel()
