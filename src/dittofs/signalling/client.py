"""A connection to a signalling server, as its client sees it."""

import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import trio
import wsproto.utilities
from trio_websocket import ConnectionClosed, HandshakeError, WebSocketConnection, wrap_client_stream

from dittofs.errors import DittoError, FormatError
from dittofs.server_urls import SignalUrl
from dittofs.signalling.messages import (
    MESSAGE_BYTES_MAX,
    VERSION,
    FromClient,
    FromServer,
    Welcome,
    decode_from_server,
    encode,
)

CONNECT_S: Final = 15.0
PING_S: Final = 25.0
PATIENCE_S: Final = 20.0

_GONE: Final = (
    ConnectionClosed,
    HandshakeError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
    OSError,
    UnicodeError,  # of a host that is no name
)


class ServerLost(DittoError):
    """The signalling server is not reached, or not any more. Another attempt may succeed."""


class SignalConnection:
    """Open. `open_connection` makes it."""

    def __init__(self, connection: WebSocketConnection, stun_port: int) -> None:
        self._connection = connection
        self.stun_port = stun_port
        """Where the server answers STUN; 0: nowhere."""

    async def send(self, message: FromClient) -> None:
        """Raises ServerLost."""
        try:
            with trio.fail_after(PATIENCE_S):
                await self._connection.send_message(encode(message))
        except (*_GONE, trio.TooSlowError) as error:
            raise ServerLost(f"the connection broke: {error}") from error

    async def receive(self) -> FromServer:
        """The server's next message. ServerLost, FormatError."""
        return await _received(self._connection)


@asynccontextmanager
async def open_connection(url: SignalUrl) -> AsyncIterator[SignalConnection]:
    """A connection for the length of the block; if it breaks the block ends with ServerLost.

    ServerLost or FormatError also if none is to be had.
    """
    try:
        with trio.fail_after(CONNECT_S):
            stream = await _stream(url)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(trio.aclose_forcefully, stream)
            nursery = await stack.enter_async_context(trio.open_nursery())
            with trio.fail_after(CONNECT_S):
                connection = await wrap_client_stream(
                    nursery,
                    stream,
                    str(url.address),
                    url.path,
                    max_message_size=MESSAGE_BYTES_MAX,
                    message_queue_size=8,
                )
                welcome = await _received(connection)
            if not isinstance(welcome, Welcome) or welcome.version != VERSION:
                raise FormatError("it speaks another version of signalling")
            nursery.start_soon(_ping, connection)
            yield SignalConnection(connection, welcome.stun_port)
            with trio.move_on_after(1):
                await connection.aclose()
            nursery.cancel_scope.cancel()
    except (*_GONE, trio.TooSlowError) as error:
        raise ServerLost(f"{url} is not reached: {_text(error)}") from error
    except BaseExceptionGroup as group:
        expected, other = group.split(
            (*_GONE, trio.TooSlowError, wsproto.utilities.ProtocolError, DittoError)
        )
        if expected is None or other is not None:
            raise
        first = _first(expected)
        if isinstance(first, DittoError):
            raise first from group
        raise ServerLost(f"{url} is not reached: {_text(first)}") from group


async def _stream(url: SignalUrl) -> trio.SocketStream | trio.SSLStream[trio.SocketStream]:
    host, port = url.address.host, url.address.port
    if not url.is_encrypted:
        return await trio.open_tcp_stream(host, port)
    stream = await trio.open_ssl_over_tcp_stream(host, port, https_compatible=True)
    try:
        await stream.do_handshake()  # else it is made by a task that tells nobody why there is none
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return stream


async def _received(connection: WebSocketConnection) -> FromServer:
    try:
        data = await connection.get_message()
    except _GONE as error:
        raise ServerLost(f"the connection broke: {error}") from error
    if isinstance(data, str):
        raise FormatError("text, where messages are bytes")
    return decode_from_server(data)


async def _ping(connection: WebSocketConnection) -> None:
    """Notice a server that has gone without a word, and keep routers from forgetting this connection."""
    while True:
        await trio.sleep(PING_S)
        with trio.fail_after(PATIENCE_S):
            await connection.ping()


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _text(error: BaseException) -> str:
    if isinstance(error, trio.TooSlowError):
        return "no answer in time"
    cause = error.__cause__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted here: {cause.verify_message}"
    if isinstance(cause, ssl.SSLError):
        return f"it does not speak TLS as it should: {cause.reason or cause}"
    return str(error) or type(error).__name__
