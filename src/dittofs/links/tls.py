"""TLS 1.3 over any stream, both sides proven by self-signed device certificates.

Certificates are not judged by who signed them or by their dates: the device id is their hash,
and `admits` decides by it. No session is ever resumed, so that every link is judged anew.
"""

import hashlib
from typing import Final

import trio
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL, crypto

from dittofs.identity.keys import Device, DeviceId
from dittofs.links.link import Admits, Alpn, HandshakeRefused, Link, LinkBroken, NoPulse, Pulse

HANDSHAKE_PATIENCE_S: Final = 10.0
HANDSHAKE_BYTES_MAX: Final = 64 << 10
CLOSE_PATIENCE_S: Final = 1.0
CLOSE_BYTES_MAX: Final = 16 << 20  # more than the socket buffers of one connection hold

_HANDSHAKE_READ_BYTES: Final = 16 << 10
_PIECE_BYTES: Final = 128 << 10  # encrypted, or taken from the stream, in one go: fits a core's cache
_RECORD_BYTES: Final = 16 << 10  # RFC 8446, 5.1: what one record holds
# SSL_MODE_ENABLE_PARTIAL_WRITE, SSL_CTX_set_mode(3): with it, as pyOpenSSL has it, a call seals one record.
_PARTIAL_WRITE: Final = 1
_SEALED_PIECE_BYTES: Final = _PIECE_BYTES + (_PIECE_BYTES // _RECORD_BYTES + 4) * 256  # RFC 8446, 5.2


async def secure(
    stream: trio.abc.Stream,
    device: Device,
    *,
    is_dialer: bool,
    alpn: Alpn | None = None,
    admits: Admits,
    description: str,
    pulse: Pulse | None = None,
) -> Link:
    """Make a link of `stream`, which belongs to it from now on: if this raises, the stream is closed.

    `alpn` is what a dialer asks for; an accepting side takes any, or this one alone. The peer is
    whoever `admits` says may have a link for that purpose; it has proven to hold its key. Ends
    within HANDSHAKE_PATIENCE_S and having read little more than HANDSHAKE_BYTES_MAX.

    HandshakeRefused if the two sides do not suit each other, LinkBroken if the stream ends.
    A dialer learns that it is not admitted only from its first `receive_some`, by the same error:
    in TLS 1.3 its own part is done before the other side has seen its certificate.
    """
    assert not (is_dialer and alpn is None)
    handshake = _Handshake(device, is_dialer, alpn, admits)
    try:
        with trio.fail_after(HANDSHAKE_PATIENCE_S):
            await handshake.shake(stream)
            return _TlsLink(stream, handshake, description, NoPulse() if pulse is None else pulse)
    except trio.TooSlowError:
        await trio.aclose_forcefully(stream)
        raise HandshakeRefused(f"no handshake within {HANDSHAKE_PATIENCE_S:.0f} s") from None
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise


class _Handshake:
    """One side of a handshake, and what it finds out about the other."""

    def __init__(self, device: Device, is_dialer: bool, alpn: Alpn | None, admits: Admits) -> None:
        self.is_dialer = is_dialer
        self._wanted = (alpn,) if alpn is not None else tuple(Alpn)
        self._admits = admits
        self._refusal = ""
        self.engine = SSL.Connection(self._context(device), None)
        if is_dialer:
            self.engine.set_connect_state()
        else:
            self.engine.set_accept_state()

    async def shake(self, stream: trio.abc.Stream) -> None:
        """Come to terms with the other side, or tell it the reason and raise."""
        try:
            await self._exchange(stream)
            # Membership may have changed since the certificate came, and a resumed session
            # would not have shown one.
            self.certificate, self.peer, self.alpn = self._judged()
        except SSL.Error as error:
            await _farewell(self.engine, stream, room=HANDSHAKE_BYTES_MAX)
            raise HandshakeRefused(self._refusal or f"TLS: {reason(error)}") from error
        except HandshakeRefused:
            await _farewell(self.engine, stream, room=HANDSHAKE_BYTES_MAX)
            raise
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise LinkBroken("the connection broke during the handshake") from error

    async def _exchange(self, stream: trio.abc.Stream) -> None:
        received = 0
        while True:
            try:
                self.engine.do_handshake()
            except SSL.WantReadError:
                is_done = False
            else:
                is_done = True
            # What an accepting side has left then, useless tickets, goes out with what it sends first:
            # nobody may be receiving yet.
            if not (is_done and not self.is_dialer) and (sealed := taken(self.engine)):
                await stream.send_all(sealed)
            if is_done:
                return
            if received >= HANDSHAKE_BYTES_MAX:
                raise HandshakeRefused(f"a handshake of more than {HANDSHAKE_BYTES_MAX} bytes")
            arrived = await stream.receive_some(_HANDSHAKE_READ_BYTES)
            if not arrived:
                raise LinkBroken("the other side closed the connection during the handshake")
            received += len(arrived)
            self.engine.bio_write(arrived)

    def _context(self, device: Device) -> SSL.Context:
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_min_proto_version(SSL.TLS1_3_VERSION)
        context.set_options(SSL.OP_NO_TICKET)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.clear_mode(_PARTIAL_WRITE)
        context.use_privatekey(device.signing)
        context.use_certificate(x509.load_der_x509_certificate(device.certificate))
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, self._verify)
        if self.is_dialer:
            context.set_alpn_protos([alpn.encode() for alpn in self._wanted])
        else:
            context.set_alpn_select_callback(self._select)
        return context

    def _select(self, _: SSL.Connection, offered: list[bytes]) -> bytes:
        for alpn in self._wanted:
            if alpn.encode() in offered:
                return alpn.encode()
        raise HandshakeRefused("the other side asks for another protocol")

    def _verify(self, _: SSL.Connection, shown: crypto.X509, __: int, depth: int, ___: int) -> bool:
        # The error number is not looked at: it would be about dates, and about who signed.
        if depth != 0:
            self._refusal = "a device shows its own certificate alone"
            return False
        try:
            self._judge(shown.to_cryptography())
        except HandshakeRefused as refusal:
            self._refusal = str(refusal)
            return False
        return True

    def _judged(self) -> tuple[bytes, DeviceId, Alpn]:
        shown = self.engine.get_peer_certificate(as_cryptography=True)
        if shown is None:
            raise HandshakeRefused("the other side showed no certificate")
        return self._judge(shown)

    def _judge(self, shown: x509.Certificate) -> tuple[bytes, DeviceId, Alpn]:
        """The certificate, device and purpose, if all three will do."""
        try:
            alpn = Alpn(self.engine.get_alpn_proto_negotiated().decode())
            is_ed25519 = isinstance(shown.public_key(), Ed25519PublicKey)
        except ValueError as error:
            raise HandshakeRefused("the other side names no protocol, or an unknown key") from error
        if alpn not in self._wanted or not is_ed25519:
            raise HandshakeRefused("the other side's protocol or kind of key is not one of ours")
        certificate = shown.public_bytes(Encoding.DER)
        device = DeviceId(hashlib.sha256(certificate).digest())
        if not self._admits(device, alpn):
            raise HandshakeRefused(f"device {device.hex()[:16]} is not admitted")
        return certificate, device, alpn


