"""One signalling server: being there for other members and for who has a code, calling and being called.

The server can but deny. What members tell each other is sealed; who is at the other end, the link proves; and
what it lets through again or makes up ends in an attempt that fails, of which there are few at a time.
"""

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog
import trio

from dittofs.clock import Clock, Entropy
from dittofs.discovery.addresses import back_off_s
from dittofs.errors import DittoError, FormatError
from dittofs.identity.keys import DeviceId
from dittofs.links.link import Alpn, Link
from dittofs.links.serving import served
from dittofs.links.webrtc import TRANSPORT
from dittofs.replication.calls import CALLS_MAX, STRANGERS_MAX, Calls
from dittofs.replication.connector import Connector
from dittofs.replication.peers import Peers
from dittofs.replication.talk import Present, Room, Talk
from dittofs.replication.upkeep import contained
from dittofs.server_urls import IceServer, SignalUrl
from dittofs.signalling import sealing
from dittofs.signalling.allowance import Allowance
from dittofs.signalling.client import ServerLost, open_connection
from dittofs.signalling.messages import (
    Came,
    Enter,
    Entered,
    FromServer,
    Gone,
    Leave,
    Part,
    Refused,
    Said,
    Welcome,
)
from dittofs.signalling.sealing import Answer, AnyWord, Here, Offer, Seal, parse

log = structlog.get_logger()

TCP_FIRST_S: Final = 2.0
"""So long whoever is there is left to TCP, which is better where it works."""
LOOK_S: Final = 15.0
RETRY_MAX_S: Final = 60.0
PRESENT_MAX: Final = 256
HEARD_RATE: Final = 50.0
HEARD_BURST: Final = 2_000.0
"""Messages of a server: a second, and at once."""
TRIES_RATE: Final = 0.2
TRIES_BURST: Final = 16.0
"""Calls of strangers: each is a process that starts."""


@dataclass(slots=True)
class _Absent:
    """How it went to call a device."""

    failures: int = 0
    rests_until: float = 0.0


