"""Which names a kernel may have in its cache: a round of a hundred thousand files concerns few of them."""

BITS = 1 << 20  # 128 KiB; with 50,000 names one in twenty that the kernel never saw is taken for one it knows


class KnownNames:
    """Every name a kernel was told about within its timeout is known here; a few others seem to be."""

    def __init__(self, timeout_s: float, now: float) -> None:
        self._timeout_s = timeout_s
        self._begun = now
        self._current = bytearray(BITS // 8)
        self._previous = bytearray(BITS // 8)

    def note(self, parent: int, name: bytes, now: float) -> None:
        """The kernel is told what `name` shows in `parent`, or that it shows nothing."""
        if now - self._begun > self._timeout_s:
            # What was noted before this generation is not in any cache any more.
            self._previous, self._current = self._current, bytearray(BITS // 8)
            self._begun = now
        bit = hash((parent, name)) % BITS
        self._current[bit >> 3] |= 1 << (bit & 7)

    def may_know(self, parent: int, name: bytes) -> bool:
        """False: the kernel was not told about the name."""
        bit = hash((parent, name)) % BITS
        return bool((self._current[bit >> 3] | self._previous[bit >> 3]) & (1 << (bit & 7)))
