"""How much of one layer is cut and sealed although programs still write to it."""

from dittofs.chunks.ahead import AheadPacks, Piece
from dittofs.chunks.known import KnownChunks

REWRITES_MAX = 64  # of what was cut: then the file is no stream, and the rest waits for its publication
WASTE_SHIFT = 3  # the same, when 1/8 of what was cut was rewritten


class CutAhead:
    """Lives on the event loop, but for `packs`, which the thread that cuts has while `is_cutting`."""

    def __init__(self, packs: AheadPacks, start: int) -> None:
        self.packs = packs
        self.known = KnownChunks()
        self.end = start
        """Up to here it was cut. Nothing is cut twice."""
        self.bytes = 0
        """Cut in all."""
        self.is_cutting = False
        self.is_over = False
        """Nothing more is cut."""
        self._is_given_back = False
        self._touched: list[tuple[int, int]] = []
        self._touched_limit = 0
        self._rewrites = 0
        self._rewritten_bytes = 0

    def touch(self, start: int, end: int) -> None:
        """The bytes of [start, end) change now, or are no data any more."""
        if self.is_cutting and start < self._touched_limit:
            self._touched.append((start, end))
        if start <= self.end:
            self._forget(start, end)

    def begin(self, limit: int) -> None:
        """A thread begins to cut what lies between `end` and `limit`."""
        self.is_cutting = True
        self._touched_limit = limit

    def take(self, found: list[Piece]) -> None:
        """What the thread found since `begin`. What was touched meanwhile does not count."""
        if self._is_given_back:
            return
        for piece in found:
            self.known.add(*piece)
            self.end = piece[0] + piece[1]
            self.bytes += piece[1]
        for start, end in self._touched:
            self._forget(start, end)

    def finish(self) -> None:
        """The thread has ended, with or without `take`."""
        self.is_cutting = False
        self._touched.clear()
        if self._is_given_back:
            self.packs.give_back()

    def adopt(self) -> KnownChunks:
        """Give it to the store; the chunks that stretches of the content are. Blocks. As `AheadPacks`."""
        return self.packs.adopt(self.known)

    def give_back(self) -> None:
        """Give all room back, now: nothing is known any more, and nothing more is cut."""
        self.is_over = self._is_given_back = True
        self.known = KnownChunks()
        if self.is_cutting:
            self.packs.empty()
        else:
            self.packs.give_back()

    def _forget(self, start: int, end: int) -> None:
        forgotten = self.known.forget(start, end)
        if forgotten:
            self._rewrites += 1
            self._rewritten_bytes += forgotten
            if self._rewrites > REWRITES_MAX or self._rewritten_bytes > self.bytes >> WASTE_SHIFT:
                self.is_over = True
