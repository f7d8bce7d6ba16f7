"""What devices of a volume tell each other through a signalling server, sealed so that it learns nothing.

The key comes from the volume secret, so any member, also a removed one, can read and make it. It decides
nothing: who is at the other end of a link is proven by the link alone.
"""

from typing import Annotated, Final

import msgspec
from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from msgspec import Meta, Struct

from dittofs.clock import SECOND_NS, Entropy
from dittofs.errors import FormatError
from dittofs.identity.root import derive
from dittofs.signalling.messages import BODY_BYTES_MAX, ROOM_BYTES

DAY_S: Final = 86_400
OVERLAP_S: Final = 3_600
"""Clocks that differ by less than twice that meet, at any hour."""
NONCE_BYTES: Final = 16
_SEAL_NONCE_BYTES: Final = 12
_VERSION: Final = 1

Nonce = Annotated[bytes, Meta(min_length=NONCE_BYTES, max_length=NONCE_BYTES)]
DescriptionText = Annotated[str, Meta(max_length=BODY_BYTES_MAX)]


class Word(Struct, frozen=True, array_like=True, tag_field="type", forbid_unknown_fields=True):
    """Anything that devices tell each other."""


class Here(Word, frozen=True, tag=1):
    """Who this is. Of two that are in a room each tells the other, once the server says that it is there."""

    device: Annotated[bytes, Meta(min_length=32, max_length=32)]
    nonce: Nonce
    """Of this connection to the server: what is meant for an earlier one is not taken for this."""


class Offer(Word, frozen=True, tag=2):
    """A connection is offered; `to` is the nonce of who is meant."""

    to: Nonce
    number: Annotated[int, Meta(ge=0, lt=2**32)]
    """Of offers on this connection; it rises."""
    description: DescriptionText


class Answer(Word, frozen=True, tag=3):
    """To an Offer of that number."""

    to: Nonce
    number: Annotated[int, Meta(ge=0, lt=2**32)]
    description: DescriptionText


AnyWord = Here | Offer | Answer
_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final[msgspec.msgpack.Decoder[AnyWord]] = msgspec.msgpack.Decoder(AnyWord)


def rooms(secret: bytes, now_ns: int) -> frozenset[bytes]:
    """Where devices of a volume meet: one room, two around midnight. They change every day."""
    key = derive("signal room", secret)
    now_s = now_ns // SECOND_NS
    days = {max(0, now_s - OVERLAP_S) // DAY_S, (now_s + OVERLAP_S) // DAY_S}
    return frozenset(blake3(day.to_bytes(8, "big"), key=key).digest(length=ROOM_BYTES) for day in days)


def pairing_room(slot: int) -> bytes:
    """Where who has a code with that number meets who shows it. The number is no secret."""
    return derive("signal pairing", str(slot).encode())[:ROOM_BYTES]


def plain(word: AnyWord) -> bytes:
    """`word` for a pairing: the two have no secret yet that would seal it."""
    return _encoder.encode(word)


def parse(data: bytes) -> AnyWord:
    """The word in `data`. FormatError."""
    try:
        return _decoder.decode(data)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise FormatError(f"not what devices tell each other: {error}") from error


class Seal:
    """Seals and opens words in the rooms of one volume."""

    def __init__(self, secret: bytes, entropy: Entropy) -> None:
        self._cipher = AESGCM(derive("signal", secret))
        self._entropy = entropy

    def close(self, word: AnyWord, room: bytes) -> bytes:
        """`word`, to be opened in that room alone."""
        nonce = self._entropy(_SEAL_NONCE_BYTES)
        head = bytes([_VERSION]) + nonce
        return head + self._cipher.encrypt(nonce, _encoder.encode(word), head + room)

    def open(self, data: bytes, room: bytes) -> AnyWord:
        """The word in `data`. FormatError if it was not sealed for this room."""
        head, body = data[: 1 + _SEAL_NONCE_BYTES], data[1 + _SEAL_NONCE_BYTES :]
        if len(head) != 1 + _SEAL_NONCE_BYTES or head[0] != _VERSION:
            raise FormatError("not sealed as this version does")
        try:
            return parse(self._cipher.decrypt(head[1:], body, head + room))
        except InvalidTag as error:
            raise FormatError("sealed with another key, or for another room") from error
