"""Which chunks nobody needs: found twice, some time apart, and then taken out of the index (decision 0030).

A chunk is swept when it was unmarked at the first mark of a round and at the second, and nobody stored,
found or promised it in between. Everything put is *touched*; whoever puts chunks and names them later holds
a *lease* meanwhile, so that no round forgets what was touched for it.
"""

import contextlib
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from dittofs.chunks.amount import Amount
from dittofs.chunks.id_filter import IdFilter
from dittofs.chunks.index_run import ENTRY_BYTES, IndexDamaged, Location, Run, decode_entry, write_run
from dittofs.chunks.leaving import Leaving
from dittofs.chunks.seal import ChunkKind
from dittofs.disk import Disk, read_whole, replace_whole
from dittofs.errors import DittoError
from dittofs.ids import ChunkId

CANDIDATES: Final = "candidates"
TOUCHED: Final = "touched"
_FILTER_BYTES_MAX: Final = 1 << 30
_END: Final = b"\xff" * (ENTRY_BYTES + 1)  # above every entry


class Sweep:
    """One decision about all candidates; it does not change as long as the sweep lasts."""

    def __init__(self, candidates: Run, marked: IdFilter, touched: IdFilter) -> None:
        self._candidates = candidates
        self._marked = marked
        self._touched = touched
        self.swept = Amount()

    def takes(self, chunk: ChunkId, location: Location) -> bool:
        """Whether the chunk goes that lies there. Raises IndexDamaged."""
        return not self._is_kept(chunk) and self._candidates.find(chunk) == location

    def kept(self, entries: Iterable[bytes]) -> Iterator[bytes]:
        """Entries of the index, ascending, without those that go. What was stored anew stays."""
        pages = self._candidates.pages()
        page: Iterator[bytes] = iter(())
        candidate = b""
        count = size = 0
        for entry in entries:
            while candidate < entry:
                following = next(page, None)
                if following is None:
                    fresh = next(pages, None)
                    page = iter(fresh if fresh is not None else (_END,))
                    continue
                candidate = following
            if candidate == entry and not self._is_kept(ChunkId(entry[:32])):
                count += 1
                size += decode_entry(entry)[1].length
            else:
                yield entry
        self.swept = Amount(count, size)

    def _is_kept(self, chunk: ChunkId) -> bool:
        return chunk in self._marked or chunk in self._touched


