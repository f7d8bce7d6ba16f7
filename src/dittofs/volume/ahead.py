"""Work done while a program still writes: the beginning of a long fresh file is cut and stored already.

What is shown of the file, and when, does not change: its publication only finds less to do.
"""

from functools import partial

import trio

from dittofs.chunks.ahead import cut_ahead
from dittofs.chunks.chunker import Chunking
from dittofs.errors import Damaged, DiskError, DiskFull
from dittofs.volume.replica import Replica
from dittofs.volume.staging import Layer

AHEAD_BYTES = 16 << 20  # written in one piece, and not cut yet: shorter files are published soon enough


class Ahead:
    """One layer at a time. `run` must be running."""

    def __init__(self, replica: Replica, chunking: Chunking) -> None:
        self._replica = replica
        self._chunking = chunking
        self._waiting: dict[Layer, None] = {}
        self._busy: Layer | None = None
        self._wake = trio.Event()
        self._done = trio.Event()

    def wrote(self, layer: Layer) -> None:
        """Bytes were added to a layer. Returns at once."""
        if layer.is_filed and layer.uncut_bytes >= AHEAD_BYTES:
            self._waiting[layer] = None
            self._wake.set()

    async def settled(self, layer: Layer) -> None:
        """Return when nothing is done to this layer, which is closed: nothing will be again."""
        while self._busy is layer:
            await self._done.wait()

    async def run(self) -> None:
        """For ever."""
        while True:
            while self._waiting:
                layer = next(iter(self._waiting))
                del self._waiting[layer]
                if not layer.is_closed and layer.is_filed:
                    await self._cut(layer)
            self._wake = trio.Event()
            await self._wake.wait()

    async def _cut(self, layer: Layer) -> None:
        self._busy = layer
        start, end = layer.begin_cut()
        try:
            with layer.in_use():
                cut = partial(cut_ahead, chunking=self._chunking)
                stop = min(end, start + AHEAD_BYTES)
                found = await self._replica.run_blocking(
                    cut, self._replica.chunks, layer.read_own, start, stop
                )
            layer.end_cut(start, found)
        except (DiskFull, DiskError, Damaged):
            layer.may_be_cut = False  # publication meets it again, and says so
        finally:
            self._busy = None
            self._done.set()
            self._done = trio.Event()
        self.wrote(layer)
