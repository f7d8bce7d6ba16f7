"""Having here, whole, what is pinned: what is missing is fetched, and tried again as long as it is."""

from collections.abc import Callable, Sequence
from typing import Final

import trio

from dittofs.ids import InodeId
from dittofs.replication.custody import Item
from dittofs.replication.keeping import FREE_BYTES_MIN
from dittofs.replication.lonely import PSEUDO
from dittofs.replication.peers import Peers
from dittofs.replication.wholeness import whole
from dittofs.tree.entry import Change

RETRY_S: Final = 20.0
SETTLE_S: Final = 0.5  # so long changes are gathered before all is gone through again
AT_ONCE: Final = 256


class Pinning:
    """Of one volume. `run` must be running."""

    def __init__(
        self, peers: Peers, is_pinned: Callable[[InodeId], bool], has_pins: Callable[[], bool]
    ) -> None:
        self._peers = peers
        self._replica = peers.replica
        self._is_pinned = is_pinned
        self._has_pins = has_pins
        self._missing: dict[bytes, int] = {}
        self._came: list[Item] = []
        self._must_look = True
        self._wake = trio.Event()
        self.problem = ""
        """Why what is missing is not fetched."""
        peers.replica.listeners.append(self._follow)

    @property
    def missing(self) -> Sequence[int]:
        """The sizes of pinned contents that are not all here, as far as is known."""
        return list(self._missing.values())

    def look_again(self) -> None:
        """What is pinned has changed."""
        self._must_look = True
        self._wake.set()

    def connected(self) -> None:
        """Another device may have what is missing."""
        self._wake.set()

    def _follow(self, change: Change) -> None:
        if not self._has_pins():
            return
        if change.is_round or any(effect.kind != "content" for effect in change.effects):
            self._must_look = True  # something may have come below a pinned directory
        else:
            self._came += self._peers.custody.content.roots_of(change)[0]
        self._wake.set()

    async def run(self) -> None:
        """For ever."""
        while True:
            await self.step()
            with trio.move_on_after(RETRY_S):
                await self._wake.wait()
            self._wake = trio.Event()
            await trio.sleep(SETTLE_S)

    async def step(self) -> None:
        """Ask for what is missing by now."""
        if not self._has_pins():
            self._missing, self._came, self.problem = {}, [], ""
            return
        if self._must_look:
            self._must_look, self._came, self._missing = False, [], {}
            some: list[Item] = []
            for item in self._peers.custody.content.content_roots():
                if item[0][0] != PSEUDO and self._is_pinned(item[0]):
                    some.append(item)
                if len(some) >= AT_ONCE:
                    await self._look_at(some)
                    some = []
            await self._look_at(some)
        else:
            came, self._came = self._came, []
            known = [(InodeId(""), root, size) for root, size in self._missing.items()]
            self._missing = {}
            await self._look_at([*(item for item in came if self._is_pinned(item[0])), *known])
        is_low = bool(self._missing) and self._peers.free_bytes() < FREE_BYTES_MIN
        self.problem = "the disk is nearly full" if is_low else ""
        if self._missing and not is_low:
            self._peers.keeping.want(list(self._missing.items()))

    async def _look_at(self, items: Sequence[Item]) -> None:
        """Which of these are not all here."""
        await trio.lowlevel.checkpoint()
        contents = list({root: size for _, root, size in items}.items())
        for start in range(0, len(contents), AT_ONCE):
            some = contents[start : start + AT_ONCE]
            found = await self._replica.run_blocking(whole, self._replica.chunks, some)
            self._missing.update(one for one, is_here in zip(some, found, strict=True) if not is_here)
