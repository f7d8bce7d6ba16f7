"""The signalling server: a WebSocket server that tells clients of a room from each other, and STUN beside it.

It keeps nothing, reads nothing of what clients tell each other, and is believed nothing by them: it can but
deny. A client that breaks a bound is let go of; the others notice nothing.
"""

import ipaddress
import socket
import ssl
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import structlog
import trio
import wsproto.utilities
from trio_websocket import ConnectionClosed, HandshakeError, WebSocketConnection, wrap_server_stream

from dittofs.clock import Entropy
from dittofs.errors import ConfigError, DittoError
from dittofs.signalling import stun
from dittofs.signalling.messages import (
    MESSAGE_BYTES_MAX,
    VERSION,
    FromServer,
    Welcome,
    decode_from_client,
    encode,
)
from dittofs.signalling.rooms import Delivery, Rooms

log = structlog.get_logger(__name__)

CLIENTS_MAX: Final = 1024
CLIENTS_PER_ADDRESS_MAX: Final = 64
"""A house or an office has one address; a proxy on this very machine has any number of clients."""
UNSENT_MAX: Final = 256
"""Messages that wait for a client: with more it is too slow."""
HANDSHAKE_S: Final = 10.0
PING_S: Final = 25.0
PATIENCE_S: Final = 20.0
"""So long an answer to a ping is waited for, or a client that does not receive."""
PATH_CHARACTERS_MAX: Final = 200
UNKNOWN: Final = "?"
"""Where a connection comes from that is gone already."""

_WHO_BYTES: Final = 6
_BACKLOG: Final = 128
_ACCEPT_PAUSE_S: Final = 0.2
_GONE: Final = (ConnectionClosed, HandshakeError, trio.BrokenResourceError, trio.ClosedResourceError, OSError)


@dataclass(slots=True)
class _Client:
    outbox: trio.MemorySendChannel[FromServer]
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    why: str = ""

    def dismiss(self, why: str) -> None:
        self.why = self.why or why
        self.scope.cancel()


class Places:
    """How many connections there are, in all and from each address, from when they are accepted."""

    def __init__(self) -> None:
        self._taken: Counter[str] = Counter()

    @contextmanager
    def taken(self, host: str) -> Iterator[None]:
        """A place, for the length of the block. DittoError if there is none left."""
        is_near = host != UNKNOWN and ipaddress.ip_address(host).is_loopback
        is_much = not is_near and self._taken[host] >= CLIENTS_PER_ADDRESS_MAX
        if is_much or self._taken.total() >= CLIENTS_MAX:
            raise DittoError("too many clients")
        self._taken[host] += 1
        try:
            yield
        finally:
            self._taken[host] -= 1
            if not self._taken[host]:
                del self._taken[host]


