"""A member that does not keep to the protocol: its session ends, and nothing else is affected."""

import os
from contextlib import suppress
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from dittofs.chunks.seal import ChunkKind
from dittofs.errors import ChunkUnavailable
from dittofs.identity.granting import remove
from dittofs.identity.keys import Device, DeviceId
from dittofs.identity.records import Body, Kind, Role, sign_record
from dittofs.ids import ChunkId
from dittofs.links.link import LinkBroken
from dittofs.replication.fetcher import ALONE_PATIENCE_S
from dittofs.replication.rounds import PROGRESS_S
from dittofs.sync import messages as wire
from dittofs.sync.frame import PAYLOAD_BYTES_MAX
from tests.simulation.rig import SeededEntropy
from tests.unit.identity.devices import LAPTOP, NAS
from tests.unit.replication.pair import SECRETS, Attacker, Side, attacked, connect, sides, until, until_ended

pytestmark = pytest.mark.logs_warning(
    "a peer broke the protocol", "a peer sent a wrong chunk", "two devices with one key are running"
)


def group(sequence: int, *updates: bytes) -> tuple[wire.Group, bytes]:
    parts = tuple(wire.Update(1, 0, b"", len(update)) for update in updates)
    return wire.Group(sequence, parts, ()), b"".join(updates)


