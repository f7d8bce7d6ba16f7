"""Peer exchange: members tell each other where the others are that they are connected with.

It is told once the session is open, and again when it has changed. What is heard is a hint of the last rank:
it is dialled seldom, stands in for nothing that is known, and is believed when that very device answered.
"""

import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Protocol

import trio

from dittofs.address import Address
from dittofs.discovery.addresses import AddressBook, Source
from dittofs.discovery.hearsay import sensible
from dittofs.identity.keys import DeviceId
from dittofs.identity.records import Role
from dittofs.links import tcp
from dittofs.links.link import Link
from dittofs.replication.calls import transport_of
from dittofs.sync import messages as wire

GATHER_S: Final = 1.0
"""Devices that come one after the other are told of together."""
AGAIN_S: Final = 5.0
"""A device that comes and goes is not told of more often."""

Told = Sequence[tuple[bytes, Sequence[str]]]


class TellingSession(Protocol):
    """What telling needs of a session."""

    device: DeviceId
    link: Link
    is_open: bool

    @property
    def role(self) -> Role: ...

    def send(self, message: wire.Message, body: bytes = b"") -> None: ...


class Whereabouts:
    """Of one volume: what sessions tell and hear of where others are."""

    def __init__(self, changed: Callable[[], trio.Event]) -> None:
        """`changed`: an event that is set when a session opens or ends."""
        self._changed = changed
        self.others: Callable[[DeviceId], Told] | None = None
        """Where all but that device are, as far as is known here; None: this device dials nobody."""
        self.heard: Callable[[DeviceId, Told], None] = lambda _teller, _told: None

    async def tell(self, session: TellingSession) -> None:
        """For ever: have the other side know. Nothing is sent that it was told already."""
        told: Told = []
        while self.others is not None:
            changed = self._changed()
            if session.is_open:
                await trio.sleep(GATHER_S)
                here = self.others(session.device)
                if here != told:
                    session.send(wire.Addresses(), wire.encode_whereabouts(here))
                    told = here
                    await trio.sleep(AGAIN_S)
            await changed.wait()


def known_of(sessions: Iterable[TellingSession], listener: DeviceId, book: AddressBook[str]) -> Told:
    """Where the other devices are that are connected: where they were dialled, and where they called from."""
    found: list[tuple[bytes, list[str]]] = []
    for session in sessions:
        if session.device == listener or session.role <= Role.STORE:
            continue
        texts = [session.link.description.partition(" ")[2]] if _was_dialled(session.link) else []
        texts += [
            str(one.address)
            for one in book.entries(session.device.hex())
            if Source.CALLER in one.sources or one.succeeded_at is not None
        ]
        known = dict.fromkeys(str(one) for one in map(sensible, texts) if one is not None)
        if known:
            found.append((session.device, list(known)[: wire.TOLD_ADDRESSES_MAX]))
    return sorted(found)[: wire.TOLD_DEVICES_MAX]


def likely(texts: Iterable[str]) -> list[Address]:
    """Those of the addresses told at which another machine may be."""
    return [one for one in map(sensible, texts) if one is not None and not _is_own(one.host)]


def _was_dialled(link: Link) -> bool:
    return link.is_dialer and transport_of(link) == tcp.TRANSPORT


def _is_own(host: str) -> bool:
    """Whether it is an address of this machine: only those can be bound."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as tried:
            tried.bind((host, 0))
    except OSError:
        return False
    return True


def device_of(key: str) -> DeviceId | None:
    """The device that a book's name is, if it is one's."""
    try:
        return DeviceId(bytes.fromhex(key))
    except ValueError:
        return None


def addresses_of(
    book: AddressBook[str], identities: Mapping[str, DeviceId], device: DeviceId
) -> list[Address]:
    """Those of a device in a book for which more speaks than another member's word: that is dialled seldom.

    `identities`: who answered under other names.
    """
    keys = [key for key in book.peers() if (identities.get(key) or device_of(key)) == device]
    return [
        entry.address
        for key in keys
        for entry in book.entries(key)
        if not book.is_hearsay(key, entry.address)
    ]
