"""One connection to a signalling server, and the words that devices exchange over it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog
import trio

from dittofs.address import Address
from dittofs.identity.keys import DeviceId
from dittofs.ids import VolumeId
from dittofs.links.link import LinkBroken
from dittofs.replication.calls import in_turn
from dittofs.server_urls import IceServer, SignalUrl
from dittofs.signalling.client import SignalConnection
from dittofs.signalling.messages import FromClient, Part, Tell
from dittofs.signalling.sealing import AnyWord, Offer, Seal, plain

log = structlog.get_logger()

ANSWER_S: Final = 25.0
UNSENT_MAX: Final = 256
HEARD_MAX: Final = 4096
"""Connections of other devices whose offers are told apart."""


@dataclass(slots=True)
class Present:
    """Somebody in a room who says to be a member."""

    device: DeviceId
    nonce: bytes
    seen_at: float


@dataclass(slots=True)
class Room:
    """A room that this device is in, or wants to be."""

    part: Part
    volume: VolumeId | None = None
    """Whose devices meet there; None: a device with a code meets who shows it."""
    seal: Seal | None = None
    is_entered: bool | None = None
    """None: the server has not answered yet."""
    asked_at: float = 0.0


@dataclass(slots=True, eq=False)
class Talk:
    """What one connection to the server knows."""

    connection: SignalConnection
    nonce: bytes
    rooms: dict[bytes, Room] = field(default_factory=dict)
    present: dict[tuple[bytes, int], Present] = field(default_factory=dict)
    _answers: dict[int, trio.MemorySendChannel[str]] = field(default_factory=dict)
    _offers: int = 0
    _heard: dict[bytes, int] = field(default_factory=dict)
    """Of each nonce the last offer's number."""
    _channel: tuple[trio.MemorySendChannel[FromClient], trio.MemoryReceiveChannel[FromClient]] = field(
        default_factory=lambda: trio.open_memory_channel[FromClient](UNSENT_MAX)
    )

    def say(self, room: bytes, who: int, word: AnyWord) -> None:
        """Queue a word; it is dropped if the server takes nothing."""
        seal = self.rooms[room].seal if room in self.rooms else None
        self.put(Tell(room, who, plain(word) if seal is None else seal.close(word, room)))

    def put(self, message: FromClient) -> None:
        """Queue a message; as `say`."""
        try:
            self._channel[0].send_nowait(message)
        except trio.WouldBlock:
            log.debug("the signalling server takes nothing")

    async def send(self) -> None:
        """Send what is queued, for ever. ServerLost."""
        async for message in self._channel[1]:
            await self.connection.send(message)

    async def exchange(self, room: bytes, who: int, nonce: bytes, description: str) -> str:
        """Offer `description` to `who`, whose nonce that is, and bring back the answer. LinkBroken."""
        self._offers += 1
        number = self._offers
        sending, receiving = trio.open_memory_channel[str](1)
        self._answers[number] = sending
        self.say(room, who, Offer(nonce, number, description))
        try:
            with trio.fail_after(ANSWER_S):
                return await receiving.receive()
        except trio.TooSlowError:
            raise LinkBroken(f"the other device did not answer within {ANSWER_S:g} s") from None
        finally:
            self._answers.pop(number, None)

    def answered(self, number: int, description: str) -> None:
        """An answer came to the offer of that number."""
        waiting = self._answers.pop(number, None)
        if waiting is not None:
            waiting.send_nowait(description)

    def is_fresh(self, nonce: bytes, number: int) -> bool:
        """Whether an offer of that number was not heard from there before; it was from now on."""
        if number <= self._heard.get(nonce, -1) or len(self._heard) >= HEARD_MAX:
            return False
        self._heard[nonce] = number
        return True

    def servers(self, url: SignalUrl, ice: Sequence[IceServer], attempt: int) -> list[IceServer]:
        """What helps a call: the settings' servers, and this one itself."""
        port = self.connection.stun_port
        own = [IceServer(Address(url.address.host, port))] if port else []
        return in_turn([*ice, *own], attempt)
