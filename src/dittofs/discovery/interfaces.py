"""When this machine gets a network, another one, or loses one: a cable, a radio, an address given or taken.

The kernel tells of it (rtnetlink(7)), so nothing is asked again and again.
"""

import ipaddress
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import structlog
import trio

GROUPS: Final = 0x1 | 0x10 | 0x100  # RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR
NEW_LINK: Final = 16
NEW_ADDRESS: Final = 20
GONE_ADDRESS: Final = 21
IFF_RUNNING: Final = 0x40
DATAGRAM_BYTES: Final = 64 << 10

_HEADER: Final = struct.Struct("=IHHII")  # length, type, flags, sequence, sender
_LINK: Final = struct.Struct("=BxHiI")  # family, type, index, flags
_ADDRESS_BYTES: Final = 8  # struct ifaddrmsg; attributes follow
_ATTRIBUTE: Final = struct.Struct("=HH")  # length, type
_ATTRIBUTES: Final = {1, 2}  # IFA_ADDRESS, IFA_LOCAL

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class News:
    """What the kernel says has changed."""

    is_new: bool = False
    """An interface began to run, or got an address."""
    gone: frozenset[str] = frozenset()
    """Addresses that this machine had, without their scopes."""

    def __bool__(self) -> bool:
        return self.is_new or bool(self.gone)


async def watch(told: Callable[[News], None]) -> None:
    """Call `told` whenever an interface begins to run, gets an address or loses one, until cancelled.

    Returns at once where the kernel does not tell.
    """
    try:
        raw = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        raw.setblocking(False)
        raw.bind((0, GROUPS))
    except OSError as error:
        log.info("the kernel does not tell of networks that come and go", reason=error.strerror)
        return
    running: dict[int, bool] = {}
    with trio.socket.from_stdlib_socket(raw) as listening:
        while True:
            try:
                data = await listening.recv(DATAGRAM_BYTES)
            except OSError:  # ENOBUFS: so much has changed that not all of it could be told
                told(News(is_new=True))
                continue
            if found := news(data, running):
                told(found)


def news(data: bytes, running: dict[int, bool]) -> News:
    """What the kernel says. `running`: what it has said of interfaces so far."""
    found = False
    gone: set[str] = set()
    for kind, payload in _messages(data):
        if kind == NEW_ADDRESS:
            found = True
        elif kind == GONE_ADDRESS:
            gone |= _addresses(payload)
        elif kind == NEW_LINK and len(payload) >= _LINK.size:
            _, _, index, flags = _LINK.unpack_from(payload)
            runs = bool(flags & IFF_RUNNING)
            found |= runs and not running.get(index, False)
            running[index] = runs
    return News(found, frozenset(gone))


def _addresses(payload: bytes) -> set[str]:
    """The addresses that a message about one names: of a point-to-point link both ends."""
    found = set()
    start = _ADDRESS_BYTES
    while len(payload) - start >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(payload, start)
        if length < _ATTRIBUTE.size:
            break
        if kind in _ATTRIBUTES:
            with suppress(ValueError):
                found.add(str(ipaddress.ip_address(payload[start + _ATTRIBUTE.size : start + length])))
        start += (length + 3) & ~3
    return found


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    start = 0
    while len(data) - start >= _HEADER.size:
        length, kind, _, _, _ = _HEADER.unpack_from(data, start)
        if length < _HEADER.size:
            return
        yield kind, data[start + _HEADER.size : start + length]
        start += (length + 3) & ~3
