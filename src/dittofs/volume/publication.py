"""Publication: closed and fsynced content enters the tree, in the order of the closes and fsyncs.

Order of one point: chunks durable, then tree operation and journal row in one transaction.
A crash between the two leaves unused chunks and the staged content, so it is done again.
"""

import math
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import partial

import structlog
import trio

from dittofs.chunks.chunker import Chunking
from dittofs.errors import (
    Damaged,
    DiskError,
    DiskFull,
    DittoError,
    FormatError,
    ReadOnlyVolume,
)
from dittofs.ids import InodeId, Stamp
from dittofs.tree.record import Ref, Version
from dittofs.volume.ahead import Ahead
from dittofs.volume.borrowing import lacks_chunks
from dittofs.volume.carried import Carried
from dittofs.volume.contents import Content
from dittofs.volume.entering import Entering, enter_ignored
from dittofs.volume.events import node_of
from dittofs.volume.fetching import can_fetch
from dittofs.volume.jobs import Job, require_whole, store_job, store_jobs
from dittofs.volume.published import UNBORN, Published
from dittofs.volume.staging import Layer
from dittofs.volume.state import State
from dittofs.volume.waiting import Waiting

log = structlog.get_logger()

FILES_PER_POINT_MAX = 64  # bounds the time the event loop is held at the end of a point
BYTES_PER_POINT = 64 << 20  # a point takes no further file above this
SMALL_FILES_IN_A_ROW = 8  # stored before other requests have their turn: about 1 ms
GATHER_S = 0.05  # between two points nobody waits for: a stream of closes shares thread hop, sync and commit
OPEN_INTERVAL_S = 2.0  # a file held open is published at most this often
DRAIN_PATIENCE_S = 1.0  # how long a removal waits behind content nobody asked to be durable
RETRY_S = 2.0
HOLD_S = (
    1.0  # how long a point waits for chunks that are on other devices, before it goes on without that file
)


