"""Streams over Bluetooth by way of BlueZ, which finds, dials and accepts, and hands out the descriptors.

There is one profile of DittoFS on a machine, and between two devices one connection of it at a time.
"""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import structlog
import trio
from jeepney.fds import FileDescriptor

from dittofs.links.bluez import (
    ADAPTER,
    DEVICE,
    NAME,
    PROFILE,
    SERVICE,
    TRANSPORT,
    Controller,
    NoController,
    find_controller,
    parse_device,
)
from dittofs.links.bus import DBUS, SYSTEM, Bus, BusLost, BusRefused, Heard, open_bus
from dittofs.links.link import LinkBroken
from dittofs.links.rfcomm import RfcommStream

CONNECT_S: Final = 30.0
"""A device is called for ten seconds, asked what it has, and then connected to."""
TRIES_MAX: Final = 3
TRY_PAUSE_S: Final = 1.0
"""After a refusal: mostly an earlier connection is ending, or the other side dials too."""
RETRY_S: Final = 5.0
"""Before BlueZ is asked again for what it refused or lacked."""
SETTLE_S: Final = 0.25
"""Devices that are heard change often: they are looked at together."""
REJECT_S: Final = 30.0

_PROFILE_PATH: Final = "/org/dittofs/profile"
_PROPERTIES: Final = f"{DBUS}.Properties"
_REJECTED: Final = f"{NAME}.Error.Rejected"
_TAKEN: Final = {f"{NAME}.Error.NotPermitted", f"{NAME}.Error.AlreadyExists"}
# TLS proves who is there, so BlueZ need neither know a device nor ask anybody about it.
_OPTIONS: Final[dict[str, tuple[str, Any]]] = {
    "Name": ("s", "DittoFS"),
    "Channel": ("q", 0),  # any that is free; without it nobody is told one
    "RequireAuthentication": ("b", False),
    "RequireAuthorization": ("b", False),
    "AutoConnect": ("b", False),
}

log = structlog.get_logger(__name__)


