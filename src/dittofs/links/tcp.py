"""Links over TCP, IPv4 and IPv6."""

import contextlib
import errno
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import structlog
import trio

from dittofs.errors import DittoError
from dittofs.identity.keys import Device
from dittofs.links.link import Admits, Alpn, Link, LinkBroken
from dittofs.links.serving import served
from dittofs.links.tcp_pulse import TcpPulse, watch_idle
from dittofs.links.tls import secure

TRANSPORT: Final = "tcp"
"""The first word of such a link's description."""
STRANGERS_MAX: Final = 32
STRANGERS_PER_ADDRESS_MAX: Final = 4
CONNECT_PATIENCE_S: Final = 10.0
ACCEPT_PAUSE_S: Final = 0.2
"""Before the next attempt to accept when the machine has no room for a connection."""

_BACKLOG: Final = 128
_PORT_ATTEMPTS: Final = 16
_UNSENT_BYTES: Final = (
    256 << 10
)  # left in the socket before a sender waits: less would wake it for each record
_NO_IPV6: Final = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT}

Endpoint = tuple[str, int]
"""Host (numeric, an IPv6 one with its scope: `fe80::1%eth0`) and port."""

Dial = Callable[..., Awaitable[Link]]
"""What makes a link, as `dial` does."""

log = structlog.get_logger(__name__)


