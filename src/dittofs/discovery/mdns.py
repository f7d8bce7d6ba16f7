"""Devices in one network find each other: multicast DNS service discovery (RFC 6762, RFC 6763).

What is heard is a hint from anybody on the network: bounded, dialled before it is believed. Without
multicast, or without a network, the rest of DittoFS goes on; it is tried again when addresses change.
"""

import asyncio
import ipaddress
import logging
from collections.abc import AsyncIterator, Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

import ifaddr
import structlog
import trio
from zeroconf import Error as ZeroconfError
from zeroconf import InterfaceChoice, IPVersion, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from dittofs.address import Address
from dittofs.errors import FormatError

SERVICE: Final = "_dittofs._tcp.local."
VERSION: Final = b"1"
TAGS_MAX: Final = 32
TAG_BYTES_MAX: Final = 32  # so that all of them fit one datagram
INSTANCES_MAX: Final = 256
SIGHTINGS_MAX: Final = 64
ADDRESSES_PER_SIGHTING_MAX: Final = 16
INSTANCE_NAME_BYTES: Final = 8
WATCH_INTERVAL_S: Final = 5.0
ASK_PATIENCE_S: Final = 2.0
GOODBYE_PATIENCE_S: Final = 2.0
SLOTS_MAX: Final = 64
SLOT_MAX: Final = 99
REPEATS_S: Final = (2.0, 10.0)
_ASKERS: Final = 4

log = structlog.get_logger(__name__)
Result = TypeVar("Result")


class Sightings(Protocol):
    """A bounded channel from asyncio to trio."""

    async def put(self, item: "Sighting") -> None:
        """On the asyncio side; waits while it is full."""

    def __aiter__(self) -> AsyncIterator["Sighting"]:
        """On the trio side."""


