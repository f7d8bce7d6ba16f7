"""When this machine gets a network, or another one: a cable plugged in, a radio connected, an address given.

The kernel tells of it (rtnetlink(7)), so nothing is asked again and again.
"""

import socket
import struct
from collections.abc import Callable, Iterator
from typing import Final

import structlog
import trio

GROUPS: Final = 0x1 | 0x10 | 0x100  # RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR
NEW_LINK: Final = 16
NEW_ADDRESS: Final = 20
IFF_RUNNING: Final = 0x40
DATAGRAM_BYTES: Final = 64 << 10

_HEADER: Final = struct.Struct("=IHHII")  # length, type, flags, sequence, sender
_LINK: Final = struct.Struct("=BxHiI")  # family, type, index, flags

log = structlog.get_logger(__name__)


async def watch(came_up: Callable[[], None]) -> None:
    """Call `came_up` whenever an interface begins to run or gets an address, until cancelled.

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
                came_up()
                continue
            if news(data, running):
                came_up()


def news(data: bytes, running: dict[int, bool]) -> bool:
    """Whether the kernel says that a network came. `running`: what it has said of interfaces so far."""
    found = False
    for kind, payload in _messages(data):
        if kind == NEW_ADDRESS:
            found = True
        elif kind == NEW_LINK and len(payload) >= _LINK.size:
            _, _, index, flags = _LINK.unpack_from(payload)
            runs = bool(flags & IFF_RUNNING)
            found |= runs and not running.get(index, False)
            running[index] = runs
    return found


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    start = 0
    while len(data) - start >= _HEADER.size:
        length, kind, _, _, _ = _HEADER.unpack_from(data, start)
        if length < _HEADER.size:
            return
        yield kind, data[start + _HEADER.size : start + length]
        start += (length + 3) & ~3