async def listen(
    device: Device,
    serve: Callable[[Link], Awaitable[None]],
    nursery: trio.Nursery,
    *,
    admits: Admits,
    bind: str | None = None,
    port: int = 0,
    task_status: trio.TaskStatus[tuple[Endpoint, ...]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Accept links until cancelled; `started()` tells the addresses bound, when they can be dialled.

    Listens on IPv4 and IPv6 with one port, or on the address `bind` alone; port 0 is any that is
    free. Each link runs `serve` as a task of `nursery`, and is closed when that returns. A `DittoError`
    from it ends that link alone. Until it is admitted a connection is a stranger's: of those there
    are at most STRANGERS_MAX, and STRANGERS_PER_ADDRESS_MAX from one address; one more takes the place
    of the one that has dallied longest. LinkBroken if the address cannot be had.
    """
    strangers = _Strangers()

    async def receive(stream: trio.SocketStream) -> None:
        with strangers.place(_remote(stream)) as place:
            link = await _accepted(stream, device, admits, place)
        if link is not None:
            await served(serve, link)

    try:
        sockets = _bound(bind, port)
    except OSError as error:
        raise LinkBroken(
            f"cannot listen on {bind or 'any address'}, port {port}: {error.strerror}"
        ) from error
    listeners = [trio.SocketListener(trio.socket.from_stdlib_socket(each)) for each in sockets]
    try:
        async with trio.open_nursery() as accepting:
            for listener in listeners:
                accepting.start_soon(_accept, listener, receive, nursery)
            task_status.started(tuple(_endpoint(listener.socket.getsockname()) for listener in listeners))
    finally:
        for listener in listeners:
            listener.socket.close()


async def dial(
    host: str,
    port: int,
    device: Device,
    *,
    alpn: Alpn,
    admits: Admits,
    patience_s: float = CONNECT_PATIENCE_S,
) -> Link:
    """A link to whoever answers at `host`, if `admits` says so.

    Connecting takes at most `patience_s`, then the handshake its own time. `host` is a name or an
    address, an IPv6 one with its scope where it needs one. LinkBroken, HandshakeRefused.
    """
    place = _text((host, port))
    try:
        with trio.fail_after(patience_s):
            stream = await trio.open_tcp_stream(host, port)
    except trio.TooSlowError:
        raise LinkBroken(f"{place}: no connection within {patience_s:g} s") from None
    except (OSError, UnicodeError) as error:
        raise LinkBroken(f"{place}: {error}") from error
    _tune(stream)
    return await secure(
        stream,
        device,
        is_dialer=True,
        alpn=alpn,
        admits=admits,
        description=f"{TRANSPORT} {place}",
        pulse=TcpPulse(stream),
    )


async def _accept(
    listener: trio.SocketListener,
    receive: Callable[[trio.SocketStream], Awaitable[None]],
    nursery: trio.Nursery,
) -> None:
    is_short = False
    while True:
        try:
            stream = await listener.accept()
        except OSError as error:
            # Out of descriptors or memory, or what accept(2) reports of the connection it took.
            if not is_short:
                log.warning("connections cannot be accepted", reason=error.strerror)
            is_short = True
            await trio.sleep(ACCEPT_PAUSE_S)
            continue
        is_short = False
        nursery.start_soon(receive, stream)


async def _accepted(
    stream: trio.SocketStream, device: Device, admits: Admits, place: "_Place"
) -> Link | None:
    """The link that a stranger's connection becomes; None if it does not, or had to make place."""
    remote = _text(_remote(stream))
    with place.scope:
        try:
            _tune(stream)
            return await secure(
                stream,
                device,
                is_dialer=False,
                admits=admits,
                description=f"{TRANSPORT} {remote}",
                pulse=TcpPulse(stream),
            )
        except DittoError as error:
            log.info("a connection was refused", address=remote, reason=str(error))
    await trio.aclose_forcefully(stream)
    return None


@dataclass(slots=True)
class _Place:
    """What a stranger takes until it is admitted."""

    host: str
    strangers: "_Strangers"
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)

    def __enter__(self) -> "_Place":
        return self

    def __exit__(self, *_: object) -> None:
        self.strangers.leave(self)


class _Strangers:
    """Connections that have not proven who they are, oldest first."""

    def __init__(self) -> None:
        self._places: list[_Place] = []

    def place(self, endpoint: Endpoint) -> _Place:
        host = endpoint[0]
        same = [place for place in self._places if place.host == host]
        if len(same) >= STRANGERS_PER_ADDRESS_MAX:
            self._dismiss(same[0])
        elif len(self._places) >= STRANGERS_MAX:
            self._dismiss(self._places[0])
        self._places.append(place := _Place(host, self))
        return place

    def leave(self, place: _Place) -> None:
        if place in self._places:
            self._places.remove(place)

    def _dismiss(self, place: _Place) -> None:
        log.debug("a connection made place for another", host=place.host)
        place.scope.cancel()
        self.leave(place)


def _bound(bind: str | None, port: int) -> list[socket.socket]:
    """Listening sockets; OSError if there is none to be had."""
    if bind is not None:
        found = socket.getaddrinfo(
            bind, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICHOST
        )
        family, _, _, _, address = found[0]
        return [_listening(family, address)]
    attempt = 1
    while True:
        ipv4 = _listening(socket.AF_INET, ("0.0.0.0", port))
        try:
            return [ipv4, _listening(socket.AF_INET6, ("::", ipv4.getsockname()[1]))]
        except OSError as error:
            if error.errno in _NO_IPV6:
                return [ipv4]
            ipv4.close()
            # Any port was asked for, and this one is free for IPv4 alone.
            if error.errno != errno.EADDRINUSE or port != 0 or attempt == _PORT_ATTEMPTS:
                raise
        attempt += 1


def _listening(family: int, address: tuple[str | int, ...] | tuple[int, bytes]) -> socket.socket:
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.setblocking(False)
        listening.bind(address)
        listening.listen(_BACKLOG)
    except BaseException:
        listening.close()
        raise
    return listening


def _tune(stream: trio.SocketStream) -> None:
    with contextlib.suppress(OSError):  # the connection is gone already, as its first use will tell
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
    watch_idle(stream)


def _remote(stream: trio.SocketStream) -> Endpoint:
    try:
        return _endpoint(stream.socket.getpeername())
    except OSError:  # it is gone already
        return ("?", 0)


def _endpoint(address: tuple[str | int, ...]) -> Endpoint:
    host, port = str(address[0]), int(address[1])
    if len(address) == 4 and address[3] and "%" not in host:
        host = f"{host}%{_interface(int(address[3]))}"
    return host, port


def _interface(index: int) -> str:
    try:
        return socket.if_indextoname(index)
    except OSError:
        return str(index)


def _text(endpoint: Endpoint) -> str:
    host, port = endpoint
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
