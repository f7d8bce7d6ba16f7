"""Each transport under the one suite."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio

from dittofs.links.link import Alpn, Link
from dittofs.links.tcp import dial, listen
from dittofs.links.tls import secure
from tests.links.conformance import Conformance, Maker, Pair, StreamConformance, StreamMaker, both_closed
from tests.links.devices import new_device, only
from tests.links.pipe import cut, pipe_pair
from tests.links.webrtc_pair import webrtc_streams


@asynccontextmanager
async def over_tcp(host: str) -> AsyncIterator[Pair]:
    here, there = new_device(), new_device()
    accepted: list[Link] = []
    is_accepted, is_over = trio.Event(), trio.Event()

    async def serve(link: Link) -> None:
        accepted.append(link)
        is_accepted.set()
        await is_over.wait()

    def end_stream() -> None:
        accepted[0]._stream.socket.shutdown(socket.SHUT_RDWR)  # type: ignore[attr-defined]

    async with trio.open_nursery() as nursery:
        endpoints = await nursery.start(partial(listen, there, serve, nursery, admits=only(here), bind=host))
        dialer = await dial(host, endpoints[0][1], here, alpn=Alpn.SESSION, admits=only(there))
        async with both_closed(dialer):
            await is_accepted.wait()
            yield Pair(dialer, accepted[0], end_stream)
            is_over.set()
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def over_memory() -> AsyncIterator[Pair]:
    here, there = new_device(), new_device()
    near, far = pipe_pair()
    links: dict[bool, Link] = {}

    async def one(stream: trio.abc.Stream, is_dialer: bool) -> None:
        links[is_dialer] = await secure(
            stream,
            here if is_dialer else there,
            is_dialer=is_dialer,
            alpn=Alpn.PAIRING if is_dialer else None,
            admits=only(there if is_dialer else here),
            description="memory",
        )

    async with trio.open_nursery() as nursery:
        nursery.start_soon(one, near, True)
        nursery.start_soon(one, far, False)
    async with both_closed(*links.values()):
        yield Pair(links[True], links[False], partial(cut, far))


@asynccontextmanager
async def tcp_streams() -> AsyncIterator[tuple[trio.SocketStream, trio.SocketStream]]:
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    async with listener:
        one = await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1])
        other = await listener.accept()
    async with one, other:
        yield one, other


@asynccontextmanager
async def over_webrtc() -> AsyncIterator[Pair]:
    here, there = new_device(), new_device()
    async with webrtc_streams() as (near, far):
        links: dict[bool, Link] = {}

        async def one(stream: trio.SocketStream, is_dialer: bool) -> None:
            links[is_dialer] = await secure(
                stream,
                here if is_dialer else there,
                is_dialer=is_dialer,
                alpn=Alpn.SESSION if is_dialer else None,
                admits=only(there if is_dialer else here),
                description="webrtc",
            )

        async with trio.open_nursery() as nursery:
            nursery.start_soon(one, near, True)
            nursery.start_soon(one, far, False)
        async with both_closed(*links.values()):
            yield Pair(
                links[True], links[False], partial(far.socket.shutdown, socket.SHUT_RDWR), big_bytes=8 << 20
            )


class TestTcpStreams(StreamConformance):
    @pytest.fixture
    def streams(self) -> StreamMaker:
        return tcp_streams


class TestWebrtcStreams(StreamConformance):
    @pytest.fixture
    def streams(self) -> StreamMaker:
        return webrtc_streams


class TestWebrtc(Conformance):
    @pytest.fixture
    def maker(self) -> Maker:
        return over_webrtc


class TestTcpIpv4(Conformance):
    @pytest.fixture
    def maker(self) -> Maker:
        return partial(over_tcp, "127.0.0.1")


class TestTcpIpv6(Conformance):
    @pytest.fixture
    def maker(self) -> Maker:
        return partial(over_tcp, "::1")


class TestMemoryStreams(Conformance):
    @pytest.fixture
    def maker(self) -> Maker:
        return over_memory
