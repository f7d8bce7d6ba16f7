"""Where each chunk lies: immutable runs on the disk, and what was added since (disk.md, Pack index)."""

import contextlib
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from dittofs.chunks.index_run import (
    ENTRY_BYTES,
    IndexDamaged,
    Location,
    Run,
    decode_current,
    decode_entry,
    encode_current,
    encode_entry,
    write_run,
)
from dittofs.disk import Disk, DiskFile
from dittofs.errors import DiskError
from dittofs.ids import ChunkId

RECENT_ENTRIES_MAX = 8192
"""What is kept in memory before it becomes a run: 3 MB, and so many frames to scan after a crash."""
# A run less than four times the newer ones is merged with them: few runs, and each entry moves seldom.
_MERGE_RATIO = 4
_CURRENT = "current"
_SUFFIX = ".run"
_LOCATION_ABOVE_ALL = b"\xff" * (ENTRY_BYTES - 32)


class PackIndex:
    """Location of every chunk. `find` may be called by any thread at any time, changes under one lock."""

    def __init__(self, disk: Disk, directory: str) -> None:
        self._disk = disk
        self._directory = directory
        self._recent: dict[ChunkId, Location] = {}
        self._leaving: dict[ChunkId, Location] = {}
        self._runs: tuple[Run, ...] = ()
        self._retired: list[Run] = []
        self._readers = 0
        self._is_closed = False
        self._next_run = 1
        self._guard = threading.Lock()
        self.covered: Mapping[int, int] = {}
        """pack -> bytes of it whose frames the runs hold."""
        self.leaving: frozenset[int] = frozenset()
        """Packs that hold nothing any more and are to be removed."""

    @classmethod
    def open(cls, disk: Disk, directory: str) -> "PackIndex":
        """The index as it was last written. Raises IndexDamaged; an absent one counts as damaged."""
        index = cls(disk, directory)
        path = f"{directory}/{_CURRENT}"
        try:
            current = _read_all(disk, path)
        except FileNotFoundError:
            raise IndexDamaged("there is no index") from None
        numbers, index.covered, index.leaving = decode_current(current)
        index._next_run = max(numbers, default=0) + 1
        try:
            for number in numbers:
                index._runs += (_open_run(disk, directory, number),)
        except BaseException:
            index.close()
            raise
        return index

    @classmethod
    def create(cls, disk: Disk, directory: str) -> "PackIndex":
        """An empty index in place of whatever is there."""
        index = cls(disk, directory)
        disk.make_directory(directory)
        if disk.exists(f"{directory}/{_CURRENT}"):
            disk.unlink(f"{directory}/{_CURRENT}")
        disk.sync_directory(directory)  # the old list never meets a run of the new index
        for name in disk.listdir(directory):
            disk.unlink(f"{directory}/{name}")
            # A name is not used again: somebody may still be reading the run that had it.
            index._next_run = max(index._next_run, _run_number(name) + 1)
        return index

    def find(self, chunk: ChunkId) -> Location | None:
        """Where the chunk lies; None is certain. Raises IndexDamaged."""
        # In this order: an entry moves from recent to leaving to the runs, and is never in none of them.
        found = self.find_recent(chunk)
        if found is not None:
            return found
        runs = self._begin_reading()
        try:
            for run in runs:
                found = run.find(chunk)
                if found is not None:
                    return found
        finally:
            self._end_reading()
        return None

    def find_recent(self, chunk: ChunkId) -> Location | None:
        """Where the chunk lies, if that is in no run yet."""
        return self._recent.get(chunk) or self._leaving.get(chunk)

    def add(self, chunk: ChunkId, location: Location) -> None:
        """Note where a chunk lies; the latest note counts."""
        self._recent[chunk] = location

    @property
    def recent_count(self) -> int:
        """Entries that are in no run yet."""
        return len(self._recent)

    @property
    def count(self) -> int:
        """Entries in all; a chunk stored again after damage counts twice until its runs are merged."""
        in_runs: int = sum(run.entries for run in self._runs)
        return len(self._recent) + len(self._leaving) + in_runs

    @property
    def size_bytes(self) -> int:
        """Room the runs take on the disk."""
        return sum(run.size_bytes for run in self._runs)

    def leave(self, durable: Mapping[int, int]) -> None:
        """Set apart the recent entries that lie within the durable part of their packs, for `save`."""
        assert not self._leaving
        leaving: dict[ChunkId, Location] = {}
        staying: dict[ChunkId, Location] = {}
        for chunk, location in self._recent.items():
            inside = location.offset + location.length <= durable.get(location.pack, 0)
            (leaving if inside else staying)[chunk] = location
        self._leaving = leaving
        self._recent = staying

    def stay(self) -> None:
        """Take back what was set apart: it could not be saved."""
        self._recent = self._leaving | self._recent
        self._leaving = {}

    def save(self, covered: Mapping[int, int]) -> None:
        """Write what was set apart as a run, merged with those not much larger, and make it count.

        Needs no lock against `find` and `add`; one thread at a time. On DiskFull or DiskError the index
        is as before and the entries are still set apart.
        """
        runs = self._runs
        merged = 0
        count = len(self._leaving)
        while merged < len(runs) and runs[merged].entries < _MERGE_RATIO * count:
            count += runs[merged].entries
            merged += 1
        self._switch(merged, count, covered, frozenset(), lambda entries: entries)

    def rewrite(
        self,
        covered: Mapping[int, int],
        leaving: frozenset[int] = frozenset(),
        kept: Callable[[Iterable[bytes]], Iterable[bytes]] = lambda entries: entries,
    ) -> None:
        """As `save`, with all runs merged into one that has only those entries that `kept` lets through.

        `kept` is given encoded entries, ascending, each id once. `leaving`: packs in which no chunk lies any
        more.
        """
        runs = self._runs
        count = len(self._leaving) + sum(run.entries for run in runs)
        self._switch(len(runs), count, covered, leaving, kept)

    def _switch(
        self,
        merged: int,
        count: int,
        covered: Mapping[int, int],
        leaving: frozenset[int],
        kept: Callable[[Iterable[bytes]], Iterable[bytes]],
    ) -> None:
        runs = self._runs
        names = runs[merged:]
        if count:
            fresh = self._write(runs[:merged], count, kept)
            names = (fresh, *names)
        try:
            self._write_current(names, covered, leaving)
        except BaseException:
            if count:
                fresh.close()
                self._disk.unlink(f"{self._directory}/{fresh.name}")
            raise
        with self._guard:
            self._runs = names
            self._retired += runs[:merged]
        self._leaving = {}
        self.covered, self.leaving = dict(covered), leaving
        self._bury()

    def entries(self) -> Iterator[tuple[ChunkId, Location]]:
        """Every chunk once, ascending by id, as of now. Raises IndexDamaged."""
        runs = self._begin_reading()
        try:
            fresh = sorted(encode_entry(*item) for item in (self._leaving | self._recent).items())
            for entry in _merge([iter([fresh] if fresh else []), *(run.pages() for run in runs)]):
                yield decode_entry(entry)
        finally:
            self._end_reading()

    def remove_strays(self) -> None:
        """Remove the files of the directory that are not part of this index: what a crash left."""
        named = {_CURRENT, *(run.name for run in self._runs)}
        for name in self._disk.listdir(self._directory):
            if name not in named:
                self._disk.unlink(f"{self._directory}/{name}")

    def close(self) -> None:
        """Close the runs. What is in no run is lost to the index and found again by a scan."""
        with self._guard:
            self._is_closed = True
            self._retired += self._runs
            self._runs = ()
        self._bury()

    def _write(
        self, merged: Sequence[Run], count: int, kept: Callable[[Iterable[bytes]], Iterable[bytes]]
    ) -> Run:
        name = _run_name(self._next_run)
        self._next_run += 1
        path = f"{self._directory}/{name}"
        fresh = sorted(encode_entry(*item) for item in self._leaving.items())
        sources = [iter([fresh] if fresh else []), *(run.pages() for run in merged)]
        file = self._disk.open(path, create=True)
        try:
            file.truncate(0)  # what a crash left under this name
            write_run(file, kept(_merge(sources)), count)
            return Run(file, name)
        except BaseException:
            file.close()
            self._disk.unlink(path)
            raise

    def _write_current(
        self, runs: Sequence[Run], covered: Mapping[int, int], leaving: frozenset[int]
    ) -> None:
        path = f"{self._directory}/{_CURRENT}"
        temporary = f"{path}.part"
        numbers = [_run_number(run.name) for run in runs]
        file = self._disk.open(temporary, create=True)
        try:
            file.truncate(0)
            file.write(0, encode_current(numbers, dict(covered), sorted(leaving)))
            file.sync()
        finally:
            file.close()
        self._disk.rename(temporary, path)
        self._disk.sync_directory(self._directory)

    def _begin_reading(self) -> tuple[Run, ...]:
        with self._guard:
            if self._is_closed:
                raise IndexDamaged("the index was closed")  # it is being rebuilt
            self._readers += 1
            return self._runs

    def _end_reading(self) -> None:
        with self._guard:
            self._readers -= 1
            is_burial_due = not self._readers and bool(self._retired)
        if is_burial_due:
            self._bury()

    def _bury(self) -> None:
        """Close and remove retired runs, unless somebody still reads."""
        with self._guard:
            if self._readers:
                return
            retired, self._retired = self._retired, []
        for run in retired:
            run.close()
            if not self._is_closed:
                with contextlib.suppress(FileNotFoundError, DiskError):  # a stray goes at the next start
                    self._disk.unlink(f"{self._directory}/{run.name}")


