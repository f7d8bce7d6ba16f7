"""The key exchange of two devices that know the same few words, and of nobody else: SPAKE2 (RFC 9382).

Who does not know the words learns nothing from what is said, and can test one guess in one exchange: by the
confirmation that follows. The library is loaded when an exchange begins: most devices never have one.
"""

from typing import Final, Protocol

from dittofs.clock import Entropy
from dittofs.errors import FormatError
from dittofs.identity.keys import DeviceId

ELEMENT_BYTES: Final = 33
"""Of what each side says."""


class _Side(Protocol):
    """What the library offers."""

    def start(self) -> bytes: ...

    def finish(self, heard: bytes, /) -> bytes: ...


class Exchange:
    """One side of one exchange. `said` is to be sent; `secret` of what the other side said is the key."""

    def __init__(self, side: _Side) -> None:
        self._side = side
        self.said: Final[bytes] = side.start()

    def secret(self, heard: bytes) -> bytes:
        """The key, 32 bytes, which is the other side's too if it knows the words. Once only.

        `FormatError` if no other side says that.
        """
        from spake2 import SPAKEError
        from spake2.ed25519_basic import NotOnCurve

        if len(heard) != ELEMENT_BYTES:
            raise FormatError(f"half of a key exchange has {ELEMENT_BYTES} bytes, not {len(heard)}")
        try:
            return self._side.finish(heard)
        except (SPAKEError, NotOnCurve, ValueError) as error:
            raise FormatError(f"not half of a key exchange: {error or type(error).__name__}") from error


def joiner_exchange(words: bytes, joiner: DeviceId, inviter: DeviceId, entropy: Entropy) -> Exchange:
    """The joining device's side."""
    from spake2 import SPAKE2_A

    return Exchange(SPAKE2_A(words, *_identities(joiner, inviter), entropy_f=entropy))


def inviter_exchange(words: bytes, joiner: DeviceId, inviter: DeviceId, entropy: Entropy) -> Exchange:
    """The inviting device's side."""
    from spake2 import SPAKE2_B

    return Exchange(SPAKE2_B(words, *_identities(joiner, inviter), entropy_f=entropy))


def _identities(joiner: DeviceId, inviter: DeviceId) -> tuple[bytes, bytes]:
    return b"joiner" + joiner, b"inviter" + inviter
