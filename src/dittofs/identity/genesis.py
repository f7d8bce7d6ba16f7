"""The genesis of a volume: the record whose hash is the volume's id, signed by its root key."""

from dataclasses import dataclass

import blake3
import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from dittofs.errors import FormatError
from dittofs.identity.root import RootKey
from dittofs.ids import VolumeId

RECORD_BYTES_MAX = 4096
RANDOM_BYTES = 32
PUBLIC_KEY_BYTES = 32
SIGNATURE_BYTES = 64
GENERATION_NAME_BYTES = 8

_VERSION = 1
_SIGNED_PREFIX = b"dittofs/1 genesis\0"


class _Record(msgspec.Struct, frozen=True):
    """What is signed, as a msgpack map in this order. Unknown fields count for the id and are carried."""

    v: int
    sign: bytes
    wrap: bytes
    random: bytes


@dataclass(frozen=True, slots=True)
class Genesis:
    """A genesis whose signature holds. Made by `make_genesis` or `parse_genesis` only."""

    record: bytes
    """The msgpack bytes, exactly as they were signed."""
    signature: bytes
    root_sign: bytes
    """The root's Ed25519 public key."""
    root_wrap: bytes
    """The root's X25519 public key."""

    @property
    def volume_id(self) -> VolumeId:
        """BLAKE3 of the record: the same on every device, for ever."""
        return VolumeId(blake3.blake3(self.record).digest())

    @property
    def generation(self) -> bytes:
        """The name of the volume's first generation: the first 8 bytes of the id."""
        return self.volume_id[:GENERATION_NAME_BYTES]


def make_genesis(root: RootKey, random: bytes) -> Genesis:
    """The genesis of a volume that belongs to `root`; 32 random bytes make its id unique."""
    assert len(random) == RANDOM_BYTES
    signing = root.signing()
    sign = signing.public_key().public_bytes_raw()
    wrap = root.wrapping().public_key().public_bytes_raw()
    record = msgspec.msgpack.encode(_Record(v=_VERSION, sign=sign, wrap=wrap, random=random))
    return Genesis(record, signing.sign(_SIGNED_PREFIX + record), sign, wrap)


def parse_genesis(record: bytes, signature: bytes) -> Genesis:
    """The genesis in `record`. `FormatError` unless it is one and its own root key signed it."""
    if len(record) > RECORD_BYTES_MAX:
        raise FormatError(f"a genesis record has at most {RECORD_BYTES_MAX} bytes, not {len(record)}")
    try:
        fields = msgspec.msgpack.decode(record, type=_Record)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise FormatError(f"not a genesis record: {error}") from error
    if fields.v != _VERSION:
        raise FormatError(f"a genesis record of version {fields.v}, not {_VERSION}")
    lengths = (len(fields.sign), len(fields.wrap), len(fields.random), len(signature))
    if lengths != (PUBLIC_KEY_BYTES, PUBLIC_KEY_BYTES, RANDOM_BYTES, SIGNATURE_BYTES):
        raise FormatError("a genesis record with keys, random or signature of a wrong length")
    try:
        Ed25519PublicKey.from_public_bytes(fields.sign).verify(signature, _SIGNED_PREFIX + record)
    except (InvalidSignature, ValueError) as error:
        raise FormatError("the signature of the genesis record does not hold") from error
    return Genesis(record, signature, fields.sign, fields.wrap)