class Sweeping:
    """The candidates of the round that is open, and what was touched since. Thread-safe."""

    def __init__(self, disk: Disk, directory: str) -> None:
        self._disk = disk
        self._directory = directory
        self._guard = threading.Lock()
        self._leases: set[int] = set()
        self._lease = 0
        self._offset = 0
        self._touched = IdFilter(0)
        self._candidates: Run | None = None
        self.sweep: Sweep | None = None
        """What is being swept right now: it is not here any more."""
        self._leaving: Leaving | None = None

    def begin(self, expected: int) -> None:
        """Blocking, once: take up the round that the last process left, if it ended in order.

        Else what was touched since the round began is not known, and it is forgotten.
        """
        self._touched = IdFilter(expected)
        touched_path, candidates_path = self._path(TOUCHED), self._path(CANDIDATES)
        data = read_whole(self._disk, touched_path, _FILTER_BYTES_MAX)
        if data is not None:
            self._disk.unlink(touched_path)
            self._disk.sync_directory(self._directory)  # it says nothing about what is put from now on
        touched = IdFilter.decode(data) if data is not None else None
        if touched is None:
            self.end_round()
            return
        with contextlib.suppress(FileNotFoundError, IndexDamaged):
            file = self._disk.open(candidates_path, read_only=True)
            try:
                self._candidates = Run(file, CANDIDATES)
            except BaseException:
                file.close()
                raise
            self._touched = touched

    def save(self) -> None:
        """Blocking, at the end of the process: what the next one needs to go on with the round."""
        with self._guard:
            has_round, touched = self._candidates is not None, self._touched
        if has_round:
            replace_whole(self._disk, self._path(TOUCHED), touched.encode())

    def close(self) -> None:
        with self._guard:
            candidates, self._candidates = self._candidates, None
        if candidates is not None:
            candidates.close()

    def touch(self, chunk: ChunkId) -> None:
        """Somebody is about to rely on this chunk. Whether it is here is looked up after this, not before."""
        with self._guard:
            self._touched.add(chunk)
            if self._leaving is not None:
                self._leaving.keep(chunk)

    def touch_all(self, chunks: Sequence[ChunkId]) -> None:
        """As `touch`, for many."""
        with self._guard:
            self._touched.update(chunks)
            if self._leaving is not None:
                for chunk in chunks:
                    self._leaving.keep(chunk)

    def was_touched(self, chunk: ChunkId) -> bool:
        """Whether somebody relies on the chunk since the round began."""
        return chunk in self._touched

    @contextlib.contextmanager
    def lease(self) -> Iterator[None]:
        """What is put inside is not swept before the block has ended, however long that takes."""
        with self._guard:
            self._lease += 1
            lease = self._lease
            self._leases.add(lease)
        try:
            yield
        finally:
            with self._guard:
                self._leases.discard(lease)

    @contextlib.contextmanager
    def leaving(self, chunks: Iterable[ChunkId]) -> Iterator[Leaving]:
        """From now on whoever touches one of these chunks keeps it. One at a time."""
        with self._guard:
            assert self._leaving is None, "one at a time"
            leaving = self._leaving = Leaving(chunks, frozenset(self._leases))
        try:
            yield leaving
        finally:
            with self._guard:
                self._leaving = None

    def holds_any(self, leases: frozenset[int]) -> bool:
        """Whether one of these leases is still held."""
        with self._guard:
            return not leases.isdisjoint(self._leases)

    def takes(self, chunk: ChunkId, location: Location) -> bool:
        """Whether the chunk that lies there is being swept, or evicted, right now."""
        leaving = self._leaving
        if leaving is not None and leaving.takes(chunk, location):
            return True
        sweep = self.sweep
        if sweep is None:
            return False
        try:
            return sweep.takes(chunk, location)
        except IndexDamaged:
            return True  # then it is stored once more

    @property
    def candidates(self) -> int | None:
        """How many chunks were unmarked when the round began; None: no round is open."""
        candidates = self._candidates
        return None if candidates is None else candidates.entries

    def begin_round(self, expected: int) -> None:
        """From now on it is remembered what is touched. Before anything is marked."""
        self.end_round()
        with self._guard:
            if not self._leases:
                self._touched = IdFilter(expected)

    def next_offset(self) -> int:
        """Which bytes of ids the next filter of marks looks at."""
        self._offset += 1
        return self._offset

    def close_marks(self, entries: Iterable[bytes], marked: IdFilter, expected: int) -> Amount:
        """Blocking: write down, durably, which entries of the index were not marked."""
        count = size = 0

        def unmarked() -> Iterator[bytes]:
            nonlocal count, size
            for entry in entries:
                location = decode_entry(entry)[1]
                # A kind that this program does not know may be named by what it cannot read.
                if entry[:32] not in marked and location.kind in ChunkKind._value2member_map_:
                    count += 1
                    size += location.length
                    yield entry

        file = self._disk.open(self._path(CANDIDATES), create=True)
        try:
            file.truncate(0)
            write_run(file, unmarked(), expected)
            candidates = Run(file, CANDIDATES)
        except BaseException:
            file.close()
            raise
        self._disk.sync_directory(self._directory)
        with self._guard:
            self._candidates = candidates
        return Amount(count, size)

    def unmarked(self, marked: IdFilter) -> Iterator[tuple[ChunkKind, ChunkId]]:
        """The candidates that are not in `marked` either, ascending. Raises IndexDamaged."""
        candidates = self._candidates
        for page in candidates.pages() if candidates is not None else ():
            for entry in page:
                if entry[:32] not in marked:
                    chunk, location = decode_entry(entry)
                    yield ChunkKind(location.kind), chunk

    def end_round(self) -> None:
        """Blocking: forget the candidates."""
        self.close()
        with contextlib.suppress(FileNotFoundError, DittoError):
            self._disk.unlink(self._path(CANDIDATES))

    @contextlib.contextmanager
    def sweeping(self, marked: IdFilter) -> Iterator[Sweep]:
        """Decide, at one instant, which candidates go; inside, they count as absent.

        Whoever touches a chunk before that instant keeps it; whoever touches it after finds it absent, and
        stores it again, elsewhere. The caller takes out of the index what goes, or nothing.
        """
        with self._guard:
            candidates = self._candidates
            assert candidates is not None, "a round is open"
            sweep = self.sweep = Sweep(candidates, marked, self._touched)
            self._touched = self._touched.copy() if self._leases else IdFilter(candidates.entries)
        try:
            yield sweep
        finally:
            self.sweep = None
        self.end_round()

    def _path(self, name: str) -> str:
        return f"{self._directory}/{name}"
