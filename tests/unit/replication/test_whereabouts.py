"""Members that tell each other where the others are, and one that lies."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
import trio
from trio.testing import MockClock

from dittofs.address import Address
from dittofs.discovery.addresses import AddressBook, Source
from dittofs.discovery.hearsay import DIAL_BURST, DIAL_PAUSE_S, HOST_REST_S
from dittofs.identity.keys import Device, DeviceId
from dittofs.identity.records import Role
from dittofs.links.link import Admits, Alpn, HandshakeRefused, Link, LinkBroken
from dittofs.links.tcp import Dial
from dittofs.replication.connector import Connector
from dittofs.replication.whereabouts import addresses_of
from dittofs.sync import messages as wire
from tests.unit.identity.devices import LAPTOP, STRANGER
from tests.unit.replication.pair import SECRETS, MemoryLink, Side, attacked, sides, until, until_ended

PORT = 7347


class Place:
    """A device at an address of its own, that dials and is dialled."""

    def __init__(self, wires: "Wires", side: Side, host: str) -> None:
        self.side, self.address = side, Address(host, PORT)
        self.connector = Connector(side.device, clock=side.rig.clock, dial=wires.dial_from(self))
        side.port = PORT

    def add(self, *known: "Place") -> None:
        where = [(one.side.device.id, one.address) for one in known]
        self.connector.add(self.side.peers, SECRETS.secret, where)

    def sees(self, other: "Place") -> bool:
        return self.side.peers.session(other.side.device.id) is not None

    def entries(self, other: "Place") -> dict[Address, frozenset[Source]]:
        """All that is known of where the other is."""
        book = self.connector._volumes[self.side.peers.volume].book
        return {one.address: one.sources for one in book.entries(other.side.device.id.hex())}


class Wires:
    """A network: who is at which address, and every attempt to reach one."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self.places: dict[Address, Place] = {}
        self.dialled: list[tuple[float, Device, Address]] = []

    def place(self, side: Side, host: str) -> Place:
        made = Place(self, side, host)
        self.places[made.address] = made
        self._nursery.start_soon(made.connector.run)
        return made

    def dial_from(self, dialler: Place) -> Dial:
        async def dial(
            host: str, port: int, device: Device, *, alpn: Alpn, admits: Admits, patience_s: float
        ) -> Link:
            address = Address(host, port)
            self.dialled.append((trio.current_time(), device, address))
            other = self.places.get(address)
            if other is None:
                await trio.sleep(patience_s)
                raise LinkBroken("nobody answers")
            await trio.sleep(0.01)
            if not (
                admits(other.side.device.id, alpn) and other.connector.admits(dialler.side.device.id, alpn)
            ):
                raise HandshakeRefused("not admitted")
            near, far = trio.testing.memory_stream_pair()
            calling = f"tcp {dialler.address.host}:40000"
            accepted = MemoryLink(far, device.id, is_dialer=False, description=calling)
            self._nursery.start_soon(other.connector.accept, accepted)
            return MemoryLink(near, other.side.device.id, is_dialer=True, description=f"tcp {address}")

        return dial


@asynccontextmanager
async def row(*, is_last_here: bool = True) -> AsyncIterator[tuple[Wires, Place, Place, Place]]:
    """Three devices. The first and the last know where the one between is, and that alone."""
    async with sides(Role.WRITER, Role.WRITER) as (a, b, c), trio.open_nursery() as nursery:
        wires = Wires(nursery)
        alder, birch, cedar = (
            wires.place(side, f"198.51.100.{number}") for number, side in enumerate((a, b, c), 1)
        )
        birch.add()
        alder.add(birch)
        if is_last_here:
            cedar.add(birch)
        else:
            del wires.places[cedar.address]
        yield wires, alder, birch, cedar
        nursery.cancel_scope.cancel()


async def test_devices_that_know_the_same_one_meet_without_it(autojump_clock: MockClock) -> None:
    async with row() as (_, a, b, c):
        await until(lambda: a.sees(b) and c.sees(b))
        await until(lambda: a.sees(c) and c.sees(a), 30)
        b.connector.remove(b.side.peers.volume)
        await until(lambda: not a.sees(b))
        await a.side.write("file", b"by the direct way")
        await until(lambda: c.side.rig.exists("file"))


async def test_nothing_is_said_while_nothing_changes(autojump_clock: MockClock) -> None:
    async with row() as (_, a, b, c):
        await until(lambda: a.sees(c) and c.sees(a) and b.sees(a), 60)
        await trio.sleep(60)
        sent = [one.outbox.total_bytes for one in b.side.peers.open_sessions]
        await trio.sleep(600)
        spent = [
            now.outbox.total_bytes - was for now, was in zip(b.side.peers.open_sessions, sent, strict=True)
        ]
        assert all(0 < one < 64 * 120 for one in spent)  # a keepalive of 64 bytes every five seconds


