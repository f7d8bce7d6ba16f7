"""Connections of this device: links accepted and links dialled, one for each volume and member device.

Where to dial is known from tickets, from earlier links, from the settings and from the network's directory.
Who answers is known from the link alone. An address that fails rests, longer each time.
"""

import random
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import structlog
import trio
import trio.lowlevel

from dittofs.address import Address
from dittofs.clock import Clock
from dittofs.discovery.addresses import AddressBook, Source
from dittofs.discovery.hearsay import DialPace, Hearsay
from dittofs.errors import DittoError, FormatError
from dittofs.identity.keys import Device, DeviceId
from dittofs.identity.records import Role
from dittofs.ids import VolumeId
from dittofs.links.link import Admits, Alpn, Link
from dittofs.links.tcp import CONNECT_PATIENCE_S, TRANSPORT, Dial, dial
from dittofs.replication import greeting, rendezvous
from dittofs.replication.calls import is_better, tcp_address
from dittofs.replication.lanes import Lanes
from dittofs.replication.peers import Peers
from dittofs.replication.upkeep import contained, kept_up
from dittofs.replication.whereabouts import Told, addresses_of, device_of, known_of, likely

log = structlog.get_logger()

DIALS_MAX: Final = 16
YIELD_S: Final = 0.5
"""The device with the greater id lets the other one dial first, so that they do not cross."""
LOOK_S: Final = 60.0
AGAIN_PATIENCE_S: Final = 3.5
"""For connecting where a link was lately, or may be at any time: SYNs go out after 0, 1 and 3 s."""
BETTER_REST_S: Final = 1.0
BETTER_MAX: Final = 3
"""While another transport is used so many addresses are tried again so soon: TCP may get through now."""
GOOD_S: Final = 2.0
"""A session that lasted so long was a success."""


@dataclass(slots=True, eq=False)
class _Attempt:
    """One address being dialled, until the session there is open or has failed."""

    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    """Of connecting alone, not of the session."""
    link: Link | None = None


@dataclass(slots=True, eq=False)
class _Volume:
    """One volume and where its devices may be."""

    peers: Peers
    secret: bytes
    book: AddressBook[str] = field(default_factory=AddressBook)
    identities: dict[str, DeviceId] = field(default_factory=dict)
    """Who answered under a name of the book that is no device."""
    dialling: dict[Address, _Attempt] = field(default_factory=dict)
    hearsay: Hearsay[DeviceId] = field(default_factory=Hearsay)


