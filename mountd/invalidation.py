"""Changes that did not come through a mount reach that mount's kernel caches, from threads of their own.

Invalidating pages or entries from the event loop deadlocks: the kernel may be waiting for an answer
of ours while it holds the lock the invalidation needs.
"""

import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any, Final

import structlog

log = structlog.get_logger()

PENDING_MAX: Final = 1_000_000
PAGE_THREADS: Final = 4  # a page that is being read is locked until its bytes have come from another device
END_PATIENCE_S: Final = 5.0
Item = tuple[int, bytes | None]
"""(inode number, name in it); None: the inode itself."""


class Lane:
    """What is to be delivered, each once however often it is put, by threads in the order it was put."""

    def __init__(self, name: str, threads: int, deliver: Callable[[Item], None]) -> None:
        self._deliver = deliver
        self._pending: dict[Item, None] = {}
        self._changed = threading.Condition()
        self._is_ending = False
        self._threads = [
            threading.Thread(target=self._run, name=f"notify {name}", daemon=True) for _ in range(threads)
        ]
        self.dropped = 0
        """Invalidations that found the lane full."""

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def put(self, item: Item) -> None:
        """Never waits."""
        with self._changed:
            if len(self._pending) < PENDING_MAX or item in self._pending:
                self._pending[item] = None
                self._changed.notify()
                return
        self.dropped += 1
        if self.dropped == 1:
            log.error("the kernel takes no invalidations; open windows may show old content")

    def stop(self) -> None:
        """End the threads once everything put was delivered. Blocking."""
        with self._changed:
            self._is_ending = True
            self._changed.notify_all()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(timeout=END_PATIENCE_S)

    def _run(self) -> None:
        while (item := self._next()) is not None:
            try:
                self._deliver(item)
            except FileNotFoundError:
                continue  # the kernel does not know it
            except OSError as error:
                log.debug("invalidation failed", reason=str(error))

    def _next(self) -> Item | None:
        with self._changed:
            while not self._pending:
                if self._is_ending:
                    return None
                self._changed.wait()
            item = next(iter(self._pending))
            del self._pending[item]
            return item


class Invalidation:
    """Tells one kernel what is stale. No name waits behind a page that waits for its bytes."""

    def __init__(self, fuse: Any | ModuleType) -> None:
        self._fuse = fuse
        self._names = Lane("names", 1, self._deliver_name)
        self._pages = Lane("pages", PAGE_THREADS, self._deliver_pages)

    def start(self) -> None:
        self._names.start()
        self._pages.start()

    def attributes(self, number: int) -> None:
        """What stat says of an inode without pages is stale."""
        self._names.put((number, None))

    def inode(self, number: int) -> None:
        """Attributes and pages of an inode are stale."""
        self._pages.put((number, None))

    def entry(self, parent: int, name: bytes) -> None:
        """A name in a directory shows something else, or nothing, or something where nothing was."""
        self._names.put((parent, name))

    def stop(self) -> None:
        """End the threads. Blocking, for seconds at most."""
        self._names.stop()
        self._pages.stop()

    def _deliver_name(self, item: Item) -> None:
        number, name = item
        if name is not None:
            self._fuse.invalidate_entry_async(number, name, ignore_enoent=True)
        self._fuse.invalidate_inode(number, attr_only=True)

    def _deliver_pages(self, item: Item) -> None:
        self._fuse.invalidate_inode(item[0])
