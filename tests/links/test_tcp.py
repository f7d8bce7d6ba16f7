"""Listening and dialling."""

import errno
import os
import resource
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
import trio.testing

from dittofs.errors import FormatError
from dittofs.links.link import Alpn, HandshakeRefused, Link, LinkBroken
from dittofs.links.tcp import (
    STRANGERS_MAX,
    STRANGERS_PER_ADDRESS_MAX,
    Endpoint,
    dial,
    listen,
)
from tests.links.devices import anybody, new_device, nobody, only

SERVER = new_device()
CLIENT = new_device()


async def echo(link: Link) -> None:
    while data := await link.receive_some():
        await link.send_all(data)


@asynccontextmanager
async def listening(
    serve: object = echo, *, bind: str | None = "127.0.0.1", admits: object = anybody
) -> AsyncIterator[tuple[Endpoint, ...]]:
    async with trio.open_nursery() as nursery:
        yield await nursery.start(
            partial(listen, SERVER, serve, nursery, admits=admits, bind=bind)  # type: ignore[arg-type]
        )
        nursery.cancel_scope.cancel()


async def call(host: str, port: int) -> None:
    """Ask for an echo, and get it."""
    link = await dial(host, port, CLIENT, alpn=Alpn.SESSION, admits=only(SERVER))
    await link.send_all(b"hello")
    assert await link.receive_some() == b"hello"
    await link.aclose()


async def test_one_port_answers_on_ipv4_and_ipv6() -> None:
    async with listening(bind=None) as endpoints:
        assert [host for host, _ in endpoints] == ["0.0.0.0", "::"]
        assert len({port for _, port in endpoints}) == 1
        await call("127.0.0.1", endpoints[0][1])
        await call("::1", endpoints[0][1])
        await call("localhost", endpoints[0][1])


async def test_only_the_address_asked_for_is_bound() -> None:
    async with listening(bind="::1") as endpoints:
        assert [host for host, _ in endpoints] == ["::1"]
        with pytest.raises(LinkBroken):
            await call("127.0.0.1", endpoints[0][1])


@pytest.mark.parametrize("bind", ["192.0.2.77", "nonsense"])
async def test_an_address_that_cannot_be_had_is_an_error(bind: str) -> None:
    with pytest.RaisesGroup(LinkBroken, allow_unwrapped=True, flatten_subgroups=True):
        async with listening(bind=bind):
            pass


async def test_a_port_in_use_is_an_error() -> None:
    async with listening() as endpoints, trio.open_nursery() as nursery:
        with pytest.raises(LinkBroken, match="cannot listen"):
            await listen(SERVER, echo, nursery, admits=anybody, bind="127.0.0.1", port=endpoints[0][1])


async def test_nobody_listens() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        with pytest.raises(LinkBroken):
            await dial("127.0.0.1", held.getsockname()[1], CLIENT, alpn=Alpn.SESSION, admits=anybody)


@pytest.mark.parametrize("host", ["no.such.host.invalid", "::1::", "x" * 300, "fe80::1%nosuch0", ""])
async def test_a_host_that_does_not_exist_is_broken(host: str) -> None:
    with pytest.raises(LinkBroken):
        await dial(host, 1, CLIENT, alpn=Alpn.SESSION, admits=anybody)


async def test_dialling_takes_no_longer_than_it_may() -> None:
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for other in (first, second):  # the queue is full: more connections are not answered
            other.setblocking(False)
            assert other.connect_ex(full.getsockname()) in (0, errno.EINPROGRESS)
        host, port = full.getsockname()
        with pytest.raises(LinkBroken, match="within"):
            await dial(host, port, CLIENT, alpn=Alpn.SESSION, admits=anybody, patience_s=0.05)


