"""Fetching: chunks that are not here come from whichever connected peer has them.

One request per chunk however many wait for it. A request that is late is sent to a second peer too; one whose
link is lost, or whose peer does not have it, goes to another. Whoever waits, waits for a bounded time.
"""

import errno
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog
import trio

from dittofs.chunks.seal import ChunkKind, GenerationMissing
from dittofs.errors import ChunkUnavailable, DiskError, DittoError
from dittofs.ids import ChunkId
from dittofs.replication.errors import ProtocolError, WrongChunk
from dittofs.replication.parts import LocalReplica
from dittofs.replication.scheduler import Capacity, choose
from dittofs.replication.session import Session
from dittofs.sync import messages as wire

log = structlog.get_logger()

FETCH_PATIENCE_S: Final = 15.0
"""What one fetch takes at most, whatever the peers do."""
ALONE_PATIENCE_S: Final = 2.0
"""How long a fetch waits for a peer to connect when none has what is wanted, or for one to get it."""
RETURN_PATIENCE_S: Final = 6.0
"""The same after a session was lost: a path that is cut and mended is used again within five seconds."""
ASK_AGAIN_S: Final = 0.25
LATE_CHECK_S: Final = 0.25
INLINE_BYTES: Final = 192 << 10  # verified on the loop: a thread would cost more
BATCH_BYTES: Final = 4 << 20  # verified and stored in one hop
PREFETCHES_MAX: Final = 1024

Wanted = tuple[ChunkKind, ChunkId]


class NobodyHasIt(ChunkUnavailable):
    """All that are connected were asked."""


@dataclass(slots=True, eq=False)
class _Fetch:
    """One chunk on its way."""

    kind: ChunkKind
    chunk: ChunkId
    is_bulk: bool
    done: trio.Event = field(default_factory=trio.Event)
    error: DittoError | None = None
    asked: dict[Session, float] = field(default_factory=dict)
    """Who was asked and has not answered, and when."""
    lacking: set[Session] = field(default_factory=set)
    """Who does not have it."""
    is_queued: bool = False


@dataclass(slots=True, eq=False)
class _Peer:
    """One session as the fetcher sees it."""

    capacity: Capacity[Session]
    requests: dict[int, tuple[_Fetch, float]] = field(default_factory=dict)


