"""By what the devices of a volume know each other on a network: a tag that changes every day."""

from typing import Final

from blake3 import blake3

from dittofs.clock import DAY_NS
from dittofs.identity.root import derive

TAG_BYTES: Final = 16
PERIOD_NS: Final = DAY_NS


def tag(secret: bytes, now_ns: int) -> bytes:
    """The volume's tag today. Only who knows the volume secret can tell what it stands for."""
    return _tag(secret, now_ns // PERIOD_NS)


def tags(secret: bytes, now_ns: int) -> frozenset[bytes]:
    """What other devices may advertise: clocks differ, and midnight is not everywhere at once."""
    today = now_ns // PERIOD_NS
    return frozenset(_tag(secret, day) for day in (today - 1, today, today + 1))


def _tag(secret: bytes, day: int) -> bytes:
    key = derive("rendezvous", secret)
    return blake3(day.to_bytes(8, "big"), key=key).digest(length=TAG_BYTES)
