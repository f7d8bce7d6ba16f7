"""What crosses the link when two devices pair, as msgpack arrays that begin with a number for their kind."""

import hmac
from typing import TypeVar

import blake3
import msgspec

from dittofs.errors import FormatError
from dittofs.identity.invitations import PairingRefused, Reason
from dittofs.identity.keys import DeviceId
from dittofs.identity.root import derive

EXPORTER_LABEL = "EXPORTER-dittofs-pair-1"
"""X is what TLS exports on both sides under this label."""
EXPORTED_BYTES = 32
VERSION = 1
MESSAGE_BYTES_MAX = 4096
"""Of every message but the last: what is read from a peer that has not proven anything."""
VOLUME_BYTES_MAX = 32 << 20

Expected = TypeVar("Expected", bound=msgspec.Struct)


class Hello(msgspec.Struct, frozen=True, array_like=True, tag=1, forbid_unknown_fields=True):
    """1. Joiner: which invitation it holds, and its half of the key exchange."""

    v: int
    slot: bytes
    a: bytes


class Greeting(msgspec.Struct, frozen=True, array_like=True, tag=2, forbid_unknown_fields=True):
    """2. Inviter: its half of the key exchange."""

    b: bytes


class Confirmation(msgspec.Struct, frozen=True, array_like=True, tag=3, forbid_unknown_fields=True):
    """3. Joiner: that it knows S, and who it is. Its certificate is the link's."""

    mac: bytes
    wrapping: bytes
    proof: bytes
    name: str


class Answer(msgspec.Struct, frozen=True, array_like=True, tag=4, forbid_unknown_fields=True):
    """4. Inviter: that it knows S. The joiner is a member now."""

    mac: bytes


class Volume(msgspec.Struct, frozen=True, array_like=True, tag=5, forbid_unknown_fields=True):
    """5. Inviter: the volume."""

    genesis: bytes
    signature: bytes
    records: list[bytes]
    addresses: list[str]
    name: str


class Refusal(msgspec.Struct, frozen=True, array_like=True, tag=9, forbid_unknown_fields=True):
    """Instead of any message: the sender ends the pairing."""

    reason: int


def transcript(
    joiner: DeviceId, inviter: DeviceId, exported: bytes, hello: Hello, greeting: Greeting
) -> bytes:
    """T: what both confirm. It differs if anything was said differently, by others, or over another link."""
    said = [VERSION, joiner, inviter, exported, hello.slot, hello.a, greeting.b]
    return blake3.blake3(msgspec.msgpack.encode(said)).digest()


def joiner_mac(secret: bytes, said: bytes) -> bytes:
    """The joiner's confirmation of transcript `said`."""
    return blake3.blake3(said, key=derive("pair joiner", secret)).digest()


def inviter_mac(secret: bytes, said: bytes) -> bytes:
    """The inviter's confirmation of transcript `said`."""
    return blake3.blake3(said, key=derive("pair inviter", secret)).digest()


def is_equal(mac: bytes, expected: bytes) -> bool:
    """Whether the two are equal, in a time that does not say where they differ."""
    return hmac.compare_digest(mac, expected)


def encode(message: msgspec.Struct) -> bytes:
    """The bytes of a message."""
    return msgspec.msgpack.encode(message)


def refusal(reason: Reason) -> bytes:
    """The message that tells the joiner why there is no pairing; the last one."""
    return encode(Refusal(int(reason)))


def decode(data: bytes, expected: type[Expected], bytes_max: int = MESSAGE_BYTES_MAX) -> Expected:
    """The message `data`, which is of the kind `expected`.

    `FormatError` if it is not, `PairingRefused` if the peer refused instead.
    """
    if len(data) > bytes_max:
        raise FormatError(f"a pairing message has at most {bytes_max} bytes, not {len(data)}")
    try:
        message = msgspec.msgpack.decode(data, type=expected | Refusal)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise FormatError(f"not the message that pairing expects: {error}") from error
    if isinstance(message, Refusal):
        raise PairingRefused(_reason(message.reason))
    assert isinstance(message, expected)
    return message


def _reason(number: int) -> Reason:
    try:
        return Reason(number)
    except ValueError:
        return Reason.MALFORMED
