"""Programs on a message bus that tests give themselves: a bus daemon, and whatever answers calls there."""

import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import trio
from jeepney import DBusAddress, Message, MessageType, new_error, new_method_return, new_signal
from jeepney.bus_messages import message_bus
from jeepney.io.trio import DBusConnection, open_dbus_connection
from jeepney.low_level import HeaderFields

_CONFIGURATION = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <listen>unix:path={place}/bus</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="false"/>
    <allow receive_sender="*"/>
    <allow own="*"/>
  </policy>
</busconfig>
"""


@asynccontextmanager
async def message_bus_daemon(place: Path) -> AsyncIterator[str]:
    """A bus of its own, at the address that this gives."""
    configuration = place / "bus.conf"
    configuration.write_text(_CONFIGURATION.format(place=place))
    command = ["dbus-daemon", f"--config-file={configuration}", "--nofork", "--nopidfile", "--print-address"]
    async with trio.open_nursery() as nursery:
        process = await nursery.start(partial(trio.run_process, command, stdout=subprocess.PIPE, check=False))
        assert await process.stdout.receive_some(), "the bus tells its address when it listens"
        yield f"unix:path={place}/bus"
        process.kill()
        await process.wait()


class Refusal(Exception):
    """What a call is answered with."""

    def __init__(self, name: str, text: str = "") -> None:
        super().__init__(text or name)
        self.name = name


Answer = Callable[[Message], Awaitable[tuple[str | None, tuple[Any, ...]]]]
"""Does what a call asks; returns the signature and the values of the answer, or raises Refusal."""


class BusProgram:
    """One connection to a bus. `run` serves."""

    def __init__(self, bus: str, answer: Answer, hear: Callable[[Message], Awaitable[None]]) -> None:
        self._bus = bus
        self._answer = answer
        self._hear = hear
        self._connection: DBusConnection | None = None
        self._replies: dict[int, trio.MemorySendChannel[Message]] = {}

    @property
    def is_running(self) -> bool:
        return self._connection is not None

    async def run(
        self, name: str = "", *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Until cancelled, as `name` if one is given."""
        connection = await open_dbus_connection(self._bus, enable_fds=True)
        self._connection = connection
        try:
            async with connection, trio.open_nursery() as nursery:
                nursery.start_soon(self._serve, connection, nursery)
                if name:
                    await self.call(message_bus.RequestName(name))
                task_status.started()
                await trio.sleep_forever()
        finally:
            self._connection = None

    async def call(self, message: Message) -> Message:
        """The answer, or the error."""
        assert self._connection is not None
        serial = next(self._connection.outgoing_serial)
        sending, receiving = trio.open_memory_channel[Message](1)
        self._replies[serial] = sending
        await self._connection.send(message, serial=serial)
        reply = await receiving.receive()
        del self._replies[serial]
        return reply

    async def signal(self, path: str, interface: str, member: str, signature: str, body: Any) -> None:
        assert self._connection is not None
        await self._connection.send(
            new_signal(DBusAddress(path, interface=interface), member, signature, body)
        )

    async def _serve(self, connection: DBusConnection, nursery: trio.Nursery) -> None:
        while True:
            message = await connection.receive()
            match message.header.message_type:
                case MessageType.method_return | MessageType.error:
                    waiting = self._replies.get(message.header.fields[HeaderFields.reply_serial])
                    if waiting is not None:
                        waiting.send_nowait(message)
                case MessageType.method_call:
                    nursery.start_soon(self._reply, connection, message)
                case _:
                    await self._hear(message)

    async def _reply(self, connection: DBusConnection, message: Message) -> None:
        try:
            signature, body = await self._answer(message)
            await connection.send(new_method_return(message, signature, body))
        except Refusal as refusal:
            await connection.send(new_error(message, refusal.name, "s", (str(refusal),)))


async def deaf(_message: Message) -> None:
    """Hears no signals."""
