"""One conversation with a D-Bus daemon: calls made and answered, signals heard, descriptors passed.

What goes wrong is translated here: a bus that is not there or goes away is `BusLost`, a call that another
program answers with an error, or not in time, `BusRefused`.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

import trio
from jeepney import DBusAddress, Message, MessageType, new_error, new_method_call, new_method_return
from jeepney.auth import AuthenticationError
from jeepney.fds import FileDescriptor, NoFDError
from jeepney.io.trio import DBusConnection, open_dbus_connection
from jeepney.low_level import HeaderFields

from dittofs.links.link import LinkBroken

SYSTEM: Final = "SYSTEM"
"""The bus of this machine: DBUS_SYSTEM_BUS_ADDRESS, else where it always is."""
CALL_S: Final = 10.0
CONNECT_S: Final = 10.0
TEXT_MAX: Final = 200

DBUS: Final = "org.freedesktop.DBus"
_NO_REPLY: Final = f"{DBUS}.Error.NoReply"


class BusLost(LinkBroken):
    """There is no bus, or it has gone: everything that was agreed over it is void."""


class BusRefused(LinkBroken):
    """A call failed, and `name` is the error's. The bus goes on."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text or name.rpartition(".")[2])
        self.name = name


@dataclass(frozen=True, slots=True)
class Heard:
    """A call or a signal of somebody on the bus."""

    sender: str
    path: str
    interface: str
    member: str
    body: tuple[Any, ...]

    def close(self) -> None:
        """Let go of the descriptors that came along and that nobody took."""
        for one in self.body:
            if isinstance(one, FileDescriptor):
                with suppress(NoFDError):
                    one.close()


Answer = Callable[[Heard], None]
"""Takes a call at once. BusRefused: the caller gets that error."""
Hear = Callable[[Heard], None]


class Bus:
    """See the module. Made by `open_bus`."""

    def __init__(self, connection: DBusConnection, answer: Answer, hear: Hear) -> None:
        self._connection = connection
        self._answer = answer
        self._hear = hear
        self._waiting: dict[int, trio.MemorySendChannel[Message]] = {}
        self._is_lost = False

    async def call(
        self,
        destination: str,
        path: str,
        interface: str,
        member: str,
        signature: str | None = None,
        body: tuple[Any, ...] = (),
        *,
        patience_s: float = CALL_S,
    ) -> tuple[Any, ...]:
        """The answer's values. BusRefused; BusLost."""
        address = DBusAddress(path, bus_name=destination, interface=interface)
        message = new_method_call(address, member, signature, body)
        serial = next(self._connection.outgoing_serial)
        sending, receiving = trio.open_memory_channel[Message](1)
        self._waiting[serial] = sending
        try:
            if self._is_lost:
                raise BusLost("the message bus has gone")
            with trio.fail_after(patience_s):
                await self._connection.send(message, serial=serial)
                reply = await receiving.receive()
        except trio.TooSlowError:
            raise BusRefused(_NO_REPLY, f"no answer to {member} within {patience_s:g} s") from None
        except (trio.EndOfChannel, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise BusLost("the message bus has gone") from error
        finally:
            del self._waiting[serial]
        if reply.header.message_type is MessageType.error:
            name = str(reply.header.fields.get(HeaderFields.error_name, ""))
            raise BusRefused(name, _text(reply.body))
        return tuple(reply.body)

    async def match(self, rule: str) -> None:
        """Hear the signals that fit a rule, from now on."""
        await self.call(DBUS, "/org/freedesktop/DBus", DBUS, "AddMatch", "s", (rule,))

    async def owner(self, name: str) -> str:
        """The program behind a name; empty: there is none, and none is started."""
        try:
            found = await self.call(DBUS, "/org/freedesktop/DBus", DBUS, "GetNameOwner", "s", (name,))
        except BusRefused as error:
            if error.name == f"{DBUS}.Error.NameHasNoOwner":
                return ""
            raise
        return str(found[0])

    async def run(self) -> None:
        """Until the bus is lost, which is raised: give replies to who waits, and the rest to the handlers."""
        try:
            async with trio.open_nursery() as nursery:
                while True:
                    message = await self._connection.receive()
                    match message.header.message_type:
                        case MessageType.method_return | MessageType.error:
                            self._reply(message)
                        case MessageType.method_call:
                            nursery.start_soon(self._send, self._answered(message))
                        case _:
                            self._hear(_heard(message))
        except* (
            trio.EndOfChannel,
            trio.BrokenResourceError,
            trio.ClosedResourceError,
            RuntimeError,  # jeepney, when more descriptors come than this process may hold
        ) as group:
            raise BusLost("the message bus has gone") from group
        finally:
            self._is_lost = True
            for waiting in self._waiting.values():
                waiting.close()

    def _reply(self, message: Message) -> None:
        waiting = self._waiting.get(message.header.fields.get(HeaderFields.reply_serial, -1))
        if waiting is not None and waiting.statistics().current_buffer_used == 0:
            waiting.send_nowait(message)
        else:
            _heard(message).close()

    def _answered(self, message: Message) -> Message:
        heard = _heard(message)
        try:
            self._answer(heard)
        except BusRefused as refusal:
            return new_error(message, refusal.name, "s", (str(refusal),))
        finally:
            heard.close()
        return new_method_return(message)

    async def _send(self, message: Message) -> None:
        await self._connection.send(message)


@asynccontextmanager
async def open_bus(address: str, answer: Answer, hear: Hear) -> AsyncIterator[Bus]:
    """A conversation with the bus at `address`, of which `run` must be running for anything to be answered.

    BusLost if there is none.
    """
    try:
        with trio.fail_after(CONNECT_S):
            connection = await open_dbus_connection(address, enable_fds=True)
    except trio.TooSlowError:
        raise BusLost(f"the message bus does not answer within {CONNECT_S:g} s") from None
    except BaseExceptionGroup as group:  # of the router that says Hello
        rest = group.split((trio.EndOfChannel, trio.BrokenResourceError))[1]
        if rest is not None:
            raise
        raise BusLost("the message bus does not admit this program") from group
    except OSError as error:
        raise BusLost(f"there is none ({error.strerror or error})") from error
    except (RuntimeError, ValueError, AuthenticationError, trio.BrokenResourceError) as error:
        raise BusLost(f"there is none that can be used ({error})") from error
    async with connection:
        yield Bus(connection, answer, hear)


def _heard(message: Message) -> Heard:
    fields = message.header.fields
    return Heard(
        str(fields.get(HeaderFields.sender, "")),
        str(fields.get(HeaderFields.path, "")),
        str(fields.get(HeaderFields.interface, "")),
        str(fields.get(HeaderFields.member, "")),
        tuple(message.body),
    )


def _text(body: tuple[Any, ...]) -> str:
    text = str(body[0])[:TEXT_MAX] if body else ""
    return text if text.isprintable() else ""
