"""The handshake against those who do not keep to it."""

import datetime
import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import pytest
import trio
import trio.testing
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID
from OpenSSL import SSL

from dittofs.identity.keys import Device, DeviceId
from dittofs.links.link import Admits, Alpn, HandshakeRefused, Link, LinkBroken
from dittofs.links.tls import HANDSHAKE_BYTES_MAX, HANDSHAKE_PATIENCE_S, secure, taken
from tests.links.devices import anybody, new_device, nobody, only
from tests.links.pipe import Pipe, cut, pipe_pair

Outcome = Link | LinkBroken


async def outcomes(
    dialer: Device,
    accepter: Device,
    *,
    dialer_admits: Admits = anybody,
    accepter_admits: Admits = anybody,
    alpn: Alpn = Alpn.SESSION,
    accepts: Alpn | None = None,
) -> tuple[Outcome, Outcome]:
    """What each side makes of the other, once it has received for the first time if it has a link."""
    near, far = pipe_pair()
    found: dict[bool, Outcome] = {}

    async def one(stream: Pipe, is_dialer: bool) -> None:
        try:
            link = found[is_dialer] = await secure(
                stream,
                dialer if is_dialer else accepter,
                is_dialer=is_dialer,
                alpn=alpn if is_dialer else accepts,
                admits=dialer_admits if is_dialer else accepter_admits,
                description="memory",
            )
        except LinkBroken as error:
            found[is_dialer] = error
            return
        try:
            await link.send_all(b"hello")
            await link.receive_some()
        except LinkBroken as error:
            found[is_dialer] = error
        await link.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(one, near, True)
        nursery.start_soon(one, far, False)
    return found[True], found[False]


async def test_members_meet() -> None:
    here, there = new_device(), new_device()
    dialer, accepter = await outcomes(
        here, there, dialer_admits=only(there), accepter_admits=only(here), accepts=Alpn.SESSION
    )
    assert not isinstance(dialer, LinkBroken)
    assert not isinstance(accepter, LinkBroken)
    assert dialer.peer == there.id
    assert accepter.peer == here.id
    assert dialer.certificate == there.certificate


async def test_a_stranger_is_refused_and_told_so() -> None:
    dialer, accepter = await outcomes(new_device(), new_device(), accepter_admits=nobody)
    assert isinstance(dialer, HandshakeRefused)
    assert isinstance(accepter, HandshakeRefused)


async def test_a_dialer_refuses_whom_it_did_not_look_for() -> None:
    dialer, accepter = await outcomes(new_device(), new_device(), dialer_admits=only(new_device()))
    assert isinstance(dialer, HandshakeRefused)
    assert isinstance(accepter, HandshakeRefused)


async def test_a_stranger_is_admitted_to_pairing_alone() -> None:
    def admits(_: DeviceId, alpn: Alpn) -> bool:
        return alpn is Alpn.PAIRING

    pairing = await outcomes(new_device(), new_device(), accepter_admits=admits, alpn=Alpn.PAIRING)
    assert not any(isinstance(end, LinkBroken) for end in pairing)
    session = await outcomes(new_device(), new_device(), accepter_admits=admits, alpn=Alpn.SESSION)
    assert all(isinstance(end, HandshakeRefused) for end in session)


async def test_a_protocol_that_the_other_side_does_not_take_is_refused() -> None:
    ends = await outcomes(new_device(), new_device(), alpn=Alpn.PAIRING, accepts=Alpn.SESSION)
    assert all(isinstance(end, HandshakeRefused) for end in ends)


async def test_a_device_removed_while_the_handshake_runs_is_refused() -> None:
    # The library asks twice about a self-signed certificate: of its signer, and in the end. Then we do.
    answers = iter((True, True, False))
    ends = await outcomes(new_device(), new_device(), accepter_admits=lambda _, __: next(answers))
    assert isinstance(ends[1], HandshakeRefused)
    assert isinstance(ends[0], LinkBroken)


def foreign_context(
    device: Device,
    *,
    protocols: tuple[bytes, ...] = (Alpn.SESSION.encode(),),
    version: int = SSL.TLS1_3_VERSION,
) -> SSL.Context:
    """A peer that follows TLS and not our profile of it."""
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(version)
    context.set_max_proto_version(version)
    context.use_privatekey(device.signing)
    context.use_certificate(x509.load_der_x509_certificate(device.certificate))
    context.set_verify(SSL.VERIFY_PEER, lambda *_: True)
    if protocols:
        context.set_alpn_protos(list(protocols))
    return context