class Line:
    """See the module. `run` for as long as the server is to be used."""

    def __init__(
        self,
        url: SignalUrl,
        connector: Connector,
        calls: Calls,
        *,
        volumes: Callable[[], Sequence[tuple[Peers, bytes]]],
        slots: Callable[[], frozenset[int]],
        ice: Sequence[IceServer],
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        """`volumes`: whose devices are met there, with their secrets; `slots`: codes that are shown now."""
        self.url = url
        self.problem: str | None = None
        """Why the server is not reached, or empty; None: it was not tried yet."""
        self._connector = connector
        self._calls = calls
        self._volumes = volumes
        self._slots = slots
        self._ice = tuple(ice)
        self._clock = clock
        self._entropy = entropy
        self._absent: dict[DeviceId, _Absent] = {}
        self._calling: set[DeviceId] = set()
        self._strangers = 0
        self._tries = Allowance(TRIES_RATE, TRIES_BURST, TRIES_BURST, trio.current_time())
        self._talk: Talk | None = None
        self._changed = trio.Event()

    async def run(self) -> None:
        """For ever: connect, and again when that ends."""
        failures = 0
        while True:
            began = trio.current_time()
            try:
                await self._converse()
            except (ServerLost, FormatError) as error:
                if not self.problem:
                    log.info(
                        "the signalling server is not reached",
                        server=str(self.url.address),
                        reason=str(error),
                    )
                self._tell(str(error))
            failures = 1 if trio.current_time() - began > RETRY_MAX_S else failures + 1
            await trio.sleep(back_off_s(failures, random.random(), RETRY_MAX_S))

    async def hosting(self, slot: int) -> bool | None:
        """Whether a code's number is this device's there, once that is known; None: it is not reached."""
        name = sealing.pairing_room(slot)
        while True:
            if self.problem:
                return None
            room = self._talk.rooms.get(name) if self._talk is not None else None
            if room is not None and room.is_entered is not None:
                return room.is_entered
            await self._changed.wait()

    def _tell(self, problem: str) -> None:
        self.problem = problem
        self._signal()

    def _signal(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def _converse(self) -> None:
        async with open_connection(self.url) as connection:
            talk = self._talk = Talk(connection, self._entropy(sealing.NONCE_BYTES))
            self._tell("")
            log.info("the signalling server is reached", server=str(self.url.address))
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(talk.send)
                    nursery.start_soon(self._keep, talk, nursery)
                    heard = Allowance(HEARD_RATE, HEARD_BURST, HEARD_BURST, trio.current_time())
                    while True:
                        message = await connection.receive()
                        if not heard.take(trio.current_time()):
                            raise FormatError("the signalling server says too much")
                        self._take(talk, message, nursery)
            finally:
                self._talk = None

    # -- rooms

    async def _keep(self, talk: Talk, nursery: trio.Nursery) -> None:
        """Be in the rooms of now, and call who is due."""
        while True:
            self._enter(talk)
            wait_s = self._call_due(talk, nursery)
            with trio.move_on_after(min(LOOK_S, max(0.05, wait_s))):
                await self._connector.looked()
                await trio.lowlevel.checkpoint()

    def _enter(self, talk: Talk) -> None:
        wanted: dict[bytes, Room] = {}
        for peers, secret in self._volumes():
            for name in sealing.rooms(secret, self._clock.now_ns()):
                wanted[name] = Room(Part.MEMBER, peers.volume, Seal(secret, self._entropy))
        for slot in self._slots():
            wanted[sealing.pairing_room(slot)] = Room(Part.HOST)
        for name in talk.rooms.keys() - wanted.keys():
            del talk.rooms[name]
            talk.put(Leave(name))
            for key in [key for key in talk.present if key[0] == name]:
                del talk.present[key]
        now = trio.current_time()
        for name, room in wanted.items():
            present = talk.rooms.setdefault(name, room)
            is_refused = present.is_entered is False and now - present.asked_at >= LOOK_S
            if present is room or is_refused:
                present.asked_at, present.is_entered = now, None
                talk.put(Enter(name, room.part))

    def _take(self, talk: Talk, message: FromServer, nursery: trio.Nursery) -> None:
        room = None if isinstance(message, Welcome) else talk.rooms.get(message.room)
        match message:
            case Entered() if room is not None:
                room.is_entered = True
                self._signal()
            case Refused(reason=reason) if room is not None:
                log.debug("a room of the signalling server is not open", reason=reason.name.lower())
                room.is_entered = False
                self._signal()
            case Came(room=name, who=who) if room is not None and room.volume is not None:
                talk.say(name, who, Here(self._calls.device.id, talk.nonce))
            case Gone(room=name, who=who):
                talk.present.pop((name, who), None)
            case Said(room=name, who=who, body=body) if room is not None:
                try:
                    word = parse(body) if room.seal is None else room.seal.open(body, name)
                except FormatError as error:
                    log.debug("signalling brought what is no word", reason=str(error))
                else:
                    self._hear(talk, name, who, room, word, nursery)
            case _:
                pass  # of a room that was left, or nothing that concerns us

    def _hear(
        self, talk: Talk, name: bytes, who: int, room: Room, word: AnyWord, nursery: trio.Nursery
    ) -> None:
        there = talk.present.get((name, who))
        match word:
            case Here(device=device, nonce=nonce) if room.volume is not None:
                if len(talk.present) < PRESENT_MAX and device != self._calls.device.id:
                    talk.present[name, who] = Present(DeviceId(device), nonce, trio.current_time())
                    self._connector.look()
            case Offer(description=offer) if room.volume is None:
                if self._strangers < STRANGERS_MAX and self._tries.take(trio.current_time()):
                    self._strangers += 1
                    # Beside the conversation with the server: pairing goes on if that ends.
                    self._calls.nursery.start_soon(self._take_stranger, talk, name, who, word, offer)
            case Offer(to=to, number=number) if there is not None and to == talk.nonce:
                if self._may_call(room, there.device) and talk.is_fresh(there.nonce, number):
                    self._calling.add(there.device)
                    nursery.start_soon(self._take_member, talk, name, who, there, word)
            case Answer(to=to, number=number, description=description) if to == talk.nonce:
                talk.answered(number, description)
            case _:
                log.debug("signalling brought a word out of turn", kind=type(word).__name__)

    # -- being called

    async def _take_stranger(self, talk: Talk, name: bytes, who: int, word: Offer, offer: str) -> None:
        tell = partial(_answer, talk, name, who, word.number, word.to)

        async def pair() -> None:
            link = await self._taken(talk, word.number, offer, tell, None)
            if link is not None:
                await served(self._connector.accept, link)

        try:
            await contained(pair)
        finally:
            self._strangers -= 1

    async def _take_member(self, talk: Talk, name: bytes, who: int, there: Present, word: Offer) -> None:
        tell = partial(_answer, talk, name, who, word.number, there.nonce)
        try:
            link = await self._taken(talk, word.number, word.description, tell, there.device)
            if link is not None and not self._is_wanted(name, talk, there.device):
                await link.aclose()
            elif link is not None:
                self._calls.nursery.start_soon(contained, partial(served, self._connector.accept, link))
        finally:
            self._calling.discard(there.device)

    async def _taken(
        self,
        talk: Talk,
        number: int,
        offer: str,
        tell: Callable[[str], Awaitable[None]],
        device: DeviceId | None,
    ) -> Link | None:
        """The link to whoever made an offer, which is to be that device; None if none is made."""
        try:
            return await self._calls.take(
                talk.servers(self.url, self._ice, number),
                offer,
                tell,
                admits=lambda who, alpn: device in (None, who) and self._connector.admits(who, alpn),
            )
        except DittoError as error:
            log.debug("a call was not taken", reason=str(error))
            return None

    # -- calling

    def _call_due(self, talk: Talk, nursery: trio.Nursery) -> float:
        """Begin the calls that are due; return the seconds until another one is."""
        now = trio.current_time()
        wait_s = LOOK_S
        for (name, who), there in list(talk.present.items()):
            room = talk.rooms[name]
            if there.device < self._calls.device.id or not self._may_call(room, there.device):
                continue  # of two devices the one with the lesser id calls
            absent = self._absent.setdefault(there.device, _Absent())
            due = max(there.seen_at + TCP_FIRST_S, absent.rests_until)
            if due > now:
                wait_s = min(wait_s, due - now)
                continue
            self._calling.add(there.device)
            nursery.start_soon(self._call_member, talk, name, who, room, there, absent)
        return wait_s

    async def _call_member(
        self, talk: Talk, name: bytes, who: int, room: Room, there: Present, absent: _Absent
    ) -> None:
        peers = self._connector.peers(room.volume)
        try:
            if peers is None:
                return
            exchange = partial(talk.exchange, name, who, there.nonce)
            link = await self._calls.call(
                talk.servers(self.url, self._ice, absent.failures),
                exchange,
                alpn=Alpn.SESSION,
                admits=lambda device, _alpn: device == there.device,
            )
            absent.failures = 0
            if not self._connector.lacks(peers, there.device, TRANSPORT):
                await link.aclose()
                return
            self._calls.nursery.start_soon(
                contained, partial(served, partial(self._connector.hold, peers), link)
            )
        except DittoError as error:
            absent.failures += 1
            log.debug("nobody was reached by a call", device=there.device.hex()[:16], reason=str(error))
        finally:
            absent.rests_until = trio.current_time() + back_off_s(
                absent.failures + 1, random.random(), RETRY_MAX_S
            )
            self._calling.discard(there.device)
            self._connector.look()

    def _may_call(self, room: Room, device: DeviceId) -> bool:
        peers = self._connector.peers(room.volume)
        return (
            peers is not None
            and device not in self._calling
            and len(self._calling) < CALLS_MAX
            and self._connector.lacks(peers, device, TRANSPORT)
        )

    def _is_wanted(self, name: bytes, talk: Talk, device: DeviceId) -> bool:
        room = talk.rooms.get(name)
        peers = None if room is None else self._connector.peers(room.volume)
        return peers is not None and self._connector.lacks(peers, device, TRANSPORT)


async def _answer(talk: Talk, name: bytes, who: int, number: int, nonce: bytes, description: str) -> None:
    talk.say(name, who, Answer(nonce, number, description))
