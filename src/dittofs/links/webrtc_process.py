"""`python -m dittofs.links.webrtc_process FD`: one WebRTC connection, and its bytes on the socket FD.

aiortc is pure Python and takes most of a core at a few megabytes a second: in the daemon it would starve the
mount. This process holds no key of a device: what passes is sealed end to end by the link's own TLS.
"""

import asyncio
import logging
import math
import select
import socket
import sys
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Final

from aiortc import RTCConfiguration, RTCDataChannel, RTCIceServer, RTCPeerConnection, RTCSessionDescription

from dittofs.errors import DittoError, FormatError
from dittofs.links.webrtc_control import (
    LENGTH_BYTES,
    Answered,
    AnyControl,
    Begin,
    Described,
    Failed,
    Opened,
    decode,
    encode,
    length,
)
from dittofs.links.webrtc_window import LABEL, PIECE_BYTES, PING_MESSAGE, Window
from dittofs.server_urls import IceServer

CONNECT_S: Final = 30.0
PING_S: Final = 2.0
SILENCE_S: Final = 25.0
"""A connection on which nothing came for so long is dead. Not less: pings wait behind what is sent again."""
LINGER_S: Final = 10.0
"""So long the other side has to take what was sent before the daemon closed."""
CLOSE_S: Final = 2.0
TICK_S: Final = 1.0
BUFFERED_MAX: Final = 1 << 20
BUFFERED_LOW: Final = 256 << 10


class Over(DittoError):
    """The connection ended before its time."""


