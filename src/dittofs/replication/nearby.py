"""Devices nearby, by Bluetooth: found, dialled and accepted where nothing better reaches them.

Every device with DittoFS that was seen is dialled while a member is missing: who it is, the link proves.
Bluetooth is slow and its controllers are shared, so it comes after TCP and WebRTC.
"""

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog
import trio

from dittofs.discovery.addresses import back_off_s
from dittofs.errors import DittoError
from dittofs.identity.keys import Device, DeviceId
from dittofs.links.bluetooth import Bluetooth
from dittofs.links.bluez import TRANSPORT
from dittofs.links.link import Admits, Alpn, Link
from dittofs.links.rfcomm import RfcommStream
from dittofs.links.serving import served
from dittofs.links.tls import secure
from dittofs.replication.connector import Connector
from dittofs.replication.finding import Caller
from dittofs.replication.peers import Peers
from dittofs.replication.upkeep import contained

log = structlog.get_logger()

OTHERS_FIRST_S: Final = 8.0
"""So long whoever is missing is left to TCP and WebRTC, if it was not met by Bluetooth before."""
YIELD_S: Final = 15.0
"""The device with the greater Bluetooth address lets the other one dial first, so that they do not cross."""
LOOK_S: Final = 2.0
SEARCH_S: Final = 15.0
SEARCH_PAUSE_S: Final = 120.0
"""Looking around costs others' time in the air: one search, then a pause."""
REST_MAX_S: Final = 300.0
GOOD_S: Final = 2.0
STRANGERS_MAX: Final = 4
"""Connections that have not proven who they are."""
PLACES_MAX: Final = 256


@dataclass(slots=True)
class _Place:
    """What is known of one Bluetooth address."""

    device: DeviceId | None = None
    """Who was there."""
    failures: int = 0
    rests_until: float = 0.0
    is_dialled: bool = False
    is_ours: bool | None = None
    """Whether this device dialled when they last met; None: they did not."""


