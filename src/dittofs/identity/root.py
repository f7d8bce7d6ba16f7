"""The root key of a volume: 128 bits a person can write down, from which its two key pairs follow."""

from dataclasses import dataclass, field

import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from dittofs.clock import Entropy

ROOT_BYTES = 16


def derive(purpose: str, key: bytes) -> bytes:
    """D(purpose, key): 32 bytes for one purpose from a secret of any length.

    BLAKE3 derive_key with the context `dittofs/1 <purpose>`; a purpose is a constant of the program.
    """
    return blake3.blake3(key, derive_key_context=f"dittofs/1 {purpose}").digest()


@dataclass(frozen=True, slots=True)
class RootKey:
    """The owner of a volume above all owners: signs its genesis, outranks a stolen device."""

    secret: bytes = field(repr=False)
    """128 random bits."""

    def __post_init__(self) -> None:
        assert len(self.secret) == ROOT_BYTES, "a root key has 16 bytes"

    @classmethod
    def make(cls, entropy: Entropy) -> "RootKey":
        return cls(entropy(ROOT_BYTES))

    def signing(self) -> Ed25519PrivateKey:
        """The key pair that signs."""
        return Ed25519PrivateKey.from_private_bytes(derive("root sign", self.secret))

    def wrapping(self) -> X25519PrivateKey:
        """The key pair that volume secrets are wrapped to."""
        return X25519PrivateKey.from_private_bytes(derive("root wrap", self.secret))
