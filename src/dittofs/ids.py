"""Names of things, as types. Every identifier is immutable text or bytes."""

import base64
import hashlib
from typing import NewType

InodeId = NewType("InodeId", str)
"""96 random bits in base64url: 16 characters."""
Slot = NewType("Slot", str)
"""A writer incarnation: 48 random bits in base64url, 8 characters; the bits are its CRDT client id."""
ChunkId = NewType("ChunkId", bytes)
"""Keyed BLAKE3 of the plaintext, 32 bytes."""
VolumeId = NewType("VolumeId", bytes)
"""BLAKE3 of the genesis record, 32 bytes."""
Stamp = NewType("Stamp", int)
"""Hybrid logical time: nanoseconds since 1970, strictly increasing on one device, below 2^62."""
Number = NewType("Number", int)
"""What a program sees as st_ino: 64 bits."""

INODE_ID_BYTES = 12
CHUNK_ID_BYTES = 32
SLOT_BYTES = 6
ROOT = InodeId("A" * 16)
"""The root directory: 96 zero bits."""
LOST_FOUND = InodeId("_" * 16)
"""Where what has no place is shown: 96 one bits."""
GENESIS_SLOT = Slot("g")
"""The slot that compaction writes; its client id is 1."""

ROOT_NUMBER = Number(1)
_NUMBER_MASK = (1 << 62) - 1


def inode_id(random: bytes) -> InodeId:
    """The id made of 12 random bytes."""
    assert len(random) == INODE_ID_BYTES
    return InodeId(base64.urlsafe_b64encode(random).decode("ascii"))


def slot_of_client(client_id: int) -> Slot:
    """The slot of a CRDT client id below 2^48."""
    return Slot(base64.urlsafe_b64encode(client_id.to_bytes(SLOT_BYTES, "big")).decode("ascii"))


def client_of_slot(slot: Slot) -> int:
    """The CRDT client id of a slot. Raises ValueError unless it is 8 base64url characters."""
    raw = base64.urlsafe_b64decode(slot.encode("ascii"))
    if len(raw) != SLOT_BYTES:
        raise ValueError(f"a slot has 8 characters, not {len(slot)}")
    return int.from_bytes(raw, "big")


def number_of(identity: str) -> Number:
    """st_ino of an inode id (or of `inode/slot/n`, a conflict entry): the same on every device, for ever.

    BLAKE2b-64 with the two top bits cleared; the root is 1.
    """
    if identity == ROOT:
        return ROOT_NUMBER
    digest = hashlib.blake2b(identity.encode("ascii"), digest_size=8).digest()
    return Number(int.from_bytes(digest, "big") & _NUMBER_MASK)
