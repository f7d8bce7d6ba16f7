"""Chunks that were here and cannot be read any more: the others must hear what is held here anew."""

from collections.abc import Callable
from functools import partial
from typing import Final

import trio

from dittofs.chunks.store import ChunkStore

LOST_S: Final = 60.0  # between two times that all others are told anew what is held here
LOST_TOGETHER_S: Final = 2.0  # so much is gathered; a read that found a loss may have fetched it by then


class LostChunks:
    """Of one store. `run` must be running."""

    def __init__(self, chunks: ChunkStore, tell: Callable[[], None]) -> None:
        """`tell` the others anew what is held here."""
        self._chunks = chunks
        self._tell = tell
        self._has_lost = trio.Event()

    def note(self) -> None:
        """A chunk was lost."""
        self._has_lost.set()

    async def run(self) -> None:
        """For ever: whatever finds a loss, opening the store, a read, a check or another device that asks."""
        token = trio.lowlevel.current_trio_token()
        told = partial(token.run_sync_soon, self.note, idempotent=True)
        self._chunks.on_loss.append(told)
        try:
            if self._chunks.losses:
                self._told_anew()
            while True:
                await self._has_lost.wait()
                await trio.sleep(LOST_TOGETHER_S)
                self._told_anew()
                await trio.sleep(LOST_S)
        finally:
            self._chunks.on_loss.remove(told)

    def _told_anew(self) -> None:
        self._has_lost = trio.Event()
        self._tell()
