"""By which of this machine's networks a packet would go somewhere. Nothing is sent to find out."""

import fcntl
import ipaddress
import socket
import struct
from pathlib import Path
from typing import Final

_SIOCGIFADDR: Final = 0x8915
_INTERFACES_V6: Final = Path("/proc/net/if_inet6")


def way_to(host: str) -> str:
    """The interface, or this machine's address there if its interface cannot be told; empty: there is no way.

    `host` is numeric, a link-local one with its scope. Of any other nothing is known.
    """
    plain, _, scope = host.partition("%")
    try:
        version = ipaddress.ip_address(plain).version
    except ValueError:
        return ""
    if scope:
        return _name(scope)
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as asking:
            asking.connect((plain, 9))
            local = str(asking.getsockname()[0])
    except OSError:
        return ""
    named = _interfaces_v4() if version == 4 else _interfaces_v6()
    return named.get(local, local)


def _name(scope: str) -> str:
    """An interface may be told by its number."""
    try:
        return socket.if_indextoname(int(scope)) if scope.isdigit() else scope
    except OSError:
        return ""


def _interfaces_v4() -> dict[str, str]:
    found = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for _, name in socket.if_nameindex():
            try:
                reply = fcntl.ioctl(asking.fileno(), _SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
            except OSError:  # it has none
                continue
            found[socket.inet_ntoa(reply[20:24])] = name
    return found


def _interfaces_v6() -> dict[str, str]:
    try:
        lines = [line.split() for line in _INTERFACES_V6.read_text().splitlines()]
    except OSError:
        return {}
    return {str(ipaddress.IPv6Address(bytes.fromhex(line[0]))): line[5] for line in lines}
