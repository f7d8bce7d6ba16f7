"""Key files on a simulated disk, which has no modes to check."""

import hashlib

from dittofs.disk import Disk
from dittofs.identity.key_files import KeyFiles


class Unguarded:
    """A `Guard` for a disk that belongs to the test alone."""

    def check(self, name: str) -> None:
        pass

    def place(self, name: str) -> str:
        return f"disk:{name}"


def key_files(disk: Disk) -> KeyFiles:
    return KeyFiles(disk, Unguarded())


class Counted:
    """Entropy that a known-answer vector can name: SHA-256 of 0, 1, 2, …, each cut to the count.

    Of more than 32 bytes the rest are those of 0+, 1+, 2+, ….
    """

    def __init__(self) -> None:
        self._calls = 0

    def __call__(self, count: int, /) -> bytes:
        block = hashlib.sha256(b"%d" % self._calls).digest()
        block += hashlib.sha256(b"%d+" % self._calls).digest()
        self._calls += 1
        assert count <= len(block)
        return block[:count]