class Bluetooth:
    """See the module. `run` must be running for anything to work."""

    def __init__(self, controller: str = "", *, bus: str = SYSTEM) -> None:
        """`controller`: which one, `hci1`; empty: the first that is on."""
        self.controller: Controller | None = None
        """The one in use; None: there is none now."""
        self.problem: str | None = None
        """Why Bluetooth cannot be used, or empty; None: it was not tried yet."""
        self.accept: Callable[[RfcommStream, str], bool] = lambda _stream, _address: False
        """Takes a connection that another device began, with its address; or does not, and it is closed."""
        self.changed = trio.Event()
        """Set, and replaced, when there is something else to be known."""
        self._wanted = controller
        self._bus_address = bus
        self._bus: Bus | None = None
        self._registered_at = ""
        self._stirred = trio.Event()
        self._lookers = 0
        self._shown = 0
        self._has_shown = False
        self._is_looking = False
        self._dialling: dict[str, trio.MemorySendChannel[RfcommStream]] = {}
        self._given_up: dict[str, float] = {}
        self._streams: dict[str, list[RfcommStream]] = {}

    async def settled(self) -> None:
        """Return when it is known whether Bluetooth can be used."""
        while self.problem is None:
            await self.changed.wait()

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Look for devices that let themselves be seen, inside."""
        self._lookers += 1
        self._stir()
        try:
            yield
        finally:
            self._lookers -= 1
            self._stir()

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Let others who look see this device, inside."""
        self._shown += 1
        self._stir()
        try:
            yield
        finally:
            self._shown -= 1
            self._stir()

    async def dial(self, address: str) -> RfcommStream:
        """A connection to DittoFS on a device that has been seen. LinkBroken.

        What BlueZ refuses is tried again, TRIES_MAX times in all.
        """
        for attempt in range(1, TRIES_MAX + 1):
            try:
                return await self._dial(address)
            except BusRefused as error:
                log.debug("a device was not reached", address=address, reason=str(error), attempt=attempt)
                if attempt == TRIES_MAX:
                    raise LinkBroken(f"{TRANSPORT} {address}: {error}") from error
            await trio.sleep(TRY_PAUSE_S)
        raise AssertionError("the last attempt returns or raises")

    async def _dial(self, address: str) -> RfcommStream:
        bus, controller = self._bus, self.controller
        if bus is None or controller is None:
            raise LinkBroken(f"{TRANSPORT}: {self.problem or 'not ready yet'}")
        path = controller.device(address)
        if path in self._dialling:
            raise LinkBroken(f"{TRANSPORT} {address}: it is being dialled already")
        sending, arrived = trio.open_memory_channel[RfcommStream](1)
        self._dialling[path] = sending
        self._given_up.pop(path, None)
        is_done = False
        try:
            with trio.fail_after(CONNECT_S):
                await self._stop_looking(bus, controller)
                await bus.call(NAME, path, DEVICE, "ConnectProfile", "s", (SERVICE,), patience_s=CONNECT_S)
                stream = await arrived.receive()
            is_done = True
        except trio.TooSlowError:
            raise LinkBroken(f"{TRANSPORT} {address}: no connection within {CONNECT_S:g} s") from None
        else:
            return stream
        finally:
            del self._dialling[path]
            if not is_done:
                now = trio.current_time()
                self._given_up = {one: until for one, until in self._given_up.items() if until > now}
                self._given_up[path] = now + REJECT_S  # it may still come
                if arrived.statistics().current_buffer_used:
                    arrived.receive_nowait().drop()
            self._stir()

    async def run(self) -> None:
        """For ever: use BlueZ, and again when it or the bus was lost."""
        while True:
            try:
                async with (
                    open_bus(self._bus_address, self._answer, self._hear) as bus,
                    trio.open_nursery() as nursery,
                ):
                    nursery.start_soon(bus.run)
                    await self._keep(bus)
            except* (BusLost, BusRefused) as group:
                self._lose(f"Bluetooth needs the system's message bus: {_first(group)}")
            await trio.sleep(RETRY_S)

    async def _keep(self, bus: Bus) -> None:
        """Keep what BlueZ does as it is wanted, for ever."""
        await bus.match(f"type='signal',sender='{NAME}'")
        await bus.match(f"type='signal',sender='{DBUS}',member='NameOwnerChanged',arg0='{NAME}'")
        while True:
            self._stirred = trio.Event()
            try:
                await self._adjust(bus)
                self._tell("")
            except NoController as error:
                self.controller = None
                self._tell(str(error))
            except BusRefused as error:
                self.controller = None
                self._tell(f"BlueZ refuses: {error} ({error.name.rpartition('.')[2]})")
            with trio.move_on_after(RETRY_S):
                await self._stirred.wait()
                await trio.sleep(SETTLE_S)

    async def _adjust(self, bus: Bus) -> None:
        """Once. NoController, BusRefused, BusLost."""
        owner = await bus.owner(NAME)
        if owner != self._registered_at:
            self._lose_connections()
        if not owner:
            raise NoController("bluetoothd does not run on this machine")
        (objects,) = await bus.call(NAME, "/", f"{DBUS}.ObjectManager", "GetManagedObjects")
        controller = find_controller(objects, self._wanted)
        if self.controller is not None and controller.path != self.controller.path:
            self._is_looking = self._has_shown = False
        self._bus, self.controller = bus, controller
        if owner != self._registered_at:
            await self._register(bus, owner)
            log.info("bluetooth is used", controller=controller.path, address=controller.address)
        with suppress(BusRefused):  # such as while the controller is busy: it is tried again
            await self._show(bus, controller)
            await self._look(bus, controller)

    async def _register(self, bus: Bus, owner: str) -> None:
        self._registered_at = owner  # connections may come at once
        body = (_PROFILE_PATH, SERVICE, _OPTIONS)
        try:
            await bus.call(NAME, "/org/bluez", f"{NAME}.ProfileManager1", "RegisterProfile", "osa{sv}", body)
        except BusRefused as error:
            self._registered_at = ""
            if error.name in _TAKEN:
                raise NoController("another DittoFS daemon on this machine uses Bluetooth") from error
            raise

    async def _show(self, bus: Bus, controller: Controller) -> None:
        """Be seen while that is wanted. Who made the controller visible otherwise may undo it."""
        if self._shown and not controller.is_discoverable:
            self._has_shown = True
            await self._set(bus, controller, "DiscoverableTimeout", ("u", 0))
            await self._set(bus, controller, "Discoverable", ("b", True))
        elif self._has_shown and not self._shown:
            self._has_shown = False
            await self._set(bus, controller, "Discoverable", ("b", False))

    async def _look(self, bus: Bus, controller: Controller) -> None:
        if self._lookers and not self._dialling and not (self._is_looking and controller.is_discovering):
            if not self._is_looking:
                wanted = {"Transport": ("s", "bredr")}
                await bus.call(NAME, controller.path, ADAPTER, "SetDiscoveryFilter", "a{sv}", (wanted,))
            self._is_looking = True
            await bus.call(NAME, controller.path, ADAPTER, "StartDiscovery")
        elif not self._lookers:
            await self._stop_looking(bus, controller)

    async def _stop_looking(self, bus: Bus, controller: Controller) -> None:
        """A controller that looks around is slow to call, or does not."""
        if self._is_looking:
            self._is_looking = False
            with suppress(BusRefused):  # it has stopped already
                await bus.call(NAME, controller.path, ADAPTER, "StopDiscovery")

    @staticmethod
    async def _set(bus: Bus, controller: Controller, name: str, value: tuple[str, Any]) -> None:
        await bus.call(NAME, controller.path, _PROPERTIES, "Set", "ssv", (ADAPTER, name, value))

    # -- what BlueZ says

    def _hear(self, heard: Heard) -> None:
        if heard.interface != _PROPERTIES or heard.body[:1] in ((ADAPTER,), (DEVICE,)):
            self._stir()

    def _answer(self, call: Heard) -> None:
        if call.sender != self._registered_at or call.path != _PROFILE_PATH or call.interface != PROFILE:
            raise BusRefused(f"{DBUS}.Error.UnknownMethod", "there is no such method")
        match call.member, call.body:
            case "NewConnection", (str() as path, FileDescriptor() as descriptor, _):
                self._connected(path, descriptor)
            case "RequestDisconnection", (str() as path,):
                for stream in self._streams.pop(path, []):
                    stream.end()
            case "Release", _:
                self._registered_at = ""
                self._stir()
            case _:
                raise BusRefused(f"{DBUS}.Error.InvalidArgs", "not what a profile is told")

    def _connected(self, path: str, descriptor: FileDescriptor) -> None:
        place = parse_device(path)
        if place is None or self.controller is None or place[0] != self.controller.path:
            raise BusRefused(_REJECTED, "this controller is not used")
        if self._given_up.pop(path, 0.0) > trio.current_time() and path not in self._dialling:
            raise BusRefused(_REJECTED, "it came too late")
        stream = RfcommStream(_socket(descriptor))
        self._forget_closed()
        self._streams.setdefault(path, []).append(stream)
        dialling = self._dialling.get(path)
        if dialling is not None and not dialling.statistics().current_buffer_used:
            dialling.send_nowait(stream)
        elif not self.accept(stream, place[1]):
            stream.drop()
            raise BusRefused(_REJECTED, "too many connections")

    def _forget_closed(self) -> None:
        """Whoever comes by has an address of its own, and many come by."""
        kept = {path: [one for one in some if not one.is_closed] for path, some in self._streams.items()}
        self._streams = {path: some for path, some in kept.items() if some}

    # -- what is known

    def _stir(self) -> None:
        self._stirred.set()

    def _tell(self, problem: str) -> None:
        if problem and problem != self.problem:
            log.info("bluetooth cannot be used", reason=problem)
        self.problem = problem
        self.changed.set()
        self.changed = trio.Event()

    def _lose(self, problem: str) -> None:
        """The bus is gone: what was agreed is void. Connections that were made live on."""
        self._bus, self.controller = None, None
        self._lose_connections()
        self._tell(problem)

    def _lose_connections(self) -> None:
        self._registered_at = ""
        self._is_looking = self._has_shown = False
        self._given_up.clear()


def _socket(descriptor: FileDescriptor) -> socket.socket:
    made: socket.socket = descriptor.to_socket()
    return made


def _first(error: BaseException) -> BaseException:
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error
