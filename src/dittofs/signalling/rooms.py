"""Who is in which room of a signalling server, and who is told what. Pure.

A room is there while somebody is in it. Nothing of what is told is kept.
"""

from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from dittofs.errors import DittoError
from dittofs.signalling.allowance import Allowance
from dittofs.signalling.messages import (
    Came,
    Enter,
    Entered,
    FromClient,
    FromServer,
    Gone,
    Leave,
    Part,
    Refusal,
    Refused,
    Said,
    Tell,
)

ROOMS_MAX: Final = 8192
ROOMS_PER_CLIENT_MAX: Final = 128
CLIENTS_PER_ROOM_MAX: Final = 64
RATE: Final = 20.0
BURST: Final = 400.0
"""Messages of one client: a second, and at once."""
GUESTS_RATE: Final = 0.5
GUESTS_BURST: Final = 30.0
"""Guests from one address, a second and at once: whoever guesses codes enters as one."""
ADDRESSES_MAX: Final = 65536
FORGOTTEN_AT_ONCE: Final = 16
"""Addresses that are looked at for one that is fresh."""

Delivery = tuple[int, FromServer]
"""For whom, and what."""
_Name = tuple[str, bytes]


class TooMuch(DittoError):
    """A client says more than it may: it is let go of."""


@dataclass(slots=True)
class _Client:
    path: str
    host: str
    allowance: Allowance
    rooms: set[_Name] = field(default_factory=set)


class Rooms:
    """All clients of a server."""

    def __init__(self) -> None:
        self._clients: dict[int, _Client] = {}
        self._rooms: dict[_Name, dict[int, Part]] = {}
        self._guests: dict[str, Allowance] = {}

    @property
    def count(self) -> int:
        """How many rooms there are."""
        return len(self._rooms)

    def came(self, who: int, path: str, host: str, now: float) -> None:
        """A client is connected: its rooms are those of `path`, it is at the address `host`."""
        assert who not in self._clients
        self._clients[who] = _Client(path, host, Allowance(RATE, BURST, BURST, now))

    def left(self, who: int) -> list[Delivery]:
        """A client is not connected any more."""
        client = self._clients[who]
        told = [delivery for name in list(client.rooms) for delivery in self._leave(who, client, name)]
        del self._clients[who]
        return told

    def take(self, who: int, message: FromClient, now: float) -> list[Delivery]:
        """What follows of a client's message. TooMuch."""
        client = self._clients[who]
        if not client.allowance.take(now):
            raise TooMuch("too many messages")
        match message:
            case Enter(room=room, part=part):
                return self._enter(who, client, (client.path, room), part, now)
            case Leave(room=room):
                return self._leave(who, client, (client.path, room))
            case Tell(room=room, to=to, body=body):
                parts = self._rooms.get((client.path, room), {})
                if who in parts and to in parts and _meet(parts[who], parts[to]) and to != who:
                    return [(to, Said(room, who, body))]
                return []

    def _enter(self, who: int, client: _Client, name: _Name, part: Part, now: float) -> list[Delivery]:
        room = name[1]
        if name in client.rooms:
            return [(who, Entered(room))]
        if (reason := self._refusal(client, name, part, now)) is not None:
            return [(who, Refused(room, reason))]
        parts = self._rooms.setdefault(name, {})
        met = [other for other in parts if _meet(part, parts[other])]
        parts[who] = part
        client.rooms.add(name)
        told: list[Delivery] = [(who, Entered(room))]
        for other in met:
            told += [(who, Came(room, other))] if part is not Part.HOST else []
            told += [(other, Came(room, who))] if part is not Part.GUEST else []
        return told

    def _refusal(self, client: _Client, name: _Name, part: Part, now: float) -> Refusal | None:
        parts = self._rooms.get(name)
        if part is Part.GUEST and not self._may_guess(client.host, now):
            return Refusal.RATE
        if part is Part.HOST and parts is not None and Part.HOST in parts.values():
            return Refusal.TAKEN
        is_room_left = len(self._rooms) < ROOMS_MAX if parts is None else len(parts) < CLIENTS_PER_ROOM_MAX
        return None if is_room_left and len(client.rooms) < ROOMS_PER_CLIENT_MAX else Refusal.FULL

    def _may_guess(self, host: str, now: float) -> bool:
        allowance = self._guests.pop(host, None)
        if allowance is None:
            if len(self._guests) >= ADDRESSES_MAX:
                for one in list(islice(self._guests, FORGOTTEN_AT_ONCE)):
                    if self._guests[one].is_full(now):
                        del self._guests[one]
            if len(self._guests) >= ADDRESSES_MAX:
                return False
            allowance = Allowance(GUESTS_RATE, GUESTS_BURST, GUESTS_BURST, now)
        self._guests[host] = allowance  # who asked last stands last: the first ones are full before others
        return allowance.take(now)

    def _leave(self, who: int, client: _Client, name: _Name) -> list[Delivery]:
        if name not in client.rooms:
            return []
        client.rooms.remove(name)
        parts = self._rooms[name]
        part = parts.pop(who)
        if not parts:
            del self._rooms[name]
        # Who was told that it came is told that it went; a host meets guests whom it was not told of.
        return [
            (other, Gone(name[1], who))
            for other in parts
            if _meet(part, parts[other]) and part is not Part.GUEST
        ]


def _meet(one: Part, other: Part) -> bool:
    """Whether two in one room may talk."""
    return one is other is Part.MEMBER or {one, other} == {Part.HOST, Part.GUEST}
