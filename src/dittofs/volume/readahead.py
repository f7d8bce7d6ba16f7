"""What a descriptor that is read from front to back will want next."""

SEQUENTIAL_BYTES_MIN = 512 << 10  # a glance at the beginning of a file fetches nothing more
SHARE = 8  # of what was read in a row, the part that may be fetched ahead: 1 MiB moves 1.5 MB at most
WINDOW_BYTES_MAX = 8 << 20
STEP_BYTES = 64 << 10  # less is not worth a request
SLACK_BYTES = 256 << 10  # the kernel's own read-ahead asks a little out of order


class ReadAhead:
    """Follows the reads of one descriptor. What is fetched ahead in vain is at most an eighth of them."""

    __slots__ = ("_asked", "_end", "_run", "has_missed")

    def __init__(self) -> None:
        self.has_missed = False
        """A read of this descriptor had to wait: before that there is nothing to fetch ahead."""
        self._end = 0  # where the run has got to
        self._run = 0  # bytes read in it
        self._asked = 0

    def note(self, offset: int, length: int) -> tuple[int, int] | None:
        """A read took place: the range [start, end) to fetch ahead, if any. Say how far with `asked`."""
        end = offset + length
        if abs(offset - self._end) > SLACK_BYTES:
            self._end, self._run, self._asked = end, length, 0
        elif end > self._end:
            self._run += end - max(offset, self._end)
            self._end = end
        if self._run < SEQUENTIAL_BYTES_MIN:
            return None
        limit = self._end + min(self._run // SHARE, WINDOW_BYTES_MAX)
        start = max(self._end, self._asked)
        return (start, limit) if limit - start >= STEP_BYTES else None

    def asked(self, end: int) -> None:
        """Everything before `end` is here or was asked for."""
        self._asked = max(self._asked, end)
