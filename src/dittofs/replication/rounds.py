"""Both halves of rounds on one session: pulling what we lack, and serving what the peer lacks."""

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Final, Protocol

import structlog
import trio

from dittofs.errors import DiskError, DiskFull, ReadOnlyVolume
from dittofs.identity.keys import DeviceId
from dittofs.replication.errors import ProtocolError
from dittofs.replication.outbox import Outbox
from dittofs.replication.parts import LocalReplica
from dittofs.replication.round import (
    Collector,
    Filling,
    differing,
    pack_digests,
    pack_states,
    parse_states,
    wanted,
)
from dittofs.sync import messages as wire
from dittofs.sync.messages import Message
from dittofs.tree.record import META_SHARD
from dittofs.tree.shard import Epoch
from dittofs.tree.states import Behind, Difference, DocumentState

log = structlog.get_logger()

PROGRESS_S: Final = 60.0  # a round in which nothing comes for so long has failed
QUEUED_MAX: Final = 16
REPEATS_MAX: Final = 50
REPEAT_PAUSE_S: Final = 0.05
AT_ONCE_BYTES_MAX: Final = 2 << 20
"""A first round above this, some ten thousand names, is taken document by document."""
SERVED_BYTES: Final = 256 << 10
"""Of differences that are made at one instant: some 10 ms of the loop."""
UNUSABLE_S: Final = 5.0  # between two attempts while the journal cannot be written


class RoundSession(Protocol):
    """What this needs of the session it is part of."""

    device: DeviceId
    outbox: Outbox

    @property
    def live(self) -> "LiveState": ...

    @property
    def may_write(self) -> bool: ...

    def send(self, message: Message, body: bytes = b"") -> None: ...


class LiveState(Protocol):
    sequence: int
    received: int
    quiet_since: float

    def release(self, through: int) -> bool: ...


