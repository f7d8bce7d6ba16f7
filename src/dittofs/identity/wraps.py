"""Secrets of a volume sealed to one recipient (HPKE, RFC 9180), and an older one under a younger one."""

from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from dittofs.clock import Entropy
from dittofs.identity.keys import SECRET_BYTES
from dittofs.identity.root import derive
from dittofs.ids import VolumeId

WRAP_BYTES = 113  # suite, encapsulated key (32), V and G (64), tag (16)
PREVIOUS_BYTES = 60  # nonce (12), G (32), tag (16)

_SUITE = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
_SUITE_BYTE = b"\x01"
_INFO = b"dittofs/1 wrap\0"
_NONCE_BYTES = 12
_PREVIOUS_PREFIX = b"dittofs/1 previous\0"


@dataclass(frozen=True, slots=True)
class Wrapped:
    """What a wrap holds."""

    secret: bytes = field(repr=False)
    """V."""
    generation: bytes = field(repr=False)
    """G."""

    def check(self) -> bytes:
        """What the generation's record says of both, so that another pair does not pass for them."""
        return derive("generation check", self.secret + self.generation)


def seal_wrap(wrapped: Wrapped, recipient: bytes, key: X25519PublicKey, volume: VolumeId) -> bytes:
    """`wrapped` for the holder of `key`, known as `recipient` in `volume`. Other bytes at each call."""
    plain = wrapped.secret + wrapped.generation
    return _SUITE_BYTE + _SUITE.encrypt(plain, key, info=_INFO + volume + recipient)


def open_wrap(sealed: bytes, recipient: bytes, key: X25519PrivateKey, volume: VolumeId) -> Wrapped | None:
    """What was sealed to `recipient` in `volume`; None if it was not, or in a suite unknown here."""
    if len(sealed) != WRAP_BYTES or not sealed.startswith(_SUITE_BYTE):
        return None
    try:
        plain = _SUITE.decrypt(sealed[1:], key, info=_INFO + volume + recipient)
    except (InvalidTag, ValueError):
        return None
    return Wrapped(plain[:SECRET_BYTES], plain[SECRET_BYTES:])


def seal_previous(older: bytes, name: bytes, younger: bytes, volume: VolumeId, entropy: Entropy) -> bytes:
    """The secret `older` of the generation `name`, for whoever has the secret `younger`."""
    nonce = entropy(_NONCE_BYTES)
    cipher = AESGCM(derive("previous", younger))
    return nonce + cipher.encrypt(nonce, older, _PREVIOUS_PREFIX + volume + name)


def open_previous(sealed: bytes, name: bytes, younger: bytes, volume: VolumeId) -> bytes | None:
    """The secret of the generation `name`; None if `sealed` does not hold it."""
    if len(sealed) != PREVIOUS_BYTES:
        return None
    cipher = AESGCM(derive("previous", younger))
    nonce, body = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
    try:
        return cipher.decrypt(nonce, body, _PREVIOUS_PREFIX + volume + name)
    except InvalidTag:
        return None