class Fetcher:
    """The `ChunkSource` of a volume. `run` must be running."""

    def __init__(self, replica: LocalReplica, ban: Callable[[Session, str], None]) -> None:
        self._replica = replica
        self._ban = ban
        self._fetches: dict[ChunkId, _Fetch] = {}
        self._queues: tuple[deque[_Fetch], deque[_Fetch]] = (deque(), deque())
        self._peers: dict[Session, _Peer] = {}
        self._request = 0
        self._arrived: list[tuple[_Fetch, Session, bytes]] = []
        self._wake = trio.Event()
        self._connected = trio.Event()
        self._may_return_until = 0.0
        self.bytes_fetched = 0
        self.on_read: Callable[[bytes], None] = lambda _root: None
        """Told of which content somebody waited for chunks, and got them."""
        self.is_alone: Callable[[], bool] = lambda: False
        """Whether the volume has no other device: then there is nothing to wait for."""

    # -- asking

    async def fetch(self, root: bytes, wanted: Sequence[Wanted], *, is_bulk: bool = False) -> None:
        """Return when all are in the store. ChunkUnavailable within FETCH_PATIENCE_S otherwise.

        At once, and EIO, where no other device has the volume. With `is_bulk` it yields to what others wait
        for, and takes as long as chunks keep coming.

        A name may be here a moment before its content can be had: its device is not connected yet, or
        one between is still getting it. So who has it is asked again, for ALONE_PATIENCE_S.
        """
        if self.is_alone():
            raise ChunkUnavailable("no other device has this volume", errno.EIO)
        begun = trio.current_time()
        missing = list(wanted)
        while True:
            try:
                await self._fetch(missing, is_bulk=is_bulk)
            except NobodyHasIt:
                until = max(begun + ALONE_PATIENCE_S, min(begun + FETCH_PATIENCE_S, self._may_return_until))
                left_s = until - trio.current_time()
                if is_bulk or left_s <= 0:
                    raise
                with trio.move_on_after(min(left_s, ASK_AGAIN_S)):
                    await self._connected.wait()
            else:
                if not is_bulk:
                    self.on_read(root)
                return

    async def _fetch(self, missing: list[Wanted], *, is_bulk: bool) -> None:
        """Ask once. What comes is no longer among `missing`."""
        if not self._peers:
            raise NobodyHasIt("no other device is connected")
        fetches = [self._begin(kind, chunk, is_bulk=is_bulk) for kind, chunk in missing]
        self._dispatch()
        deadline = trio.current_time() + FETCH_PATIENCE_S
        for fetch in fetches:
            if is_bulk:
                deadline = trio.current_time() + FETCH_PATIENCE_S
            with trio.move_on_at(deadline):
                await fetch.done.wait()
            if fetch.error is not None:
                raise fetch.error
            if not fetch.done.is_set():
                raise ChunkUnavailable(f"no connected device delivered a chunk within {FETCH_PATIENCE_S:g} s")
            missing.pop(0)

    def prefetch(self, root: bytes, wanted: Sequence[Wanted]) -> None:
        """Ask for what will probably be read next. Never waits, and is dropped when much is asked already."""
        del root
        if self._peers and len(self._fetches) < PREFETCHES_MAX:
            for kind, chunk in wanted:
                if not self._replica.chunks.has(kind, chunk):
                    self._begin(kind, chunk, is_bulk=True)
            self._dispatch()

    def _begin(self, kind: ChunkKind, chunk: ChunkId, *, is_bulk: bool) -> _Fetch:
        fetch = self._fetches.get(chunk)
        if fetch is None:
            fetch = self._fetches[chunk] = _Fetch(kind, chunk, is_bulk)
            self._queue(fetch)
        elif fetch.is_bulk and not is_bulk:
            fetch.is_bulk = False
            if fetch.is_queued:
                self._queues[True].remove(fetch)
                fetch.is_queued = False
                self._queue(fetch)
        return fetch

    def _queue(self, fetch: _Fetch, *, is_first: bool = False) -> None:
        if not fetch.is_queued and not fetch.done.is_set():
            fetch.is_queued = True
            queue = self._queues[fetch.is_bulk]
            if is_first:
                queue.appendleft(fetch)
            else:
                queue.append(fetch)

    # -- peers

    def connected(self, session: Session) -> None:
        """A session is open."""
        self._peers[session] = _Peer(Capacity(session))
        self._connected.set()
        self._connected = trio.Event()
        self._dispatch()

    def disconnected(self, session: Session, *, may_return: bool = True) -> None:
        """A session has ended: what it was asked for goes to the head of the queue.

        `may_return`: its device is not shut out, so that reads wait for it a little.
        """
        peer = self._peers.pop(session, None)
        if peer is None:
            return
        if may_return:
            self._may_return_until = trio.current_time() + RETURN_PATIENCE_S
        for fetch, _ in reversed(list(peer.requests.values())):
            fetch.asked.pop(session, None)
            if not fetch.asked:
                self._queue(fetch, is_first=True)
        for fetch in list(self._fetches.values()):
            fetch.lacking.discard(session)
            self._give_up_if_nobody_has(fetch)
        self._dispatch()

    def awaits(self, session: Session) -> bool:
        """Whether something asked of that session has not come."""
        peer = self._peers.get(session)
        return peer is not None and bool(peer.requests)

    def _dispatch(self) -> None:
        """Send what the windows allow."""
        now = trio.current_time()
        batches: dict[tuple[Session, bool], list[wire.Wanted]] = {}
        for is_bulk in (False, True):
            queue = self._queues[is_bulk]
            left: list[_Fetch] = []
            while queue:
                fetch = queue.popleft()
                fetch.is_queued = False
                if fetch.done.is_set():
                    continue
                peer = self._choose(fetch, now)
                if peer is None:
                    if fetch.asked:
                        continue  # it is late, and nobody else can be asked now: that keeps no other
                    left.append(fetch)
                    if is_bulk or not self._peers:
                        break  # the windows are full
                    continue
                session = peer.capacity.peer
                self._request += 1
                peer.requests[self._request] = fetch, now
                peer.capacity.requests += 1
                fetch.asked[session] = now
                batches.setdefault((session, is_bulk), []).append(
                    wire.Wanted(self._request, int(fetch.kind), fetch.chunk)
                )
            for fetch in reversed(left):
                self._queue(fetch, is_first=True)
        for (session, is_bulk), wants in batches.items():
            for start in range(0, len(wants), wire.WANTS_MAX):
                session.send(wire.Get(tuple(wants[start : start + wire.WANTS_MAX]), is_bulk))

    def _choose(self, fetch: _Fetch, now: float) -> _Peer | None:
        for session, peer in self._peers.items():
            peer.capacity.round_trip_s = session.liveness.round_trip_s
        candidates = [
            peer.capacity
            for session, peer in self._peers.items()
            if session not in fetch.lacking and session not in fetch.asked and not session.is_left
        ]
        # A path that may be cut gets nothing more while there is another.
        candidates = [one for one in candidates if not one.peer.liveness.is_in_doubt] or candidates
        found = choose(candidates, is_bulk=fetch.is_bulk, now=now)
        if found is None and not fetch.asked:
            found = choose(candidates, is_bulk=fetch.is_bulk, now=now, rests_count=False)
        return None if found is None else self._peers[found.peer]

    # -- answers

    def take_chunks(self, session: Session, sizes: Sequence[tuple[int, int]], body: bytes) -> None:
        """Sealed chunks have come. ProtocolError for what was not asked for."""
        peer = self._peers.get(session)
        pieces = wire.split_body(body, [length for _, length in sizes])
        now = trio.current_time()
        for (request, length), sealed in zip(sizes, pieces, strict=True):
            fetch, asked_at = self._answered(peer, session, request)
            assert peer is not None
            peer.capacity.came(length, now - asked_at)
            if not fetch.done.is_set():
                self._arrived.append((fetch, session, sealed))
        self._wake.set()
        self._dispatch()

    def take_absent(self, session: Session, requests: Sequence[int]) -> None:
        """A peer does not have what it was asked for."""
        peer = self._peers.get(session)
        for request in requests:
            fetch, _ = self._answered(peer, session, request)
            fetch.lacking.add(session)
            if not fetch.asked:
                self._queue(fetch, is_first=True)
            self._give_up_if_nobody_has(fetch)
        self._dispatch()

    def _answered(self, peer: _Peer | None, session: Session, request: int) -> tuple[_Fetch, float]:
        if peer is None or request not in peer.requests:
            raise ProtocolError("an answer to no request")
        fetch, asked_at = peer.requests.pop(request)
        peer.capacity.requests -= 1
        fetch.asked.pop(session, None)
        return fetch, asked_at

    def _give_up_if_nobody_has(self, fetch: _Fetch) -> None:
        able = {session for session in self._peers if not session.is_left}
        if not fetch.done.is_set() and not fetch.asked and fetch.lacking >= able:
            why = "no connected device has it" if self._peers else "no other device is connected"
            self._finish(fetch, NobodyHasIt(f"a chunk is not here, and {why}"))

    def _finish(self, fetch: _Fetch, error: DittoError | None) -> None:
        fetch.error = error
        fetch.done.set()
        self._fetches.pop(fetch.chunk, None)

    # -- verifying

    async def run(self) -> None:
        """For ever: verify and store what comes, and notice what does not."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._verify)
            nursery.start_soon(self._watch)

    async def _verify(self) -> None:
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            while self._arrived:
                batch, size = [], 0
                while self._arrived and size < BATCH_BYTES:
                    one = self._arrived.pop(0)
                    batch.append(one)
                    size += len(one[2])
                await self._store(batch, size)

    async def _store(self, batch: list[tuple[_Fetch, Session, bytes]], size: int) -> None:
        store = self._replica.chunks
        items = [(fetch.kind, fetch.chunk, sealed) for fetch, _, sealed in batch]
        try:
            if size <= INLINE_BYTES:
                problems = store.put_sealed(items)
            else:
                problems = await self._replica.run_blocking(store.put_sealed, items)
        except Exception as error:
            unstored = error if isinstance(error, DittoError) else DiskError(f"not stored: {error}")
            for fetch, _, _ in batch:
                self._finish(fetch, unstored)
            if error is not unstored:
                raise
            return
        for (fetch, session, sealed), problem in zip(batch, problems, strict=True):
            if problem is None:
                self.bytes_fetched += len(sealed)
                self._finish(fetch, None)
                continue
            fetch.lacking.add(session)
            if not isinstance(problem, GenerationMissing):
                log.error("a peer sent a wrong chunk", peer=session.device.hex()[:16], reason=str(problem))
                self._ban(session, str(WrongChunk("it sent a chunk that is not the one asked for")))
            if not fetch.asked:
                self._queue(fetch, is_first=True)
            self._give_up_if_nobody_has(fetch)
        self._dispatch()

    async def _watch(self) -> None:
        """A request that is late is sent to another peer too, where there is one."""
        while True:
            await trio.sleep(LATE_CHECK_S)
            now = trio.current_time()
            for peer in self._peers.values():
                patience_s = peer.capacity.patience_s()
                late = [one for one, (_, asked_at) in peer.requests.items() if asked_at + patience_s <= now]
                for request in late:
                    fetch, _ = peer.requests[request]
                    peer.requests[request] = fetch, now  # late once more after as long again
                    if not fetch.done.is_set() and len(fetch.asked) == 1:
                        self._queue(fetch, is_first=True)
                if late:  # one hiccup of the link, however much was on its way
                    peer.capacity.was_late(now)
            self._dispatch()
