"""Servers that devices behind routers are helped by, as texts and as values: signalling, STUN and TURN."""

import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote, unquote

from dittofs.address import Address
from dittofs.errors import FormatError

URL_TEXT_MAX: Final = 400
SIGNAL_PORT: Final = 7348
"""Of a signalling server that is not behind something else."""
STUN_PORT: Final = 3478
"""Of STUN and TURN servers (RFC 8489, 8656)."""

_SIGNAL: Final = re.compile(r"(?P<scheme>wss?)://(?P<place>[^/?#@]+)(?P<path>/[A-Za-z0-9._~/-]*)?")
_STUN: Final = re.compile(r"stun:(?P<place>[^?@]+)")
_TURN: Final = re.compile(
    r"turn:(?P<user>[^:@?]+):(?P<password>[^:@?]+)@(?P<place>[^?@]+)(?:\?transport=(?P<transport>udp|tcp))?"
)


@dataclass(frozen=True, slots=True, order=True)
class SignalUrl:
    """Where a signalling server is, and which of its rooms are meant. `str()` gives what `parse` takes."""

    address: Address
    is_encrypted: bool
    path: str
    """Those who name the same path meet; a path that nobody else knows keeps others out."""

    @classmethod
    def parse(cls, text: str) -> "SignalUrl":
        """`ws://HOST[:PORT][/PATH]` or `wss://…`. FormatError for anything else."""
        found = _SIGNAL.fullmatch(text)
        if found is None or len(text) > URL_TEXT_MAX:
            raise FormatError(f"{text[:80]!a} is no signalling server: that is ws://HOST:PORT or wss://HOST")
        is_encrypted = found["scheme"] == "wss"
        address = Address.parse(found["place"], 443 if is_encrypted else SIGNAL_PORT)
        return cls(address, is_encrypted, found["path"] or "/")

    def __str__(self) -> str:
        path = "" if self.path == "/" else self.path
        return f"{'wss' if self.is_encrypted else 'ws'}://{self.address}{path}"


@dataclass(frozen=True, slots=True)
class IceServer:
    """A STUN server, or a TURN one. `str()` gives what `parse` takes, password and all."""

    address: Address
    user: str = ""
    password: str = field(default="", repr=False)
    transport: str = "udp"
    """How a TURN server is reached."""

    @property
    def is_relay(self) -> bool:
        """Whether it is a TURN server."""
        return bool(self.user)

    @classmethod
    def parse(cls, text: str) -> "IceServer":
        """`stun:HOST[:PORT]` or `turn:USER:PASSWORD@HOST[:PORT][?transport=tcp]`. FormatError otherwise."""
        if len(text) <= URL_TEXT_MAX:
            if stun := _STUN.fullmatch(text):
                return cls(Address.parse(stun["place"], STUN_PORT))
            if turn := _TURN.fullmatch(text):
                place = Address.parse(turn["place"], STUN_PORT)
                user, password = unquote(turn["user"]), unquote(turn["password"])
                return cls(place, user, password, turn["transport"] or "udp")
        raise FormatError(  # without the text: it may hold a password
            "a STUN or TURN server is stun:HOST:PORT or turn:USER:PASSWORD@HOST:PORT (?transport=tcp for TCP)"
        )

    def __str__(self) -> str:
        if not self.is_relay:
            return f"stun:{self.address}"
        user, password = quote(self.user, safe=""), quote(self.password, safe="")
        return f"turn:{user}:{password}@{self.address}?transport={self.transport}"
