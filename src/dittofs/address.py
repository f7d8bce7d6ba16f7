"""An address to dial or to listen on: a host and a TCP port, as text and as a value."""

import ipaddress
import re
from dataclasses import dataclass
from typing import Final

from dittofs.errors import FormatError

ADDRESS_TEXT_MAX: Final = 300

_PORT_MAX: Final = 65535
_NAME: Final = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?")
_NAME_MAX: Final = 253
_SCOPE: Final = re.compile(r"[A-Za-z0-9._:@-]{1,15}")  # an interface: netdevice(7)


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """A host, by name or number, and a TCP port. `str()` gives what `parse` takes."""

    host: str
    """An IPv6 one without brackets, with its scope where it needs one: `fe80::1%eth0`."""
    port: int

    @classmethod
    def parse(cls, text: str, default_port: int | None = None) -> "Address":
        """`host:port` or `[v6%scope]:port`; the port may be left out if there is a default one.

        FormatError if it is neither.
        """
        host, port = _split(text, default_port)
        return cls.of(host, port)

    @classmethod
    def of(cls, host: str, port: int) -> "Address":
        """The address in its one spelling. FormatError if it cannot be one."""
        if not 1 <= port <= _PORT_MAX:
            raise FormatError(f"{port} is not a port")
        if ":" in host:
            return cls(_ipv6(host), port)
        if not _NAME.fullmatch(host) or len(host) > _NAME_MAX:
            raise FormatError(f"{host!r} is not a host")
        if re.fullmatch(r"[0-9.]+", host):
            try:
                return cls(str(ipaddress.IPv4Address(host)), port)
            except ValueError as error:
                raise FormatError(f"{host!r} is not an IPv4 address") from error
        return cls(host.lower(), port)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _split(text: str, default_port: int | None) -> tuple[str, int]:
    if len(text) > ADDRESS_TEXT_MAX:
        raise FormatError("an address of too many characters")
    matched = re.fullmatch(r"\[([^\[\]]*:[^\[\]]*)\](?::([0-9]{1,5}))?", text) or re.fullmatch(
        r"([^:\[\]]*)(?::([0-9]{1,5}))?", text
    )
    host, port = matched.groups() if matched else (text, None)
    if port is not None:
        return host, int(port)
    if default_port is None:
        raise FormatError(f"{text!r} is not host:port")
    return host, default_port


def _ipv6(host: str) -> str:
    number, has_scope, scope = host.partition("%")
    if has_scope and not _SCOPE.fullmatch(scope):
        raise FormatError(f"{scope!r} is not a network interface")
    try:
        return str(ipaddress.IPv6Address(number)) + has_scope + scope
    except ValueError as error:
        raise FormatError(f"{host!r} is not an IPv6 address") from error