class Server:
    """See the module. `run` once."""

    def __init__(
        self, bind: str | None, port: int, *, entropy: Entropy, tls: ssl.SSLContext | None = None
    ) -> None:
        """`port`: 0 for any that is free; `bind`: an address, None for all. ConfigError: not to be had."""
        self._entropy = entropy
        self._tls = tls
        self._rooms = Rooms()
        self._clients: dict[int, _Client] = {}
        self._places = Places()
        self._listening, self._answering = _bound(bind, port)
        self.port = int(self._listening.getsockname()[1])

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; `started()` when clients can connect."""
        with self._listening, self._answering:
            self._listening.listen(_BACKLOG)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stun.serve, trio.socket.from_stdlib_socket(self._answering))
                task_status.started()
                await self._accept(
                    trio.SocketListener(trio.socket.from_stdlib_socket(self._listening)), nursery
                )

    async def _accept(self, listener: trio.SocketListener, nursery: trio.Nursery) -> None:
        while True:
            try:
                stream = await listener.accept()
            except OSError as error:  # out of descriptors or memory, or what accept(2) reports
                log.warning("connections cannot be accepted", reason=error.strerror)
                await trio.sleep(_ACCEPT_PAUSE_S)
                continue
            nursery.start_soon(self._admit, stream)

    async def _admit(self, stream: trio.SocketStream) -> None:
        try:
            host = _host(stream)
            with self._places.taken(host):
                await self._contained(stream, host)
        except DittoError as error:
            log.info("a client was let go of", reason=str(error))
        except _GONE as error:
            log.debug("a client has gone", reason=str(error))
        finally:
            await trio.aclose_forcefully(stream)

    async def _contained(self, stream: trio.SocketStream, host: str) -> None:
        """Serve one client to its end; whatever it does ends nothing else."""
        try:
            async with trio.open_nursery() as nursery:
                with trio.fail_after(HANDSHAKE_S):
                    plain: trio.abc.Stream = stream
                    if self._tls is not None:
                        plain = trio.SSLStream(stream, self._tls, server_side=True, https_compatible=True)
                    request = await wrap_server_stream(
                        nursery, plain, max_message_size=MESSAGE_BYTES_MAX, message_queue_size=8
                    )
                    if len(request.path) > PATH_CHARACTERS_MAX:
                        raise DittoError("a path of too many characters")
                    connection = await request.accept()
                await self._serve(connection, request.path, host)
                nursery.cancel_scope.cancel()
        except* (*_GONE, trio.TooSlowError, wsproto.utilities.ProtocolError) as group:
            log.debug("a client has gone", reason=str(group.exceptions[0]))
        except* DittoError as group:
            log.info("a client was let go of", reason=str(group.exceptions[0]))
        except* Exception as group:
            log.error("a client was let go of by a bug", exc_info=group)

    async def _serve(self, connection: WebSocketConnection, path: str, host: str) -> None:
        sending, receiving = trio.open_memory_channel[FromServer](UNSENT_MAX)
        who, client = self._draw(), _Client(sending)
        self._clients[who] = client
        self._rooms.came(who, path, host, trio.current_time())
        sending.send_nowait(Welcome(VERSION, self.port))
        try:
            with client.scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_send, connection, receiving)
                    nursery.start_soon(_ping, connection)
                    while True:
                        data = await connection.get_message()
                        if isinstance(data, str):
                            raise DittoError("text, where messages are bytes")
                        message = decode_from_client(data)
                        self._deliver(self._rooms.take(who, message, trio.current_time()))
        finally:
            del self._clients[who]
            self._deliver(self._rooms.left(who))
        if client.why:
            raise DittoError(client.why)

    def _deliver(self, deliveries: list[Delivery]) -> None:
        for who, message in deliveries:
            client = self._clients.get(who)
            if client is not None:
                try:
                    client.outbox.send_nowait(message)
                except trio.WouldBlock:
                    client.dismiss("it does not receive what it is sent")
                except trio.BrokenResourceError:  # it is ending already
                    client.dismiss("")

    def _draw(self) -> int:
        while (who := int.from_bytes(self._entropy(_WHO_BYTES), "big")) in self._clients:
            pass
        return who


async def _send(connection: WebSocketConnection, receiving: trio.MemoryReceiveChannel[FromServer]) -> None:
    async for message in receiving:
        with trio.fail_after(PATIENCE_S):
            await connection.send_message(encode(message))


async def _ping(connection: WebSocketConnection) -> None:
    """Notice who has gone without a word, and keep routers from forgetting who is quiet."""
    while True:
        await trio.sleep(PING_S)
        with trio.fail_after(PATIENCE_S):
            await connection.ping()


def _host(stream: trio.SocketStream) -> str:
    """The address that a connection comes from, an IPv6 one by its network: a house has 2^64 of them."""
    try:
        address = ipaddress.ip_address(str(stream.socket.getpeername()[0]).partition("%")[0])
    except OSError:  # it is gone already
        return UNKNOWN
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        if not address.is_loopback:
            return str(ipaddress.ip_network((address, 64), strict=False).network_address)
    return str(address)


def _bound(bind: str | None, port: int) -> tuple[socket.socket, socket.socket]:
    """A TCP and a UDP socket of one port. ConfigError."""
    family = socket.AF_INET if bind is not None and ":" not in bind else socket.AF_INET6
    if bind is None and not socket.has_dualstack_ipv6():
        family = socket.AF_INET
    host = bind or ("::" if family == socket.AF_INET6 else "0.0.0.0")
    made: list[socket.socket] = []
    try:
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            made.append(one := socket.socket(family, kind))
            if kind == socket.SOCK_STREAM:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if bind is None else 1)
            one.setblocking(False)
            one.bind((host, made[0].getsockname()[1] if kind == socket.SOCK_DGRAM else port))
    except OSError as error:
        for one in made:
            one.close()
        raise ConfigError(f"cannot listen on {host}, port {port}: {error.strerror}") from error
    return made[0], made[1]
