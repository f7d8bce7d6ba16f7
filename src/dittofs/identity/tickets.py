"""Tickets: what the inviting device shows and the joining one is given, as one URI (wire.md)."""

import base64
import binascii
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote

from dittofs.errors import FormatError
from dittofs.identity.keys import DeviceId

TOKEN_BYTES = 16
ADDRESSES_MAX = 16
URI_CHARACTERS_MAX = 2048

_SCHEME = "dittofs://join/"
_VERSION = "1"
_DEVICE_BYTES = 32
_PORT_MAX = 65535
_ADDRESS = re.compile(
    r"(?:\[(?P<v6>[^\[\]%]+)(?:%(?P<scope>[A-Za-z0-9._-]{1,32}))?\]|(?P<host>[^:\[\]%]+)):(?P<port>[0-9]{1,5})"
)
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?\.?")


class BadTicket(FormatError):
    """The text is no ticket that this program can use; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """Where an invitation is, and the token that it is for. It holds no rights and is good once."""

    device: DeviceId
    """The inviting device: nobody else is answered to."""
    addresses: tuple[str, ...]
    """Where it listens, best first: `host:port`, `[v6]:port` or `[v6%scope]:port`."""
    token: bytes = field(repr=False)
    """128 random bits."""


def format_ticket(ticket: Ticket) -> str:
    """The URI of `ticket`. It has an `&`: to be quoted in a shell."""
    places = "".join(f"&a={quote(address, safe='[]:')}" for address in ticket.addresses)
    return f"{_SCHEME}{_VERSION}?d={_text(ticket.device)}{places}&k={_text(ticket.token)}"


def parse_ticket(text: str) -> Ticket:
    """The ticket in `text`, spaces around it apart. `BadTicket` says what is wrong with any other text."""
    uri = text.strip()
    if len(uri) > URI_CHARACTERS_MAX:
        raise BadTicket(f"a ticket has at most {URI_CHARACTERS_MAX} characters, this has {len(uri)}")
    if not uri.startswith(_SCHEME):
        raise BadTicket(f"this is no ticket: one begins with {_SCHEME}{_VERSION}?d=")
    version, _, query = uri.removeprefix(_SCHEME).partition("?")
    if version != _VERSION:
        raise BadTicket("the ticket is of another version of DittoFS: both devices need the same one")
    values = _values(query)
    device = _bytes(values, "d", _DEVICE_BYTES, "the device id")
    token = _bytes(values, "k", TOKEN_BYTES, "the token")
    addresses = tuple(dict.fromkeys(values.get("a", [])))
    if not 1 <= len(addresses) <= ADDRESSES_MAX:
        raise BadTicket(f"the ticket has {len(addresses)} addresses (a=) instead of 1 to {ADDRESSES_MAX}")
    for address in addresses:
        require_address(address)
    return Ticket(DeviceId(device), addresses, token)


def require_address(address: str) -> None:
    """Return if `address` is a host and a port as a ticket has them. Otherwise `BadTicket`."""
    found = _ADDRESS.fullmatch(address)
    if found is None or not 0 < int(found["port"]) <= _PORT_MAX:
        raise BadTicket(f"the address {address[:80]!a} is not HOST:PORT or [IPV6]:PORT")
    if found["v6"] is None:
        if not _HOST.fullmatch(found["host"]):
            raise BadTicket(f"the address {address[:80]!a} names no host")
        return
    try:
        ipaddress.IPv6Address(found["v6"])
    except ValueError as error:
        raise BadTicket(f"the address {address[:80]!a} is no IPv6 address") from error


def _values(query: str) -> Mapping[str, list[str]]:
    """Name -> values; names this program does not know are left alone."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True, errors="strict")
    except ValueError as error:
        raise BadTicket("the ticket is cut or mixed up after the question mark: copy it whole") from error
    values: dict[str, list[str]] = {}
    for name, value in pairs:
        values.setdefault(name, []).append(value)
    return values


def _bytes(values: Mapping[str, list[str]], name: str, count: int, what: str) -> bytes:
    found = values.get(name, [])
    if not found:
        raise BadTicket(f"the ticket lacks {what} ({name}=): copy it whole, in quotes: a shell ends it at &")
    if len(found) > 1:
        raise BadTicket(f"the ticket has {what} ({name}=) twice")
    text = found[0]
    length = len(_text(bytes(count)))
    if len(text) != length:
        raise BadTicket(
            f"{what} in the ticket ({name}=) has {len(text)} characters, not {length}: copy it whole"
        )
    try:
        data = base64.b64decode(text + "=" * (-length % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadTicket(
            f"{what} in the ticket ({name}=) has a character that does not belong there"
        ) from error
    if _text(data) != text:
        raise BadTicket(f"{what} in the ticket ({name}=) does not end as it should: a character was changed")
    return data


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
