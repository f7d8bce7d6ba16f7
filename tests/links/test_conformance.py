"""Each transport under the one suite."""

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio

from dittofs.links.link import Alpn, Link
from dittofs.links.tcp import dial, listen
from dittofs.links.tls import secure
from tests.links.bluetooth_pair import bluetooth_streams
from tests.links.conformance import (
    Conformance,
    HalvesConformance,
    HalvesMaker,
    Maker,
    Pair,
    StreamConformance,
    StreamMaker,
    both_closed,
)
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
    near, far = pipe_pair()
    async with over_streams(near, far, partial(cut, far), Alpn.PAIRING) as pair:
        yield pair


@asynccontextmanager
async def tcp_streams() -> AsyncIterator[tuple[trio.SocketStream, trio.SocketStream]]:
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    async with listener:
        one = await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1])
        other = await listener.accept()
    async with one, other:
        yield one, other


@asynccontextmanager
async def over_streams(
    near: trio.abc.Stream, far: trio.abc.Stream, cut_far: Callable[[], object], alpn: Alpn = Alpn.SESSION
) -> AsyncIterator[Pair]:
    here, there = new_device(), new_device()
    links: dict[bool, Link] = {}

    async def one(stream: trio.abc.Stream, is_dialer: bool) -> None:
        links[is_dialer] = await secure(
            stream,
            here if is_dialer else there,
            is_dialer=is_dialer,
            alpn=alpn if is_dialer else None,
            admits=only(there if is_dialer else here),
            description="streams",
        )

    async with trio.open_nursery() as nursery:
        nursery.start_soon(one, near, True)
        nursery.start_soon(one, far, False)
    async with both_closed(*links.values()):
        yield Pair(links[True], links[False], cut_far, big_bytes=8 << 20)


@asynccontextmanager
async def over_webrtc() -> AsyncIterator[Pair]:
    async with webrtc_streams() as (near, far):
        cut_far = partial(far.socket.shutdown, socket.SHUT_RDWR)
        async with over_streams(near, far, cut_far) as pair:
            yield pair


@asynccontextmanager
async def over_bluetooth() -> AsyncIterator[Pair]:
    async with bluetooth_streams() as (near, far), over_streams(near, far, far.end) as pair:
        yield pair


class TestTcpStreams(HalvesConformance):
    @pytest.fixture
    def streams(self) -> HalvesMaker:
        return tcp_streams


class TestWebrtcStreams(HalvesConformance):
    @pytest.fixture
    def streams(self) -> HalvesMaker:
        return webrtc_streams


class TestBluetoothStreams(StreamConformance):
    @pytest.fixture
    def streams(self) -> StreamMaker:
        return bluetooth_streams


class TestBluetooth(Conformance):
    @pytest.fixture
    def maker(self) -> Maker:
        return over_bluetooth


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
