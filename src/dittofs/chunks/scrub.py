"""Reading what is stored again, a little at a time, for ever: so that no loss waits for its reader."""

from collections.abc import Callable
from typing import NamedTuple

from dittofs.chunks.check import Problem, check_item, opens
from dittofs.chunks.index import PackIndex
from dittofs.chunks.pack import PACK_HEADER_BYTES, Frame, Gap, pack_name, scan
from dittofs.chunks.pack_files import PackFiles
from dittofs.chunks.seal import Sealer
from dittofs.ids import ChunkId


class Cursor(NamedTuple):
    """Up to where all packs were read."""

    pack: int = 0
    offset: int = 0


class Scrub:
    """Of one store."""

    def __init__(
        self,
        files: PackFiles,
        sealer: Sealer,
        index: Callable[[], PackIndex],
        lose: Callable[[ChunkId], None],
    ) -> None:
        self._files = files
        self._sealer = sealer
        self._index = index
        self._lose = lose

    def step(self, cursor: Cursor, bytes_max: int) -> tuple[list[Problem], int, Cursor | None]:
        """Verify about so many bytes from a cursor on: what is wrong, how much was read, and where to go on.

        None: everything was read; begin anew. A chunk found to be lost counts as absent from then on.
        Blocking. Raises DiskError.
        """
        done = 0
        problems: list[Problem] = []
        for number, size in self._files.listing().items():
            start = max(PACK_HEADER_BYTES, cursor.offset if number == cursor.pack else 0)
            if number < cursor.pack or start >= size:
                continue
            for item in scan(self._reader(number), start, size):
                if number not in self._files.sizes:
                    break  # it was compacted meanwhile
                problem = check_item(item, number, self._index(), self._sealer)
                if problem is not None and not problem.is_harmless:
                    is_unnamed = isinstance(item, Gap) and problem.chunk is None
                    problems += self._lost_in(number, item) if is_unnamed else [problem]
                done += item.length
                if done >= bytes_max:
                    return self._lost(problems), done, Cursor(number, item.offset + item.length)
        return self._lost(problems), done, None

    def _lost(self, problems: list[Problem]) -> list[Problem]:
        for problem in problems:
            if problem.chunk is not None:
                self._lose(problem.chunk)
        return problems

    def _lost_in(self, number: int, gap: Frame | Gap) -> list[Problem]:
        """Which chunks lay where nothing sound is; none if it was garbage."""
        found = []
        end = gap.offset + gap.length
        for chunk, location in self._index().entries():
            is_inside = location.pack == number and gap.offset < location.offset + location.length
            if is_inside and location.offset < end and not opens(self._files, chunk, location, self._sealer):
                where = f"{pack_name(number)} at {location.offset}"
                found.append(Problem(where, f"chunk {chunk.hex()} is lost", chunk, location.kind))
        return found

    def _reader(self, number: int) -> Callable[[int, int], bytes]:
        return lambda offset, size: self._files.read(number, offset, size)
