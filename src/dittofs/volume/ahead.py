"""Work done while a program still writes: long files are cut, sealed and stored behind it (decision 0073).

What is shown of a file, and when it is published, does not change: its publication finds less to do.
"""

import structlog
import trio

from dittofs.chunks.chunker import Chunking
from dittofs.errors import Damaged, DiskError, DiskFull
from dittofs.volume.contents import Content
from dittofs.volume.cut_ahead import CutAhead
from dittofs.volume.room import FREE_BYTES_FLOOR
from dittofs.volume.staging import Layer
from dittofs.volume.state import State

log = structlog.get_logger()

BEGIN_BYTES = (
    32 << 20
)  # written in one piece before any of it is cut: most files that are soon gone are shorter
STEP_BYTES = 4 << 20  # cut in one go: some 10 ms, and 12 MiB of memory
BEHIND_BYTES = 2 << 20  # of what was written last is left: programs go back a little, and so does the kernel
BYTES_MAX = 16 << 30  # cut ahead of all files together: 20 MB of memory say where it is


class Ahead:
    """Of one volume; cuts one file at a time."""

    def __init__(self, state: State, chunking: Chunking) -> None:
        self._state = state
        self._chunking = chunking
        self._begun: list[Layer] = []
        self._waiting: dict[Layer, tuple[Content, int]] = {}
        """What is to be cut further, and where it was written last."""
        self._wake = trio.Event()
        self._done = trio.Event()

    def wrote(self, content: Content, offset: int) -> None:
        """Bytes were written at `offset` of the topmost layer. Returns at once."""
        layer = content.top
        if layer not in self._waiting and self._uncut(layer, offset) is not None:
            self._waiting[layer] = content, offset
            self._wake.set()

    def give_back(self) -> bool:
        """The disk is full: all room that this took is there again. Whether it took any."""
        given = [layer.give_back_ahead() for layer in self._begun]
        return any(given)

    async def settled(self, layer: Layer) -> None:
        """Return when nothing is done to this layer, which is closed: nothing will be again."""
        while layer.ahead is not None and layer.ahead.is_cutting:
            await self._done.wait()

    async def run(self) -> None:
        """For ever."""
        while True:
            while self._waiting:
                await self.step()
            self._wake = trio.Event()
            await self._wake.wait()

    async def step(self) -> bool:
        """Cut the next stretch of the file that waits longest. Whether there was any."""
        if not self._waiting:
            return False
        layer = next(iter(self._waiting))
        content, offset = self._waiting.pop(layer)
        start = self._uncut(layer, offset)
        if start is None or not self._may_cut(content, layer):
            return True
        if layer.ahead is None:
            packs = self._state.replica.chunks.ahead.begin(layer.layer_id, self._chunking)
            layer.ahead = CutAhead(packs, start)
            self._begun.append(layer)
        await self._cut(layer, layer.ahead, start)
        self.wrote(content, offset)
        return True

    def _uncut(self, layer: Layer, offset: int) -> int | None:
        """Where the next stretch to be cut begins; None: there is none yet around `offset`."""
        start, end = layer.ranges.around(offset)
        ahead = layer.ahead
        if ahead is None or start > ahead.end:
            least = BEGIN_BYTES if layer.is_filed else end + 1
        else:
            start, least = ahead.end, STEP_BYTES + BEHIND_BYTES
        if end - start < least or (ahead is not None and ahead.is_over):
            return None
        return start

    def _may_cut(self, content: Content, layer: Layer) -> bool:
        state = self._state
        if layer.is_closed or state.contents.peek(content.ref) is not content:
            return False  # nobody writes it, or nobody will publish it
        local = state.local.get(content.ref[0])
        if local is not None and local.is_ignored:
            return False
        self._begun = [one for one in self._begun if one.ahead is not None]
        total = sum(one.ahead.bytes for one in self._begun if one.ahead is not None)
        # The file may become as long again, and nobody must be refused room that this took.
        has_room = state.replica.disk.free_bytes() >= FREE_BYTES_FLOOR + layer.size
        return total < BYTES_MAX and has_room

    async def _cut(self, layer: Layer, ahead: CutAhead, start: int) -> None:
        end = start + STEP_BYTES
        ahead.begin(end)
        try:
            with layer.in_use():
                found = await self._state.replica.run_blocking(ahead.packs.cut, layer.read_own, start, end)
            ahead.take(found)
        except (DiskFull, DiskError, Damaged) as error:
            log.info("nothing is cut ahead of a file", reason=str(error))  # its publication meets it again
            ahead.give_back()
        finally:
            ahead.finish()
            self._done.set()
            self._done = trio.Event()
