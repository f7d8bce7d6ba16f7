"""This device on its networks: where it listens, how it is found, whom it finds, once that is needed."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog
import trio

from dittofs.address import Address
from dittofs.clock import Clock, Entropy
from dittofs.discovery import interfaces
from dittofs.errors import ConfigError, DittoError
from dittofs.identity.keys import Device
from dittofs.links.link import Link
from dittofs.links.tcp import Endpoint, listen
from dittofs.replication.connector import Connector
from dittofs.replication.meeting import Meeting
from dittofs.replication.switchboard import Switchboard
from dittofs.replication.upkeep import contained, kept_up
from dittofs.server_urls import IceServer, SignalUrl

if TYPE_CHECKING:
    from dittofs.replication.nearby import Nearby

log = structlog.get_logger()

DEFAULT_PORT: Final = 7347
TAGS_S: Final = 600.0  # how often the tags are told anew: they change every day
SLOTS_S: Final = 10.0  # the same while an invitation is open: it ends by itself
MOVES_PAUSE_S: Final = 0.5
"""The kernel tells of a new network in a dozen messages."""


class Network:
    """Listens, is found, finds and dials. One per daemon."""

    def __init__(
        self,
        device: Device,
        *,
        clock: Clock,
        entropy: Entropy,
        bind: str | None = None,
        port: int | None = None,
        static: Sequence[Address] = (),
        uses_mdns: bool = True,
        signal: SignalUrl | None = None,
        ice: Sequence[IceServer] = (),
        bluetooth: str | None = None,
    ) -> None:
        """`port`: None for DEFAULT_PORT, or any free one if that is taken; 0 for any.

        `bluetooth`: the controller to use, like `hci1`, or empty for the first; None: none.
        """
        self.connector = Connector(device, clock=clock, static=static)
        self.meeting = Meeting(entropy)
        self.switchboard = Switchboard(
            device, self.connector, server=signal, ice=ice, clock=clock, entropy=entropy
        )
        self.nearby = None if bluetooth is None else _nearby(device, self.connector, bluetooth)
        """Devices that Bluetooth reaches; None: it is not to be used."""
        self._device = device
        self._entropy = entropy
        self._bind = bind
        self._wanted_port = port
        self.uses_mdns = uses_mdns
        self._listening = trio.Event()
        self._invited = trio.Event()
        self.on_looking: Callable[[], None] = lambda: None
        """Told that this device is to be on the networks although it has no volume."""
        self._moved = trio.Event()  # set when this machine's addresses may be others
        self.endpoints: tuple[Endpoint, ...] = ()
        self.problem = ""
        """Why nobody can reach this device, or empty."""

    @property
    def port(self) -> int:
        """Where links are accepted; 0 while they are not."""
        return self.endpoints[0][1] if self.endpoints else 0

    def choose(self, bind: str | None, port: int | None) -> None:
        """Listen there instead, None: as it was. ConfigError if links are accepted already, elsewhere."""
        wanted = self._bind if bind is None else bind, self._wanted_port if port is None else port
        if wanted == (self._bind, self._wanted_port) or (not bind and port == self.port):
            return
        if self.port:
            place = f"{self._bind or 'every address'}, port {self.port}"
            raise ConfigError(f"the daemon listens on {place} already, and keeps to that until it ends")
        self._bind, self._wanted_port = wanted

    async def listening(self) -> None:
        """Return when links are accepted, or cannot be (`problem`)."""
        await self._listening.wait()

    def addresses(self) -> list[Address]:
        """Where other devices may reach this one, the likeliest first."""
        # Loaded when first needed: with zeroconf come ten megabytes that a device alone never uses.
        from dittofs.discovery.mdns import own_addresses

        if not self.port:
            return []
        if self._bind is not None:
            return [Address.of(self._bind, self.port)]
        return [Address.of(host, self.port) for host in own_addresses() if not host.startswith("fe80:")]

    async def is_nearby(self) -> bool:
        """Whether other devices can reach this one by Bluetooth, once that is known."""
        if self.nearby is None:
            return False
        await self.nearby.bluetooth.settled()
        return not self.nearby.bluetooth.problem

    def open_to_pairing(self, serve: Callable[[Link], Awaitable[None]], is_open: Callable[[], bool]) -> None:
        """Admit strangers to pairing with `serve` while `is_open` says so."""
        self.connector.open_to_pairing(serve, is_open)
        self._invited.set()

    def look_around(self) -> None:
        """Be on the networks although there is nobody to talk to yet."""
        self.on_looking()
        self.connector.is_looking_around = True
        self.connector.look()

    async def run(self) -> None:
        """For ever. Without a network, or with a port that is taken, everything else goes on."""
        await self.connector.needed()
        async with trio.open_nursery() as nursery:
            await self._listen(nursery)
            nursery.start_soon(kept_up, self.connector.run)
            nursery.start_soon(kept_up, self.switchboard.run)
            if self.nearby is not None:
                nursery.start_soon(kept_up, self.nearby.run)
            nursery.start_soon(kept_up, partial(interfaces.watch, self._network_changed))
            if self.uses_mdns:
                nursery.start_soon(kept_up, self._discover)
                nursery.start_soon(kept_up, self._answer)

    def _network_changed(self, news: interfaces.News) -> None:
        if news.gone:
            self.connector.addresses_went(news.gone)
        if news.is_new:
            self.connector.network_came()
        self._moved.set()

    async def _listen(self, nursery: trio.Nursery) -> None:
        ports = [DEFAULT_PORT, 0] if self._wanted_port is None else [self._wanted_port]
        for port in ports:
            try:
                self.endpoints = await nursery.start(self._accept, nursery, port)
            except DittoError as error:
                self.problem = str(error)
                continue
            self.problem = ""
            log.info("listening", port=self.port)
            break
        else:
            log.error("nobody can reach this device", reason=self.problem)
        self._listening.set()

    async def _accept(
        self, nursery: trio.Nursery, port: int, *, task_status: trio.TaskStatus[tuple[Endpoint, ...]]
    ) -> None:
        await listen(
            self._device,
            self._serve,
            nursery,
            admits=self.connector.admits,
            bind=self._bind,
            port=port,
            task_status=task_status,
        )

    async def _serve(self, link: Link) -> None:
        await contained(partial(self.connector.accept, link))

    async def _discover(self) -> None:
        """Be found and find. What is heard is a hint: the connector dials before it believes."""
        from dittofs.discovery.mdns import INSTANCE_NAME_BYTES, Mdns
        from dittofs.links.asyncio_thread import open_asyncio_thread

        async with open_asyncio_thread() as thread, trio.open_nursery() as nursery:
            mdns = Mdns(thread, self.port, self._entropy(INSTANCE_NAME_BYTES))
            nursery.start_soon(self._tell_tags, mdns.advertise)
            nursery.start_soon(self._tell_moves, mdns.look)
            await nursery.start(mdns.run)
            async for sighting in mdns.sightings:
                addresses = () if sighting.is_gone else sighting.addresses
                self.connector.sighted(sighting.instance, sighting.tags, addresses)
                self.meeting.sighted(sighting.instance, sighting.slots, addresses)

    async def _answer(self) -> None:
        """Who has a code for this device asks for it by its number."""
        await self._invited.wait()
        await self.meeting.answer(lambda: self.port, self._bind)
        await trio.sleep_forever()  # the port is another program's: it is found by multicast DNS

    async def _tell_moves(self, look: Callable[[], Awaitable[None]]) -> None:
        while True:
            await self._moved.wait()
            self._moved = trio.Event()
            await look()
            await trio.sleep(MOVES_PAUSE_S)

    async def _tell_tags(
        self, advertise: Callable[[Sequence[bytes], frozenset[int]], Awaitable[None]]
    ) -> None:
        told: tuple[list[bytes], frozenset[int]] = [], frozenset()
        while True:
            here = sorted(self.connector.tags()), self.meeting.slots()
            if here != told:
                await advertise(*here)
                told = here
            with trio.move_on_after(SLOTS_S if here[1] else TAGS_S):
                await self.connector.looked()


def _nearby(device: Device, connector: Connector, controller: str) -> "Nearby":
    # Loaded when first needed: most devices have no use for a message bus.
    from dittofs.links.bluetooth import Bluetooth
    from dittofs.replication.nearby import Nearby

    return Nearby(device, connector, Bluetooth(controller))
