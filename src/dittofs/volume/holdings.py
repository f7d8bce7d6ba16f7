"""How many of a volume's bytes are on this device, counted in the background and kept.

Only what is missing is remembered: one number a file that is not whole here. Counting begins with a look at
every file, about 20 µs each, a millisecond at a time between requests; where there are more than
`COUNTED_AT_ONCE_MAX`, `COUNT_PATIENCE_S` after the opening. Then at what other devices change, and at the
incomplete files whenever chunks have come. On a device that holds everything that costs nothing.
"""

import string
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from itertools import product

import structlog
import trio

from dittofs.chunks.content import ContentReader
from dittofs.chunks.marking import named_root
from dittofs.chunks.seal import ChunkKind
from dittofs.chunks.store import AbsentChunk, ChunkStore
from dittofs.errors import ChunkMissing, Damaged, DiskError, DiskFull, FormatError, ReadOnlyVolume
from dittofs.ids import CHUNK_ID_BYTES, ChunkId, InodeId
from dittofs.tree.entry import Change
from dittofs.tree.record import Kind
from dittofs.volume.naming import roots_of
from dittofs.volume.replica import Replica
from dittofs.volume.sparse import HoleBlocks, blocks_within

log = structlog.get_logger()

INODES_IN_A_ROW = 32  # looked at before other requests have their turn
PARTS_IN_A_ROW = 256  # of one file
COUNTED_AT_ONCE_MAX = 2_000  # files, when a volume is opened: some 0.1 s
COUNT_PATIENCE_S = 5.0  # more of them wait until the mount is in use: counting would share its first second
LOOK_INTERVAL_S = 5.0
LOST = "lost"
"""Kind of the local row that has the ids of the chunks that were found damaged."""
LOST_MAX = 10_000
LOOK_SHARE = 20  # looking again takes at most one part in so many of the time
_ID_CHARACTERS = string.ascii_letters + string.digits + "-_"


