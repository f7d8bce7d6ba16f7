"""One bluetoothd as several machines: each has a bus of its own, with one of its controllers.

bluetoothd takes one profile of a kind, and DittoFS expects one controller's BlueZ: so this registers
the profile and hands each connection to whose controller it came by. Everything else goes through.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import trio
from jeepney import DBusAddress, Message, MessageType, new_method_call
from jeepney.bus_messages import MatchRule, message_bus
from jeepney.low_level import HeaderFields

from tests.links.bus_program import BusProgram, Refusal, deaf

PROFILE = "/test/profile"


@dataclass
class _Machine:
    """One of them: the prefix of its objects, its bus, and who registered the profile there."""

    controller: str
    program: BusProgram
    profile: tuple[str, str] | None = None


@dataclass
class Relay:
    """`run` serves. `buses`: the bus of each controller's machine, like `/org/bluez/hci0`."""

    real_bus: str
    buses: dict[str, str]
    _machines: list[_Machine] = field(default_factory=list)
    _is_registered: bool = False
    _lock: trio.Lock = field(default_factory=trio.Lock)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled."""
        self._real = BusProgram(self.real_bus, self._called_by_bluez, self._said_by_bluez)
        async with trio.open_nursery() as nursery:
            await nursery.start(self._real.run)
            await self._real.call(message_bus.AddMatch(MatchRule(type="signal", sender="org.bluez")))
            for controller, bus in self.buses.items():
                machine = _Machine(controller, BusProgram(bus, partial(self._called, controller), deaf))
                self._machines.append(machine)
                await nursery.start(machine.program.run, "org.bluez")
            task_status.started()

    async def _called(self, controller: str, message: Message) -> tuple[str | None, tuple[Any, ...]]:
        """A machine's DittoFS asks something."""
        fields, body = message.header.fields, message.body
        path, interface = fields[HeaderFields.path], fields[HeaderFields.interface]
        member = fields[HeaderFields.member]
        machine = next(one for one in self._machines if one.controller == controller)
        if member == "RegisterProfile":
            machine.profile = fields[HeaderFields.sender], body[0]
            async with self._lock:
                if self._is_registered:
                    return None, ()
                done = await self._ask(path, interface, member, "osa{sv}", (PROFILE, body[1], body[2]))
                self._is_registered = True
                return done
        signature, values = await self._ask(
            path, interface, member, fields.get(HeaderFields.signature), tuple(body)
        )
        if member == "GetManagedObjects":
            mine = {one: what for one, what in values[0].items() if self._is_of(controller, one)}
            values = (mine,)
        return signature, values

    async def _ask(
        self, path: str, interface: str, member: str, signature: str | None, body: tuple[Any, ...]
    ) -> tuple[str | None, tuple[Any, ...]]:
        address = DBusAddress(path, bus_name="org.bluez", interface=interface)
        return _values(await self._real.call(new_method_call(address, member, signature, body)))

    async def _called_by_bluez(self, message: Message) -> tuple[str | None, tuple[Any, ...]]:
        """bluetoothd hands over a connection, or ends one: to whose controller it is of."""
        fields, body = message.header.fields, message.body
        for machine in self._machines:
            if machine.profile is not None and body and self._is_of(machine.controller, body[0]):
                sender, path = machine.profile
                address = DBusAddress(path, bus_name=sender, interface="org.bluez.Profile1")
                call = new_method_call(
                    address, fields[HeaderFields.member], fields[HeaderFields.signature], tuple(body)
                )
                try:
                    return _values(await machine.program.call(call))
                finally:
                    for one in body:
                        if hasattr(one, "to_raw_fd"):
                            one.close()
        raise Refusal("org.bluez.Error.Rejected", "nobody is there")

    async def _said_by_bluez(self, message: Message) -> None:
        fields, body = message.header.fields, message.body
        path, interface = fields[HeaderFields.path], fields[HeaderFields.interface]
        about = body[0] if interface == "org.freedesktop.DBus.ObjectManager" else path
        for machine in self._machines:
            if machine.program.is_running and self._is_of(machine.controller, about):
                await machine.program.signal(
                    path,
                    interface,
                    fields[HeaderFields.member],
                    fields.get(HeaderFields.signature, ""),
                    tuple(body),
                )

    @staticmethod
    def _is_of(controller: str, path: str) -> bool:
        return path == controller or path.startswith(f"{controller}/") or path == "/org/bluez"


def _values(reply: Message) -> tuple[str | None, tuple[Any, ...]]:
    fields = reply.header.fields
    if reply.header.message_type is MessageType.error:
        raise Refusal(fields[HeaderFields.error_name], str(reply.body[0]) if reply.body else "")
    return fields.get(HeaderFields.signature), tuple(reply.body)
