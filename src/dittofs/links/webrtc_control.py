"""What the daemon and its WebRTC process say to each other before their socket carries the link's own bytes.

A message is its length (four bytes) and msgpack. The process says Opened last: the socket is the stream then.
"""

from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from dittofs.errors import FormatError

LENGTH_BYTES: Final = 4
MESSAGE_BYTES_MAX: Final = 128 << 10
DESCRIPTION_CHARACTERS_MAX: Final = 24 << 10
SERVERS_MAX: Final = 16

Description = Annotated[str, Meta(min_length=1, max_length=DESCRIPTION_CHARACTERS_MAX)]


class Control(Struct, frozen=True, array_like=True, tag_field="type"):
    """Anything that is said."""


class Begin(Control, frozen=True, tag=1):
    """The daemon's first: make a connection, or take up the one that is described."""

    servers: Annotated[tuple[str, ...], Meta(max_length=SERVERS_MAX)]
    """STUN and TURN servers, as `server_urls.IceServer` writes them."""
    offer: Annotated[str, Meta(max_length=DESCRIPTION_CHARACTERS_MAX)] = ""
    """What the caller's process described; empty: this one is the caller's."""


class Answered(Control, frozen=True, tag=2):
    """The daemon's second, of a caller: what the other process described."""

    description: Description


class Described(Control, frozen=True, tag=3):
    """The process's first: how it can be reached."""

    description: Description


class Opened(Control, frozen=True, tag=4):
    """The two processes are connected."""

    path: Annotated[str, Meta(max_length=100)]


class Failed(Control, frozen=True, tag=5):
    """They are not, and this process ends."""

    reason: Annotated[str, Meta(max_length=500)]


AnyControl = Begin | Answered | Described | Opened | Failed
_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final[msgspec.msgpack.Decoder[AnyControl]] = msgspec.msgpack.Decoder(AnyControl)


def encode(message: AnyControl) -> bytes:
    """`message` with its length."""
    data = _encoder.encode(message)
    return len(data).to_bytes(LENGTH_BYTES, "big") + data


def length(head: bytes) -> int:
    """How long the message is that follows on these LENGTH_BYTES. FormatError if too long."""
    size = int.from_bytes(head, "big")
    if size > MESSAGE_BYTES_MAX:
        raise FormatError(f"a message of {size} bytes between the daemon and its WebRTC process")
    return size


def decode(data: bytes) -> AnyControl:
    """The message in `data`. FormatError."""
    try:
        return _decoder.decode(data)
    except msgspec.MsgspecError as error:
        raise FormatError(f"the daemon and its WebRTC process disagree: {error}") from error
