"""One sync for all who wait for one."""

import threading
from collections.abc import Callable

from dittofs.errors import DiskError, DittoError


class SharedSync:
    """Calls of `wait` from any number of threads share runs of `sync`.

    `wait` returns once a run that *began* after the call has ended. A run begins at once when none
    is under way; all who come during one share the next. A failed run fails for all who share it,
    and every later one too (`DiskFile.sync`).
    """

    def __init__(self, sync: Callable[[], None]) -> None:
        self._sync = sync
        self._changed = threading.Condition()
        self._started = 0
        self._finished = 0
        self._failure: DittoError | None = None

    @property
    def has_failed(self) -> bool:
        return self._failure is not None

    def wait(self) -> None:
        """Block until a sync that covers everything written before this call has ended."""
        with self._changed:
            needed = self._started + 1
            while self._finished < needed and self._finished < self._started:
                self._changed.wait()
            self._raise_failure()
            if self._finished >= needed:
                return
            self._started += 1
        failure: DittoError | None = None
        try:
            self._sync()
        except DittoError as error:
            failure = error
        with self._changed:
            self._finished = self._started
            self._failure = failure
            self._changed.notify_all()
        if failure is not None:
            raise failure

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise DiskError(f"an earlier sync failed: {self._failure}") from self._failure