def resident_bytes() -> int:
    """What this process takes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def still_works(side: Side) -> None:
    """Whoever was attacked goes on."""
    await side.write("afterwards", b"fine")
    assert side.rig.read("afterwards") == b"fine"
    assert side.rig.volume.replica.read_only is None


async def test_what_a_reader_writes_is_refused_unread(autojump_clock: MockClock) -> None:
    async with attacked(Role.READER) as (attacker, target):
        await attacker.open()
        before = target.rig.volume.replica.root_digest()
        await attacker.say(*group(1, b"\xff" * 100))
        assert "may read" in await until_ended(attacker)
        assert target.rig.volume.replica.root_digest() == before
        await still_works(target)


def a_name(author: Device, device: DeviceId, name: str) -> bytes:
    body = Body(1, SECRETS.volume_id, int(Kind.NAME), author.id, [], device, name=name, number=9)
    return sign_record(body, author.signing)


@pytest.mark.parametrize("wrong", ["another's", "altered", "stranger's"])
async def test_a_reader_that_names_another_device_or_alters_a_name_is_cut_off(
    autojump_clock: MockClock, wrong: str
) -> None:
    async with attacked(Role.READER) as (attacker, target):
        await attacker.open()
        before = target.members.membership.digest()
        record = {
            "another's": a_name(attacker.device, LAPTOP.id, "mine"),
            "altered": a_name(attacker.device, attacker.device.id, "tablet").replace(b"tablet", b"laptop"),
            "stranger's": a_name(NAS, NAS.id, "let me in"),
        }[wrong]
        await attacker.say(wire.Members(), wire.encode_records([record]))
        assert "member records" in await until_ended(attacker)
        assert target.members.membership.digest() == before
        await still_works(target)


async def test_a_reader_that_names_itself_is_heard_by_those_behind_its_peer(
    autojump_clock: MockClock,
) -> None:
    async with sides(Role.READER, Role.WRITER) as (a, b, c), trio.open_nursery() as nursery:
        connect(nursery, a, b)
        connect(nursery, a, c)
        await until(lambda: len(a.peers.open_sessions) == 2)
        b.members.add([a_name(b.device, b.device.id, "tablet")])
        await until(lambda: a.members.name(b.device.id) == c.members.name(b.device.id) == "tablet")
        assert all(side.peers.open_sessions for side in (a, b, c))
        nursery.cancel_scope.cancel()


async def test_what_a_reader_has_is_not_pulled(autojump_clock: MockClock) -> None:
    async with attacked(Role.READER) as (attacker, target):
        await attacker.open()
        await attacker.say(wire.Digest(b"\x01" * 32, 0))
        await attacker.say(wire.Stale(1))
        assert "may read" in await until_ended(attacker)
        await still_works(target)


@pytest.mark.parametrize(
    "update",
    [
        b"",
        b"\xff" * 1000,
        b"\x01\x01\x05\x00\x00\x80\x80\x80\x80\x08\x00",  # a garbage struct of 2^31 operations
        b"\x01\x01\x05\x00\x27\x01\x01m\x01a\x00" * 5000,  # nested arrays
    ],
    ids=["empty", "noise", "garbage struct", "nested"],
)
async def test_an_update_that_no_replica_makes_ends_the_session(
    update: bytes, autojump_clock: MockClock
) -> None:
    async with attacked(Role.WRITER) as (attacker, target):
        await attacker.open()
        before = target.rig.volume.replica.root_digest()
        await attacker.say(*group(1, update))
        assert await until_ended(attacker)
        assert target.rig.volume.replica.root_digest() == before
        await still_works(target)


@pytest.mark.parametrize(
    ("message", "body"),
    [
        (wire.Group(7, (), ()), b""),
        (wire.Group(1, (wire.Update(3, 0, b"", 10),), ()), b"short"),
        (wire.Ack(5), b""),
        (wire.Pong(77), b""),
        (wire.Chunks(((9, 4),)), b"data"),
        (wire.Absent((9,)), b""),
        (wire.Part(1, 3, 0, b"", False), b""),
        (wire.Want(1), wire.encode_states([])),
        (wire.States(1), wire.encode_states([])),
        (wire.Hello(wire.VERSION, b"v" * 32, b"i" * 16, b"c" * 16, 0, b"m" * 32, "again", 0), b""),
        (wire.Ready(b"r" * 32), b""),
        (wire.Pull(1), b"not 257 digests"),
        (wire.Holds(1), b"\xc1"),
        (wire.Members(), wire.encode_records([b"forged"])),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, wire.Message) else "",
)
async def test_a_message_out_of_turn_or_out_of_bounds_ends_the_session(
    message: wire.Message, body: bytes, autojump_clock: MockClock
) -> None:
    async with attacked(Role.WRITER) as (attacker, target):
        await attacker.open()
        await attacker.say(message, body)
        assert await until_ended(attacker)
        await still_works(target)


async def test_a_peer_that_floods_is_cut_off_and_memory_stays_bounded(
    autojump_clock: MockClock,
) -> None:
    async with attacked(Role.WRITER) as (attacker, target):
        await attacker.open()
        asked = wire.Get(tuple(wire.Wanted(n, 1, b"\x01" * 32) for n in range(wire.WANTS_MAX)), False)
        with pytest.raises(LinkBroken):
            for _ in range(100_000):
                await attacker.say(asked)
                await attacker.say(wire.Ping(1))
        assert await until_ended(attacker)
        await still_works(target)


@pytest.mark.parametrize(
    "count", [6_400, pytest.param(1_000_000, marks=pytest.mark.soak)], ids=["6,400", "10^6"]
)
async def test_tiny_requests_without_end_take_little_memory_and_others_are_served(
    autojump_clock: MockClock, count: int
) -> None:
    async with sides(Role.WRITER, Role.WRITER) as (target, other, honest), trio.open_nursery() as nursery:
        await target.write("wanted", b"wanted")
        chunk = next(one for kind, one in target.rig.volume.replica.chunks.ids() if kind is ChunkKind.DATA)
        attacker = Attacker(target, other.device)
        nursery.start_soon(attacker.serve)
        await attacker.open()
        connect(nursery, honest, target)
        asked = [chunk if number % 2 else ChunkId(bytes([number]) * 32) for number in range(wire.WANTS_MAX)]
        before = 0
        for batch in range(count // wire.WANTS_MAX):
            wants = tuple(wire.Wanted(number, 1, one) for number, one in enumerate(asked))
            await attacker.say(wire.Get(wants, False))
            left = len(wants)
            while left:
                match await attacker.hear():
                    case wire.Absent(requests=requests), _:
                        left -= len(requests)
                    case wire.Chunks(sizes=sizes), _:
                        left -= len(sizes)
            if batch % (count // wire.WANTS_MAX // 4) == 0:
                await honest.write(f"file {batch}", b"x")
                await until(lambda: target.rig.exists(f"file {batch}"))  # noqa: B023 - it is now that it looks
                before = before or resident_bytes()
                assert resident_bytes() - before < 32 << 20
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "frame",
    [
        b"\x00\x00\x00\x05" + (PAYLOAD_BYTES_MAX + 1).to_bytes(4, "big"),
        b"\x00\x00\x00\x05\xff\xff\xff\xff",
        b"\x00\x00\xff\xff\x00\x00\x00\x01",
        b"\xff\x00\x00\x05\x00\x00\x00\x01",
    ],
    ids=["a byte too long", "4 GiB", "a header of 64 KiB", "flags"],
)
async def test_a_frame_larger_than_any_ends_the_session_before_it_came(
    autojump_clock: MockClock, frame: bytes
) -> None:
    async with attacked(Role.WRITER) as (attacker, target):
        await attacker.open()
        await attacker.link.send_all(frame)
        assert "do not exist" in await until_ended(attacker)
        await still_works(target)


async def test_a_peer_that_asks_and_never_reads_is_let_go_and_others_are_served(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = 1 << 20  # a whole queue takes its time
    monkeypatch.setattr("dittofs.replication.outbox.QUEUED_BYTES_MAX", most)
    async with sides(Role.WRITER, Role.WRITER) as (target, other, honest), trio.open_nursery() as nursery:
        attacker = Attacker(target, other.device)
        nursery.start_soon(attacker.serve)
        await attacker.open()
        session = target.peers.session(other.device.id)
        assert session is not None
        reading, taking = trio.Event(), attacker.far._stream.send_stream  # type: ignore[attr-defined]
        taking.send_all_hook = reading.wait  # its windows are full, and stay so
        asked = wire.Get((wire.Wanted(1, 1, ChunkId(b"\x01" * 32)),), False)
        while session.is_open and trio.current_time() < 20:
            with suppress(LinkBroken):
                await attacker.say(asked)
            await trio.sleep(0.001)
            assert session.outbox.urgent_bytes <= most
        assert "does not read" in session.why_ended
        connect(nursery, honest, target)
        await honest.write("from the honest one", b"x")
        await until(lambda: target.rig.exists("from the honest one"))
        reading.set()
        nursery.cancel_scope.cancel()


async def test_a_group_without_end_is_cut_off(autojump_clock: MockClock) -> None:
    async with attacked(Role.WRITER) as (attacker, target):
        await attacker.open()
        part = wire.Group(1, (wire.Update(1, 0, b"", PAYLOAD_BYTES_MAX),), (), more=True)
        with pytest.raises(LinkBroken):
            for _ in range(1000):
                await attacker.say(part, bytes(PAYLOAD_BYTES_MAX))
        assert await until_ended(attacker)
        await still_works(target)


async def test_a_wrong_chunk_bans_who_sent_it_and_is_not_kept(autojump_clock: MockClock) -> None:
    async with attacked(Role.WRITER) as (attacker, target), trio.open_nursery() as nursery:
        await attacker.open()
        peers = target.peers
        failed: list[ChunkUnavailable] = []

        async def fetch() -> None:
            try:
                await peers.fetcher.fetch(b"\x01", [(ChunkKind.DATA, ChunkId(b"\x05" * 32))])
            except ChunkUnavailable as error:
                failed.append(error)

        nursery.start_soon(fetch)
        message, _ = await attacker.hear_a(wire.Get)
        assert isinstance(message, wire.Get)
        store = target.rig.volume.replica.chunks
        (other,) = store.put([(ChunkKind.DATA, b"another chunk")])
        sealed = store.sealed(ChunkKind.DATA, other)
        await attacker.say(wire.Chunks(((message.wants[0].request, len(sealed)),)), sealed)
        assert "not the one" in await until_ended(attacker)
        assert peers.is_banned(attacker.device.id)
        await until(lambda: failed, ALONE_PATIENCE_S + 1)
        await still_works(target)


async def test_a_peer_that_stalls_in_a_round_is_let_go_and_others_are_served(
    autojump_clock: MockClock,
) -> None:
    async with sides(Role.WRITER, Role.WRITER) as (target, liar, honest), trio.open_nursery() as nursery:
        attacker = Attacker(target, liar.device)
        nursery.start_soon(attacker.serve)
        await attacker.open()
        await attacker.say(wire.Digest(b"\x01" * 32, 0))
        await attacker.hear_a(wire.Pull)  # and never answers
        connect(nursery, honest, target)
        await honest.write("from the honest one", b"x")
        await until(lambda: target.rig.exists("from the honest one"), PROGRESS_S / 2)
        assert await until_ended(attacker)
        nursery.cancel_scope.cancel()


async def test_a_second_live_device_with_the_same_key_is_refused_and_the_first_goes_on(
    autojump_clock: MockClock,
) -> None:
    async with sides(Role.WRITER) as (target, other), trio.open_nursery() as nursery:
        connect(nursery, other, target)
        await until(lambda: target.peers.session(other.device.id) is not None, 10)
        first = target.peers.session(other.device.id)
        hello = target.peers.hello(other.device.id)
        membership = target.members.membership.digest()
        for code in ("second", "duplicate"):  # a process that is no more may be heard of once, late
            twin = Attacker(target, other.device)
            nursery.start_soon(twin.serve)
            await twin.say(
                wire.Hello(wire.VERSION, hello.volume, b"\x77" * 16, b"\x78" * 16, 0, membership, "twin", 0)
            )
            message, _ = await twin.hear_a(wire.Refuse)
            assert isinstance(message, wire.Refuse)
            assert message.code == code
        assert target.peers.session(other.device.id) is first
        nursery.cancel_scope.cancel()


async def test_a_removed_device_is_refused_and_told_so(autojump_clock: MockClock) -> None:
    async with attacked(Role.WRITER) as (attacker, target):
        await attacker.open()
        records, _ = remove(target.members.membership, SECRETS, LAPTOP, attacker.device.id, SeededEntropy(3))
        target.members.add(records)
        message, _ = await attacker.hear_a(wire.Refuse)
        assert isinstance(message, wire.Refuse)
        assert message.code == "removed"
        again = Attacker(target, attacker.device)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(again.serve)
            hello = target.peers.hello(again.device.id)
            await again.say(
                wire.Hello(
                    wire.VERSION, hello.volume, b"\x01" * 16, b"\x02" * 16, 0, hello.members, "back", 0
                )
            )
            message, _ = await again.hear_a(wire.Refuse)
            assert isinstance(message, wire.Refuse)
            assert message.code == "removed"
            nursery.cancel_scope.cancel()
