"""Chunks that nothing names: taken out of the index after two marks, and the room they took given back.

Who marks, and when a round is over, is `replication.collector`'s; the argument is decision 0030.
"""

import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager

from dittofs.chunks.amount import Amount
from dittofs.chunks.appender import Appender
from dittofs.chunks.compaction import PackShare, live_bytes, move_out, worth_compacting
from dittofs.chunks.id_filter import IdFilter
from dittofs.chunks.index import PackIndex
from dittofs.chunks.index_run import IndexDamaged, encode_entry
from dittofs.chunks.leaving import Leaving
from dittofs.chunks.pack_files import PackFiles
from dittofs.chunks.seal import ChunkKind, Sealer
from dittofs.chunks.sweeping import Sweeping
from dittofs.errors import DiskError
from dittofs.ids import ChunkId


class Garbage:
    """Of one store. Methods block: worker threads call them, while others use the store as they like."""

    def __init__(
        self,
        files: PackFiles,
        appender: Appender,
        sealer: Sealer,
        sweeping: Sweeping,
        save_lock: threading.Lock,
        index: Callable[[], PackIndex],
        rebuild: Callable[[str], None],
    ) -> None:
        """`rebuild` makes the index anew, with `save_lock` held."""
        self._files = files
        self._appender = appender
        self._sealer = sealer
        self._sweeping = sweeping
        self._save_lock = save_lock
        self._index = index
        self._rebuild = rebuild
        self._compacting = threading.Lock()  # taken before `save_lock`

    # -- a round

    @property
    def candidates(self) -> int | None:
        """How many chunks nothing named when the round began; None: no round is open."""
        return self._sweeping.candidates

    def begin_round(self) -> IdFilter:
        """Before anything is marked: the filter for the first marks. A round that was open is forgotten."""
        self._sweeping.begin_round(self._index().count)
        return self.marks()

    def marks(self) -> IdFilter:
        """An empty filter that errs about other chunks than the last one did."""
        return IdFilter(self._index().count, self._sweeping.next_offset())

    def close_marks(self, marked: IdFilter) -> Amount:
        """After the first mark: note durably what is not in `marked`, and how much that is.

        DiskFull or DiskError: there is no round.
        """
        with self._save_lock:
            try:
                self._rewrite()
                index = self._index()
                entries = (encode_entry(*one) for one in index.entries())
                return self._sweeping.close_marks(entries, marked, index.count)
            except IndexDamaged as error:
                self._rebuild(str(error))
                raise DiskError("the index of the chunks was damaged, and is made anew") from error

    def count(self, *filters: IdFilter) -> list[Amount]:
        """How much is in the first filter, how much else in the second, …; last, in none. DiskError."""
        counts, sizes = [0] * (len(filters) + 1), [0] * (len(filters) + 1)
        try:
            for chunk, location in self._index().entries():
                at = next((at for at, one in enumerate(filters) if chunk in one), len(filters))
                counts[at] += 1
                sizes[at] += location.length
        except IndexDamaged as error:
            raise DiskError("the index of the chunks is damaged") from error
        return [Amount(count, size) for count, size in zip(counts, sizes, strict=True)]

    def was_claimed(self, chunk: ChunkId) -> bool:
        """Whether somebody put or claimed the chunk since the round began."""
        return self._sweeping.was_touched(chunk)

    def unmarked(self, marked: IdFilter) -> Iterator[tuple[ChunkKind, ChunkId]]:
        """After the second mark: what `sweep` will take, at most. DiskError."""
        try:
            yield from self._sweeping.unmarked(marked)
        except IndexDamaged as error:
            raise DiskError("the list of what nothing names is damaged") from error

    def sweep(self, marked: IdFilter) -> Amount:
        """What is in neither mark, and was not claimed since the first, is not here any more.

        Durable when this returns. On DiskFull or DiskError all is as before. The round is over either way.
        Room is made by `compact`.
        """
        with self._save_lock, self._sweeping.sweeping(marked) as sweep:
            try:
                self._rewrite(kept=sweep.kept)
            except IndexDamaged as error:
                self._rebuild(str(error))
                return Amount()
        return sweep.swept

    def end_round(self) -> None:
        """There is no round any more, and nothing is swept."""
        self._sweeping.end_round()

    # -- what others have

    def leaving(self, chunks: Iterable[ChunkId]) -> AbstractContextManager[Leaving]:
        """Chunks that are to go because others are proven to have them; who touches one keeps it."""
        return self._sweeping.leaving(chunks)

    def locate(self, leaving: Leaving) -> None:
        """Before it is decided: what does not lie where it does now does not go. DiskError."""
        try:
            leaving.locate(self._index().find)
        except IndexDamaged as error:
            raise DiskError("the index of the chunks is damaged") from error

    def is_disputed(self, leaving: Leaving) -> bool:
        """Whether somebody who had a lease when it began still has it, and may name what he touched."""
        return self._sweeping.holds_any(leaving.leases)

    def evict(self, leaving: Leaving) -> Amount:
        """What was decided to go is not here any more. Durable when this returns.

        On DiskFull or DiskError all is as before. Room is made by `compact`.
        """
        with self._save_lock:
            try:
                self._rewrite(kept=leaving.kept)
            except IndexDamaged as error:
                self._rebuild(str(error))
                return Amount()
        return leaving.gone

    # -- room

    def compact(self, *, is_tight: bool = False) -> Generator[PackShare, None, None]:
        """Move what counts in packs of which less than half does, and remove them; each that went is told.

        `is_tight`: an eighth that does not count is enough, for room is wanted now.

        Blocks for a pack at a time, and may be left between two. DiskFull, DiskError: what is left is whole.
        """
        with self._compacting:
            shares = self.shares()
            if worth_compacting(shares.get(self._appender.active or 0), is_tight=is_tight):
                self._appender.close_pack()
            for share in shares.values():
                is_due = worth_compacting(share, is_tight=is_tight)
                is_due = is_due and share.number != self._appender.active
                if is_due and self._empty(share):
                    yield share

    def shares(self) -> dict[int, PackShare]:
        """Of each pack, how much of it counts."""
        try:
            return live_bytes(self._files, self._index())
        except IndexDamaged as error:
            with self._save_lock:
                self._rebuild(str(error))
            return live_bytes(self._files, self._index())

    def _empty(self, share: PackShare) -> bool:
        """Move what counts in a pack, and remove it. False: it holds something that cannot be moved."""
        number = share.number
        try:
            if share.live_bytes:
                move_out(self._files, self._index(), self._sealer, self._appender, number)
                self._appender.sync()
            with self._save_lock:
                if live_bytes(self._files, self._index())[number].live_bytes:
                    return False
                self._rewrite(leaving=frozenset([number]))
                # From here on no entry leads there, whatever happens.
                self._appender.forget(number)
                self._files.remove(number)
                self._files.removed()
        except IndexDamaged as error:
            with self._save_lock:
                self._rebuild(str(error))
            return False
        return True

    def _rewrite(
        self,
        leaving: frozenset[int] = frozenset(),
        kept: Callable[[Iterable[bytes]], Iterable[bytes]] = lambda entries: entries,
    ) -> None:
        """The caller holds the lock. On an error the index is as before."""
        index = self._index()
        self._appender.sync()
        with self._appender.lock:
            durable = {n: size for n, size in self._appender.durable().items() if n not in leaving}
            index.leave(durable)
        try:
            index.rewrite(durable, leaving, kept)
        except BaseException:
            with self._appender.lock:
                index.stay()
            raise