async def converse(daemon: socket.socket) -> None:
    """Serve the daemon's socket to its end."""
    connection: RTCPeerConnection | None = None
    try:
        begin = await _heard(daemon)
        if not isinstance(begin, Begin):
            raise FormatError("the daemon began otherwise")
        connection = RTCPeerConnection(RTCConfiguration(iceServers=_servers(begin.servers)))
        async with asyncio.timeout(CONNECT_S):
            channel = await _connected(connection, begin, daemon)
        carrier = Carrier(connection, channel, daemon)
        await _say(daemon, Opened(_path(connection)))
        await carrier.run()
    except TimeoutError:
        with suppress(OSError):
            await _say(daemon, Failed(f"no connection within {CONNECT_S:g} s"))
    except (DittoError, OSError) as error:
        with suppress(OSError):
            await _say(daemon, Failed(str(error)[:500]))
    finally:
        if connection is not None:
            with suppress(ConnectionError, TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    await connection.close()


async def _connected(connection: RTCPeerConnection, begin: Begin, daemon: socket.socket) -> RTCDataChannel:
    """The open channel, once both descriptions were exchanged."""
    opened: asyncio.Future[RTCDataChannel] = asyncio.get_running_loop().create_future()

    def settle(channel: RTCDataChannel) -> None:
        if not opened.done():
            opened.set_result(channel)

    def fail() -> None:
        if connection.connectionState in ("failed", "closed") and not opened.done():
            opened.set_exception(Over("no way from one to the other was found"))

    connection.on("connectionstatechange", fail)
    connection.on("datachannel", settle)
    try:
        if begin.offer:
            await connection.setRemoteDescription(RTCSessionDescription(begin.offer, "offer"))
            if connection.sctp is None:
                raise FormatError("a description without a data channel")
            await connection.setLocalDescription(await connection.createAnswer())
            await _say(daemon, Described(connection.localDescription.sdp))
        else:
            channel = connection.createDataChannel(LABEL)
            channel.on("open", lambda: settle(channel))
            await connection.setLocalDescription(await connection.createOffer())
            await _say(daemon, Described(connection.localDescription.sdp))
            answered = await _heard(daemon)
            if not isinstance(answered, Answered):
                raise FormatError("the daemon went on otherwise")
            await connection.setRemoteDescription(RTCSessionDescription(answered.description, "answer"))
    except (ValueError, KeyError, IndexError, AttributeError, AssertionError, TypeError) as error:
        raise FormatError(f"a description that is none: {error}") from error  # what aiortc makes of such
    # The daemon says nothing now: if its socket ends, nobody waits for the connection any more.
    return await _unless_closed(opened, daemon)


async def _unless_closed(opened: "asyncio.Future[RTCDataChannel]", daemon: socket.socket) -> RTCDataChannel:
    loop = asyncio.get_running_loop()
    loop.add_reader(daemon, _note_end, opened)
    try:
        return await opened
    finally:
        loop.remove_reader(daemon)


def _note_end(opened: "asyncio.Future[RTCDataChannel]") -> None:
    if not opened.done():
        opened.set_exception(Over("the daemon gave the connection up"))


class Carrier:
    """Carries bytes between the channel and the daemon's socket, both ways, until both have ended."""

    def __init__(self, connection: RTCPeerConnection, channel: RTCDataChannel, daemon: socket.socket) -> None:
        self._channel = channel
        self._daemon = daemon
        self._loop = asyncio.get_running_loop()
        self._window = Window()
        self._heard_at = self._loop.time()
        self._changed = asyncio.Event()
        self._problem: Exception | None = None
        self._is_closed = False
        channel.bufferedAmountLowThreshold = BUFFERED_LOW
        channel.on("bufferedamountlow", self._changed.set)
        channel.on("message", self._receive)
        channel.on("close", self._note_close)
        connection.on("connectionstatechange", lambda: self._note_state(connection.connectionState))

    async def run(self) -> None:
        """Return when all that both sides sent was taken, or nobody is left to take it."""
        outgoing, incoming = self._begin(self._carry_out()), self._begin(self._carry_in())
        silence, over = self._begin(self._keep_alive()), self._begin(self._ended())
        finished = self._begin(self._finished(outgoing, incoming))
        try:
            await asyncio.wait({silence, over, finished}, return_when=asyncio.FIRST_COMPLETED)
            if over.done() and self._problem is None:
                await asyncio.wait({incoming}, timeout=LINGER_S)  # what came before the end is the daemon's
        finally:
            tasks = (outgoing, incoming, silence, over, finished)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._daemon.close()

    def _begin(self, carried: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = self._loop.create_task(carried)
        task.add_done_callback(lambda _: self._changed.set())
        return task

    async def _carry_out(self) -> None:
        """From the daemon to the channel."""
        while True:
            while not (room := self._window.room) or self._channel.bufferedAmount > BUFFERED_MAX:
                await self._change()
            try:
                piece = await self._loop.sock_recv(self._daemon, min(PIECE_BYTES, room))
            except OSError:  # the daemon has closed with bytes unread
                piece = b""
            self._send(self._window.data(piece) if piece else self._window.end())
            if not piece:
                return

    async def _carry_in(self) -> None:
        """From the channel to the daemon; returns when all has come, or nobody takes it."""
        while True:
            piece = self._window.next_piece()
            if piece is None and self._window.has_got_end:
                with suppress(OSError):
                    self._daemon.shutdown(socket.SHUT_WR)
                self._give_back(1)
                return
            if piece is None:
                if self._is_closed:
                    return
                await self._change()
                continue
            try:
                await self._loop.sock_sendall(self._daemon, piece)
            except OSError:
                return
            self._give_back(len(piece))

    async def _finished(self, outgoing: "asyncio.Task[None]", incoming: "asyncio.Task[None]") -> None:
        """Return when both directions have ended and arrived, or LINGER_S after the daemon has closed."""
        deadline = math.inf
        while self._loop.time() < deadline:
            is_ended = outgoing.done() and incoming.done()
            if is_ended and self._window.is_delivered:
                return
            if deadline == math.inf and (is_ended or _is_hung_up(self._daemon)):
                deadline = self._loop.time() + LINGER_S
            with suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    await self._change()

    async def _keep_alive(self) -> None:
        """Return when the other side has been silent for too long."""
        while self._loop.time() - self._heard_at < SILENCE_S:
            self._send(PING_MESSAGE)
            await asyncio.sleep(PING_S)

    async def _ended(self) -> None:
        while not self._is_closed:
            await self._change()

    async def _change(self) -> None:
        """Return when something may have changed."""
        self._changed.clear()
        await self._changed.wait()

    def _give_back(self, count: int) -> None:
        credit = self._window.take(count)
        if credit is not None:
            self._send(credit)

    def _send(self, message: bytes) -> None:
        if self._channel.readyState == "open":
            self._channel.send(message)

    def _receive(self, message: bytes | str) -> None:
        self._heard_at = self._loop.time()
        try:
            self._window.receive(message.encode() if isinstance(message, str) else message)
        except FormatError as error:
            self._problem = error
            self._is_closed = True
        self._changed.set()

    def _note_close(self) -> None:
        self._is_closed = True
        self._changed.set()

    def _note_state(self, state: str) -> None:
        if state in ("failed", "closed"):
            self._note_close()


def _is_hung_up(daemon: socket.socket) -> bool:
    """Whether the daemon has closed its end, and not only said that it sends no more."""
    asked = select.poll()
    asked.register(daemon, 0)
    return bool(asked.poll(0))


def _servers(texts: tuple[str, ...]) -> list[RTCIceServer]:
    """As aiortc has them: of each kind it uses the first. An empty list is not what it calls by default."""
    made = []
    for one in map(IceServer.parse, texts):
        if one.is_relay:
            url = f"turn:{one.address}?transport={one.transport}"
            made.append(RTCIceServer(url, username=one.user, credential=one.password))
        else:
            made.append(RTCIceServer(f"stun:{one.address}"))
    return made


def _path(connection: RTCPeerConnection) -> str:
    """The address at the other end, as far as it can be told."""
    assert connection.sctp is not None
    try:
        pair = connection.sctp.transport.transport._connection._nominated[1]
    except (AttributeError, KeyError):  # aiortc has no public name for it
        return "?"
    remote = pair.remote_candidate
    place = f"[{remote.host}]:{remote.port}" if ":" in remote.host else f"{remote.host}:{remote.port}"
    is_relayed = "relay" in (remote.type, pair.local_candidate.type)
    return f"relay {place}"[:100] if is_relayed else place[:100]


async def _say(daemon: socket.socket, message: AnyControl) -> None:
    await asyncio.get_running_loop().sock_sendall(daemon, encode(message))


async def _heard(daemon: socket.socket) -> AnyControl:
    """The daemon's next message. Over if it has gone."""
    return decode(await _exactly(daemon, length(await _exactly(daemon, LENGTH_BYTES))))


async def _exactly(daemon: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = await asyncio.get_running_loop().sock_recv(daemon, count - len(data))
        if not piece:
            raise Over("the daemon gave the connection up")
        data += piece
    return data


def main() -> None:
    logging.disable(logging.CRITICAL)  # its libraries log addresses
    with socket.socket(fileno=int(sys.argv[1])) as daemon:
        daemon.setblocking(False)
        asyncio.run(converse(daemon))


if __name__ == "__main__":
    main()
