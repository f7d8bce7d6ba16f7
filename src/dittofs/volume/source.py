"""Where chunks come from that are not on this device."""

import errno
from collections.abc import Sequence
from typing import Protocol

from dittofs.chunks.seal import ChunkKind
from dittofs.errors import ChunkUnavailable
from dittofs.ids import ChunkId

Wanted = tuple[ChunkKind, ChunkId]


class ChunkSource(Protocol):
    """Other devices, as far as their chunks are concerned."""

    def is_alone(self) -> bool:
        """Whether the volume has no other device: then there is nothing to wait for."""

    async def fetch(self, root: bytes, wanted: Sequence[Wanted]) -> None:
        """Return when all of `wanted`, parts of the content `root`, are in the store.

        ChunkUnavailable within a bounded time otherwise; what came until then stays.
        """

    def prefetch(self, root: bytes, wanted: Sequence[Wanted]) -> None:
        """Ask for chunks that will be needed, behind everything somebody waits for. Never waits."""


class NoSource:
    """No other device is connected."""

    def is_alone(self) -> bool:
        return True

    async def fetch(self, _root: bytes, _wanted: Sequence[Wanted]) -> None:
        raise ChunkUnavailable("no other device is connected", errno.EIO)

    def prefetch(self, _root: bytes, _wanted: Sequence[Wanted]) -> None:
        return