class Nearby:
    """See the module. `run` for as long as Bluetooth is to be used."""

    def __init__(self, device: Device, connector: Connector, bluetooth: Bluetooth) -> None:
        self.bluetooth = bluetooth
        self._device = device
        self._connector = connector
        self._places: dict[str, _Place] = {}
        self._missing: dict[DeviceId, float] = {}
        self._searched_at = float("-inf")
        self._strangers = 0

    async def run(self) -> None:
        """For ever."""
        async with trio.open_nursery() as nursery:
            self.bluetooth.accept = partial(self._accept, nursery)
            nursery.start_soon(self.bluetooth.run)
            nursery.start_soon(self._search)
            nursery.start_soon(self._show)
            while True:
                self._dial_due(nursery)
                await self._look(LOOK_S)

    async def roam(self, hear: Callable[[Caller], None]) -> None:
        """Tell of each device that lets itself be seen, by a link for pairing; until cancelled."""
        told: set[str] = set()
        with self.bluetooth.looking():
            while True:
                changed = self.bluetooth.changed
                for address in sorted(self._neighbours() - told):
                    told.add(address)
                    hear(Caller(f"{TRANSPORT} {address}", partial(self._dial_inviter, address)))
                await changed.wait()

    async def _dial_inviter(self, address: str) -> Link:
        return await self._dial(address, Alpn.PAIRING, lambda _who, _alpn: True)

    # -- what is wanted

    def _lacks(self, peers: Peers, device: DeviceId) -> bool:
        return device != self._device.id and self._connector.lacks(peers, device, TRANSPORT)

    def _wanting(self, device: DeviceId) -> Peers | None:
        """A volume that lacks a session with a device."""
        volumes = self._connector.volumes()
        return next((peers for peers, _ in volumes if self._lacks(peers, device)), None)

    def _overdue(self, now: float) -> set[DeviceId]:
        """Members that nothing better has reached in its time."""
        volumes = self._connector.volumes()
        missing = {who for peers, _ in volumes for who in peers.others if self._lacks(peers, who)}
        self._missing = {who: self._missing.get(who, now) for who in missing}
        met = {place.device for place in self._places.values()}
        return {who for who, since in self._missing.items() if who in met or now - since >= OTHERS_FIRST_S}

    async def _look(self, longest_s: float) -> None:
        with trio.move_on_after(longest_s):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_then_cancel, self._connector.looked, nursery)
                nursery.start_soon(_then_cancel, self.bluetooth.changed.wait, nursery)

    async def _show(self) -> None:
        """Let others see this device while an invitation is open, or a member is missing."""
        while True:
            if self._connector.is_pairing_open() or self._overdue(trio.current_time()):
                with self.bluetooth.shown():
                    while self._connector.is_pairing_open() or self._overdue(trio.current_time()):
                        await self._look(LOOK_S)
            await self._look(LOOK_S)

    async def _search(self) -> None:
        """Look for missing members now and then."""
        while True:
            if self._overdue(trio.current_time()) and self.bluetooth.problem == "":
                with self.bluetooth.looking():
                    await trio.sleep(SEARCH_S)
                await trio.sleep(SEARCH_PAUSE_S)
            await self._look(LOOK_S)

    # -- dialling

    def _neighbours(self) -> frozenset[str]:
        controller = self.bluetooth.controller
        return frozenset() if controller is None else controller.neighbours

    def _place(self, address: str) -> _Place:
        if address not in self._places and len(self._places) >= PLACES_MAX:
            idle = next((one for one, place in self._places.items() if not place.is_dialled), None)
            if idle is not None:
                del self._places[idle]
        return self._places.setdefault(address, _Place())

    def _dial_due(self, nursery: trio.Nursery) -> None:
        """Begin to dial who may be a missing member; one at a time, as a controller calls one at a time."""
        controller, now = self.bluetooth.controller, trio.current_time()
        overdue = self._overdue(now)
        if controller is None or not overdue or any(place.is_dialled for place in self._places.values()):
            return
        known = {place.device for place in self._places.values()}
        met = {address for address, place in self._places.items() if place.device in overdue}
        for address in sorted(controller.neighbours | met):
            place = self._place(address)
            may_be = place.device in overdue or (place.device is None and bool(overdue - known))
            since = (
                min(self._missing.values()) if place.device is None else self._missing.get(place.device, now)
            )
            is_first = controller.address < address if place.is_ours is None else place.is_ours
            yields_until = since if is_first else since + YIELD_S
            if may_be and now >= max(place.rests_until, yields_until):
                place.is_dialled = True
                nursery.start_soon(contained, partial(self._try, address, place))
                return

    async def _try(self, address: str, place: _Place) -> None:
        began: float | None = None
        try:
            link = await self._dial(address, Alpn.SESSION, partial(self._admits, place))
            place.is_dialled = False
            peers = self._wanting(link.peer)
            if peers is None:
                await link.aclose()
                return
            began = trio.current_time()
            await served(partial(self._connector.hold, peers), link)
        except DittoError as error:
            log.debug("nobody was reached by bluetooth", address=address, reason=str(error))
        finally:
            place.is_dialled = False
            now = trio.current_time()
            place.failures = 0 if began is not None and now - began >= GOOD_S else place.failures + 1
            place.rests_until = now + back_off_s(max(1, place.failures), random.random(), REST_MAX_S)
            self._connector.look()

    def _admits(self, place: _Place, who: DeviceId, _alpn: Alpn) -> bool:
        place.device = who
        return self._wanting(who) is not None

    async def _dial(self, address: str, alpn: Alpn, admits: Admits) -> Link:
        stream = await self.bluetooth.dial(address)
        link = await secure(
            stream,
            self._device,
            is_dialer=True,
            alpn=alpn,
            admits=admits,
            description=f"{TRANSPORT} {address}",
        )
        self._met(address, link, is_ours=True)
        return link

    def _met(self, address: str, link: Link, *, is_ours: bool) -> None:
        place = self._place(address)
        place.device, place.is_ours = link.peer, is_ours

    # -- accepting

    def _accept(self, nursery: trio.Nursery, stream: RfcommStream, address: str) -> bool:
        if self._strangers >= STRANGERS_MAX:
            return False
        self._strangers += 1
        nursery.start_soon(contained, partial(self._receive, stream, address))
        return True

    async def _receive(self, stream: RfcommStream, address: str) -> None:
        try:
            link = await secure(
                stream,
                self._device,
                is_dialer=False,
                admits=self._connector.admits,
                description=f"{TRANSPORT} {address}",
            )
        except DittoError as error:
            log.info("a connection was refused", address=f"{TRANSPORT} {address}", reason=str(error))
            return
        finally:
            self._strangers -= 1
        self._met(address, link, is_ours=False)
        await served(self._connector.accept, link)


async def _then_cancel(wait: Callable[[], Awaitable[object]], nursery: trio.Nursery) -> None:
    await wait()
    nursery.cancel_scope.cancel()
