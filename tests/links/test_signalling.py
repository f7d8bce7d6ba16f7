"""A real signalling server and its clients over loopback: who meets, and what the rude and the slow get."""

import os
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
import trio
import trio_websocket
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from dittofs.errors import ConfigError, DittoError
from dittofs.server_urls import SignalUrl
from dittofs.signalling.client import ServerLost, SignalConnection, open_connection
from dittofs.signalling.messages import (
    BODY_BYTES_MAX,
    ROOM_BYTES,
    Came,
    Enter,
    Entered,
    Gone,
    Part,
    Said,
    Tell,
    encode,
)
from dittofs.signalling.rooms import BURST
from dittofs.signalling.server import CLIENTS_MAX, CLIENTS_PER_ADDRESS_MAX, Places, Server
from tests.unit.signalling.test_stun import QUESTION

ROOM = bytes(ROOM_BYTES)


@asynccontextmanager
async def a_server(tls: ssl.SSLContext | None = None) -> AsyncIterator[SignalUrl]:
    server = Server("127.0.0.1", 0, entropy=os.urandom, tls=tls)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        with trio.fail_after(60):
            yield SignalUrl.parse(f"{'wss' if tls else 'ws'}://127.0.0.1:{server.port}")
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def a_rude_client(url: SignalUrl) -> AsyncIterator[trio_websocket.WebSocketConnection]:
    """A WebSocket that has been welcomed, and that no ping keeps alive."""
    stream = await trio.open_tcp_stream(url.address.host, url.address.port)
    async with stream, trio.open_nursery() as nursery:
        connection = await trio_websocket.wrap_client_stream(
            nursery, stream, str(url.address), "/", message_queue_size=0
        )
        await connection.get_message()
        yield connection
        nursery.cancel_scope.cancel()


async def flood(url: SignalUrl, whom: int) -> None:
    """Send one member of the room as much as the server takes at once, and then at its pace."""
    async with open_connection(url) as connection:
        await connection.send(Enter(ROOM, Part.MEMBER))
        for number in range(100_000):
            await connection.send(Tell(ROOM, whom, bytes(BODY_BYTES_MAX)))
            if number > BURST - 50:
                await trio.sleep(0.1)


async def entered(connection: SignalConnection, part: Part = Part.MEMBER) -> None:
    await connection.send(Enter(ROOM, part))
    assert await connection.receive() == Entered(ROOM)


async def test_two_clients_meet_and_one_is_told_that_the_other_has_gone() -> None:
    async with a_server() as url, open_connection(url) as one:
        assert one.stun_port == url.address.port
        await entered(one)
        async with open_connection(url) as other:
            await entered(other)
            came, met = await one.receive(), await other.receive()
            assert isinstance(came, Came)
            assert isinstance(met, Came)
            body = os.urandom(BODY_BYTES_MAX)
            await one.send(Tell(ROOM, came.who, body))
            assert await other.receive() == Said(ROOM, met.who, body)
        assert await one.receive() == Gone(ROOM, came.who)


@pytest.mark.parametrize(
    "rude",
    [
        b"",
        b"\xc1",
        os.urandom(200),
        encode(Tell(ROOM, 1, b""))[:-1],
        bytes(BODY_BYTES_MAX + 1000),
        "text",
    ],
    ids=["empty", "no msgpack", "noise", "cut", "huge", "text"],
)
async def test_a_rude_client_is_let_go_of_and_the_others_notice_nothing(rude: bytes | str) -> None:
    async with a_server() as url, open_connection(url) as other:
        await entered(other)
        async with a_rude_client(url) as client:
            with pytest.raises(trio_websocket.ConnectionClosed):
                await client.send_message(rude)
                await client.get_message()
        await other.send(Enter(ROOM, Part.MEMBER))
        assert await other.receive() == Entered(ROOM)


async def test_a_client_that_floods_is_let_go_of() -> None:
    async with a_server() as url:
        with pytest.raises(DittoError):
            async with open_connection(url) as flooding:
                for _ in range(int(BURST) * 4):
                    await flooding.send(Enter(ROOM, Part.MEMBER))
                    await flooding.receive()
        async with open_connection(url) as other:
            await entered(other)


