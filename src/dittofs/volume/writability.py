"""Whether the journal of a replica takes what is written, and what waits until it does."""

from collections.abc import Callable
from errno import ENOSPC, EROFS
from typing import Final

import structlog

from dittofs.errors import DiskError, DiskFull, DittoError, ReadOnlyVolume
from dittofs.journal.journal import Journal

log = structlog.get_logger()

SYNC_FAILED: Final = "a sync of the journal failed: the volume has to be mounted anew"


class Writability:
    """Part of a `Replica`. From a failed append on nothing is changed until `try_again` succeeds."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._errno = EROFS
        self._unfinished: list[Callable[[], None]] = []
        self.reason: str | None = None
        """Why nothing can be changed, or None."""

    def require(self) -> None:
        """ReadOnlyVolume, with ENOSPC if the disk is full, unless changes can be made."""
        if self.reason is not None:
            raise ReadOnlyVolume(self.reason, self._errno)

    def lost(self, error: DiskFull | DiskError) -> None:
        """The journal could not be written."""
        self._set(f"the journal cannot be written: {error}", ENOSPC if isinstance(error, DiskFull) else EROFS)

    def postpone(self, error: DiskFull | ReadOnlyVolume, act: Callable[[], None]) -> None:
        """Opening could not do all it has to: `act` does the rest, before anything else is changed.

        It raises DiskFull, DiskError or ReadOnlyVolume, and is done again, if it cannot yet.
        """
        self._unfinished.append(act)
        if self.reason is None:
            self._set(
                f"the disk is full; the volume can be changed again when there is room ({error})", ENOSPC
            )

    def _set(self, reason: str, number: int) -> None:
        self.reason, self._errno = reason, number
        log.error("volume turned read-only", reason=reason)

    def try_again(self) -> bool:
        """See whether the journal can be written again. True when it can, and nothing waits for it."""
        if self.reason is None and self._journal.usable:
            return True
        if not self._journal.revive():
            if self._journal.needs_reopening and self.reason != SYNC_FAILED:
                self._set(SYNC_FAILED, EROFS)
            return False
        before, self.reason = self.reason, None
        try:
            while self._unfinished:
                self._unfinished[0]()
                del self._unfinished[0]
        except (DiskFull, DiskError, ReadOnlyVolume):
            return False
        except DittoError as error:
            log.error("what opening a volume left undone cannot be done", reason=str(error))
            return False
        finally:
            if self._unfinished:
                self.reason = before
        log.info("volume is writable again")
        return True
