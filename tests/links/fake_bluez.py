"""BlueZ as far as DittoFS uses it, on a message bus of its own; connections are socket pairs.

Each `FakeBluez` is one machine with one controller. Those of one `Air` can reach each other.
"""

import os
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import trio
from jeepney import DBusAddress, Message, MessageType, new_method_call
from jeepney.low_level import HeaderFields

from tests.links.bus_program import BusProgram, Refusal, deaf

CONTROLLER = "/org/bluez/hci0"
ADAPTER = "org.bluez.Adapter1"
DEVICE = "org.bluez.Device1"
PROPERTIES = "org.freedesktop.DBus.Properties"
FAILED = "org.bluez.Error.Failed"


@dataclass
class Air:
    """Who can reach whom."""

    machines: dict[str, "FakeBluez"] = field(default_factory=dict)


class FakeBluez:
    """See the module. `run` serves; ended and run again it is bluetoothd restarted."""

    def __init__(self, air: Air, address: str, bus: str) -> None:
        self.air = air
        self.address = address
        self.bus = bus
        self.has_controller = True
        self.is_powered = True
        self.is_discoverable = False
        self.is_discovering = False
        self.refusals: list[str] = []
        """Errors that the next calls of ConnectProfile are answered with."""
        self.profile: tuple[str, str, str] | None = None
        """Sender, path and UUID."""
        self.has_channel = False
        self.is_taken = False
        """Another program has registered the UUID."""
        self.known: set[str] = set()
        self.before_connection: Callable[[], Awaitable[None]] | None = None
        """Run when a device is called, before it is connected to."""
        self.dials = 0
        self._held: list[socket.socket] = []
        """bluetoothd watches what it has handed over, so that closing alone ends nothing."""
        self._program = BusProgram(bus, self._answer, deaf)
        air.machines[address] = self

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled."""
        self.profile, self.is_discovering = None, False
        try:
            await self._program.run("org.bluez", task_status=task_status)
        finally:
            for end in self._held:
                end.close()

    async def changed(self) -> None:
        """Say that something about the controller is not as it was."""
        if self._program.is_running:
            body: tuple[Any, ...] = (ADAPTER, {"Powered": ("b", self.is_powered)}, [])
            await self._program.signal(CONTROLLER, PROPERTIES, "PropertiesChanged", "sa{sv}as", body)

    async def meet(self, other: "FakeBluez") -> None:
        """Hear another machine, as it lets itself be seen."""
        if other.address not in self.known:
            self.known.add(other.address)
            path, interfaces = self._device(other)
            await self._program.signal(
                "/", "org.freedesktop.DBus.ObjectManager", "InterfacesAdded", "oa{sa{sv}}", (path, interfaces)
            )

    # -- what is asked

    async def _answer(self, message: Message) -> tuple[str | None, tuple[Any, ...]]:
        fields, body = message.header.fields, message.body
        sender, path = fields[HeaderFields.sender], fields[HeaderFields.path]
        interface, member = fields[HeaderFields.interface], fields[HeaderFields.member]
        match interface.rpartition(".")[2], member:
            case "ObjectManager", "GetManagedObjects":
                return "a{oa{sa{sv}}}", (self._objects(),)
            case "ProfileManager1", "RegisterProfile":
                if self.profile is not None or self.is_taken:
                    raise Refusal("org.bluez.Error.NotPermitted", "UUID already registered")
                self.profile = sender, body[0], body[1]
                self.has_channel = "Channel" in body[2]
            case "Properties", "Set":
                await self._set(body[1], body[2][1])
            case "Adapter1", "SetDiscoveryFilter":
                pass
            case "Adapter1", "StartDiscovery":
                if self.is_discovering:
                    raise Refusal("org.bluez.Error.InProgress")
                self.is_discovering = True
                for other in list(self.air.machines.values()):
                    if other.is_discoverable and other is not self:
                        await self.meet(other)
            case "Adapter1", "StopDiscovery":
                self.is_discovering = False
            case "Device1", "ConnectProfile":
                self.dials += 1
                await self._connect(path, body[0])
            case _:
                raise Refusal("org.freedesktop.DBus.Error.UnknownMethod", f"{interface}.{member}")
        return None, ()

    async def _set(self, name: str, value: Any) -> None:
        if name == "Discoverable":
            self.is_discoverable = value
            for other in list(self.air.machines.values()):
                if value and other.is_discovering and other is not self:
                    await other.meet(self)
            await self.changed()

    async def _connect(self, path: str, uuid: str) -> None:
        other = next((one for one in self.air.machines.values() if self._device(one)[0] == path), None)
        if other is None or other.address not in self.known:
            raise Refusal("org.freedesktop.DBus.Error.UnknownObject", "no such device")
        if self.refusals:
            raise Refusal(self.refusals.pop(0), "not now")
        if self.before_connection is not None:
            await self.before_connection()
        if other.profile is None or other.profile[2] != uuid or not other.is_powered:
            raise Refusal(FAILED, "br-connection-profile-unavailable")
        if not other.has_channel:
            raise Refusal(FAILED, "br-connection-not-supported")
        assert self.profile is not None
        other.known.add(self.address)
        ours, theirs = socket.socketpair()
        self._held += ours, theirs
        for machine, peer, end in ((other, self, theirs), (self, other, ours)):
            if await machine._hand_over(peer, end) is MessageType.error:
                ours.shutdown(socket.SHUT_RDWR)
                raise Refusal(FAILED, "br-connection-refused")

    async def _hand_over(self, peer: "FakeBluez", end: socket.socket) -> MessageType:
        assert self.profile is not None
        sender, path, _ = self.profile
        address = DBusAddress(path, bus_name=sender, interface="org.bluez.Profile1")
        descriptor = os.dup(end.fileno())
        try:
            body: tuple[Any, ...] = (self._device(peer)[0], descriptor, {})
            reply = await self._program.call(new_method_call(address, "NewConnection", "oha{sv}", body))
        finally:
            os.close(descriptor)
        kind: MessageType = reply.header.message_type
        return kind

    async def disconnect(self, peer: "FakeBluez") -> None:
        """Ask the program to let go of its connections to a device."""
        assert self.profile is not None
        address = DBusAddress(self.profile[1], bus_name=self.profile[0], interface="org.bluez.Profile1")
        path = self._device(peer)[0]
        await self._program.call(new_method_call(address, "RequestDisconnection", "o", (path,)))

    def _objects(self) -> dict[str, Any]:
        if not self.has_controller:
            return {"/org/bluez": {}}
        adapter = {
            "Address": ("s", self.address),
            "Powered": ("b", self.is_powered),
            "Discoverable": ("b", self.is_discoverable),
            "Discovering": ("b", self.is_discovering),
        }
        devices = [self._device(one) for one in self.air.machines.values() if one.address in self.known]
        return {"/org/bluez": {}, CONTROLLER: {ADAPTER: adapter}, **dict(devices)}

    @staticmethod
    def _device(other: "FakeBluez") -> tuple[str, dict[str, Any]]:
        path = f"{CONTROLLER}/dev_{other.address.replace(':', '_')}"
        uuids = [other.profile[2]] if other.profile is not None else []
        return path, {DEVICE: {"Address": ("s", other.address), "UUIDs": ("as", uuids)}}
