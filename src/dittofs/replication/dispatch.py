"""Chunks that are to be asked for: in which order, of whom, and what was asked and has not come."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import trio

from dittofs.chunks.seal import ChunkKind
from dittofs.errors import DittoError
from dittofs.identity.keys import DeviceId
from dittofs.ids import ChunkId
from dittofs.replication.parts import LocalReplica
from dittofs.replication.scheduler import CHUNK_BYTES, Capacity, choose, is_worth_it, rested
from dittofs.replication.session import Session
from dittofs.replication.swarm import Swarm
from dittofs.sync import messages as wire


@dataclass(slots=True, eq=False)
class Fetch:
    """One chunk on its way."""

    kind: ChunkKind
    chunk: ChunkId
    is_bulk: bool
    done: trio.Event = field(default_factory=trio.Event)
    error: DittoError | None = None
    asked: dict[Session, float] = field(default_factory=dict)
    """Who was asked and has not answered, and when."""
    lacking: set[DeviceId] = field(default_factory=set)
    """Who does not have it."""
    is_queued: bool = False
    is_shared: bool = False
    """Queued as one of many that are shared out, not in a queue of its own turn."""


@dataclass(slots=True, eq=False)
class Peer:
    """One session as the fetcher sees it."""

    capacity: Capacity[Session]
    is_narrow: bool
    requests: dict[int, tuple[Fetch, float]] = field(default_factory=dict)
    """What was asked for and has not come, and when it was, or was last found to be late."""
    overdue: set[int] = field(default_factory=set)
    """Of these, what is late."""

    def is_good(self, now: float) -> bool:
        """Whether it is asked before others: it is not narrow, and was not late of late."""
        return not self.is_narrow and not self.capacity.rests(now)


_Batches = dict[tuple[Session, bool], list[wire.Wanted]]


class Dispatch:
    """Of one volume."""

    def __init__(self, replica: LocalReplica, device: DeviceId) -> None:
        self.fetches: dict[ChunkId, Fetch] = {}
        """Those that have not come."""
        self.peers: dict[Session, Peer] = {}
        self.swarm = Swarm(replica, device, lambda: self.sessions)
        self._queues: tuple[deque[Fetch], deque[Fetch]] = (deque(), deque())
        self._request = 0
        self._hurried: dict[Session, set[Fetch]] = {}  # asked for as bulk, and waited for now

    @property
    def sessions(self) -> list[Session]:
        """By which something may be asked for now."""
        return [session for session in self.peers if not session.is_left]

    # -- queues

    def queue(self, fetch: Fetch, *, is_first: bool = False, is_ahead: bool = False) -> None:
        """It is to be asked for. `is_ahead`: in its turn, though it be one of many that are shared out."""
        if fetch.is_queued or fetch.done.is_set():
            return
        fetch.is_queued = True
        if fetch.is_bulk and not is_ahead and fetch.chunk in self.swarm.sets:
            fetch.is_shared = True
            self.swarm.sets.want(fetch.chunk)
        elif is_first:
            self._queues[fetch.is_bulk].appendleft(fetch)
        else:
            self._queues[fetch.is_bulk].append(fetch)

    def unqueue(self, fetch: Fetch) -> None:
        if fetch.is_shared:
            self.swarm.sets.drop(fetch.chunk)
        elif fetch.is_queued:
            self._queues[fetch.is_bulk].remove(fetch)
        fetch.is_queued = fetch.is_shared = False

    def hurry(self, fetch: Fetch) -> None:
        """Somebody waits now for what may have been asked for as bulk."""
        for session in fetch.asked:
            self._hurried.setdefault(session, set()).add(fetch)

    # -- sending

    def send(self) -> None:
        """Send what the windows allow."""
        now = trio.current_time()
        for session, peer in self.peers.items():
            peer.capacity.round_trip_s = session.liveness.round_trip_s
        batches: _Batches = {}
        for queue in self._queues:
            self._dispatch_queue(queue, now, batches)
        if self.swarm.sets.wanted_count:
            self._dispatch_shared(now, batches)
        self._send_hurried()
        for (session, is_bulk), wants in batches.items():
            for start in range(0, len(wants), wire.WANTS_MAX):
                session.send(wire.Get(tuple(wants[start : start + wire.WANTS_MAX]), is_bulk))

    def _send_hurried(self) -> None:
        hurried, self._hurried = self._hurried, {}
        for session, fetches in hurried.items():
            if (peer := self.peers.get(session)) is not None:
                requests = [number for number, (fetch, _) in peer.requests.items() if fetch in fetches]
                for start in range(0, len(requests), wire.WANTS_MAX):
                    session.send(wire.Hurry(tuple(requests[start : start + wire.WANTS_MAX])))

    def _dispatch_queue(self, queue: deque[Fetch], now: float, batches: _Batches) -> None:
        left: list[Fetch] = []
        while queue:
            fetch = queue.popleft()
            fetch.is_queued = False
            if fetch.done.is_set():
                continue
            peer = self._choose(fetch, now)
            if peer is not None:
                self._ask(peer, fetch, now, batches)
            elif not fetch.asked:  # else it is late, and nobody else can be asked now: that keeps no other
                left.append(fetch)
                if fetch.is_bulk or not self.peers:
                    break  # the windows are full
        for fetch in reversed(left):
            self.queue(fetch, is_first=True, is_ahead=True)

    def _dispatch_shared(self, now: float, batches: _Batches) -> None:
        """Of what is shared out, ask each device for what it should be asked for next, if it has room."""
        devices = {session.device for session in self.sessions}
        good = {one.device for one in self.sessions if self.peers[one].is_good(now)}
        unsaid = self.swarm.unsaid(now)
        plans: dict[DeviceId, Iterator[ChunkId]] = {}
        left_bytes = self.swarm.sets.wanted_count * CHUNK_BYTES
        able = [self.peers[one].capacity for one in self.sessions]
        able = [one for one in able if not one.rests(now) or one.peer.device not in good]
        able = [one for one in able if not one.peer.liveness.is_in_doubt] or able
        while (found := choose(able, is_bulk=True)) is not None:
            session, peer = found.peer, self.peers[found.peer]
            device = session.device
            if not session.allowance.may_ask():
                able = [one for one in able if one is not found]
                continue
            beside = [one for one in able if one.peer.device == device and one is not found]
            if not is_worth_it(found, beside, left_bytes):
                able.remove(found)
                continue
            is_last_resort = not peer.is_good(now) and bool(good - {device})
            if device not in plans:
                others = (good if is_last_resort else devices) - {device}
                plans[device] = self.swarm.sets.next_for(
                    device, others=others, unsaid=unsaid, is_last_resort=is_last_resort
                )
            for chunk in plans[device]:
                fetch = self.fetches.get(chunk)
                if fetch is None or not fetch.is_shared or device in fetch.lacking or session in fetch.asked:
                    continue
                self.unqueue(fetch)
                self._ask(peer, fetch, now, batches)
                left_bytes -= CHUNK_BYTES
                break
            else:
                able = [one for one in able if one.peer.device != device]

    def _ask(self, peer: Peer, fetch: Fetch, now: float, batches: _Batches) -> None:
        self._request += 1
        session = peer.capacity.peer
        peer.requests[self._request] = fetch, now
        peer.capacity.asked(now)
        session.allowance.asked(CHUNK_BYTES)
        fetch.asked[session] = now
        wanted = wire.Wanted(self._request, int(fetch.kind), fetch.chunk)
        batches.setdefault((session, fetch.is_bulk), []).append(wanted)

    def _choose(self, fetch: Fetch, now: float) -> Peer | None:
        able = [
            peer
            for session, peer in self.peers.items()
            if session.device not in fetch.lacking and session not in fetch.asked and not session.is_left
        ]
        if fetch.is_bulk:  # a narrow link carries it only if there is no other to whoever may have it
            able = [one for one in able if one.capacity.peer.allowance.may_ask()]
            able = [one for one in able if not one.is_narrow] or able
        able = [one for one in able if self._may_have(one, fetch)] or able
        # A path that may be cut gets nothing more while there is another.
        candidates = [one.capacity for one in able]
        candidates = [one for one in candidates if not one.peer.liveness.is_in_doubt] or candidates
        found = choose(rested(candidates, now), is_bulk=fetch.is_bulk)
        return None if found is None else self.peers[found.peer]

    def _may_have(self, peer: Peer, fetch: Fetch) -> bool:
        return self.swarm.sets.has(peer.capacity.peer.device, fetch.chunk) is not False
