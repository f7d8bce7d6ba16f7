"""Operations that name what is shown no more, as long as they last (naming.py, decision 0030)."""

from collections.abc import Iterator
from contextlib import contextmanager


class UnderWay:
    """Of one replica: how many operations that name what was are under way."""

    def __init__(self) -> None:
        self._count = 0

    def __bool__(self) -> bool:
        return self._count > 0

    @contextmanager
    def begun(self) -> Iterator[None]:
        """Until the block ends nobody is answered, and nothing is swept here."""
        self._count += 1
        try:
            yield
        finally:
            self._count -= 1