def _open_run(disk: Disk, directory: str, number: int) -> Run:
    name = _run_name(number)
    try:
        file = disk.open(f"{directory}/{name}", read_only=True)
    except FileNotFoundError:
        raise IndexDamaged(f"{name} is gone") from None
    try:
        return Run(file, name)
    except BaseException:
        file.close()
        raise


def _run_name(number: int) -> str:
    return f"{number:08x}{_SUFFIX}"


def _run_number(name: str) -> int:
    """0 if the name is no run's."""
    try:
        return int(name.removesuffix(_SUFFIX), 16)
    except ValueError:
        return 0


def _read_all(disk: Disk, path: str) -> bytes:
    file: DiskFile = disk.open(path, read_only=True)
    try:
        return file.read(0, file.size())
    finally:
        file.close()


def _merge(sources: Sequence[Iterator[list[bytes]]]) -> Iterable[bytes]:
    """Entries of several sources, newest source first, ascending; of one id the newest."""
    heads = [next(source, []) for source in sources]
    while any(heads):
        # No source can still bring anything up to the least last entry of the pages at hand.
        horizon = min(head[-1][:32] for head in heads if head) + _LOCATION_ABOVE_ALL
        chosen: dict[bytes, bytes] = {}
        for at in range(len(sources) - 1, -1, -1):
            cut = bisect_right(heads[at], horizon)
            for entry in heads[at][:cut]:
                chosen[entry[:32]] = entry
            heads[at] = heads[at][cut:] or next(sources[at], []) if cut else heads[at]
        yield from sorted(chosen.values())
