"""A device at a signalling server: strangers get a link for pairing at most, who lies gets nothing."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
import trio_websocket

from dittofs.clock import SystemClock, system_entropy
from dittofs.errors import DittoError
from dittofs.links.link import Alpn, Link
from dittofs.replication.asking import dial_host
from dittofs.replication.calls import STRANGERS_MAX, Calls
from dittofs.replication.connector import Connector
from dittofs.replication.line import HEARD_BURST, Line
from dittofs.server_urls import SignalUrl
from dittofs.signalling.client import open_connection
from dittofs.signalling.messages import (
    ROOM_BYTES,
    VERSION,
    Came,
    Enter,
    Entered,
    Part,
    Refusal,
    Refused,
    Said,
    Tell,
    Welcome,
    encode,
)
from dittofs.signalling.sealing import Answer, AnyWord, Here, Offer, pairing_room, plain
from tests.links.conformance import both_closed
from tests.links.devices import new_device
from tests.links.test_signalling import a_server
from tests.links.test_webrtc import children

SLOT = 7
ROOM = pairing_room(SLOT)


@asynccontextmanager
async def hosting(url: SignalUrl) -> AsyncIterator[tuple[Line, trio.MemoryReceiveChannel[Link]]]:
    """A device that shows a code of that number there, and the links that strangers got."""
    device = new_device()
    served, links = trio.open_memory_channel[Link](16)
    connector = Connector(device, clock=SystemClock())

    async def serve(link: Link) -> None:
        await served.send(link)
        await link.receive_some()

    connector.open_to_pairing(serve, lambda: True)
    async with trio.open_nursery() as nursery:
        line = Line(
            url,
            connector,
            Calls(device, nursery),
            volumes=lambda: (),
            slots=lambda: frozenset({SLOT}),
            ice=(),
            clock=SystemClock(),
            entropy=system_entropy,
        )
        nursery.start_soon(line.run)
        with trio.fail_after(120):
            yield line, links
        nursery.cancel_scope.cancel()


async def asked(url: SignalUrl, nursery: trio.Nursery) -> Link:
    return await dial_host(url, SLOT, Calls(new_device(), nursery), (), system_entropy)


async def test_a_guest_gets_a_link_for_pairing_though_others_said_nonsense() -> None:
    async with a_server() as url, hosting(url) as (line, links), trio.open_nursery() as nursery:
        assert await line.hosting(SLOT)
        async with open_connection(url) as rude:
            await rude.send(Enter(ROOM, Part.GUEST))
            assert await rude.receive() == Entered(ROOM)
            came = await rude.receive()
            assert isinstance(came, Came)
            words: list[AnyWord] = [
                Here(bytes(32), bytes(16)),
                Answer(bytes(16), 1, "x"),
                Offer(bytes(16), 1, "no description"),
            ]
            for body in [b"", os.urandom(100), *(plain(word) for word in words)]:
                await rude.send(Tell(ROOM, came.who, body))
            link = await asked(url, nursery)
        async with both_closed(link):
            assert link.alpn is Alpn.PAIRING
            assert link.description.startswith("webrtc ")
            assert (await links.receive()).alpn is Alpn.PAIRING


async def test_a_guest_that_calls_without_end_starts_few_processes() -> None:
    before, most = set(children()), 0
    async with a_server() as url, hosting(url) as (line, links):
        assert await line.hosting(SLOT)
        async with open_connection(url) as rude:
            await rude.send(Enter(ROOM, Part.GUEST))
            await rude.receive()
            came = await rude.receive()
            assert isinstance(came, Came)
            for number in range(300):
                await rude.send(Tell(ROOM, came.who, plain(Offer(bytes(16), number, f"v={number}"))))
                if number % 10 == 0:
                    most = max(most, len(set(children()) - before))
        assert most <= STRANGERS_MAX
        assert links.statistics().current_buffer_used == 0


async def test_a_number_that_another_device_shows_is_told() -> None:
    async with a_server() as url, hosting(url) as (first, _):
        assert await first.hosting(SLOT) is True
        async with hosting(url) as (second, _):
            assert await second.hosting(SLOT) is False


@asynccontextmanager
async def a_liar(
    lie: Callable[[trio_websocket.WebSocketConnection], Awaitable[None]],
) -> AsyncIterator[SignalUrl]:
    """A server that welcomes and then says what it likes."""

    async def serve(request: trio_websocket.WebSocketRequest) -> None:
        connection = await request.accept()
        try:
            await connection.send_message(encode(Welcome(VERSION, 0)))
            await lie(connection)
            while True:
                await connection.get_message()
        except trio_websocket.ConnectionClosed:
            pass

    async with trio.open_nursery() as nursery:
        server = await nursery.start(
            partial(trio_websocket.serve_websocket, serve, "127.0.0.1", 0, None, connect_timeout=10)
        )
        yield SignalUrl.parse(f"ws://127.0.0.1:{server.port}")
        nursery.cancel_scope.cancel()


LIES = {
    "noise": [os.urandom(100)],
    "refused": [encode(Refused(ROOM, Refusal.RATE))],
    "a host with a false answer": [
        encode(Entered(ROOM)),
        encode(Came(ROOM, 1)),
        *[encode(Said(ROOM, 1, plain(Answer(bytes(16), number, "v=0")))) for number in range(5)],
        encode(Said(bytes(ROOM_BYTES), 1, b"")),
        b"\xc1",
    ],
}


@pytest.mark.parametrize("told", LIES.values(), ids=LIES.keys())
async def test_who_asks_a_server_that_lies_gets_no_link_and_is_told(told: list[bytes]) -> None:
    async def lie(connection: trio_websocket.WebSocketConnection) -> None:
        for message in told:
            await connection.send_message(message)

    async with a_liar(lie) as url, trio.open_nursery() as nursery:
        with trio.fail_after(60), pytest.raises(DittoError):
            await asked(url, nursery)
        nursery.cancel_scope.cancel()


async def test_a_server_that_floods_is_left() -> None:
    flooded = trio.Event()

    async def lie(connection: trio_websocket.WebSocketConnection) -> None:
        message = encode(Said(ROOM, 1, plain(Here(bytes(32), bytes(16)))))
        try:
            for _ in range(int(HEARD_BURST) * 10):
                await connection.send_message(message)
        except trio_websocket.ConnectionClosed:
            flooded.set()
            raise

    async with a_liar(lie) as url, hosting(url):
        await flooded.wait()