class Connector:
    """See the module. `run` must be running; it does nothing before a volume has another device."""

    def __init__(
        self, device: Device, *, clock: Clock, static: Iterable[Address] = (), dial: Dial = dial
    ) -> None:
        """`dial`: makes links, as `links.tcp.dial` does."""
        self._device = device
        self._clock = clock
        self._static = tuple(static)
        self._volumes: dict[VolumeId, _Volume] = {}
        self._wake = trio.Event()
        self._looked = trio.Event()
        self._dials = trio.Semaphore(DIALS_MAX)
        self._dial = dial
        self._hearsay_pace = DialPace()
        self._sightings: dict[str, tuple[frozenset[bytes], tuple[Address, ...]]] = {}
        self.lanes = Lanes(
            device, lambda: [one.peers for one in self._volumes.values()], self._addresses, dial
        )
        self.on_pairing: Callable[[Link], Awaitable[None]] | None = None
        """Serves a stranger's link; None: there was no invitation yet."""
        self.is_pairing_open: Callable[[], bool] = lambda: False
        """Whether strangers are admitted now."""
        self.is_looking_around = False
        """Whether this device has somebody to find whom it does not know yet."""
        self.on_address: Callable[[VolumeId, DeviceId, Address], None] = lambda *_: None
        """Told where a device was reached, to be remembered."""

    # -- volumes

    def add(self, peers: Peers, secret: bytes, known: Iterable[tuple[DeviceId, Address]]) -> None:
        """Keep the devices of a volume connected."""
        volume = self._volumes[peers.volume] = _Volume(peers, secret)
        now = trio.current_time()
        for device, address in known:
            told = [entry.address for entry in volume.book.entries(device.hex())]
            volume.book.tell(device.hex(), Source.TICKET, [*told, address], now)
        for address in self._static:
            volume.book.tell(f"static/{address}", Source.STATIC, [address], now)
        for instance in self._sightings:
            self._match(volume, instance)
        peers.members.listeners.append(self.look)
        peers.on_doubt = self.look
        peers.whereabouts.others = lambda listener: known_of(peers.open_sessions, listener, volume.book)
        peers.whereabouts.heard = partial(self._heard, volume)
        peers.fetcher.on_much = self.lanes.look
        self.look()

    def remove(self, identity: VolumeId) -> None:
        """Let go of a volume: its sessions end."""
        volume = self._volumes.pop(identity, None)
        if volume is not None:
            volume.peers.members.listeners.remove(self.look)
            volume.peers.close()

    def tell(self, identity: VolumeId, device: DeviceId, addresses: Iterable[Address]) -> None:
        """A device of a volume may be at these addresses."""
        volume = self._volumes.get(identity)
        if volume is not None:
            volume.book.tell(device.hex(), Source.TICKET, addresses, trio.current_time())
            self.look()

    def _heard(self, volume: _Volume, teller: DeviceId, told: Told) -> None:
        """A member says where others are."""
        others = [(DeviceId(one), likely(texts)) for one, texts in told if one != self._device.id]
        now = trio.current_time()
        said = [one for one in others if volume.peers.role(one[0]) > Role.STORE]
        for device in volume.hearsay.tell(teller, said):
            volume.book.tell(device.hex(), Source.EXCHANGED, volume.hearsay.of(device), now)
        self.look()

    def tags(self) -> list[bytes]:
        """What this device is found by today."""
        now = self._clock.now_ns()
        return [rendezvous.tag(volume.secret, now) for volume in self._volumes.values()]

    def sighted(self, instance: str, tags: frozenset[bytes], addresses: tuple[Address, ...]) -> None:
        """Somebody on this network says so; no addresses: it is gone."""
        if addresses:
            self._sightings[instance] = tags, addresses
        else:
            self._sightings.pop(instance, None)
        for volume in self._volumes.values():
            self._match(volume, instance)
        self.look()

    def _match(self, volume: _Volume, instance: str) -> None:
        tags, addresses = self._sightings.get(instance, (frozenset(), ()))
        is_ours = bool(tags & rendezvous.tags(volume.secret, self._clock.now_ns()))
        told = addresses if is_ours else ()
        volume.book.tell(f"mdns/{instance}", Source.SIGHTED, told, trio.current_time())

    def network_came(self) -> None:
        """This machine has another network, or one again: who may be reached now is tried now.

        Links that lived through it may wait long for what was sent meanwhile to be sent again: they are
        asked, and those that stay silent get another link beside them.
        """
        for volume in self._volumes.values():
            volume.book.wake(trio.current_time())
            for attempt in volume.dialling.values():
                attempt.scope.cancel()
            for session in volume.peers.open_sessions:
                session.liveness.ask()
        self.look()

    def addresses_went(self, hosts: frozenset[str]) -> None:
        """This machine has these addresses no more: nothing comes to links that end with them."""
        for volume in self._volumes.values():
            for used in volume.peers.open_sessions:
                for session in (used, *volume.peers.beside(used.device)):
                    if session.link.pulse.local_host.partition("%")[0] in hosts:
                        session.end("this machine has another address now")

    def look(self) -> None:
        """Something changed: see whom to dial."""
        self._wake.set()
        self._looked.set()
        self._looked = trio.Event()

    async def looked(self) -> None:
        """Return when something has changed."""
        await self._looked.wait()

    @property
    def has_others(self) -> bool:
        """Whether some volume has a device beside this one."""
        return any(volume.peers.others for volume in self._volumes.values())

    async def needed(self) -> None:
        """Return when there is anybody to talk to."""
        while not (self.has_others or self.on_pairing or self.is_looking_around):
            await self.looked()

    def open_to_pairing(self, serve: Callable[[Link], Awaitable[None]], is_open: Callable[[], bool]) -> None:
        """Admit strangers to pairing while `is_open` says so."""
        self.on_pairing, self.is_pairing_open = serve, is_open
        self.look()

    # -- accepting

    def admits(self, device: DeviceId, alpn: Alpn) -> bool:
        """Whether a device may have a link. A removed one may, to be told so."""
        if alpn is Alpn.PAIRING:
            return self.on_pairing is not None and self.is_pairing_open()
        return any(volume.peers.knows(device) for volume in self._volumes.values())

    async def accept(self, link: Link) -> None:
        """Serve an accepted link until it ends."""
        if link.alpn is Alpn.PAIRING:
            if self.on_pairing is not None:
                await self.on_pairing(link)
            return
        try:
            peers, theirs, reader = await greeting.accepted(link, self._find)
            self._note_dialler(peers, link, theirs.port)
            await greeting.answered(link, peers, theirs, reader)
        except DittoError as error:
            log.info("a link was not used", link=link.description, reason=str(error))
        self.look()

    def _find(self, identity: VolumeId) -> Peers | None:
        volume = self._volumes.get(identity)
        return None if volume is None else volume.peers

    def _note_dialler(self, peers: Peers, link: Link, port: int) -> None:
        """Where a peer that dialled can probably be dialled itself."""
        volume = self._volumes.get(peers.volume)
        place = tcp_address(link)
        if volume is None or place is None or not port:
            return
        try:
            address = Address.of(place.host, port)
        except FormatError:
            return
        book, key = volume.book, link.peer.hex()
        told = [entry.address for entry in book.entries(key) if Source.CALLER in entry.sources][-3:]
        book.tell(key, Source.CALLER, [*told, address], trio.current_time())
        self.on_address(peers.volume, link.peer, address)

    # -- links that are made otherwise than by dialling

    def volumes(self) -> list[tuple[Peers, bytes]]:
        """Each volume, with its secret."""
        return [(volume.peers, volume.secret) for volume in self._volumes.values()]

    def peers(self, identity: VolumeId | None) -> Peers | None:
        """Those of a volume; None if it is not here."""
        volume = None if identity is None else self._volumes.get(identity)
        return None if volume is None else volume.peers

    def lacks(self, peers: Peers, device: DeviceId, transport: str) -> bool:
        """Whether a link of that transport to a member is better than what there is."""
        return peers.knows(device) and self._is_wanted(peers, device, transport)

    async def hold(self, peers: Peers, link: Link) -> None:
        """Begin a session over a link that this side began, and hold it. Raises as `greeting.dialled`."""
        await greeting.dialled(link, peers)

    # -- dialling

    async def run(self) -> None:
        """For ever: dial who is not connected."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(kept_up, self.lanes.run)
            while True:
                self._wake = trio.Event()
                wait_s = self._dial_due(nursery)
                with trio.move_on_after(min(wait_s, LOOK_S)):
                    await self._wake.wait()
                    await trio.lowlevel.checkpoint()  # several reasons at once are one

    def _addresses(self, peers: Peers, device: DeviceId) -> list[Address]:
        """Where a device may be, the likeliest first."""
        volume = self._volumes.get(peers.volume)
        return [] if volume is None else addresses_of(volume.book, volume.identities, device)

    def _dial_due(self, nursery: trio.Nursery) -> float:
        """Begin what is due; return the seconds until something else is."""
        now = trio.current_time()
        next_due = now + LOOK_S
        for volume in self._volumes.values():
            for key in volume.book.peers():
                device = volume.identities.get(key) or device_of(key)
                if device is not None and not self._is_wanted(volume.peers, device):
                    continue
                if device is not None and self._has_makeshift(volume, device):
                    volume.book.hurry(key, now, BETTER_REST_S, BETTER_MAX)
                for address in volume.book.due(key, now):
                    if self._is_being_dialled(volume, address):
                        continue
                    is_hearsay = volume.book.is_hearsay(key, address)
                    if is_hearsay and (wait_s := self._hearsay_pace.wait_s(address.host, now)):
                        next_due = min(next_due, now + wait_s)
                        continue
                    attempt = volume.dialling[address] = _Attempt()
                    nursery.start_soon(contained, partial(self._try, volume, key, address, device, attempt))
                due = volume.book.next_due(key)
                if due is not None and due > now:
                    next_due = min(next_due, due)
        return max(0.05, next_due - now)

    @staticmethod
    def _is_being_dialled(volume: _Volume, address: Address) -> bool:
        """Not once a session is open there: if that falls silent, the address is dialled anew."""
        attempt = volume.dialling.get(address)
        if attempt is None or attempt.link is None:
            return attempt is not None
        session = volume.peers.session(attempt.link.peer)
        return session is None or session.link is not attempt.link

    def _is_wanted(self, peers: Peers, device: DeviceId, transport: str = TRANSPORT) -> bool:
        session = peers.session(device)
        is_lacking = session is None or session.liveness.is_in_doubt or is_better(transport, session.link)
        return is_lacking and self._may_have(peers, device)

    @staticmethod
    def _has_makeshift(volume: _Volume, device: DeviceId) -> bool:
        session = volume.peers.session(device)
        return session is not None and is_better(TRANSPORT, session.link)

    def _may_have(self, peers: Peers, device: DeviceId) -> bool:
        is_other = device != self._device.id and not peers.is_banned(device)
        return is_other and self._may_answer(peers, device)

    def _may_answer(self, peers: Peers, device: DeviceId) -> bool:
        """Whether a device is worth dialling.

        Who may do nothing, and was not taken out, dials whoever was not either: nobody may be able to dial
        it, and what it was given again it hears before it is judged. Nobody was told yet who else was.
        """
        members = peers.members.membership
        if peers.role(self._device.id) > Role.STORE:
            return peers.role(device) > Role.STORE
        return members.admitted(self._device.id) is not None and members.admitted(device) is not None

    async def _try(
        self, volume: _Volume, key: str, address: Address, device: DeviceId | None, attempt: _Attempt
    ) -> None:
        """Dial one address and hold the session there, if it is wanted."""
        is_again = volume.book.worked_lately(key, address, trio.current_time()) or (
            device is not None and self._has_makeshift(volume, device)
        )
        try:
            if device is not None and device < self._device.id:
                await trio.sleep(YIELD_S)
                if not self._is_wanted(volume.peers, device):
                    return
            with attempt.scope:
                async with self._dials:
                    attempt.link = await self._dial(
                        address.host,
                        address.port,
                        self._device,
                        alpn=Alpn.SESSION,
                        admits=self._admitted(volume, key, address),
                        patience_s=AGAIN_PATIENCE_S if is_again else CONNECT_PATIENCE_S,
                    )
            link = attempt.link
            if link is None:
                return  # this machine has another network now: the address is dialled there
            try:
                await self._hold(volume, key, address, link)
            finally:
                await link.aclose()
        except DittoError as error:
            volume.book.failed(key, address, trio.current_time(), random.random())
            log.debug("no session", address=str(address), reason=str(error))
        finally:
            if volume.dialling.get(address) is attempt:
                del volume.dialling[address]
            self.look()

    def _admitted(self, volume: _Volume, key: str, address: Address) -> Admits:
        """Who may answer there: on another member's word, only who it named."""
        if volume.book.is_hearsay(key, address):
            return lambda who, _alpn: who.hex() == key
        return lambda who, _alpn: who == self._device.id or self._may_answer(volume.peers, who)

    async def _hold(self, volume: _Volume, key: str, address: Address, link: Link) -> None:
        peers = volume.peers
        if device_of(key) is None:
            volume.identities[key] = link.peer
        if not self._is_wanted(volume.peers, link.peer):
            volume.book.failed(key, address, trio.current_time(), random.random())
            return
        began = trio.current_time()
        self.on_address(peers.volume, link.peer, address)
        why = await greeting.dialled(link, peers)
        if trio.current_time() - began < GOOD_S:
            volume.book.failed(key, address, trio.current_time(), random.random())
            log.info("a session was short", address=str(address), reason=why)
        else:
            volume.book.succeeded(key, address, trio.current_time())