class Rounds:
    """`pull` and `serve` run beside each other: neither waits for the other."""

    def __init__(
        self,
        session: RoundSession,
        replica: LocalReplica,
        durable: Callable[[], Awaitable[None]],
        filling: Filling,
    ) -> None:
        self._session = session
        self._replica = replica
        self._filling = filling
        self._durable = durable
        """Returns when every change made so far is on the platter and queued on every session."""
        self._begin = trio.Event()
        self._ended = trio.Event()
        self._number = 0
        self._collector: Collector | None = None
        self._to_puller, self._puller = trio.open_memory_channel[tuple[wire.AnyMessage, bytes]](QUEUED_MAX)
        self._to_server, self._server = trio.open_memory_channel[tuple[wire.AnyMessage, bytes]](QUEUED_MAX)
        self._asked_for: tuple[int, list[int], Sequence[DocumentState]] | None = None
        """The round that is served: its number, the documents that differed, and all states then."""
        self._part_came = trio.Event()
        self._awaited: tuple[type[Message], ...] = ()
        self.is_pulling = False
        self.found_equal_at = -1.0
        """When all documents were last seen to be equal on both sides."""
        self.found_ahead_at = -1.0
        """When this side, which may not write, was last seen to have what the peer lacks."""

    def begin(self) -> None:
        """Pull soon; live groups are held back from now on. One round at a time."""
        if self._session.may_write:
            self.is_pulling = True
            self._begin.set()

    def compare(self, root: bytes, sequence: int) -> None:
        """The peer's digest after a pause. What is still under way explains a difference."""
        if root == self._replica.root_digest():
            self.found_equal_at = trio.current_time()
            self._note_no_more(())
        elif sequence == self._session.live.received:
            self.begin()

    @property
    def is_ahead(self) -> bool:
        """Whether this side has what the peer lacks, and will not take."""
        return self.found_ahead_at > self.found_equal_at

    async def ended(self) -> None:
        """Return when the round under way, or the next one, has ended."""
        await self._ended.wait()

    def take(self, message: wire.AnyMessage, body: bytes) -> None:
        """A message of either half. ProtocolError if it comes out of turn."""
        is_answer = isinstance(message, wire.States | wire.RoundEnd)
        if is_answer and not isinstance(message, self._awaited):
            raise ProtocolError(f"{type(message).__name__} without a question")
        try:
            (self._to_puller if is_answer else self._to_server).send_nowait((message, body))
        except trio.WouldBlock:
            raise ProtocolError("rounds faster than they can be served") from None

    def take_part(self, part: wire.Part, body: bytes) -> None:
        """What one document lacks."""
        if self._collector is None or part.round != self._number:
            raise ProtocolError("a difference that was not asked for")
        epoch = Epoch(part.epoch, part.digest)
        self._collector.add(Difference(part.document, epoch, body, part.is_whole))
        self._part_came.set()

    # -- pulling

    async def pull(self) -> None:
        """For ever: take what we lack."""
        repeats = 0
        while True:
            await self._begin.wait()
            self._begin = trio.Event()
            try:
                is_enough = await self._pull_once()
            except (DiskFull, DiskError, ReadOnlyVolume) as error:
                log.error("what a peer has cannot be taken in for now", reason=str(error))
                await trio.sleep(UNUSABLE_S)
                self._begin.set()
                continue
            repeats = 0 if is_enough else repeats + 1
            if repeats > REPEATS_MAX:
                raise ProtocolError("rounds that never bring what was missing")
            if not is_enough:
                await trio.sleep(REPEAT_PAUSE_S)
                self._begin.set()
                continue
            self.is_pulling = self._begin.is_set()
            self._ended.set()
            self._ended = trio.Event()

    async def _pull_once(self) -> bool:
        """One round. False if what it brought is not enough."""
        session, replica = self._session, self._replica
        self._number += 1
        session.send(wire.Pull(self._number), pack_digests(replica.digests()))
        message, body = await self._next(wire.States)
        if not isinstance(message, wire.States) or message.round != self._number:
            raise ProtocolError("an answer to another round")
        theirs = parse_states(wire.decode_states(body))
        if not theirs:
            self.found_equal_at = trio.current_time()
        if replica.is_fork(theirs):
            replica.heal_fork()
            return False
        ours = replica.states()
        numbers = wanted(replica.tree, theirs)
        self._collector = Collector()
        try:
            session.send(wire.Want(self._number), wire.encode_states(pack_states(numbers, ours)))
            message, _ = await self._next(wire.RoundEnd)
            if not isinstance(message, wire.RoundEnd) or message.round != self._number:
                raise ProtocolError("the end of another round")
            parts, lacks = self._collector.parts, message.lacks
        finally:
            self._collector = None
        is_first = self._is_empty() and sum(len(part.update) for part in parts) > AT_ONCE_BYTES_MAX
        try:
            if is_first:  # it would hold the loop for seconds, and there is nothing it could tear apart
                # All of it is here: the end of the link ends it no more.
                with self._filling.begun(), trio.CancelScope(shield=True):
                    for part in sorted(parts, key=lambda part: part.document != META_SHARD):
                        replica.receive_round([part], session.device, lacks)
                        await trio.lowlevel.checkpoint()
            is_new = bool(parts) and (replica.receive_round(parts, session.device, lacks) or is_first)
        except Behind:
            return False
        is_refused = replica.not_allowed is not None  # whoever may write sends what it is ahead with
        if is_refused and any(replica.difference(*one) is not None for one in theirs):
            self.found_ahead_at = trio.current_time()
        is_enough = session.live.release(message.through)
        if is_enough:
            left_out = {number for number, state in theirs if replica.tree.exchange.lacks(number, state)}
            self._note_no_more(left_out.union(part.document for part in parts))
        if is_new and is_enough:
            session.send(wire.Digest(replica.root_digest(), session.live.sequence))
        return is_enough

    def _note_no_more(self, given: Collection[int]) -> None:
        """Of documents awaited here the peer has nothing else, but for those that it has just `given`."""
        documents = self._replica.documents
        documents.has_no_more(self._session.device, documents.awaited.keys() - given)

    def _is_empty(self) -> bool:
        counts = self._replica.tree.counts()
        return not counts.files and not counts.directories

    async def _next(self, kind: type[Message]) -> tuple[wire.AnyMessage, bytes]:
        """The answer to what was asked; parts that come meanwhile count as progress."""
        self._awaited = (kind,)
        try:
            while True:
                self._part_came = trio.Event()
                with trio.move_on_after(PROGRESS_S):
                    return await self._puller.receive()
                if not self._part_came.is_set():
                    raise ProtocolError(f"a round stopped for {PROGRESS_S:g} s")
        finally:
            self._awaited = ()

    # -- serving

    async def serve(self) -> None:
        """For ever: give what the peer lacks."""
        async for message, body in self._server:
            match message, self._asked_for:
                case wire.Pull(round=number), _:
                    documents, states = differing(self._replica.digests(), body), self._replica.states()
                    self._asked_for = number, documents, states
                    packed = pack_states(documents, states)
                    self._session.send(wire.States(number), wire.encode_states(packed))
                case wire.Want(round=number), (asked, documents, states) if asked == number:
                    self._asked_for = None
                    theirs = dict(parse_states(wire.decode_states(body)))
                    if not theirs.keys() <= set(documents):
                        raise ProtocolError("wants documents that do not differ")
                    # Of all others the puller has what was here when it was answered, or more.
                    await self._give(number, [theirs.get(n, state) for n, state in enumerate(states)])
                case _, _:
                    raise ProtocolError(f"{type(message).__name__} out of turn")

    async def _give(self, number: int, known: list[DocumentState]) -> None:
        """Send what is here beyond `known`, until all that was sent is the state of one instant.

        The puller shows it as one step. If its parts were made at different instants, it would show a part of
        what came here between them, and tell it to others as if it were whole.
        """
        is_all = False
        while not is_all:
            await self._filling.ended()
            # No await from here until the parts are made.
            states, through = self._replica.states(), self._session.live.sequence
            parts: list[Difference] = []
            size, is_all = 0, True
            for document, state in enumerate(states):
                if state == known[document]:
                    continue
                if size > SERVED_BYTES:
                    is_all = False
                    break
                difference = self._replica.difference(document, known[document])
                known[document] = state
                if difference is not None:
                    parts.append(difference)
                    size += len(difference.update)
            await self._durable()
            for document, epoch, update, is_whole in parts:
                part = wire.Part(number, document, epoch.number, epoch.digest, is_whole)
                await self._session.outbox.put_bulk(part, update)
        # The groups up to `through` have been queued, and overtake this.
        lacks = tuple(sorted(self._replica.documents.awaited))
        self._session.outbox.put(wire.RoundEnd(number, through, lacks), is_bulk=True)