class Holdings:
    """Of one replica."""

    def __init__(
        self,
        replica: Replica,
        holes: HoleBlocks | None = None,
        found_hole: Callable[[InodeId], None] = lambda _inode: None,
    ) -> None:
        """`found_hole` is told of files of which more is hole than `holes` knew: they are counted, too."""
        self._replica = replica
        self._holes = holes or HoleBlocks()
        self._found_hole = found_hole
        self._missing: dict[InodeId, int] = {}
        self._damaged: dict[InodeId, int] = {}
        self._lost = trio.Event()
        self._unsure: dict[InodeId, None] = {}
        self._wake = trio.Event()
        self._chunks = (-1, -1)
        self._is_counted = False
        self._remembered: bytes | None = None
        """What the local row says; None: it is not known, or cannot be read."""
        replica.listeners.append(self._follow)

    @property
    def bytes_here(self) -> int | None:
        """Bytes of all live contents that this device can read alone. None: not counted yet.

        Never more than is so; a chunk that came is counted some seconds later.
        """
        if not self._is_counted or self._unsure:
            return None
        return max(0, self._replica.tree.counts().bytes - sum(self._missing.values()))

    @property
    def missing(self) -> Sequence[int] | None:
        """Bytes that are not here, of each file that lacks some. None: not counted yet."""
        return list(self._missing.values()) if self._is_counted else None

    @property
    def damaged(self) -> Sequence[tuple[InodeId, int]]:
        """What is shown and was found damaged here, until it is whole again.

        With the bytes that cannot be read; 0: only an attribute.
        """
        return list(self._damaged.items())

    def holds(self, inode: InodeId) -> bool:
        """Whether all of a file is here, by the last count. No, if there is any doubt."""
        is_sure = self._is_counted and not self._lost.is_set() and inode not in self._unsure
        return is_sure and inode not in self._missing and inode not in self._damaged

    def _note_loss(self) -> None:
        self._lost.set()
        self._wake.set()

    def note(self, inodes: Iterable[InodeId]) -> None:
        """Some of what these files have may have gone, or come."""
        self._unsure.update(dict.fromkeys(inodes))
        self._wake.set()

    def _follow(self, change: Change) -> None:
        is_from_here = not change.via and not change.is_round
        if is_from_here and not any(
            inode in self._missing or inode in self._damaged for inode in change.touched
        ):
            return  # what is made here is here; a borrowed chunk is of a file that is known to lack some
        self._unsure.update(dict.fromkeys(change.touched))
        self._wake.set()

    async def run(self) -> None:
        """Count for ever."""
        token = trio.lowlevel.current_trio_token()
        told = partial(token.run_sync_soon, self._note_loss, idempotent=True)
        self._replica.chunks.on_loss.append(told)
        try:
            await self._run()
        finally:
            self._replica.chunks.on_loss.remove(told)

    async def _run(self) -> None:
        await self._recall()
        if self._replica.tree.counts().files > COUNTED_AT_ONCE_MAX:
            await trio.sleep(COUNT_PATIENCE_S)
        await self.count()
        while True:
            self._remember()
            with trio.move_on_after(LOOK_INTERVAL_S):
                await self._lost.wait()
            begun = trio.current_time()
            if self._lost.is_set():  # any file may lack what was lost
                self._lost = trio.Event()
                await self.count()
            await self.look_again()
            await trio.sleep((trio.current_time() - begun) * LOOK_SHARE)
            if not self._missing and not self._damaged:
                await self._wake.wait()
            self._wake = trio.Event()

    async def _recall(self) -> None:
        """Read again what was damaged when this volume was open last: it may still be."""
        try:
            row = self._remembered = self._replica.journal.get_local(LOST, b"") or b""
        except Damaged as error:
            log.error("which chunks were damaged is not known any more", reason=str(error))
            row = b""
        size = CHUNK_ID_BYTES
        known = [ChunkId(row[at : at + size]) for at in range(0, len(row), size)]
        await self._replica.run_blocking(_look_again, self._replica.chunks, known)

    def _remember(self) -> None:
        found = b"".join(sorted(self._replica.chunks.damaged)[:LOST_MAX])
        if found != self._remembered:
            with suppress(ReadOnlyVolume, DiskFull, DiskError), self._replica.change():
                self._replica.journal.put_local(LOST, b"", found)
                self._remembered = found

    async def count(self) -> None:
        """Look at every file."""
        self._chunks = self._stored()
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
        stored = self._stored()
        if stored != self._chunks and (self._missing or self._damaged):
            await self._look_at(list(self._missing | self._damaged))
            self._chunks = stored  # no sooner: whoever looks may be cut short

    def _stored(self) -> tuple[int, int]:
        """What tells whether chunks have come: one that was damaged and came again is one as before."""
        chunks = self._replica.chunks
        return chunks.statistics().chunks, len(chunks.damaged)

    async def _look_at(self, inodes: Iterable[InodeId]) -> None:
        for number, inode in enumerate(inodes, 1):
            self._unsure.pop(inode, None)
            missing, is_damaged = await self._missing_of(inode)
            if is_damaged:
                self._damaged[inode] = missing
            else:
                self._damaged.pop(inode, None)
            if missing:
                self._missing[inode] = missing
            else:
                self._missing.pop(inode, None)
            if number % INODES_IN_A_ROW == 0:
                await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()

    async def _missing_of(self, inode: InodeId) -> tuple[int, bool]:
        """Bytes of a file that are not here, and whether anything it shows was found damaged here."""
        tree, chunks = self._replica.tree, self._replica.chunks
        is_damaged = False
        if chunks.damaged:
            named = (named_root(root) for root in roots_of(tree.xattrs(inode)))
            is_damaged = any(one is not None and one.chunk in chunks.damaged for one in named)
        if tree.kind(inode) is not Kind.FILE:
            return 0, is_damaged
        missing = 0
        for version in tree.versions(inode):
            try:
                reader = ContentReader(chunks, version.root, version.size)
                hole_blocks = 0
                for number, part in enumerate(reader.presence(), 1):
                    if part.chunk is None:
                        end = part.offset + part.length
                        hole_blocks += blocks_within(part.offset, end, version.size)
                    if not part.is_here:
                        missing += part.length
                        is_damaged |= part.chunk in chunks.damaged
                    if number % PARTS_IN_A_ROW == 0:
                        await trio.lowlevel.checkpoint()
                if self._holes.note(version.root, hole_blocks):
                    self._found_hole(inode)
            except (ChunkMissing, Damaged, FormatError) as error:
                missing += version.size
                is_damaged |= not isinstance(error, AbsentChunk) or error.chunk in chunks.damaged
        return missing, is_damaged


def _look_again(chunks: ChunkStore, known: Iterable[ChunkId]) -> None:
    """Blocking: read chunks once; those that are damaged count as absent from then on."""
    for chunk, kind in product(known, ChunkKind):
        with suppress(Damaged, ChunkMissing, FormatError):
            chunks.get(kind, chunk)
