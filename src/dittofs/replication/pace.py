"""How soon content that is only here will be elsewhere too, judged by the last seconds. Pure."""

from collections import deque
from typing import Final

REMEMBERED_S: Final = 20.0
SAMPLES_MAX: Final = 64


class Pace:
    """Of one volume."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque(maxlen=SAMPLES_MAX)

    def note(self, now: float, left_bytes: int) -> None:
        """So much is left. What was more than a while ago, or before something came, says nothing."""
        if self._samples and left_bytes > self._samples[-1][1]:
            self._samples.clear()
        while self._samples and self._samples[0][0] < now - REMEMBERED_S:
            self._samples.popleft()
        self._samples.append((now, left_bytes))

    def time_left_s(self) -> float | None:
        """At the pace of the samples; None if they show none."""
        if not self._samples:
            return None
        (began, much), (now, left) = self._samples[0], self._samples[-1]
        if not left:
            return 0.0
        if now <= began or left >= much:
            return None
        return left * (now - began) / (much - left)
