"""Files that publication left behind: their edits need chunks of other devices. Their bytes stay staged."""

from collections.abc import Callable

import trio

from dittofs.chunks.chunker import Chunking
from dittofs.errors import ChunkUnavailable, Damaged, DiskError, DiskFull, FormatError
from dittofs.tree.record import Ref
from dittofs.volume.borrowing import borrow, fetch_whole, lacks_chunks
from dittofs.volume.fetching import can_fetch
from dittofs.volume.jobs import Job
from dittofs.volume.state import State

WAIT_MIN_S, WAIT_MAX_S = 5.0, 300.0  # between two attempts


class Waiting:
    """Tries to have what they need: more and more seldom, and at once when a device connects."""

    def __init__(
        self,
        state: State,
        chunking: Chunking,
        job_of: Callable[[Ref], Job | None],
        ready: Callable[[Ref], None],
    ) -> None:
        """`job_of` freezes a file's lowest layer; `ready` is told that its chunks are here."""
        self._state = state
        self._chunking = chunking
        self._job_of = job_of
        self._ready = ready
        self._source_changed = trio.Event()
        self._has_some = trio.Event()
        self.reasons: dict[Ref, str] = {}
        """Why each waits."""

    def add(self, ref: Ref, why: str) -> None:
        """Leave a file behind: from now on it is tried again."""
        self.reasons[ref] = why
        self._has_some.set()

    def may_take(self, job: Job) -> bool:
        """Whether what stopped the job may be mended by another device."""
        return lacks_chunks(job) and (can_fetch(self._state.source) or not isinstance(job.error, Damaged))

    def source_changed(self) -> None:
        """A device connected."""
        self._source_changed.set()

    async def run(self) -> None:
        """Try again for ever."""
        wait_s = WAIT_MIN_S
        while True:
            if not self.reasons:
                self._has_some, wait_s = trio.Event(), WAIT_MIN_S
                await self._has_some.wait()
            with trio.move_on_after(wait_s) as sleeping:
                await self._source_changed.wait()
            self._source_changed = trio.Event()
            wait_s = min(2 * wait_s, WAIT_MAX_S) if sleeping.cancelled_caught else WAIT_MIN_S
            await self.retry()

    async def retry(self) -> None:
        """Try once more for all; those that have what they need take their turn now.

        All at the same time: what cannot be had keeps nothing else. A source bounds how long it takes.
        """
        if not can_fetch(self._state.source):
            return
        async with trio.open_nursery() as nursery:
            for ref in list(self.reasons):
                nursery.start_soon(self._retry, ref)

    async def _retry(self, ref: Ref) -> None:
        if ref not in self.reasons:
            return  # it got another name, or was removed, since
        job = self._state.replica.mended(lambda: self._job_of(ref))
        if job is not None and job.layer is not None:
            job.error = ChunkUnavailable(self.reasons[ref])
            with job.layer.in_use():
                await self.borrow(job)
            if job.error is not None and ref in self.reasons:
                self.reasons[ref] = str(job.error)
                return
        if self.reasons.pop(ref, None) is not None:
            self._ready(ref)

    async def borrow(self, job: Job) -> None:
        """Fetch what the job needs and store it; `job.error` says why if that could not be done."""
        replica, source = self._state.replica, self._state.source
        try:
            await borrow(source, replica.chunks, replica.slot, job, self._chunking, replica.run_blocking)
            if not self._state.may_borrow():
                await fetch_whole(source, replica.chunks, job, replica.run_blocking)
        except (DiskFull, DiskError, FormatError) as error:
            job.error = error
