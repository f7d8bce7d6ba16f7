"""What members say of where others are: bounded, judged, and dialled seldom. Pure: time is an argument.

Whoever answers is known by the link alone, so a lie costs its hearer a few connections, and whoever is at the
other end of them no more than one in HOST_REST_S from each hearer.
"""

import ipaddress
from collections.abc import Hashable, Iterable
from typing import Final, Generic, TypeVar

from dittofs.address import Address
from dittofs.errors import FormatError

Peer = TypeVar("Peer", bound=Hashable)

ADDRESSES_MAX: Final = 8
"""Of one device that are believed possible at a time, turn by turn of those who tell."""
TELLERS_MAX: Final = 64
PORT_MIN: Final = 1024
"""Below it other services are, and no device that did not ask for it."""
DIAL_PAUSE_S: Final = 2.0
DIAL_BURST: Final = 4
HOST_REST_S: Final = 30.0
HOSTS_MAX: Final = 1024
_NO_HOST: Final = ipaddress.IPv4Network("0.0.0.0/8")


def sensible(text: str) -> Address | None:
    """The address that a member tells of, if anybody but itself could be there; None otherwise.

    Names are not looked up on another's word. Loopback, link-local, multicast and reserved addresses mean
    something else here than there; ports below PORT_MIN are other services'.
    """
    try:
        address = Address.parse(text)
        host = ipaddress.ip_address(address.host)
    except (FormatError, ValueError):
        return None
    host = getattr(host, "ipv4_mapped", None) or host
    is_elsewhere = host.is_loopback or host.is_link_local or host.is_multicast or host.is_reserved
    if is_elsewhere or host.is_unspecified or "%" in address.host or address.port < PORT_MIN:
        return None
    if isinstance(host, ipaddress.IPv4Address):
        return None if host in _NO_HOST else Address.of(str(host), address.port)
    return address


class Hearsay(Generic[Peer]):
    """Who says what, of one volume."""

    def __init__(self) -> None:
        self._said: dict[Peer, dict[Peer, tuple[Address, ...]]] = {}

    def tell(self, teller: Peer, said: Iterable[tuple[Peer, Iterable[Address]]]) -> set[Peer]:
        """This is all that somebody says now. Returns of whom something else is said than before."""
        before = self._said.pop(teller, {})
        if len(self._said) >= TELLERS_MAX:
            before |= self._said.pop(next(iter(self._said)))  # who has said nothing for longest
        now = self._said[teller] = {one: tuple(dict.fromkeys(addresses)) for one, addresses in said}
        return {one for one in before.keys() | now.keys() if before.get(one) != now.get(one)}

    def of(self, device: Peer) -> list[Address]:
        """Where a device may be: the first that each says, then the second; the latest to speak first."""
        said = [one[device] for one in reversed(self._said.values()) if device in one]
        longest = max(map(len, said), default=0)
        turns = (one[place] for place in range(longest) for one in said if place < len(one))
        return list(dict.fromkeys(turns))[:ADDRESSES_MAX]


class DialPace:
    """How often is dialled on somebody's word."""

    def __init__(self) -> None:
        self._left = float(DIAL_BURST)
        self._at = 0.0
        self._hosts: dict[str, float] = {}

    def wait_s(self, host: str, now: float) -> float:
        """0: dial there now, it is counted. Otherwise ask again after so long."""
        self._left = min(float(DIAL_BURST), self._left + (now - self._at) / DIAL_PAUSE_S)
        self._at = now
        rests_s = self._hosts.get(host, now) - now
        if rests_s > 0:
            return rests_s
        if self._left < 1:
            return (1 - self._left) * DIAL_PAUSE_S
        if len(self._hosts) >= HOSTS_MAX:
            self._hosts = {one: until for one, until in self._hosts.items() if until > now}
        self._left -= 1
        self._hosts[host] = now + HOST_REST_S
        return 0.0
