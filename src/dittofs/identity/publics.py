"""What a device shows of its keys, so that others can name, check and wrap secrets to it."""

import functools
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from dittofs.errors import FormatError
from dittofs.identity.certificate import read_certificate
from dittofs.identity.genesis import PUBLIC_KEY_BYTES, SIGNATURE_BYTES
from dittofs.identity.keys import Device, DeviceId, device_id

_SIGNED_PREFIX = b"dittofs/1 publics\0"
_PROBE = X25519PrivateKey.from_private_bytes(b"\x40" * PUBLIC_KEY_BYTES)


@dataclass(frozen=True, slots=True)
class Publics:
    """The public keys of the device `device`, as it proved them. Made by the two functions below only."""

    certificate: bytes
    """Its hash is the device id; it holds the signing key."""
    wrapping: bytes
    """X25519, 32 bytes."""
    proof: bytes
    """The signing key's signature of `wrapping`: nobody else can have secrets wrapped to a key of theirs."""

    @property
    def device(self) -> DeviceId:
        return device_id(self.certificate)

    def signing_key(self) -> Ed25519PublicKey:
        return read_certificate(self.certificate)

    def wrapping_key(self) -> X25519PublicKey:
        return X25519PublicKey.from_public_bytes(self.wrapping)


def make_publics(device: Device) -> Publics:
    """What `device` shows of itself."""
    wrapping = device.wrapping.public_key().public_bytes_raw()
    return Publics(device.certificate, wrapping, device.signing.sign(_SIGNED_PREFIX + wrapping))


@functools.lru_cache(maxsize=256)  # every role a device ever had repeats them
def parse_publics(certificate: bytes, wrapping: bytes, proof: bytes) -> Publics:
    """The publics in these bytes. `FormatError` unless the certificate's own key vouches for `wrapping`."""
    if (len(wrapping), len(proof)) != (PUBLIC_KEY_BYTES, SIGNATURE_BYTES):
        raise FormatError("a wrapping key or its proof of a wrong length")
    try:
        read_certificate(certificate).verify(proof, _SIGNED_PREFIX + wrapping)
    except InvalidSignature as error:
        raise FormatError("the wrapping key is not proven by the device's signing key") from error
    try:
        # A point of low order would make wrapping fail for everybody, at every new generation.
        _PROBE.exchange(X25519PublicKey.from_public_bytes(wrapping))
    except ValueError as error:
        raise FormatError("a wrapping key that nothing can be wrapped to") from error
    return Publics(certificate, wrapping, proof)
