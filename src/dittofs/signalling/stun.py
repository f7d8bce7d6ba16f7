"""STUN over UDP: telling whoever asks from where its question came (RFC 8489, Binding alone)."""

import ipaddress
import socket
import struct
from contextlib import suppress
from typing import Final

import trio

_HEADER: Final = struct.Struct("!HHI12s")
_REQUEST: Final = 0x0001
_SUCCESS: Final = 0x0101
_COOKIE: Final = 0x2112A442
_XOR_MAPPED_ADDRESS: Final = 0x0020
_FAMILIES: Final = {4: 1, 6: 2}
_QUESTION_BYTES_MAX: Final = 548
"""RFC 8489, 6.1: where the path's MTU is not known."""
_PAUSE_S: Final = 0.2
_IP_PKTINFO: Final = 8
"""ip(7); the module `socket` names it from Python 3.12 on."""
_CONTROL_BYTES: Final = socket.CMSG_SPACE(32)


def answer(question: bytes, host: str, port: int) -> bytes | None:
    """The answer to a datagram from that address; None if it is no question of STUN. Pure.

    It is 24 bytes longer than the shortest question at most (12 for IPv4), so nobody is flooded with it.
    """
    if not _HEADER.size <= len(question) <= _QUESTION_BYTES_MAX:
        return None
    kind, length, cookie, transaction = _HEADER.unpack_from(question)
    if kind != _REQUEST or cookie != _COOKIE or length != len(question) - _HEADER.size:
        return None
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    mask = struct.pack("!I", _COOKIE) + transaction
    masked = bytes(one ^ other for one, other in zip(address.packed, mask, strict=False))
    value = struct.pack("!BBH", 0, _FAMILIES[address.version], port ^ (_COOKIE >> 16)) + masked
    attribute = struct.pack("!HH", _XOR_MAPPED_ADDRESS, len(value)) + value
    return _HEADER.pack(_SUCCESS, len(attribute), _COOKIE, transaction) + attribute


async def serve(listening: trio.socket.SocketType) -> None:
    """Answer what comes to this socket, until cancelled.

    From the very address that was asked: routers let nothing else in, and a machine may have several.
    """
    if listening.family == socket.AF_INET6:
        listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    else:
        listening.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
    while True:
        try:
            data, asked, _, sender = await listening.recvmsg(_QUESTION_BYTES_MAX + 1, _CONTROL_BYTES)
        except OSError:  # of an answer sent earlier, or the network went
            await trio.sleep(_PAUSE_S)
            continue
        assert isinstance(sender, tuple)
        host, port = str(sender[0]), int(sender[1])
        told = answer(data, host, port)
        if told is not None:
            with suppress(OSError):
                await listening.sendmsg([told], asked, 0, (host, port))
