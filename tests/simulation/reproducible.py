"""The same seed gives the same run, in every process: nothing that a run does draws on chance elsewhere."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from unittest.mock import patch

import trio._core._run as scheduler
from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE: Final = bytes(12)
_KEY_BYTES: Final = 32


class _SeededSuite:
    """In place of HPKE, whose library draws ephemeral keys by itself: here they follow from what is sealed.

    The records that hold wraps are hashed, and the order of the hashes is part of a run.
    """

    def encrypt(self, plaintext: bytes, public_key: X25519PublicKey, *, info: bytes) -> bytes:
        secret = blake3(b"".join((plaintext, public_key.public_bytes_raw(), info))).digest()
        ephemeral = X25519PrivateKey.from_private_bytes(secret)
        cipher = self._cipher(ephemeral.exchange(public_key), info)
        return ephemeral.public_key().public_bytes_raw() + cipher.encrypt(_NONCE, plaintext, None)

    def decrypt(self, ciphertext: bytes, private_key: X25519PrivateKey, *, info: bytes) -> bytes:
        ephemeral = X25519PublicKey.from_public_bytes(ciphertext[:_KEY_BYTES])
        return self._cipher(private_key.exchange(ephemeral), info).decrypt(
            _NONCE, ciphertext[_KEY_BYTES:], None
        )

    def _cipher(self, shared: bytes, info: bytes) -> AESGCM:
        return AESGCM(blake3(shared + info).digest())


@contextmanager
def reproducible(seed: int) -> Iterator[None]:
    """Let trio run what is ready in an order that the seed gives, and wraps be the same each time."""
    before = scheduler._ALLOW_DETERMINISTIC_SCHEDULING
    scheduler._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]  # trio calls it Final
    state = scheduler._r.getstate()
    scheduler._r.seed(seed)
    try:
        with patch("dittofs.identity.wraps._SUITE", _SeededSuite()):
            yield
    finally:
        scheduler._ALLOW_DETERMINISTIC_SCHEDULING = before  # type: ignore[misc]  # as above
        scheduler._r.setstate(state)
