"""How many of a volume's bytes are on this device, counted in the background and kept.

Only what is missing is remembered: one number a file that is not whole here. Counting begins with a look at
every file, about 20 µs each, a millisecond at a time between requests; then at what other devices change,
and at the incomplete files whenever chunks have come. On a device that holds everything that costs nothing.
"""

import string
from collections.abc import Iterable
from itertools import product

import trio

from dittofs.chunks.content import ContentReader
from dittofs.errors import ChunkMissing, Damaged, FormatError
from dittofs.ids import InodeId
from dittofs.tree.entry import Change
from dittofs.tree.record import Kind
from dittofs.volume.replica import Replica

INODES_IN_A_ROW = 32  # looked at before other requests have their turn
PARTS_IN_A_ROW = 256  # of one file
LOOK_INTERVAL_S = 5.0
LOOK_SHARE = 20  # looking again takes at most one part in so many of the time
_ID_CHARACTERS = string.ascii_letters + string.digits + "-_"


class Holdings:
    """Of one replica."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._missing: dict[InodeId, int] = {}
        self._unsure: dict[InodeId, None] = {}
        self._wake = trio.Event()
        self._chunks = -1
        self._is_counted = False
        replica.listeners.append(self._follow)

    @property
    def bytes_here(self) -> int | None:
        """Bytes of all live contents that this device can read alone. None: not counted yet.

        Never more than is so, but for what was found damaged since; a chunk that came is counted some seconds
        later.
        """
        if not self._is_counted or self._unsure:
            return None
        return max(0, self._replica.tree.counts().bytes - sum(self._missing.values()))

    def _follow(self, change: Change) -> None:
        is_from_here = not change.via and not change.is_round
        if is_from_here and not any(inode in self._missing for inode in change.touched):
            return  # what is made here is here; a borrowed chunk is of a file that is known to lack some
        self._unsure.update(dict.fromkeys(change.touched))
        self._wake.set()

    async def run(self) -> None:
        """Count for ever."""
        await self.count()
        while True:
            await trio.sleep(LOOK_INTERVAL_S)
            begun = trio.current_time()
            await self.look_again()
            await trio.sleep((trio.current_time() - begun) * LOOK_SHARE)
            if not self._missing:
                await self._wake.wait()
            self._wake = trio.Event()

    async def count(self) -> None:
        """Look at every file."""
        self._chunks = self._replica.chunks.statistics().chunks
        for prefix in product(_ID_CHARACTERS, repeat=2):
            await self._look_at(self._replica.tree.inodes("".join(prefix)))
        self._is_counted = True
        await self.look_again()

    async def look_again(self) -> None:
        """Look at what other devices changed, and, if chunks have come, at what was not whole."""
        while self._unsure:
            unsure, self._unsure = self._unsure, {}
            self._unsure.update(unsure)  # not known before it was looked at
            await self._look_at(list(unsure))
        chunks = self._replica.chunks.statistics().chunks
        if chunks != self._chunks and self._missing:
            self._chunks = chunks
            await self._look_at(list(self._missing))

    async def _look_at(self, inodes: Iterable[InodeId]) -> None:
        for number, inode in enumerate(inodes, 1):
            self._unsure.pop(inode, None)
            missing = await self._missing_of(inode)
            if missing:
                self._missing[inode] = missing
            else:
                self._missing.pop(inode, None)
            if number % INODES_IN_A_ROW == 0:
                await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()

    async def _missing_of(self, inode: InodeId) -> int:
        tree = self._replica.tree
        if tree.kind(inode) is not Kind.FILE:
            return 0
        missing = 0
        for version in tree.versions(inode):
            try:
                reader = ContentReader(self._replica.chunks, version.root, version.size)
                for number, part in enumerate(reader.presence(), 1):
                    missing += 0 if part.is_here else part.length
                    if number % PARTS_IN_A_ROW == 0:
                        await trio.lowlevel.checkpoint()
            except (ChunkMissing, Damaged, FormatError):
                missing += version.size
        return missing