async def test_a_stranger_is_refused_and_the_listener_goes_on() -> None:
    async with listening(admits=only(CLIENT)) as ((host, port),):
        link = await dial(host, port, new_device(), alpn=Alpn.SESSION, admits=anybody)
        with pytest.raises(HandshakeRefused):
            await link.receive_some()
        await link.aclose()
        with pytest.raises(HandshakeRefused):
            await dial(host, port, CLIENT, alpn=Alpn.SESSION, admits=nobody)
        await call(host, port)


async def test_an_error_in_one_link_ends_that_one_alone() -> None:
    async def serve(link: Link) -> None:
        if await link.receive_some() == b"bad":
            raise FormatError("not what a session begins with")
        await link.send_all(b"hello")

    async with listening(serve) as ((host, port),):
        link = await dial(host, port, CLIENT, alpn=Alpn.SESSION, admits=anybody)
        await link.send_all(b"bad")
        assert await link.receive_some() == b""
        await link.aclose()
        await call(host, port)


async def test_connections_that_reset_or_leave_at_once_do_no_harm() -> None:
    async with listening() as ((host, port),):
        for linger in (b"\1\0\0\0\0\0\0\0", b"\0\0\0\0\0\0\0\0"):
            for _ in range(20):
                stranger = socket.create_connection((host, port))
                stranger.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                stranger.close()
        await call(host, port)


async def is_ended(stream: trio.SocketStream) -> bool:
    """Whether the other side ends it at once."""
    try:
        with trio.move_on_after(1):
            return not await stream.receive_some()
    except trio.BrokenResourceError:
        return True
    return False


async def test_strangers_of_one_address_make_place_for_each_other() -> None:
    async with listening() as ((host, port),):
        waiting = [await trio.open_tcp_stream(host, port) for _ in range(STRANGERS_PER_ADDRESS_MAX)]
        await call(host, port)
        assert await is_ended(waiting[0])
        with trio.move_on_after(0.05) as scope:
            await waiting[-1].receive_some()
        assert scope.cancelled_caught
        for stream in waiting:
            await stream.aclose()


async def test_strangers_of_many_addresses_make_place_for_each_other() -> None:
    async with listening(bind=None) as ((_, port), _):
        waiting = []
        for count in range(STRANGERS_MAX):
            from_host = f"127.0.1.{count // STRANGERS_PER_ADDRESS_MAX + 1}"
            waiting.append(await trio.open_tcp_stream("127.0.0.1", port, local_address=from_host))
        await call("127.0.0.1", port)
        assert await is_ended(waiting[0])
        with trio.move_on_after(0.05) as scope:
            await waiting[-1].receive_some()
        assert scope.cancelled_caught
        for stream in waiting:
            await stream.aclose()


async def test_those_who_are_admitted_are_no_strangers() -> None:
    async with listening() as ((host, port),):
        links = [
            await dial(host, port, CLIENT, alpn=Alpn.SESSION, admits=anybody)
            for _ in range(2 * STRANGERS_PER_ADDRESS_MAX)
        ]
        async with trio.open_nursery() as nursery:
            for link in links:
                await link.send_all(b"here")
                assert await link.receive_some() == b"here"
                nursery.start_soon(link.aclose)


@pytest.mark.logs_warning("connections cannot be accepted")
async def test_a_shortage_of_descriptors_passes(caplog: pytest.LogCaptureFixture) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with listening() as ((host, port),):
        stranger = socket.socket()
        free = os.dup(0)  # the lowest number that is free, and so the least limit without room
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
        try:
            stranger.connect((host, port))
            await trio.testing.wait_all_tasks_blocked(0.05)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            stranger.close()
        assert "connections cannot be accepted" in caplog.text
        await call(host, port)


async def test_the_end_closes_links_and_sockets() -> None:
    async with listening() as ((host, port),):
        link = await dial(host, port, CLIENT, alpn=Alpn.SESSION, admits=anybody)
        await link.send_all(b"x")
        await link.receive_some()
    with pytest.raises(LinkBroken):
        await link.receive_some()
    await link.aclose()
    with pytest.raises(LinkBroken):
        await call(host, port)
