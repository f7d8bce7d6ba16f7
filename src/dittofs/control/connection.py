"""One HTTP/1.1 conversation over a stream: h11 says what the bytes mean, limits and timeouts hold here.

Knows nothing of routes. Every wait on the client has a deadline and every size a bound.
"""

import math
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Final

import h11
import msgspec
import trio

from dittofs.control.faults import Refusal
from dittofs.control.protocol import failure_of

RECEIVE_BYTES: Final = 256 << 10
DRAIN_BYTES_MAX: Final = 1 << 20
DRAIN_S: Final = 2.0
JSON_TYPE: Final = "application/json"
ITEMS_TYPE: Final = "application/x-ndjson"
BYTES_TYPE: Final = "application/octet-stream"

Headers = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client may take."""

    head_bytes_max: int = 64 << 10  # request line and headers
    idle_s: float = 60  # between two requests of one connection
    head_s: float = 10  # from the first byte of a request to the end of its headers
    piece_s: float = 30  # for the next piece of a body
    send_s: float = 300  # for the client to take a piece of the reply: a pager may hold it


class ClientGone(Exception):
    """The client closed, broke the protocol after the reply began, or took too long to read."""


class Connection:
    """A client's connection. One task uses it."""

    def __init__(self, stream: trio.abc.HalfCloseableStream, limits: Limits) -> None:
        self._stream = stream
        self._limits = limits
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.head_bytes_max)
        self.idle_since = trio.current_time()
        """When it began to wait for a request; infinity while it serves one."""

    async def next_request(self) -> h11.Request | None:
        """The next request's head; None when the client is done, gone or idle too long.

        Refuses ("bad_request", "head_too_large", "too_slow") what is not HTTP/1.1 within the limits.
        """
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
        elif self._http.our_state is not h11.IDLE:
            return None
        self.idle_since = trio.current_time()
        has_begun = bool(self._http.trailing_data[0])
        wait_s = self._limits.head_s if has_begun else self._limits.idle_s
        with trio.CancelScope(deadline=trio.current_time() + wait_s) as scope:
            while True:
                match self._next_event():
                    case h11.Request() as request:
                        self.idle_since = math.inf
                        if request.http_version != b"1.1":
                            raise Refusal("bad_request", "this server speaks HTTP/1.1 only")
                        return request
                    case h11.NEED_DATA:
                        if not await self._receive():
                            return None
                        if not has_begun:
                            has_begun = True
                            scope.deadline = trio.current_time() + self._limits.head_s
                    case _:  # ConnectionClosed, PAUSED
                        return None
        if has_begun:
            raise Refusal("too_slow", f"the request did not end within {self._limits.head_s:g} s")
        return None

    async def body(self) -> AsyncGenerator[bytes, None]:
        """The pieces of the request's body, as they come; not asking for more holds the client back.

        It ends only if the body is whole: a `Refusal` is raised if the client leaves before that,
        stalls or breaks the protocol.
        """
        while True:
            if self._http.they_are_waiting_for_100_continue:
                go_on = h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")
                await self._send(self._http.send(go_on))
            match self._next_event():
                case h11.Data(data=data):
                    yield bytes(data)
                case h11.EndOfMessage():
                    return
                case h11.NEED_DATA:
                    with trio.move_on_after(self._limits.piece_s) as scope:
                        await self._receive()
                    if scope.cancelled_caught:
                        raise Refusal("too_slow", f"nothing came for {self._limits.piece_s:g} s")
                case event:  # h11 itself refuses an end in the middle of a body
                    raise AssertionError(event)

    async def whole_body(self, bytes_max: int) -> bytes:
        """The request's body. Refuses "too_large" above `bytes_max`."""
        body = bytearray()
        async with aclosing(self.body()) as pieces:
            async for piece in pieces:
                body += piece
                if len(body) > bytes_max:
                    raise Refusal("too_large", f"a request is at most {bytes_max:,} bytes long")
        return bytes(body)

    @property
    def has_replied(self) -> bool:
        """A reply has begun (or none can be sent): another status can no longer be told."""
        return self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE)

    async def begin(self, status: int, content_type: str, headers: Headers = (), size: int = -1) -> None:
        """Send the head of a reply; `size` -1 for a chunked one."""
        await self._send(self._head(status, content_type, headers, size))

    def _head(self, status: int, content_type: str, headers: Headers, size: int) -> bytes:
        framing = ("transfer-encoding", "chunked") if size < 0 else ("content-length", str(size))
        fields = [("content-type", content_type), framing, ("cache-control", "no-store"), *headers]
        if self._http.their_state is not h11.DONE:
            fields.append(("connection", "close"))  # the rest of the body would be taken for a request
        return self._http.send(h11.Response(status_code=status, headers=fields)) or b""

    async def send(self, piece: bytes) -> None:
        """Send a piece of the reply's body, returning when the client's side has taken it."""
        await self._send(self._http.send(h11.Data(data=piece)))

    async def end(self) -> None:
        """End the reply. Only a reply that is ended looks whole to the client."""
        await self._send(self._http.send(h11.EndOfMessage()))

    async def reply(self, status: int, body: bytes, headers: Headers = ()) -> None:
        """Send a whole JSON reply."""
        head = self._head(status, JSON_TYPE, headers, len(body))
        self._http.send(h11.Data(data=body))
        self._http.send(h11.EndOfMessage())
        await self._send(head + body)

    async def refuse(self, refusal: Refusal, headers: Headers = ()) -> None:
        """Tell the client why not, unless a reply has begun."""
        if self.has_replied:
            return
        await self.reply(refusal.fault.status, msgspec.json.encode(failure_of(refusal)), headers)

    async def close(self) -> None:
        """Close. A client that still sends may read its reply first, within `DRAIN_S`, `DRAIN_BYTES_MAX`."""
        try:
            if self._http.their_state in (h11.SEND_BODY, h11.ERROR):
                with trio.move_on_after(DRAIN_S), suppress(trio.BrokenResourceError):
                    await self._drain()
        finally:
            await trio.aclose_forcefully(self._stream)

    async def _drain(self) -> None:
        await self._stream.send_eof()
        drained = 0
        while drained < DRAIN_BYTES_MAX and (piece := await self._stream.receive_some(RECEIVE_BYTES)):
            drained += len(piece)

    def _next_event(self) -> object:
        try:
            return self._http.next_event()
        except h11.RemoteProtocolError as error:
            code = "head_too_large" if error.error_status_hint == 431 else "bad_request"
            raise Refusal(code, f"not a request this server understands: {error}") from error

    async def _receive(self) -> bool:
        try:
            piece = bytes(await self._stream.receive_some(RECEIVE_BYTES))
        except trio.BrokenResourceError:
            piece = b""
        self._http.receive_data(piece)
        return bool(piece)

    async def _send(self, piece: bytes | None) -> None:
        if not piece:
            return
        with trio.move_on_after(self._limits.send_s) as scope:
            try:
                await self._stream.send_all(piece)
            except trio.BrokenResourceError as error:
                raise ClientGone("closed its side") from error
        if scope.cancelled_caught:
            raise ClientGone(f"took nothing for {self._limits.send_s:g} s")
