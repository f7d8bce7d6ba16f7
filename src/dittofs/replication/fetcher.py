"""Fetching: chunks that are not here come from whichever connected peer has them.

One request per chunk however many wait for it. What somebody waits for goes first, then what will be read
next, then what is to be kept, shared out with the devices that fetch the same. A request that is late is sent
to a second peer too; one whose link is lost, or whose peer does not have it, goes to another. Whoever waits,
waits for a bounded time.
"""

import errno
from collections.abc import Callable, Sequence
from typing import Final

import structlog
import trio

from dittofs.chunks.seal import ChunkKind
from dittofs.errors import ChunkUnavailable, DittoError
from dittofs.identity.keys import DeviceId
from dittofs.ids import ChunkId
from dittofs.replication.arrivals import Arrivals
from dittofs.replication.calls import is_narrow, rate_prior
from dittofs.replication.dispatch import Dispatch, Fetch, Peer
from dittofs.replication.errors import ProtocolError
from dittofs.replication.parts import LocalReplica
from dittofs.replication.scheduler import CHUNK_BYTES, Capacity
from dittofs.replication.session import Session
from dittofs.replication.wholeness import Missing, Wanted, absent_singles, is_single, missing
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
PREFETCHES_MAX: Final = 1024


class NobodyHasIt(ChunkUnavailable):
    """All that are connected were asked."""


