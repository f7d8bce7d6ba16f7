"""What a signalling server and its clients say to each other (docs/reference/wire.md, "Signalling").

Each is one binary WebSocket message: msgpack, an array that begins with its number.
"""

from enum import IntEnum
from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import Meta, Struct

from dittofs.errors import FormatError

VERSION: Final = 1
ROOM_BYTES: Final = 16
BODY_BYTES_MAX: Final = 24 << 10
"""A description with a dozen addresses has 3 KiB."""
MESSAGE_BYTES_MAX: Final = BODY_BYTES_MAX + 256

Room = Annotated[bytes, Meta(min_length=ROOM_BYTES, max_length=ROOM_BYTES)]
Who = Annotated[int, Meta(ge=0, lt=2**48)]
"""A client in all of its rooms, by a number that the server drew."""
Body = Annotated[bytes, Meta(max_length=BODY_BYTES_MAX)]


class Part(IntEnum):
    """What a client is in a room. Members meet members; guests meet the host alone, of whom there is one."""

    MEMBER = 0
    HOST = 1
    GUEST = 2


class Refusal(IntEnum):
    """Why a client is not in a room."""

    TAKEN = 1
    """The room has a host."""
    FULL = 2
    RATE = 3
    """Too many from this address, in too short a time."""


class Message(Struct, frozen=True, array_like=True, tag_field="type", forbid_unknown_fields=True):
    """Anything that is sent."""


class Enter(Message, frozen=True, tag=1):
    """A client wants to be in a room. Answered by Entered or Refused."""

    room: Room
    part: Part


class Leave(Message, frozen=True, tag=2):
    room: Room


class Tell(Message, frozen=True, tag=3):
    """To another client of the room. Nothing is answered; who is not there does not get it."""

    room: Room
    to: Who
    body: Body


class Welcome(Message, frozen=True, tag=4):
    """The server's first message."""

    version: int
    stun_port: Annotated[int, Meta(ge=0, le=65535)]
    """Where it answers STUN over UDP; 0: nowhere."""


class Entered(Message, frozen=True, tag=5):
    room: Room


class Refused(Message, frozen=True, tag=6):
    room: Room
    reason: Refusal


class Came(Message, frozen=True, tag=7):
    """Somebody to be met is in the room, since before or since now."""

    room: Room
    who: Who


class Gone(Message, frozen=True, tag=8):
    room: Room
    who: Who


class Said(Message, frozen=True, tag=9):
    """What another client told this one."""

    room: Room
    who: Who
    body: Body


FromClient = Enter | Leave | Tell
FromServer = Welcome | Entered | Refused | Came | Gone | Said
Kind = TypeVar("Kind")

_from_client: Final[msgspec.msgpack.Decoder[FromClient]] = msgspec.msgpack.Decoder(FromClient)
_from_server: Final[msgspec.msgpack.Decoder[FromServer]] = msgspec.msgpack.Decoder(FromServer)
_encoder: Final = msgspec.msgpack.Encoder()


def encode(message: Message) -> bytes:
    """The bytes of one WebSocket message."""
    return _encoder.encode(message)


def decode_from_client(data: bytes) -> FromClient:
    """What a client said. FormatError if it is nothing that clients say."""
    return _decoded(_from_client, data)


def decode_from_server(data: bytes) -> FromServer:
    """What the server said. FormatError if it is nothing that servers say."""
    return _decoded(_from_server, data)


def _decoded(decoder: "msgspec.msgpack.Decoder[Kind]", data: bytes) -> Kind:
    try:
        return decoder.decode(data)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise FormatError(f"not a message of signalling: {error}") from error