class Publisher:
    """Publishes what is queued: at once after a pause, and what gathers within GATHER_S as the next point."""

    def __init__(self, state: State, chunking: Chunking) -> None:
        self._state = state
        self._chunking = chunking
        self._queue: dict[Ref, None] = {}
        self._open: dict[Ref, None] = {}
        self._inflight: list[Job] = []
        self._wake = trio.Event()
        self._progress = trio.Event()
        self._last_point = self._last_open_point = -math.inf
        self._waiters = 0  # who holds something up until all is published
        self.stuck: dict[Ref, str] = {}
        """Files that cannot be published, and why; their bytes stay staged."""
        self.carried = Carried(state.replica)
        """Small contents that are durable with the journal."""
        self.left_behind = Waiting(state, chunking, self._job, self.enqueue)
        """Files whose edits need chunks that no device gave yet."""
        self.ahead = Ahead(state, chunking)
        """Cuts what is still being written."""
        self.problem: str | None = None
        """Why the last attempt failed, while content waits."""

    @property
    def waiting(self) -> dict[Ref, str]:
        """Files that were left behind, and why; their bytes stay staged."""
        return self.left_behind.reasons

    @property
    def is_idle(self) -> bool:
        """Nothing waits to be published."""
        return not (self._queue or self._open or self._inflight)

    def pending(self) -> tuple[int, int]:
        """Files and bytes not yet published."""
        refs = {*self._queue, *self._open, *self.waiting, *(job.ref for job in self._inflight)}
        contents = [self._state.contents.peek(ref) for ref in refs]
        return len(refs), sum(content.size for content in contents if content is not None)

    def is_queued(self, ref: Ref) -> bool:
        return ref in self._queue or ref in self._open or ref in self.waiting

    def knows(self, content: Content) -> bool:
        """Whether the content is queued, is being published, or is known not to be publishable."""
        is_under_way = any(job.content is content for job in self._inflight)
        return self.is_queued(content.ref) or content.ref in self.stuck or is_under_way

    def enqueue(self, ref: Ref) -> None:
        """A file was closed. One that waits for chunks has its turn when they have come."""
        if ref in self.waiting:
            return
        self._open.pop(ref, None)
        self._queue.setdefault(ref, None)
        self._wake.set()

    def enqueue_open(self, ref: Ref) -> None:
        """A file that stays open was fsynced, or has been open for long."""
        if ref not in self._queue and ref not in self.waiting:
            self._open.setdefault(ref, None)
            self._wake.set()

    def requeue(self, old: Ref, new: Ref) -> None:
        """What was queued under `old` is known as `new` now; it takes its turn as of now."""
        was_open = old in self._open
        self._queue.pop(old, None)
        self._open.pop(old, None)
        self.waiting.pop(old, None)
        if was_open:
            self.enqueue_open(new)
        else:
            self.enqueue(new)

    def enter(self, inode: InodeId) -> None:
        """A name that was ignored is not any more: it and all below it enter the tree."""
        for ref in enter_ignored(self._state, inode):
            self.enqueue(ref)

    async def run(self) -> None:
        """Publish for ever; cancelled at shutdown after `drain`."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.left_behind.run)
            nursery.start_soon(self.ahead.run)
            await self._publish_for_ever()

    async def _publish_for_ever(self) -> None:
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            while self._queue or self._open:
                wait_s = self._wait_s()
                if wait_s > 0:
                    with trio.move_on_after(wait_s) as waiting:
                        await self._wake.wait()
                    if not waiting.cancelled_caught:
                        self._wake = trio.Event()
                        continue
                if not await self.publish_point():
                    await trio.sleep(RETRY_S)

    def source_changed(self) -> None:
        """A device connected: what waits for chunks is tried again, and what cannot be read here."""
        for ref in list(self.stuck):
            self.enqueue(ref)
        self.left_behind.source_changed()

    def _wait_s(self) -> float:
        """Seconds until the next point is due: a file held open holds the whole volume's order."""
        if self._waiters:
            return 0.0
        due = self._last_open_point + OPEN_INTERVAL_S if self._open else -math.inf
        if len(self._queue) < FILES_PER_POINT_MAX:
            due = max(due, self._last_point + GATHER_S)
        return due - self._state.replica.clock.monotonic()

    async def drain(self) -> None:
        """Wait for what is queued now, whatever is queued later. What nobody fsynced is waited for
        DRAIN_PATIENCE_S at most: no order was promised for it, and a huge file must not hold up a removal.
        """
        waiting = self._queued_now()
        contents = [content for content, _ in waiting.values()] + [job.content for job in self._inflight]
        is_promised = any(content is not None and content.is_fsynced for content in contents)
        with trio.move_on_after(math.inf if is_promised else DRAIN_PATIENCE_S):
            await self._wait_while(lambda: any(self._is_waiting(ref, *one) for ref, one in waiting.items()))

    def _queued_now(self) -> dict[Ref, tuple[Content | None, list[Layer]]]:
        """What waits at this instant: for each file its unpublished layers."""
        refs = {*self._queue, *self._open, *(job.ref for job in self._inflight)}
        contents = {ref: self._state.contents.peek(ref) for ref in refs}
        return {ref: (one, [] if one is None else list(one.layers)) for ref, one in contents.items()}

    def _is_waiting(self, ref: Ref, content: Content | None, layers: list[Layer]) -> bool:
        """Whether one of those layers, or the empty file, is not in the tree yet and still to come."""
        if self._is_stuck(ref) or ref in self.waiting:
            return False
        if content is None:
            return ref in self._queue or ref in self._open or any(job.ref == ref for job in self._inflight)
        is_there = self._state.contents.peek(content.ref) is content
        return is_there and any(layer in content.layers for layer in layers)

    def _is_stuck(self, ref: Ref) -> bool:
        return ref in self.stuck and ref not in self._queue and ref not in self._open

    async def drain_all(self) -> None:
        """Wait until nothing waits to be published. Returns early if publication fails."""
        await self._wait_while(lambda: not self.is_idle)

    async def _wait_while(self, is_waiting: Callable[[], bool]) -> None:
        self._waiters += 1
        try:
            while not self.is_idle and is_waiting():
                self._wake.set()
                await self._progress.wait()
                if self.problem is not None:
                    return
        finally:
            self._waiters -= 1

    async def settle(self, ref: Ref) -> None:
        """Publish one file as it is now, open or not."""
        self.enqueue(ref)
        await self.drain_all()

    async def publish_point(self) -> bool:
        """Publish what is queued as one group. False if it must be tried again."""
        jobs: list[Job] = []
        try:
            self._inflight = jobs = self._freeze()
            if not jobs:  # everything queued was removed meanwhile
                self.problem = None
                return True
            with ExitStack() as uses:
                uses.enter_context(self._state.replica.chunks.lease())
                for job in jobs:
                    if job.layer is not None:
                        uses.enter_context(job.layer.in_use())
                await self._store(jobs)
            # From here to the end of the transaction nothing awaits.
            try:
                self._state.replica.mended(partial(self._commit, jobs))
            except (DiskFull, DiskError, ReadOnlyVolume):
                raise
            except Exception as error:
                log.error("a group cannot be published as a whole", exc_info=error)
                self._commit_one_by_one(jobs)
            self.problem = None
        except Exception as error:
            if self.problem is None and isinstance(error, ReadOnlyVolume):
                log.info("nothing can be published for now", reason=str(error))
            elif self.problem is None:
                log.error("publication failed", exc_info=None if isinstance(error, DittoError) else error)
            self.problem = str(error) or type(error).__name__
            for job in reversed(jobs):
                self._queue = {job.ref: None, **self._queue}
                self._open.pop(job.ref, None)
            if isinstance(error, DiskFull):
                self.ahead.give_back()
        finally:
            for job in jobs:
                if job.ahead is not None:
                    job.ahead.give_back()
            self._inflight = []
            self._last_point = self._state.replica.clock.monotonic()
            self._progress.set()
            self._progress = trio.Event()
        return self.problem is None

    async def _store(self, jobs: list[Job]) -> None:
        """Every content becomes chunks, durable when this returns or, if they are carried, with the journal.

        Small new ones on the event loop, between requests: beside a thread that runs Python it would
        lose the interpreter's lock at each system call of its own, and wait 0.5 ms to have it back.
        """
        replica = self._state.replica
        for number, job in enumerate((job for job in jobs if job.is_small), 1):
            store_job(replica.chunks, replica.slot, job, self._chunking)
            if number % SMALL_FILES_IN_A_ROW == 0:
                await trio.lowlevel.checkpoint()
        if self.carried.takes(jobs):
            for job in jobs:
                job.is_carried = True
            await trio.lowlevel.checkpoint()
            return
        others = [job for job in jobs if not job.is_small]
        for job in others:
            if job.layer is not None:
                await self.ahead.settled(job.layer)
                job.ahead = job.layer.take_ahead()
        await replica.run_blocking(store_jobs, replica.chunks, replica.slot, others, self._chunking)
        if others and not self._state.may_borrow():
            await replica.run_blocking(require_whole, replica.chunks, others)
        lacking = [job for job in others if lacks_chunks(job)]
        if lacking and can_fetch(self._state.source):
            # In order if the chunks are near; whoever needs those of a device far away is left behind.
            with trio.move_on_after(HOLD_S):
                async with trio.open_nursery() as nursery:
                    for job in lacking:
                        nursery.start_soon(self.left_behind.borrow, job)

    def _freeze(self) -> list[Job]:
        """Take the next files, in order, at one instant."""
        jobs: list[Job] = []
        taken: list[Ref] = []
        total = 0
        takes_open = bool(self._open)
        for ref in list(self._queue) + list(self._open):
            if len(jobs) >= FILES_PER_POINT_MAX or total > BYTES_PER_POINT:
                break
            job = self._state.replica.mended(partial(self._job, ref))
            taken.append(ref)
            if job is not None:
                jobs.append(job)
                total += job.size
        for ref in taken:
            self._queue.pop(ref, None)
            self._open.pop(ref, None)
        if takes_open and not self._open:
            self._last_open_point = self._state.replica.clock.monotonic()
        return jobs

    def _job(self, ref: Ref) -> Job | None:
        state = self._state
        self.stuck.pop(ref, None)
        try:
            content = state.contents.get(ref)
        except (Damaged, FormatError) as error:
            self.stuck[ref] = str(error)
            return None
        local = state.local.get(ref[0])
        if local is not None and local.is_ignored:
            return None
        if content is None:
            if local is None:
                return None
            return Job(ref, None, None, UNBORN, Stamp(local.stamp), local.mtime, [])
        layer = content.layers[0]
        if layer is content.top:
            content.is_fsynced = False
            layer.is_closed = True
        published = content.published
        previous = list(published.point_over or ())
        if published.point_over is None:
            replaced = (one.node for one in self._versions(ref) if one.dot in published.replaces)
            previous = [node for node in map(node_of, replaced) if node is not None]
        job = Job(ref, content, layer, published, layer.stamp, layer.mtime, previous)
        job.is_over_holes = state.holes.of(published.root) > 0
        return job

    def _versions(self, ref: Ref) -> Iterable[Version]:
        if self._state.local.get(ref[0]) is not None:
            return ()
        return self._state.replica.tree.versions(ref[0])

    def _commit_one_by_one(self, jobs: list[Job]) -> None:
        for job in jobs:
            try:
                self._commit([job])
            except (DiskFull, DiskError, ReadOnlyVolume):
                raise
            except Exception as error:
                self.stuck[job.ref] = str(error) or type(error).__name__
                log.error("a file cannot be published", exc_info=error)

    def _commit(self, jobs: list[Job]) -> None:
        done: list[tuple[Job, Published]] = []
        with self._state.replica.change() as change:
            entering = Entering(self._state, change)
            for job in jobs:
                if self.left_behind.may_take(job):
                    self.left_behind.add(job.ref, str(job.error))
                    log.info("a file waits for chunks", reason=str(job.error))
                    continue
                if job.error is not None:
                    self.stuck[job.ref] = str(job.error)
                    log.error("a file cannot be published", reason=str(job.error))
                    continue
                published = entering.take(job)
                if published is not None:
                    done.append((job, published))
                    if job.is_carried:
                        self.carried.carry(job, change)
        for job, published in done:
            self._advance(job, published)
        entering.announce()

    def _advance(self, job: Job, published: Published) -> None:
        """In memory, after the commit."""
        state, content = self._state, job.content
        state.holes.note(job.root, job.hole_blocks)
        ref = content.ref if content is not None else job.ref
        inode = state.inodes.of_ref(ref)
        if ref[1] is not None and inode is not None:
            # An edited conflict entry keeps its rank and its name; its dot is the new one.
            ref = ref[0], published.replaces[0]
            state.inodes.rebind(inode, ref)
        if inode is not None and inode.writers:
            inode.base = published
        if content is not None:
            state.contents.advance(content, published, ref)
            version = state.replica.tree.version(ref)
            if job.was_gone or (version is not None and version.content != (published.root, published.size)):
                state.announce_names(ref[0])  # it is back, or stands aside of what its name shows
            if content.layers and content.layers[0].is_closed:
                self.enqueue(ref)