async def converse(engine: SSL.Connection, stream: Pipe) -> None:
    """Be a foreign client: shake hands, and receive until something ends it."""
    engine.set_connect_state()
    is_shaken = False
    while True:
        try:
            if is_shaken:
                engine.recv(65536)
            else:
                engine.do_handshake()
                is_shaken = True
                await stream.send_all(taken(engine))
        except SSL.WantReadError:
            await stream.send_all(taken(engine))
            if not (arrived := await stream.receive_some(65536)):
                return
            engine.bio_write(arrived)


async def outlive(engine: SSL.Connection, stream: Pipe) -> None:
    """Be a foreign client that takes whatever end it gets."""
    with suppress(SSL.Error, trio.BrokenResourceError):
        await converse(engine, stream)


async def refusal_of(engine: SSL.Connection) -> HandshakeRefused:
    """How we refuse this client."""
    near, far = pipe_pair()
    refusals: list[HandshakeRefused] = []

    async def accept() -> None:
        with pytest.raises(HandshakeRefused) as caught:
            await secure(far, new_device(), is_dialer=False, admits=anybody, description="memory")
        refusals.append(caught.value)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept)
        with pytest.raises(SSL.Error):
            await converse(engine, near)
        cut(near)
    return refusals[0]


@pytest.mark.parametrize(
    "context",
    [
        partial(foreign_context, version=SSL.TLS1_2_VERSION),
        partial(foreign_context, protocols=()),
        partial(foreign_context, protocols=(b"h2", b"dittofs/2")),
    ],
    ids=["TLS 1.2", "no protocol named", "other protocols"],
)
async def test_another_profile_of_tls_is_refused(context: Callable[[Device], SSL.Context]) -> None:
    await refusal_of(SSL.Connection(context(new_device()), None))


async def test_no_certificate_is_refused() -> None:
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_alpn_protos([Alpn.SESSION.encode()])
    await refusal_of(SSL.Connection(context, None))


async def test_another_kind_of_key_is_refused() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    context = foreign_context(new_device())
    context.use_certificate(certificate(key, key, "dittofs", "dittofs"))
    context.use_privatekey(key)
    refusal = await refusal_of(SSL.Connection(context, None))
    assert "kind of key" in str(refusal)


async def test_a_certificate_that_another_signed_is_refused_with_its_chain() -> None:
    authority, own = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    context = foreign_context(new_device())
    context.use_certificate(certificate(own, authority, "dittofs", "authority"))
    context.use_privatekey(own)
    context.add_extra_chain_cert(certificate(authority, authority, "authority", "authority"))
    refusal = await refusal_of(SSL.Connection(context, None))
    assert "alone" in str(refusal)


def certificate(
    key: Ed25519PrivateKey | ec.EllipticCurvePrivateKey,
    signer: Ed25519PrivateKey | ec.EllipticCurvePrivateKey,
    subject: str,
    issuer: str,
    ballast: bytes = b"",
) -> x509.Certificate:
    now = datetime.datetime(2020, 1, 1)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=subject == issuer, path_length=None), critical=True)
    )
    if ballast:
        extension = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.55555.1"), ballast)
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(signer, None if isinstance(signer, Ed25519PrivateKey) else hashes.SHA256())


async def test_no_session_is_resumed() -> None:
    device, asked = new_device(), []

    def admits(peer: DeviceId, _: Alpn) -> bool:
        asked.append(peer)
        return True

    async def visit(session: SSL.Session | None) -> SSL.Session | None:
        near, far = pipe_pair()
        engine = SSL.Connection(context, None)
        if session is not None:
            engine.set_session(session)

        async def accept() -> None:
            link = await secure(far, accepter, is_dialer=False, admits=admits, description="memory")
            await link.send_all(b"hello")
            await link.aclose()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept)
            with pytest.raises(SSL.ZeroReturnError):
                await converse(engine, near)
            cut(near)
        return engine.get_session()

    context, accepter = foreign_context(device), new_device()
    context.set_session_cache_mode(SSL.SESS_CACHE_CLIENT)
    session = await visit(None)
    begun_anew = len(asked)
    await visit(session)
    # The certificate was judged again when it came, and not only afterwards.
    assert begun_anew > 1
    assert len(asked) == 2 * begun_anew
    assert set(asked) == {device.id}


async def test_a_handshake_without_end_is_cut_off() -> None:
    near, far = pipe_pair()
    sent = 0

    async def flood() -> None:
        nonlocal sent
        # A ClientHello whose length promises 16 MB, in records as large as may be.
        body = b"\x01\xff\xff\xff\x03\x03" + bytes(16378)
        with pytest.raises(trio.BrokenResourceError):
            while True:
                await near.send_all(b"\x16\x03\x01\x40\x00" + body)
                body = bytes(16384)
                sent += len(body)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(flood)
        with pytest.raises(HandshakeRefused):
            await secure(far, new_device(), is_dialer=False, admits=anybody, description="memory")
    cut(near)
    assert sent < 2**30