class AsyncioSide(Protocol):
    """An asyncio loop that trio can call."""

    async def run(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        """Run it there. Cancelling this cancels it."""

    def inbound(self, items_max: int) -> Any:
        """A new `Sightings`."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """What an instance of DittoFS on this network says of itself now, or that it is gone."""

    instance: str
    """What the process is called while it runs. Nothing else is known of who it is."""
    tags: frozenset[bytes]
    addresses: tuple[Address, ...]
    is_gone: bool
    slots: frozenset[int] = frozenset()
    """Numbers of the invitations that are open there."""


class Mdns:
    """This process's place in the network's directory, and what it reads there. `run` does the work."""

    def __init__(self, thread: AsyncioSide, port: int, random: bytes) -> None:
        """`port` is where links are accepted; `random`, 8 bytes, names this process while it runs."""
        assert len(random) == INSTANCE_NAME_BYTES
        self.instance: Final = random.hex()
        self.sightings: Final[Sightings] = thread.inbound(SIGHTINGS_MAX)
        """Others that appear, change or go, without oneself. While nobody receives, discovery waits."""
        self._thread = thread
        self._port = port
        self._tags: frozenset[bytes] = frozenset()
        self._slots: frozenset[int] = frozenset()
        self._presence: _Presence | None = None
        self._stirred = asyncio.Event()  # belongs to the asyncio thread

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Be found and find until cancelled; then say goodbye. Networks may come and go meanwhile."""
        task_status.started()
        await self._thread.run(self._live())

    async def advertise(self, tags: Iterable[bytes], slots: Iterable[int] = ()) -> None:
        """Be found by these tags, at most TAGS_MAX of 1 to TAG_BYTES_MAX bytes, in place of earlier ones.

        And by these numbers of open invitations, at most SLOTS_MAX.
        """
        told, open_slots = frozenset(tags), frozenset(slots)
        assert len(told) <= TAGS_MAX
        assert len(open_slots) <= SLOTS_MAX
        assert all(1 <= len(tag) <= TAG_BYTES_MAX for tag in told)
        if (told, open_slots) != (self._tags, self._slots):
            self._tags, self._slots = told, open_slots
            await self._thread.run(self._retag())

    async def look(self) -> None:
        """See at once whether this machine's addresses are others."""
        await self._thread.run(self._stir())

    async def _stir(self) -> None:
        self._stirred.set()

    async def _changed(self, addresses: tuple[str, ...]) -> tuple[str, ...]:
        """Return when this machine's addresses are others than these."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(WATCH_INTERVAL_S):
                    await self._stirred.wait()
            self._stirred.clear()
            if (now := own_addresses()) != addresses:
                return now

    async def _live(self) -> None:
        addresses = own_addresses()
        is_told = False
        while True:
            told = self._tags, self._slots
            try:
                presence = await _Presence.open(self._info(addresses), self.instance, self.sightings)
            except (OSError, RuntimeError, ZeroconfError) as error:
                if not is_told:
                    log.info("no multicast: devices here are not found by themselves", reason=str(error))
                is_told = True
                addresses = await self._changed(addresses)
                continue
            try:
                self._presence = presence
                if told != (self._tags, self._slots):  # they changed while it opened
                    await presence.update(self._info(addresses))
                while True:
                    addresses = await self._changed(addresses)
                    await presence.move(self._info(addresses))
            except (OSError, RuntimeError, ZeroconfError) as error:
                log.info("multicast begins anew", reason=str(error))
            finally:
                self._presence = None
                await presence.close()

    async def _retag(self) -> None:
        if self._presence is not None:
            await self._presence.update(self._info(own_addresses()))

    def _info(self, addresses: Sequence[str]) -> AsyncServiceInfo:
        return AsyncServiceInfo(
            SERVICE,
            f"{self.instance}.{SERVICE}",
            port=self._port,
            properties={
                b"v": VERSION,
                **({b"j": b",".join(b"%d" % slot for slot in sorted(self._slots))} if self._slots else {}),
                **{b"t%d" % n: tag for n, tag in enumerate(sorted(self._tags))},
            },
            server=f"{self.instance}.local.",
            parsed_addresses=list(addresses),
        )


class _Presence:
    """One stay in the directory. All of it belongs to the asyncio thread."""

    def __init__(self, zeroconf: AsyncZeroconf, instance: str, sightings: Sightings) -> None:
        self._zeroconf = zeroconf
        self._own_name = f"{instance}.{SERVICE}"
        self._sightings = sightings
        self._browser: AsyncServiceBrowser | None = None
        self._waiting: dict[str, bool] = {}
        """What is to be told: name -> whether it is gone."""
        self._asked: set[str] = set()
        self._known: set[str] = set()
        self._news = asyncio.Event()
        self._askers: list[asyncio.Task[None]] = []
        self._repeating: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, info: AsyncServiceInfo, instance: str, sightings: Sightings) -> "_Presence":
        """Announce `info` and begin to listen. OSError where there is no multicast."""
        logging.getLogger("zeroconf").setLevel(logging.CRITICAL)  # it warns of every cable that is pulled
        presence = cls(_zeroconf(), instance, sightings)
        try:
            # The name is random, so nobody needs to be asked whether it is free.
            await presence._zeroconf.async_register_service(info, cooperating_responders=True)
        except BaseException:
            await presence.close()
            raise
        presence._browse()
        presence._repeating = asyncio.create_task(presence._repeat(info))
        presence._askers = [asyncio.create_task(presence._ask()) for _ in range(_ASKERS)]
        return presence

    async def move(self, info: AsyncServiceInfo) -> None:
        """Other interfaces or addresses: announce `info` there, and ask who is there."""
        await self._zeroconf.async_update_interfaces()
        await self.update(info)
        if self._browser is not None:
            await self._browser.async_cancel()
        self._browse()

    async def update(self, info: AsyncServiceInfo) -> None:
        """Announce `info`, and again a little later: who was not up yet would ask for it in hours only."""
        if self._repeating is not None:
            self._repeating.cancel()
        await self._zeroconf.async_update_service(info)
        self._repeating = asyncio.create_task(self._repeat(info))

    async def _repeat(self, info: AsyncServiceInfo) -> None:
        for pause_s in REPEATS_S:
            await asyncio.sleep(pause_s)
            with suppress(OSError, ZeroconfError):
                await self._zeroconf.async_update_service(info)

    async def close(self) -> None:
        """Say goodbye, within GOODBYE_PATIENCE_S, and give up the sockets."""
        for task in (*self._askers, *([self._repeating] if self._repeating is not None else [])):
            task.cancel()
        with suppress(TimeoutError, OSError, ZeroconfError):
            async with asyncio.timeout(GOODBYE_PATIENCE_S):
                if self._browser is not None:
                    await self._browser.async_cancel()
                await self._zeroconf.async_unregister_all_services()
        await self._zeroconf.async_close()

    def _browse(self) -> None:
        self._browser = AsyncServiceBrowser(self._zeroconf.zeroconf, SERVICE, handlers=[self._heard])

    def _heard(
        self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange
    ) -> None:
        del zeroconf, service_type
        is_gone = state_change is ServiceStateChange.Removed
        if name == self._own_name or (name not in self._known and (is_gone or self._is_full())):
            return
        self._known.add(name)
        self._waiting[name] = is_gone
        self._news.set()

    def _is_full(self) -> bool:
        return len(self._known) >= INSTANCES_MAX

    async def _ask(self) -> None:
        """Tell of one name after the other. Of each name the latest is told, and told last."""
        while True:
            name = next((name for name in self._waiting if name not in self._asked), None)
            if name is None:
                self._news.clear()
                await self._news.wait()
                continue
            self._asked.add(name)
            try:
                await self._tell(name, is_gone=self._waiting.pop(name))
            finally:
                self._asked.discard(name)
                self._news.set()

    async def _tell(self, name: str, *, is_gone: bool) -> None:
        instance = name.removesuffix(f".{SERVICE}")
        if is_gone:
            self._known.discard(name)
            await self._sightings.put(Sighting(instance, frozenset(), (), is_gone=True))
            return
        info = AsyncServiceInfo(SERVICE, name)
        if await info.async_request(self._zeroconf.zeroconf, ASK_PATIENCE_S * 1000):
            if (sighting := understood(instance, info)) is not None:
                await self._sightings.put(sighting)
        elif name not in self._waiting:
            self._known.discard(name)


def understood(instance: str, info: AsyncServiceInfo) -> Sighting | None:
    """What another instance says, as far as it keeps to the format; None for another version."""
    properties = info.properties
    if properties.get(b"v") != VERSION:
        return None
    tags = (properties.get(b"t%d" % n) for n in range(TAGS_MAX))
    addresses = []
    for host in info.parsed_scoped_addresses()[:ADDRESSES_PER_SIGHTING_MAX]:
        with suppress(FormatError, ValueError):
            number = ipaddress.ip_address(host)
            needs_scope = number.version == 6 and number.is_link_local and "%" not in host
            if not (number.is_unspecified or number.is_multicast or needs_scope):
                addresses.append(Address.of(host, info.port or 0))
    is_sound = frozenset(tag for tag in tags if tag and len(tag) <= TAG_BYTES_MAX)
    slots = _slots(properties.get(b"j") or b"")
    return Sighting(instance, is_sound, tuple(dict.fromkeys(addresses)), is_gone=False, slots=slots)


def _slots(text: bytes) -> frozenset[int]:
    """The numbers in `text`, as far as there are some."""
    words = text[: SLOTS_MAX * 3].split(b",")
    return frozenset(int(word) for word in words if word.isdigit() and 1 <= int(word) <= SLOT_MAX)


def own_addresses() -> tuple[str, ...]:
    """This machine's addresses, as they are to be advertised: those that reach farthest from home last.

    Loopback ones only if there are no others. At most ADDRESSES_PER_SIGHTING_MAX.
    """
    found = set[ipaddress.IPv4Address | ipaddress.IPv6Address]()
    for adapter in ifaddr.get_adapters():
        for ip in adapter.ips:
            text = ip.ip if isinstance(ip.ip, str) else ip.ip[0]
            found.add(ipaddress.ip_address(text))
    outward = {ip for ip in found if not ip.is_loopback} or found
    ordered = sorted(outward, key=lambda ip: (ip.version, ip.is_link_local, int(ip)))
    return tuple(str(ip) for ip in ordered[:ADDRESSES_PER_SIGHTING_MAX])


def _zeroconf() -> AsyncZeroconf:
    if not own_addresses():  # zeroconf would find out only with its sockets open, and leave them so
        raise OSError("there is no network")
    try:
        return AsyncZeroconf(interfaces=InterfaceChoice.All, ip_version=IPVersion.All)
    except OSError:  # no IPv6 here
        return AsyncZeroconf(interfaces=InterfaceChoice.All, ip_version=IPVersion.V4Only)
