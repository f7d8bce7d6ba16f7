"""Changes that did not come through a mount reach that mount's kernel caches, from a thread of their own.

Invalidating pages or entries from the event loop deadlocks: the kernel may be waiting for an answer
of ours while it holds the lock the invalidation needs.
"""

import queue
import threading
from types import ModuleType
from typing import Final

import structlog

log = structlog.get_logger()

PENDING_MAX: Final = 100_000


class Invalidation:
    """A queue and its thread. Requests are answered in order; what the kernel does not know is no error."""

    def __init__(self, fuse: ModuleType) -> None:
        self._fuse = fuse
        self._queue: queue.Queue[tuple[int, bytes | None] | None] = queue.Queue(PENDING_MAX)
        self._thread = threading.Thread(target=self._run, name="notify", daemon=True)
        self.dropped = 0
        """Invalidations that found the queue full."""

    def start(self) -> None:
        self._thread.start()

    def inode(self, number: int) -> None:
        """Attributes and pages of an inode are stale."""
        self._put((number, None))

    def entry(self, parent: int, name: bytes) -> None:
        """A name in a directory shows something else."""
        self._put((parent, name))

    def _put(self, item: tuple[int, bytes | None]) -> None:
        try:
            self._queue.put_nowait(item)
        except queue.Full:
            self.dropped += 1
            if self.dropped == 1:
                log.error("the kernel takes no invalidations; open windows may show old content")

    def stop(self) -> None:
        """End the thread once everything queued was delivered. Blocking."""
        self._queue.put(None)
        self._thread.join(timeout=5.0)

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            number, name = item
            try:
                if name is None:
                    self._fuse.invalidate_inode(number)
                else:
                    self._fuse.invalidate_entry_async(number, name, ignore_enoent=True)
                    self._fuse.invalidate_inode(number, attr_only=True)
            except FileNotFoundError:
                continue  # the kernel does not know it
            except OSError as error:
                log.debug("invalidation failed", reason=str(error))