class Fetcher:
    """The `ChunkSource` of a volume. `run` must be running."""

    def __init__(self, replica: LocalReplica, device: DeviceId, ban: Callable[[Session, str], None]) -> None:
        self._replica = replica
        self._dispatch = Dispatch(replica, device)
        self.swarm = self._dispatch.swarm
        self.swarm.on_told = self._told
        self._arrivals: Arrivals[Fetch] = Arrivals(replica, ban, self._stored, self._spoilt)
        self._connected = trio.Event()
        self._may_return_until = 0.0
        self._came_at = 0.0
        self.bytes_fetched = 0
        self.on_read: Callable[[bytes], None] = lambda _root: None
        """Told of which content somebody waited for chunks, and got them."""
        self.on_much: Callable[[], None] = lambda: None
        """Told when much is about to be fetched: another link may be worth making."""
        self.is_alone: Callable[[], bool] = lambda: False
        """Whether the volume has no other device: then there is nothing to wait for."""

    # -- asking

    async def fetch_page(self, root: bytes, page: Missing) -> None:
        """As `fetch` of what a content lacks, in bulk, shared out with the devices that fetch it too."""
        self.on_much()
        absent = {chunk for _, chunk in page.chunks}
        self.swarm.follow(page.leaves, absent)
        try:
            await self.fetch(root, page.chunks, is_bulk=True)
        finally:
            for chunk in absent:
                fetch = self._dispatch.fetches.get(chunk)
                if fetch is not None and fetch.is_shared:
                    self._dispatch.unqueue(fetch)  # what was asked for may come yet, or is queued anew
                    if not fetch.asked:
                        self._finish(fetch, ChunkUnavailable("what it belongs to could not be fetched"))
            self.swarm.unfollow(page.leaves)

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
        if not self._dispatch.peers:
            raise NobodyHasIt("no other device is connected")
        fetches = [self._begin(kind, chunk, is_bulk=is_bulk) for kind, chunk in missing]
        self._dispatch.send()
        begun = trio.current_time()
        for fetch in fetches:
            while not fetch.done.is_set():
                since = max(begun, self._came_at) if is_bulk else begun
                if trio.current_time() >= since + FETCH_PATIENCE_S:
                    why = f"no connected device delivered a chunk within {FETCH_PATIENCE_S:g} s"
                    raise ChunkUnavailable(why)
                with trio.move_on_at(since + FETCH_PATIENCE_S):
                    await fetch.done.wait()
            if fetch.error is not None:
                raise fetch.error
            missing.pop(0)

    async def fetch_contents(self, contents: Sequence[tuple[bytes, int]]) -> None:
        """Have all of these (root, size) here, as bulk; what cannot be had is passed over.

        Those of one chunk are asked for together, without a hop to a thread for each.
        """
        store, run_blocking = self._replica.chunks, self._replica.run_blocking
        try:
            singles = await run_blocking(absent_singles, store, contents)
            if singles:
                await self.fetch(b"", singles, is_bulk=True)
        except DittoError as error:
            log.debug("contents could not be fetched", reason=str(error))
        for root, size in contents:
            try:
                if is_single(root, size):
                    continue
                page = await run_blocking(missing, store, root, size)
                while page.chunks:
                    await self.fetch_page(root, page)
                    page = await run_blocking(missing, store, root, size, page.after)
            except DittoError as error:
                log.debug("a content could not be fetched", reason=str(error))

    def prefetch(self, root: bytes, wanted: Sequence[Wanted]) -> None:
        """Ask for what will probably be read next. Never waits, and is dropped when much is asked already."""
        del root
        if self._dispatch.peers and len(self._dispatch.fetches) < PREFETCHES_MAX:
            for kind, chunk in wanted:
                if not self._replica.chunks.has(kind, chunk):
                    fetch = self._begin(kind, chunk, is_bulk=True)
                    if fetch.is_shared:  # it would come in any order
                        self._dispatch.unqueue(fetch)
                        self._dispatch.queue(fetch, is_ahead=True)
            self._dispatch.send()

    def _begin(self, kind: ChunkKind, chunk: ChunkId, *, is_bulk: bool) -> Fetch:
        fetch = self._dispatch.fetches.get(chunk)
        if fetch is None:
            fetch = self._dispatch.fetches[chunk] = Fetch(kind, chunk, is_bulk)
            self._dispatch.queue(fetch)
        elif fetch.is_bulk and not is_bulk:
            was_queued = fetch.is_queued
            self._dispatch.unqueue(fetch)
            fetch.is_bulk = False
            if was_queued:
                self._dispatch.queue(fetch)
            self._dispatch.hurry(fetch)
        return fetch

    # -- peers

    def connected(self, session: Session) -> None:
        """A session is open."""
        capacity = Capacity(session, rate=rate_prior(session.link))
        self._dispatch.peers[session] = Peer(capacity, is_narrow(session.link))
        self.swarm.connected()
        self._connected.set()
        self._connected = trio.Event()
        self._dispatch.send()

    def disconnected(self, session: Session, *, may_return: bool = True) -> None:
        """A session has ended: what it was asked for goes to the head of the queue.

        `may_return`: its device is not shut out, so that reads wait for it a little.
        """
        peer = self._dispatch.peers.pop(session, None)
        if peer is None:
            return
        session.allowance.asked(-CHUNK_BYTES * (len(peer.requests) - len(peer.overdue)))
        if may_return:
            self._may_return_until = trio.current_time() + RETURN_PATIENCE_S
        for fetch, _ in reversed(list(peer.requests.values())):
            fetch.asked.pop(session, None)
            if not fetch.asked:
                self._dispatch.queue(fetch, is_first=True)
        if all(one.device != session.device for one in self._dispatch.peers):
            self.swarm.disconnected(session.device)
        for fetch in list(self._dispatch.fetches.values()):
            fetch.lacking.discard(session.device)
            self._give_up_if_nobody_has(fetch)
        self._dispatch.send()

    @property
    def is_busy(self) -> bool:
        """Whether anything that was asked for has not come."""
        return any(peer.requests for peer in self._dispatch.peers.values())

    def awaits(self, session: Session) -> bool:
        """Whether something asked of that session has not come."""
        peer = self._dispatch.peers.get(session)
        return peer is not None and bool(peer.requests)

    # -- answers

    def take_chunks(self, session: Session, sizes: Sequence[tuple[int, int]], body: bytes) -> None:
        """Sealed chunks have come. ProtocolError for what was not asked for."""
        peer = self._dispatch.peers.get(session)
        pieces = wire.split_body(body, [length for _, length in sizes])
        now = trio.current_time()
        for (request, _), sealed in zip(sizes, pieces, strict=True):
            fetch = self._answered(peer, session, request)
            if not fetch.done.is_set():
                self._arrivals.put(fetch, fetch.kind, fetch.chunk, session, sealed)
        assert peer is not None
        peer.capacity.came(now, len(sizes))
        self._dispatch.send()

    def take_absent(self, session: Session, requests: Sequence[int]) -> None:
        """A peer does not have what it was asked for."""
        peer = self._dispatch.peers.get(session)
        for request in requests:
            fetch = self._answered(peer, session, request)
            self._not_from(session, fetch)
        self._dispatch.send()

    def _not_from(self, session: Session, fetch: Fetch) -> None:
        """That device cannot give it: others are asked, if there are any."""
        fetch.lacking.add(session.device)
        self.swarm.sets.lacks(session.device, fetch.chunk)
        if not fetch.asked:
            self._dispatch.queue(fetch, is_first=True)
        self._give_up_if_nobody_has(fetch)

    def _told(self, session: Session, chunks: Sequence[ChunkId]) -> None:
        """A device has these chunks now."""
        for chunk in chunks:
            if (fetch := self._dispatch.fetches.get(chunk)) is not None:
                fetch.lacking.discard(session.device)
        self._dispatch.send()

    def _answered(self, peer: Peer | None, session: Session, request: int) -> Fetch:
        if peer is None or request not in peer.requests:
            raise ProtocolError("an answer to no request")
        fetch, _ = peer.requests.pop(request)
        if request not in peer.overdue:
            session.allowance.asked(-CHUNK_BYTES)
        peer.overdue.discard(request)
        peer.capacity.answered()
        peer.capacity.overdue = len(peer.overdue)
        fetch.asked.pop(session, None)
        return fetch

    def _give_up_if_nobody_has(self, fetch: Fetch) -> None:
        able = {session.device for session in self._dispatch.sessions}
        if not fetch.done.is_set() and not fetch.asked and fetch.lacking >= able:
            why = "no connected device has it" if self._dispatch.peers else "no other device is connected"
            self._finish(fetch, NobodyHasIt(f"a chunk is not here, and {why}"))

    def _finish(self, fetch: Fetch, error: DittoError | None) -> None:
        fetch.error = error
        fetch.done.set()
        if error is None:
            self._came_at = trio.current_time()
            self.swarm.sets.came(fetch.chunk)
        elif fetch.is_shared:
            self.swarm.sets.drop(fetch.chunk)
        self._dispatch.fetches.pop(fetch.chunk, None)

    def _stored(self, fetch: Fetch, size: int) -> None:
        self.bytes_fetched += size
        self._finish(fetch, None)

    def _spoilt(self, fetch: Fetch, session: Session, error: DittoError | None) -> None:
        """What came is not it, or, with `error`, could not be stored."""
        if error is not None:
            self._finish(fetch, error)
        else:
            self._not_from(session, fetch)

    async def run(self) -> None:
        """For ever: verify and store what comes, and notice what does not."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._arrivals.run, self._dispatch.send)
            nursery.start_soon(self.swarm.run)
            nursery.start_soon(self._watch)

    async def _watch(self) -> None:
        """A request that is late is sent to another peer too, where there is one."""
        while True:
            await trio.sleep(LATE_CHECK_S)
            now = trio.current_time()
            for peer in self._dispatch.peers.values():
                patience_s = peer.capacity.patience_s()
                late = [one for one, (_, asked_at) in peer.requests.items() if asked_at + patience_s <= now]
                for request in late:
                    fetch, _ = peer.requests[request]
                    peer.requests[request] = fetch, now  # late once more after as long again
                    if request not in peer.overdue:
                        peer.capacity.peer.allowance.asked(-CHUNK_BYTES)
                    peer.overdue.add(request)
                    peer.capacity.overdue = len(peer.overdue)
                    if not fetch.done.is_set() and self._may_ask_another(fetch):
                        self._dispatch.queue(fetch, is_first=True)
                if late:  # one hiccup of the link, however much was on its way
                    peer.capacity.was_late(now)
            self._dispatch.send()

    def _may_ask_another(self, fetch: Fetch) -> bool:
        """Whether a device is left that may have it and was not asked."""
        asked = {session.device for session in fetch.asked} | fetch.lacking
        return any(session.device not in asked for session in self._dispatch.sessions)
