"""The bodies of `Prove` and `Proof`: pieces of contents, and the proof that somebody has each of them now.

A proof is BLAKE3 of the plaintext of a piece, keyed with a nonce that the asker made for this question. Who
lacks the bytes cannot make it, whatever he kept; sealed bytes would not do, for they differ by sealer.
"""

from collections.abc import Sequence
from enum import IntEnum
from typing import Annotated, Final, NamedTuple, TypeVar

import msgspec
from msgspec import Meta

from dittofs.errors import FormatError
from dittofs.sync.messages import Root

Value = TypeVar("Value")

PIECES_MAX: Final = 512
"""Pieces of contents in one `Prove`."""
PROVE_BYTES_MAX: Final = 64 << 20
"""Bytes in all of them together."""
PROVES_MAX: Final = 4
"""`Prove` sent and not yet answered, on one link."""
PROOF_BYTES: Final = 32


class Refusal(IntEnum):
    """Why a piece is not proven. A later version may know more reasons."""

    ABSENT = 1
    """Not all of the content is there."""
    UNKNOWN = 2
    """No file has the content there: it is not known yet, or no more."""
    GOING = 3
    """It is to go from there, too."""
    UNFIT = 4
    """The device does not keep contents for others."""
    FAILED = 5
    """Its disk or its journal does not work."""


class Piece(NamedTuple):
    """A stretch of a content that some chunks make up exactly; holes do not count."""

    inode: Annotated[str, Meta(min_length=1, max_length=32)]
    """A file that has the content."""
    root: Root
    size: Annotated[int, Meta(ge=1, le=2**63 - 1)]
    """Of the content."""
    start: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    length: Annotated[int, Meta(ge=1, le=PROVE_BYTES_MAX)]
    is_last: bool
    """Of its content in this round of questions: all of the content must be there."""


_PIECES = msgspec.msgpack.Decoder(Annotated[list[Piece], Meta(min_length=1, max_length=PIECES_MAX)])
_PROOFS = msgspec.msgpack.Decoder(
    Annotated[
        list[Annotated[bytes, Meta(max_length=PROOF_BYTES)] | Annotated[int, Meta(ge=0, le=255)]],
        Meta(max_length=PIECES_MAX),
    ]
)
_encoder = msgspec.msgpack.Encoder()


def encode_pieces(pieces: Sequence[Piece]) -> bytes:
    """The body of `Prove`."""
    return _encoder.encode(pieces)


def decode_pieces(body: bytes) -> list[Piece]:
    """What `encode_pieces` made; more than PROVE_BYTES_MAX together is an error."""
    pieces: list[Piece] = _decoded(_PIECES, body)
    if sum(piece.length for piece in pieces) > PROVE_BYTES_MAX:
        raise FormatError(f"asks for proofs of more than {PROVE_BYTES_MAX} bytes at once")
    return pieces


def encode_proofs(proofs: Sequence[bytes | int]) -> bytes:
    """The body of `Proof`: a proof, or the number of a reason, for each piece."""
    return _encoder.encode(proofs)


def decode_proofs(body: bytes) -> list[bytes | int]:
    return _decoded(_PROOFS, body)


def _decoded(decoder: "msgspec.msgpack.Decoder[Value]", body: bytes) -> Value:
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise FormatError(f"a body that is not what its message promises: {error}") from error