class _TlsLink:
    """A `Link`. The engine is touched only between two awaits, so one task may send while one receives."""

    def __init__(
        self, stream: trio.abc.Stream, handshake: _Handshake, description: str, pulse: Pulse
    ) -> None:
        self.peer = handshake.peer
        self.certificate = handshake.certificate
        self.alpn = handshake.alpn
        self.is_dialer = handshake.is_dialer
        self.description = description
        self.pulse = pulse
        self._stream = stream
        self._engine = handshake.engine
        self._broken: LinkBroken | None = None
        self._is_sending = False
        """A call to send_all is under way, or was cancelled: the stream may end inside a record."""
        self._is_receiving = False
        self._is_ended = False
        self._has_received = False
        self._is_closed = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self._check_open()
        if self._is_sending:
            raise LinkBroken("another send is under way, or was cut short")
        view = memoryview(data).cast("B")
        self._is_sending = True
        for begin in range(0, len(view), _PIECE_BYTES):
            sealed = self._sealed(view[begin : begin + _PIECE_BYTES])
            try:
                await self._stream.send_all(sealed)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise LinkBroken(f"{self.description}: the other side is gone") from error
        self._is_sending = False
        if not view:
            await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int = 65536) -> bytes:
        assert max_bytes > 0
        self._check_open()
        if self._is_receiving:
            raise trio.BusyResourceError("another task receives from this link")
        self._is_receiving = True
        try:
            while (data := self._opened(max_bytes)) is None:
                sealed = await self._stream.receive_some(_PIECE_BYTES)
                if not sealed:
                    raise LinkBroken(f"{self.description}: the connection ended without a goodbye")
                if self._is_closed:
                    raise LinkBroken(f"{self.description}: closed")
                self._engine.bio_write(sealed)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise LinkBroken(f"{self.description}: the connection broke") from error
        finally:
            self._is_receiving = False
        return data

    def exporter(self, label: str, length: int) -> bytes:
        return self._engine.export_keying_material(label.encode("ascii"), length, None)

    async def aclose(self) -> None:
        if self._is_closed:
            await trio.lowlevel.checkpoint()
            return
        self._is_closed = True
        try:
            if self._broken is None and not self._is_sending:
                room = 0 if self._is_receiving or self._is_ended else CLOSE_BYTES_MAX
                await _farewell(self._engine, self._stream, room=room, is_notified=True)
        finally:
            await trio.aclose_forcefully(self._stream)

    def _check_open(self) -> None:
        if self._is_closed:
            raise LinkBroken(f"{self.description}: closed")
        if self._broken is not None:
            raise self._broken

    def _sealed(self, view: memoryview) -> bytes:
        try:
            while view:
                view = view[self._engine.send(view) :]
        except SSL.Error as error:
            raise self._failed(error) from error
        return taken(self._engine)

    def _opened(self, max_bytes: int) -> bytes | None:
        """What has arrived, b"" at the end, None if the stream has to bring more."""
        if self._broken is not None:
            raise self._broken
        pieces: list[bytes] = []
        try:
            while max_bytes > 0:
                piece = self._engine.recv(min(max_bytes, _RECORD_BYTES))
                pieces.append(piece)
                max_bytes -= len(piece)
        except SSL.WantReadError:
            if not pieces:
                return None
        except SSL.ZeroReturnError:
            self._is_ended = True
        except SSL.Error as error:
            self._broken = self._failed(error)
            if not pieces:
                raise self._broken from error
        if pieces:
            self._has_received = True
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _failed(self, error: SSL.Error) -> LinkBroken:
        text = reason(error)
        if "alert" in text and not self._has_received:
            return HandshakeRefused(f"{self.description}: the other side does not admit this device ({text})")
        return LinkBroken(f"{self.description}: {text}")


