"""Keeping what is stored here below a limit: the least recently used goes that others have, proven as ever.

Never what is pinned or in use, never below the number of copies that is asked for. What cannot go is said.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import structlog
import trio

from dittofs.cache_settings import CacheSettings
from dittofs.errors import DittoError
from dittofs.ids import InodeId
from dittofs.replication.custody import HOLD, Item
from dittofs.replication.evicting import Evicting
from dittofs.replication.lonely import PSEUDO
from dittofs.replication.peers import Peers

log = structlog.get_logger()

LOOK_S: Final = 30.0
REST_S: Final = 600.0  # before a content is tried again that could not go
SLACK: Final = 20  # one part in so many of the limit goes beyond what must
SLICE: Final = 64
USED: Final = "used"  # inode id -> when a program opened it last, nanoseconds since 1970


@dataclass(frozen=True, slots=True)
class Room:
    """Of the disk that the stores lie on, and of all volumes of this device."""

    stored_bytes: int
    disk_bytes: int
    free_bytes: int


def excess(settings: CacheSettings, room: Room) -> int:
    """By how many bytes the stores are too large; 0: they are not."""
    over = 0
    limits = [settings.bytes_max, int(settings.disk_share_max * room.disk_bytes)]
    for limit in limits:
        if limit:
            over = max(over, room.stored_bytes - limit)
    for floor in (settings.free_bytes_min, int(settings.free_share_min * room.disk_bytes)):
        over = max(over, floor - room.free_bytes)
    return min(over, room.stored_bytes)


class CacheLimit:
    """Of one volume on this device. `run` must be running."""

    def __init__(
        self,
        peers: Peers,
        evicting: Evicting,
        settings: CacheSettings,
        *,
        used: dict[InodeId, int],
        make_room: Callable[[], Awaitable[int]],
    ) -> None:
        """`used`: when programs opened files; taken from there. `make_room` gives back what went."""
        self._peers = peers
        self._replica = peers.replica
        self._evicting = evicting
        self._settings = settings
        self._used = used
        self._make_room = make_room
        self._tried: dict[bytes, float] = {}
        self.room: Callable[[], Room] = self._own_room
        """Over all volumes of this device."""
        self.turn = trio.Lock()
        """Of all volumes of this device: one frees room at a time."""
        self.over_bytes = 0
        """What is above the limit, and could not be freed when that was tried last."""

    def _own_room(self) -> Room:
        statistics = self._replica.chunks.statistics()
        return Room(statistics.pack_bytes + statistics.index_bytes, 0, self._peers.free_bytes())

    async def run(self) -> None:
        """For ever, if there is a limit."""
        while self._settings.is_set:
            await trio.sleep(LOOK_S)
            await self.step()

    async def step(self) -> int:
        """Free what is above the limit, as far as that can be. The bytes that are given back to the disk."""
        if not self._settings.is_set:
            return 0
        async with self.turn:
            self._save_uses()
            room = self.room()
            over = excess(self._settings, room)
            if over > 0:
                try:
                    await self._free(over + over // SLACK)
                except DittoError as error:
                    log.error("room could not be made", reason=str(error))
            self.over_bytes = excess(self._settings, self.room())
            return max(0, room.stored_bytes - self.room().stored_bytes)

    async def _free(self, wanted: int) -> None:
        """Garbage first, then the least recently used, a few at a time."""
        wanted -= await self._make_room()
        now = trio.current_time()
        self._tried = {root: at for root, at in self._tried.items() if at + REST_S > now}
        waiting = await self._evictable()
        while waiting and wanted > 0:
            some: list[Item] = []
            size = 0
            while waiting and size < wanted:
                content = waiting.pop(0)
                some += content
                size += content[0][2]
            self._tried.update((root, now) for _, root, _ in some)
            done = await self._evicting.evict(some)
            if done.gone:
                wanted -= await self._make_room()

    async def _evictable(self) -> list[list[Item]]:
        """Contents that enough others are known to hold, with all files of each; the longest unused first."""
        journal, others = self._replica.journal, self._peers.holders()
        contents: dict[bytes, list[Item]] = {}
        for number, item in enumerate(self._peers.custody.content.content_roots(), 1):
            if item[0][0] != PSEUDO and item[1] not in self._tried:
                contents.setdefault(item[1], []).append(item)
            if number % SLICE == 0:
                await trio.lowlevel.checkpoint()
        found: list[tuple[int, list[Item]]] = []
        for number, (root, items) in enumerate(contents.items(), 1):
            count = self._peers.copies.of(inode for inode, _, _ in items).count
            required = max(1, count or len(others) + 1)
            holders = sum(journal.get_local(HOLD, other + root) is not None for other in others)
            if holders >= required and not any(self._evicting.why_kept(inode) for inode, _, _ in items):
                found.append((max(self._last_use(inode) for inode, _, _ in items), items))
            if number % SLICE == 0:
                await trio.lowlevel.checkpoint()
        return [items for _, items in sorted(found, key=lambda one: one[0])]

    # -- uses

    def _last_use(self, inode: InodeId) -> int:
        """When a program opened the file last here; of one that none did, when it was written."""
        if (used := self._used.get(inode)) is not None:
            return used
        row = self._replica.journal.get_local(USED, inode.encode())
        if row is not None:
            return int.from_bytes(row, "big")
        return max((version.mtime for version in self._replica.tree.versions(inode)), default=0)

    def _save_uses(self) -> None:
        """Uses outlive the process, but for those of the last half minute."""
        if self._used and self._replica.read_only is None:
            journal = self._replica.journal
            with journal.transaction():
                for inode, at in self._used.items():
                    journal.put_local(USED, inode.encode(), max(0, at).to_bytes(8, "big"))
            self._used.clear()