async def test_an_address_told_of_one_device_where_another_is_is_not_believed(
    autojump_clock: MockClock,
) -> None:
    async with row(is_last_here=False) as (wires, a, b, c):
        await until(lambda: a.sees(b))
        heard = a.side.peers.whereabouts.heard
        heard(b.side.device.id, [(c.side.device.id, [str(b.address)])])
        dialled = len(wires.dialled)
        await trio.sleep(120)
        assert len(wires.dialled) > dialled
        assert a.sees(b) and not a.sees(c)
        wires.places[c.address] = c
        heard(b.side.device.id, [(c.side.device.id, [str(c.address)])])
        c.add(b)
        await until(lambda: a.sees(c), 400)  # the lie stands in the way of nothing


async def test_what_is_known_stays_known_whatever_a_member_says(autojump_clock: MockClock) -> None:
    async with row() as (_, a, b, c):
        await until(lambda: a.sees(b) and a.sees(c), 60)
        known = set(a.entries(b))
        assert b.address in known
        for number in range(50):
            lies = [str(Address(f"203.0.113.{number + n}", 5000 + n)) for n in range(4)]
            a.side.peers.whereabouts.heard(c.side.device.id, [(b.side.device.id, lies)])
        assert known <= set(a.entries(b)) and len(a.entries(b)) <= len(known) + 4
        assert a.sees(b)


async def test_a_liar_has_a_third_party_dialled_seldom_and_strangers_never_told_of(
    autojump_clock: MockClock,
) -> None:
    async with row(is_last_here=False) as (wires, a, b, c):
        await until(lambda: a.sees(b))
        victim, begun = "203.0.113.9", trio.current_time()
        for round_ in range(300):
            ports = [str(Address(victim, 2000 + 4 * round_ + n)) for n in range(4)]
            others = [str(Address(f"203.0.{round_ % 200}.{n + 20}", PORT)) for n in range(4)]
            told = ports if round_ % 2 else others
            entries = [(c.side.device.id, told), (STRANGER.id, ["203.0.113.77:7347"])]
            a.side.peers.whereabouts.heard(b.side.device.id, entries)
            await trio.sleep(2)
        took_s = trio.current_time() - begun
        of_a = [one for at, device, one in wires.dialled if device is a.side.device and at >= begun]
        assert 0 < len(of_a) <= DIAL_BURST + took_s / DIAL_PAUSE_S + 5
        assert 0 < sum(one.host == victim for one in of_a) <= took_s / HOST_REST_S + 1
        assert not any(one.host == "203.0.113.77" for one in of_a)
        await a.side.write("file", b"fine")
        await until(lambda: b.side.rig.exists("file"))


@pytest.mark.logs_warning("a peer broke the protocol")
@pytest.mark.parametrize(
    "body",
    [
        b"\xff" * 1000,
        wire.encode_whereabouts([(bytes(32), ["203.0.113.1:7347"])] * 51),
        wire.encode_whereabouts([(bytes(32), ["203.0.113.1:7347"])] * 10_000),
        wire.encode_whereabouts([(bytes(32), ["203.0.113.1:7347"] * 5)]),
        wire.encode_whereabouts([(bytes(32), ["2" * 65])]),
        wire.encode_whereabouts([(bytes(31), ["203.0.113.1:7347"])]),
    ],
    ids=["junk", "51 devices", "10,000 devices", "5 addresses", "a long one", "no device"],
)
async def test_what_is_no_list_of_members_ends_the_session(autojump_clock: MockClock, body: bytes) -> None:
    async with attacked(Role.WRITER) as (attacker, target):
        heard: list[DeviceId] = []
        target.peers.whereabouts.heard = lambda teller, _told: heard.append(teller)
        await attacker.open()
        await attacker.say(wire.Addresses(), body)
        assert await until_ended(attacker)
        assert not heard


@pytest.mark.logs_warning("a peer broke the protocol")
async def test_a_flood_of_addresses_ends_the_session(autojump_clock: MockClock) -> None:
    async with attacked(Role.WRITER) as (attacker, target):
        heard: list[int] = []
        target.peers.whereabouts.heard = lambda _teller, told: heard.append(len(told))
        await attacker.open()
        body = wire.encode_whereabouts([(bytes(32), ["203.0.113.1:7347"] * 4)] * 50)
        with suppress(LinkBroken):
            for _ in range(100):
                await attacker.say(wire.Addresses(), body)
        assert "more messages than a peer has reason to send" in await until_ended(attacker)
        assert len(heard) < 20


def test_further_links_are_not_begun_to_addresses_that_are_hearsay() -> None:
    book, device = AddressBook[str](), LAPTOP.id
    known, heard, reached = (Address(f"192.0.2.{number}", PORT) for number in (1, 2, 3))
    book.tell(device.hex(), Source.TICKET, [known], 0.0)
    book.tell(device.hex(), Source.EXCHANGED, [known, heard, reached], 0.0)
    book.tell("static/x", Source.EXCHANGED, [heard], 0.0)
    book.succeeded(device.hex(), reached, 1.0)
    assert set(addresses_of(book, {"static/x": device}, device)) == {known, reached}