async def test_a_client_that_does_not_receive_is_let_go_of_and_holds_up_nobody() -> None:
    async with a_server() as url, open_connection(url) as speaking:
        await entered(speaking)
        async with a_rude_client(url) as deaf:
            await deaf.send_message(encode(Enter(ROOM, Part.MEMBER)))
            came = await speaking.receive()
            assert isinstance(came, Came)
            async with trio.open_nursery() as nursery:
                for _ in range(4):
                    nursery.start_soon(flood, url, came.who)
                while await speaking.receive() != Gone(ROOM, came.who):
                    pass
                nursery.cancel_scope.cancel()


async def test_what_speaks_no_websocket_is_let_go_of() -> None:
    async with a_server() as url:
        for said in (b"GET / HTTP/1.1\r\n\r\n", b"\0" * 100, b"x" * 100_000):
            stream = await trio.open_tcp_stream(url.address.host, url.address.port)
            async with stream:
                try:
                    await stream.send_all(said)
                    while await stream.receive_some():
                        pass
                except trio.BrokenResourceError:
                    pass
        async with open_connection(url) as connection:
            await entered(connection)


def test_one_address_has_so_many_clients_and_no_more_but_a_proxy_on_this_machine() -> None:
    places = Places()
    with ExitStack() as stack:
        for _ in range(CLIENTS_PER_ADDRESS_MAX):
            stack.enter_context(places.taken("192.0.2.1"))
        with pytest.raises(DittoError), places.taken("192.0.2.1"):
            pass
        for _ in range(CLIENTS_PER_ADDRESS_MAX + 1):
            stack.enter_context(places.taken("127.0.0.1"))
        with places.taken("192.0.2.2"):
            pass
    with ExitStack() as stack:
        for number in range(CLIENTS_MAX):
            stack.enter_context(places.taken(f"10.0.{number // 50}.1"))
        with pytest.raises(DittoError), places.taken("192.0.2.1"):
            pass


async def test_nobody_there_is_told_as_that() -> None:
    with pytest.raises(ServerLost, match="not reached"):
        async with open_connection(SignalUrl.parse("ws://127.0.0.1:1")):
            pass


def own_certificate(place: Path) -> ssl.SSLContext:
    """Of 127.0.0.1, signed by itself: nobody trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), False)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    place.write_bytes(secret + signed.public_bytes(Encoding.PEM))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(place)
    return context


async def test_a_certificate_that_is_not_trusted_is_told_as_that(tmp_path: Path) -> None:
    async with a_server(own_certificate(tmp_path / "both.pem")) as url:
        with pytest.raises(ServerLost, match=r"its certificate is not trusted here: self.signed"):
            async with open_connection(url):
                raise AssertionError


async def test_the_same_port_answers_stun() -> None:
    async with a_server() as url:
        with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            await asking.sendto(QUESTION, (url.address.host, url.address.port))
            data, _ = await asking.recvfrom(2048)
        assert data[:2] == b"\1\1"


@pytest.mark.parametrize(("bind", "asked"), [(None, "127.0.0.2"), (None, "::1"), ("127.0.0.1", "127.0.0.1")])
async def test_stun_answers_from_the_address_that_was_asked(bind: str | None, asked: str) -> None:
    server = Server(bind, 0, entropy=os.urandom)
    family = socket.AF_INET6 if ":" in asked else socket.AF_INET
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        with trio.socket.socket(family, socket.SOCK_DGRAM) as asking, trio.fail_after(60):
            await asking.connect((asked, server.port))  # the kernel lets nobody else answer
            await asking.send(QUESTION)
            assert (await asking.recv(2048))[:2] == b"\1\1"
        nursery.cancel_scope.cancel()


def test_a_port_that_is_taken_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ConfigError, match="cannot listen"):
        Server("127.0.0.1", taken.getsockname()[1], entropy=os.urandom)