async def test_a_handshake_that_the_library_would_take_is_cut_off_at_our_limit() -> None:
    context, key = foreign_context(new_device()), Ed25519PrivateKey.generate()
    for _ in range(10):
        context.add_extra_chain_cert(certificate(key, key, "ballast", "ballast", ballast=bytes(8 << 10)))
    near, far = pipe_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outlive, SSL.Connection(context, None), near)
        with pytest.raises(HandshakeRefused, match="more than"):
            await secure(far, new_device(), is_dialer=False, admits=anybody, description="memory")
    cut(near)


async def test_a_handshake_of_many_small_messages_is_cut_off() -> None:
    near, far = pipe_pair()
    device, trickled = new_device(), 0

    async def trickle() -> None:
        nonlocal trickled
        engine = SSL.Connection(foreign_context(new_device()), None)
        engine.set_connect_state()
        with pytest.raises(SSL.WantReadError):
            engine.do_handshake()
        hello = taken(engine)
        try:
            for begin in range(len(hello) - 1):  # one byte of the message in each record, never the last
                await near.send_all(b"\x16\x03\x01\x00\x01" + hello[5 + begin : 6 + begin])
                trickled += 6
            while True:  # what middleboxes send, and TLS 1.3 passes over
                await near.send_all(b"\x14\x03\x03\x00\x01\x01")
                trickled += 6
        except trio.BrokenResourceError:
            pass

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trickle)
        with pytest.raises(HandshakeRefused):
            await secure(far, device, is_dialer=False, admits=anybody, description="memory")
    cut(near)
    assert trickled < HANDSHAKE_BYTES_MAX + (128 << 10)


@pytest.mark.parametrize("is_dialer", [True, False])
async def test_a_stalled_handshake_ends_in_time(
    is_dialer: bool, autojump_clock: trio.testing.MockClock
) -> None:
    near, far = pipe_pair()
    begin = autojump_clock.current_time()
    with pytest.raises(HandshakeRefused):
        await secure(
            far,
            new_device(),
            is_dialer=is_dialer,
            alpn=Alpn.SESSION,
            admits=anybody,
            description="memory",
        )
    assert autojump_clock.current_time() - begin == pytest.approx(HANDSHAKE_PATIENCE_S, abs=0.1)
    with pytest.raises(trio.BrokenResourceError):  # it has let go of the stream
        await near.send_all(b"x")
    cut(near)


@pytest.mark.parametrize("is_dialer", [True, False])
@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff", os.urandom(4000)])
async def test_garbage_is_refused(garbage: bytes, is_dialer: bool) -> None:
    near, far = pipe_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(near.send_all, garbage)
        with pytest.raises(HandshakeRefused):
            await secure(
                far,
                new_device(),
                is_dialer=is_dialer,
                alpn=Alpn.SESSION,
                admits=anybody,
                description="memory",
            )
    cut(near)


async def test_a_stream_that_ends_during_the_handshake_is_broken() -> None:
    near, far = pipe_pair()
    cut(near)
    with pytest.raises(LinkBroken):
        await secure(far, new_device(), is_dialer=False, admits=anybody, description="memory")


async def test_a_cancelled_handshake_closes_the_stream() -> None:
    near, far = pipe_pair()
    with trio.move_on_after(0.01):
        await secure(far, new_device(), is_dialer=False, admits=anybody, description="memory")
    with pytest.raises(trio.BrokenResourceError):
        await near.send_all(b"x")
    cut(near)


async def test_altered_bytes_break_the_link() -> None:
    near, middle_near = pipe_pair()
    middle_far, far = pipe_pair()
    here, there = new_device(), new_device()
    is_altering = False

    async def carry(source: Pipe, target: Pipe) -> None:
        with trio.CancelScope():
            while arrived := await source.receive_some(65536):
                await target.send_all(bytes(arrived[:-1]) + bytes([arrived[-1] ^ is_altering]))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(carry, middle_near, middle_far)
        nursery.start_soon(carry, middle_far, middle_near)
        links: list[Link] = []

        async def one(stream: Pipe, device: Device, alpn: Alpn | None) -> None:
            is_dialer = alpn is not None
            links.append(
                await secure(
                    stream, device, is_dialer=is_dialer, alpn=alpn, admits=anybody, description="memory"
                )
            )

        async with trio.open_nursery() as shaking:
            shaking.start_soon(one, near, here, Alpn.SESSION)
            shaking.start_soon(one, far, there, None)
        is_altering = True
        await links[0].send_all(b"a promise")
        for _ in range(2):
            with pytest.raises(LinkBroken):
                await links[1].receive_some()
        with pytest.raises(LinkBroken):
            await links[1].send_all(b"x")
        nursery.cancel_scope.cancel()
        for stream in (near, far, middle_near, middle_far):
            cut(stream)
