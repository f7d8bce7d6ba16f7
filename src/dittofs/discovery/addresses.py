"""Where peers may be reached, and when to try again. Pure: time and chance are arguments.

An address is a hint: who answers there is proven by the link. Times are seconds of any one clock.
"""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Final, Generic, TypeVar

from dittofs.address import Address

ADDRESSES_PER_PEER_MAX: Final = 32
PEERS_MAX: Final = 4096
BACK_OFF_FIRST_S: Final = 1.0
BACK_OFF_MAX_S: Final = 300.0
BACK_OFF_SIGHTED_MAX_S: Final = 10.0
"""Of an address on this network: nobody sees a switch come back, and dialling there costs little."""
BACK_OFF_RECENT_MAX_S: Final = 1.0
RECENT_S: Final = 600.0
"""Where a link was a moment ago it will be again, mostly: a router restarts, a cable is plugged in again."""

Peer = TypeVar("Peer", bound=Hashable)


class Source(IntEnum):
    """Who said so; the lower is tried first."""

    SIGHTED = 0
    """Heard on this network a moment ago."""
    STATIC = 1
    """Written down by the user; never forgotten for another."""
    TICKET = 2
    CALLER = 3
    """It called from there, and says at which port it listens."""
    EXCHANGED = 4
    """Another member says so."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of one address of a peer."""

    address: Address
    sources: frozenset[Source]
    """Empty when nobody speaks of it any more and it is kept because it worked."""
    succeeded_at: float | None = None
    failures: int = 0
    """Since the last success."""
    rests_until: float = 0.0


