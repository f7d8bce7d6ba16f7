"""Links by way of WebRTC: two descriptions are exchanged, then TLS runs between the devices as over TCP."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import trio

from dittofs.address import Address
from dittofs.errors import FormatError
from dittofs.identity.keys import Device
from dittofs.links import bluez, tcp, webrtc
from dittofs.links.link import Admits, Alpn, Link
from dittofs.links.tls import secure
from dittofs.server_urls import IceServer
from dittofs.sync.frame import PAYLOAD_BYTES_MAX

STRANGERS_MAX: Final = 4
"""Calls of devices that may not even have the words of a code, at a time."""
_SLOW_FRAME_BYTES: Final = 16 << 10  # a tenth of a second by Bluetooth
_ORDER: Final = (tcp.TRANSPORT, webrtc.TRANSPORT, bluez.TRANSPORT)
_RATES: Final = {tcp.TRANSPORT: 20e6, webrtc.TRANSPORT: 4e6, bluez.TRANSPORT: 150e3}
CALLS_MAX: Final = 8
"""Calls of members that are being made or taken, at a time: each is a process that starts."""


@dataclass(frozen=True, slots=True)
class Calls:
    """Makes links of descriptions, each with a process of its own in `nursery`."""

    device: Device
    nursery: trio.Nursery

    async def call(
        self, servers: Sequence[IceServer], exchange: webrtc.Exchange, *, alpn: Alpn, admits: Admits
    ) -> Link:
        """A link to whoever answers, if `admits` says so. LinkBroken, HandshakeRefused."""
        stream, path = await webrtc.call(servers, exchange, self.nursery)
        return await secure(
            stream, self.device, is_dialer=True, alpn=alpn, admits=admits, description=_described(path)
        )

    async def take(
        self, servers: Sequence[IceServer], offer: str, tell: webrtc.Tell, *, admits: Admits
    ) -> Link:
        """A link to whoever called, if `admits` says so. LinkBroken, HandshakeRefused."""
        stream, path = await webrtc.take(servers, offer, tell, self.nursery)
        return await secure(stream, self.device, is_dialer=False, admits=admits, description=_described(path))


def transport_of(link: Link) -> str:
    """The first word of its description: `tcp`, `webrtc` or `bluetooth`."""
    return link.description.partition(" ")[0]


def tcp_address(link: Link) -> Address | None:
    """Where the other end of a link by TCP is, or was when it called; None: it is no such link."""
    transport, _, place = link.description.partition(" ")
    try:
        return Address.parse(place) if transport == tcp.TRANSPORT else None
    except FormatError:
        return None


def is_better(transport: str, link: Link) -> bool:
    """Whether a link of that transport is worth making beside this one.

    WebRTC costs a hundred times the processor time of TCP, and Bluetooth is a thousand times slower.
    """
    used = transport_of(link)
    return used in _ORDER and transport in _ORDER and _ORDER.index(transport) < _ORDER.index(used)


def rate_prior(link: Link) -> float:
    """Bytes a second that a link is taken to carry until that is measured."""
    return _RATES.get(transport_of(link), _RATES[tcp.TRANSPORT])


def is_narrow(link: Link) -> bool:
    """Whether a link is for what somebody waits for alone, unless there is no other."""
    return transport_of(link) == bluez.TRANSPORT


def frame_bytes(link: Link) -> int:
    """What one frame on a link may carry: what somebody waits for comes after a frame at most."""
    return _SLOW_FRAME_BYTES if transport_of(link) == bluez.TRANSPORT else PAYLOAD_BYTES_MAX


def in_turn(servers: Sequence[IceServer], attempt: int) -> list[IceServer]:
    """Each kind in an order of its own for each attempt: of each kind the first alone is used."""
    relays = [one for one in servers if one.is_relay]
    others = [one for one in servers if not one.is_relay]
    return [*_rotated(others, attempt), *_rotated(relays, attempt)]


def _rotated(servers: list[IceServer], by: int) -> list[IceServer]:
    at = by % len(servers) if servers else 0
    return servers[at:] + servers[:at]


def _described(path: str) -> str:
    return f"{webrtc.TRANSPORT} {path if path.isprintable() else '?'}"