async def _farewell(
    engine: SSL.Connection, stream: trio.abc.Stream, *, room: int, is_notified: bool = False
) -> None:
    """Tell the other side that this is the end, and let it have what was sent.

    A socket closed with bytes unread resets the connection, and the other side may lose the last
    that was sent to it. So wait for its own end, though not for long, nor for more than `room` bytes.
    """
    with trio.move_on_after(CLOSE_PATIENCE_S):
        try:
            if is_notified:
                engine.shutdown()
            await stream.send_all(taken(engine))
            if room > 0 and isinstance(stream, trio.abc.HalfCloseableStream):
                await stream.send_eof()
            while room > 0 and (arrived := await stream.receive_some(_PIECE_BYTES)):
                room -= len(arrived)
        except (SSL.Error, trio.BrokenResourceError, trio.ClosedResourceError):
            return  # it is gone, which is what was to be achieved


def taken(engine: SSL.Connection) -> bytes:
    """All that the engine has for the other side."""
    pieces = []
    try:
        while True:
            piece = engine.bio_read(_SEALED_PIECE_BYTES)
            pieces.append(piece)
            if len(piece) < _SEALED_PIECE_BYTES:
                break
    except SSL.WantReadError:
        pass
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def reason(error: SSL.Error) -> str:
    """OpenSSL's own words, without its function names."""
    if isinstance(error, SSL.SysCallError):
        return "the connection ended without a goodbye"
    entries = error.args[0] if error.args else []
    return str(entries[-1][-1]) if entries else "no reason given"