class AddressBook(Generic[Peer]):
    """The addresses of each peer, at most ADDRESSES_PER_PEER_MAX of each and of PEERS_MAX peers.

    A peer is whatever the caller knows it by: a device id, or the name of an instance that has
    been sighted and not met.
    """

    def __init__(self) -> None:
        self._peers: dict[Peer, dict[Address, Entry]] = {}

    def tell(self, peer: Peer, source: Source, addresses: Iterable[Address], now: float) -> None:
        """`addresses` is all that `source` says of `peer` now; what it said before and omits is forgotten.

        An address that worked is kept all the same. Being sighted shortens a rest to the first
        one's length, as somebody is there. Peers beyond the bound are passed over.
        """
        if peer not in self._peers and len(self._peers) >= PEERS_MAX:
            return
        entries = self._peers.setdefault(peer, {})
        told = dict.fromkeys(addresses)
        for entry in list(entries.values()):
            if entry.address not in told and source in entry.sources:
                self._put(entries, replace(entry, sources=entry.sources - {source}))
        for address in told:
            entry = entries.get(address, Entry(address, frozenset()))
            rests_until = entry.rests_until
            if source is Source.SIGHTED:
                rests_until = min(rests_until, now + BACK_OFF_FIRST_S)
            entries[address] = replace(entry, sources=entry.sources | {source}, rests_until=rests_until)
            self._shrink(entries)
        if not entries:
            del self._peers[peer]

    def succeeded(self, peer: Peer, address: Address, now: float) -> None:
        """A link was made there. An address that was not known becomes known."""
        if peer not in self._peers and len(self._peers) >= PEERS_MAX:
            return
        entries = self._peers.setdefault(peer, {})
        entry = entries.get(address, Entry(address, frozenset()))
        entries[address] = replace(entry, succeeded_at=now, failures=0, rests_until=now)
        self._shrink(entries)

    def failed(self, peer: Peer, address: Address, now: float, chance: float) -> None:
        """No link was made there; it rests for `back_off_s` of `chance`, which is in [0, 1)."""
        if entry := self._peers.get(peer, {}).get(address):
            failures = entry.failures + 1
            longest_s = BACK_OFF_SIGHTED_MAX_S if Source.SIGHTED in entry.sources else BACK_OFF_MAX_S
            if _is_recent(entry, now):
                longest_s = BACK_OFF_RECENT_MAX_S
            rests_until = now + back_off_s(failures, chance, longest_s)
            self._peers[peer][address] = replace(entry, failures=failures, rests_until=rests_until)

    def worked_lately(self, peer: Peer, address: Address, now: float) -> bool:
        """Whether a link was made there within RECENT_S."""
        entry = self._peers.get(peer, {}).get(address)
        return entry is not None and _is_recent(entry, now)

    def is_hearsay(self, peer: Peer, address: Address) -> bool:
        """Whether nothing speaks for it but another member's word."""
        entry = self._peers.get(peer, {}).get(address)
        return entry is not None and entry.sources == {Source.EXCHANGED} and entry.succeeded_at is None

    def hurry(self, peer: Peer, now: float, rest_s: float, count: int) -> None:
        """The `count` likeliest addresses of a peer rest for `rest_s` from now at most."""
        for entry in self.entries(peer)[:count]:
            if entry.rests_until > now + rest_s:
                self._peers[peer][entry.address] = replace(entry, rests_until=now + rest_s)

    def wake(self, now: float) -> None:
        """Nothing rests any more, and failures are forgotten: this machine has another network."""
        for entries in self._peers.values():
            for address, entry in entries.items():
                entries[address] = replace(entry, failures=0, rests_until=min(entry.rests_until, now))

    def due(self, peer: Peer, now: float) -> list[Address]:
        """Addresses to dial now, the likeliest first."""
        entries = self._peers.get(peer, {}).values()
        return [e.address for e in sorted(entries, key=_likelihood) if e.rests_until <= now]

    def next_due(self, peer: Peer) -> float | None:
        """When an address of `peer` is to be dialled next; None if there is none."""
        return min((entry.rests_until for entry in self._peers.get(peer, {}).values()), default=None)

    def entries(self, peer: Peer) -> list[Entry]:
        """All that is known of a peer's addresses, the likeliest first."""
        return sorted(self._peers.get(peer, {}).values(), key=_likelihood)

    def peers(self) -> list[Peer]:
        """Whose addresses are known, in the order in which they became known."""
        return list(self._peers)

    def forget(self, peer: Peer) -> None:
        """Drop all addresses of a peer."""
        self._peers.pop(peer, None)

    @staticmethod
    def _shrink(entries: dict[Address, Entry]) -> None:
        if len(entries) > ADDRESSES_PER_PEER_MAX:
            del entries[max(entries.values(), key=_worth).address]

    @staticmethod
    def _put(entries: dict[Address, Entry], entry: Entry) -> None:
        if entry.sources or entry.succeeded_at is not None:
            entries[entry.address] = entry
        else:
            del entries[entry.address]


def back_off_s(failures: int, chance: float, longest_s: float = BACK_OFF_MAX_S) -> float:
    """How long an address rests after so many failures in a row; `chance` is in [0, 1).

    It doubles from BACK_OFF_FIRST_S to `longest_s`, and is half to one and a half times that, so
    that devices which lost each other at once do not dial each other at once.
    """
    assert failures >= 1
    middle = min(longest_s, BACK_OFF_FIRST_S * 2.0 ** min(failures - 1, 30))
    return middle * (0.5 + chance)


def _is_recent(entry: Entry, now: float) -> bool:
    return entry.succeeded_at is not None and now - entry.succeeded_at < RECENT_S


def _likelihood(entry: Entry) -> tuple[bool, float, int, int, Address]:
    """Sorts by: worked since it failed, the latest such; who said so; failures; then any fixed order."""
    has_worked = entry.succeeded_at is not None and entry.failures == 0
    latest = -entry.succeeded_at if entry.succeeded_at is not None else 0.0
    return (not has_worked, latest, min(entry.sources, default=len(Source)), entry.failures, entry.address)


def _worth(entry: Entry) -> tuple[bool, bool, int, float, Address]:
    """Sorts what to keep first: the user's own, what has worked, what fails least."""
    latest = -entry.succeeded_at if entry.succeeded_at is not None else 0.0
    return (
        Source.STATIC not in entry.sources,
        entry.succeeded_at is None,
        entry.failures,
        latest,
        entry.address,
    )
