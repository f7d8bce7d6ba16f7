"""One session: the conversation about one volume with one peer, over one link.

`run` opens it (hello, members, ready) and then serves both halves at once. Whatever the peer does ends this
session at worst. The parts of a session that need more than a few lines are objects of their own: what is
sent live (`Live`), rounds (`Rounds`), chunks asked of us (`Serving`).
"""

from collections.abc import Awaitable, Callable
from enum import Enum
from functools import partial
from typing import Final, Protocol, TypeVarTuple, Unpack

import structlog
import trio

from dittofs.errors import DittoError, FormatError
from dittofs.identity.keys import DeviceId
from dittofs.identity.records import Role
from dittofs.links.link import Link, LinkBroken
from dittofs.replication.allowance import Allowance
from dittofs.replication.errors import ProtocolError, Refused
from dittofs.replication.live import Live
from dittofs.replication.liveness import Liveness
from dittofs.replication.meter import Meter
from dittofs.replication.outbox import Outbox
from dittofs.replication.parts import LocalReplica
from dittofs.replication.round import Filling
from dittofs.replication.rounds import Rounds
from dittofs.replication.serving import Serving
from dittofs.replication.whereabouts import Whereabouts
from dittofs.sync import messages as wire
from dittofs.sync.frame import BODY_BYTES_MAX, FrameReader
from dittofs.sync.messages import Message

log = structlog.get_logger()
Arguments = TypeVarTuple("Arguments")

OPENING_S: Final = 20.0  # from the link to Ready of both sides
RECEIVE_BYTES: Final = 256 << 10
CONTROL_RATE: Final = 500.0  # messages a second that make us work and carry nothing
CONTROL_BURST: Final = 5_000.0
TOLD_COST: Final = 500.0  # addresses are told every few seconds at most
IDLE_DIGEST_S: Final = 30.0
"""How long a session must have been quiet before the digests are compared."""


class Phase(Enum):
    MEMBERS = "records are awaited"
    READY = "the other side's judgement is awaited"
    OPEN = "open"


class Sessions(Protocol):
    """What a session asks of those it belongs to."""

    @property
    def replica(self) -> LocalReplica: ...

    @property
    def filling(self) -> Filling: ...

    @property
    def whereabouts(self) -> Whereabouts: ...

    def allowance(self, device: DeviceId) -> Allowance: ...

    def records(self) -> list[bytes]: ...

    def take_records(self, teller: DeviceId, records: list[bytes]) -> None: ...

    def role(self, device: DeviceId) -> Role: ...

    def knows(self, device: DeviceId) -> bool: ...

    def awaits(self, session: "Session") -> bool: ...

    def opened(self, session: "Session") -> None: ...

    def doubted(self, session: "Session") -> None: ...

    def take_chunks(self, session: "Session", sizes: tuple[tuple[int, int], ...], body: bytes) -> None: ...

    def take_absent(self, session: "Session", requests: tuple[int, ...]) -> None: ...

    async def take_having(self, session: "Session", message: wire.Having, body: bytes) -> None: ...

    def take_roots(self, session: "Session", message: wire.AnyMessage, body: bytes) -> None: ...

    def take_proof(self, session: "Session", message: wire.AnyMessage, body: bytes) -> None: ...

    async def durable(self) -> None: ...

    def chunk_lost(self) -> None: ...


class Session:
    """See the module. Made when both Hellos are known; `run` once."""

    def __init__(
        self,
        sessions: Sessions,
        link: Link,
        reader: FrameReader,
        outbox: Outbox,
        ours: wire.Hello,
        theirs: wire.Hello,
    ) -> None:
        self.link = link
        self.device = link.peer
        self.ours = ours
        self.theirs = theirs
        self.outbox = outbox
        self.allowance = outbox.allowance = sessions.allowance(self.device)
        self.live = Live(self, sessions.replica)
        self.rounds = Rounds(self, sessions.replica, sessions.durable, sessions.filling)
        self.serving = Serving(outbox, sessions.replica, sessions.chunk_lost)
        self.liveness = Liveness(link, outbox, self.send, self._awaits)
        self.bytes_received = 0
        self.sent, self.received = Meter(), Meter()
        self.is_open = False
        self.is_left = False
        """Another link of the same device is used; this one still brings what was on its way."""
        self.is_beside = ours.is_beside or theirs.is_beside
        """It is for chunks alone, beside the one that is used."""
        self.opened_at = 0.0
        self.why_ended = ""
        self._sessions = sessions
        self._reader = reader
        self._phase = Phase.READY if ours.members == theirs.members else Phase.MEMBERS
        self._is_telling = self._phase is Phase.MEMBERS
        self._is_refusing = False
        self._could_write = False
        self._has_told = False
        self._records_told: list[bytes] = []
        self._control = CONTROL_BURST
        self._control_at = trio.current_time()
        self._scope = trio.CancelScope()
        self._nursery: trio.Nursery | None = None

    @property
    def role(self) -> Role:
        """What the peer may do, in our view now."""
        return self._sessions.role(self.device)

    @property
    def may_write(self) -> bool:
        """Whether the peer's updates count."""
        return self.role >= Role.WRITER

    def _awaits(self) -> bool:
        """Whether the peer owes an answer."""
        is_pulling = self.rounds.is_pulling or not self.live.is_in_step
        return self.is_open and (is_pulling or self._sessions.awaits(self))

    def send(self, message: Message, body: bytes | memoryview = b"") -> None:
        """Queue what somebody waits for."""
        try:
            self.outbox.put(message, body)
        except DittoError as error:
            self.end(str(error))

    def end(self, why: str) -> None:
        """End the session soon."""
        self.why_ended = self.why_ended or why
        self._scope.cancel()

    async def refuse(self, code: str, text: str) -> None:
        """Say why, and end."""
        self.why_ended = self.why_ended or text
        self.send(wire.Refuse(code, text[:200]))
        with trio.move_on_after(2):
            await self.outbox.flushed()
        self._scope.cancel()

    async def run(self) -> None:
        """Until the link ends or either side ends it. `why_ended` says why; nothing is raised."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    self._nursery = nursery
                    nursery.start_soon(self._guard, self._send)
                    await self._guard(self._begin)  # before anything can be said in answer to the peer
                    nursery.start_soon(self._guard, self._receive)
                    nursery.start_soon(self._guard, self._watch)
                    nursery.start_soon(self._guard, self.live.acknowledge)
                    nursery.start_soon(self._guard, self.rounds.pull)
                    nursery.start_soon(self._guard, self.rounds.serve)
                    if not self.is_beside:
                        nursery.start_soon(self._guard, partial(self._sessions.whereabouts.tell, self))
                    nursery.start_soon(self._guard, partial(self.serving.run, is_bulk=False))
                    nursery.start_soon(self._guard, partial(self.serving.run, is_bulk=True))
                    try:
                        await trio.sleep_forever()
                    finally:
                        self._nursery = None  # before it is closed: a session that is ending spawns nothing
        finally:
            self.is_open = False
            with trio.move_on_after(2, shield=True):
                await self.link.aclose()

    def spawn(self, task: Callable[[Unpack[Arguments]], Awaitable[None]], *arguments: *Arguments) -> None:
        """Run something that ends with the session, and ends it if it raises. Nothing if that is ending."""
        if self._nursery is not None:
            self._nursery.start_soon(self._guard, partial(task, *arguments))

    async def _guard(self, task: Callable[[], Awaitable[None]]) -> None:
        """Every task of a session: what it raises ends the session with a reason, and only that."""
        try:
            await task()
        except Refused as refusal:
            await self.refuse(refusal.code, str(refusal))
        except FormatError as error:
            log.error("a peer broke the protocol", peer=self.device.hex()[:16], reason=str(error))
            await self.refuse("protocol", "a message broke the protocol")
            self.why_ended = str(error)
        except (DittoError, OSError) as error:
            self.end(str(error))
        except Exception as error:
            log.error("a session ended by a bug", peer=self.device.hex()[:16], exc_info=error)
            self.end("a bug of this program")

    async def _send(self) -> None:
        await self.outbox.run(self.link)

    async def _begin(self) -> None:
        """Tell the member records if the two sides know others; judge the peer at once if they do not.

        Whom no record names tells its own first: it may be a member of another volume, and of this one not.
        """
        if self._is_telling and self._sessions.knows(self.device):
            self._tell_records()
        elif not self._is_telling:
            self._judge()
        self._records_told = self._sessions.records()

    async def _receive(self) -> None:
        data = b""  # what came with the Hello is in the reader already
        while True:
            for header, body in self._reader.feed(data):
                await self._take(wire.decode_header(header), body)
            data = await self.link.receive_some(RECEIVE_BYTES)
            if not data:
                raise LinkBroken("the peer closed the link")
            self.liveness.heard()
            self.bytes_received += len(data)
            self.allowance.received(len(data))

    async def _take(self, message: wire.AnyMessage, body: bytes) -> None:
        """One message, by the state it meets."""
        match self._phase, message:
            case _, wire.Refuse(code=code, text=text):
                self.why_ended = f"{text} ({code})" if text.isprintable() else code
                raise LinkBroken(self.why_ended)
            case _, wire.Ping(number=number):
                self._charge()
                self.send(wire.Pong(number))
            case _, wire.Pong(number=number):
                self.liveness.answered(number)
            case Phase.MEMBERS, wire.Members():
                self._sessions.take_records(self.device, wire.decode_records(body))
                if not self._has_told:
                    self._require_known()
                    self._tell_records()
                self._records_told = self._sessions.records()
                self._phase = Phase.READY
                self._judge()
            case Phase.READY, wire.Ready(root=root):
                self._reader.body_bytes_max = BODY_BYTES_MAX
                self._open(root)
            case Phase.OPEN, wire.Members():
                self._charge(50)
                self._sessions.take_records(self.device, wire.decode_records(body))
            case Phase.OPEN, _ if self._is_refusing:
                return  # what was on its way when the peer lost its place
            case Phase.OPEN, _:
                await self._take_open(message, body)
            case _, _:
                raise ProtocolError(f"{type(message).__name__} before the session is open")

    async def _take_open(self, message: wire.AnyMessage, body: bytes) -> None:
        match message:
            case wire.Get(wants=wants, is_bulk=is_bulk):
                self.serving.take(wants, is_bulk=is_bulk)
            case wire.Chunks(sizes=sizes):
                self._sessions.take_chunks(self, sizes, body)
            case wire.Absent(requests=requests):
                self._sessions.take_absent(self, requests)
            case wire.Hurry(requests=requests):
                self._charge()
                self.serving.hurry(requests)
            case _ if self.is_beside:
                raise ProtocolError(f"{type(message).__name__} over a link for chunks")
            case wire.Group() | wire.Stale() | wire.Part():
                if not self.may_write:
                    raise Refused("read-only", "this device may read the volume, and not change it")
                if isinstance(message, wire.Part):
                    self.rounds.take_part(message, body)
                else:
                    await self.live.take(message, body)
            case wire.Ack(sequence=sequence):
                self.live.acknowledged(sequence)
            case wire.Addresses():
                self._charge(TOLD_COST)
                self._sessions.whereabouts.heard(self.device, wire.decode_whereabouts(body))
            case wire.Pull() | wire.States() | wire.Want() | wire.RoundEnd():
                self._charge()
                self.rounds.take(message, body)
            case wire.Digest(root=root, sequence=sequence):
                self._charge()
                self.rounds.compare(root, sequence)
            case wire.Ask() | wire.Keep() | wire.Holds() | wire.Released():
                self._charge()
                self._sessions.take_roots(self, message, body)
            case wire.Having():
                self._charge(1 + len(body) / wire.LEAF_CHUNKS_MAX)
                await self._sessions.take_having(self, message, body)
            case wire.Prove() | wire.Proof() | wire.Forgotten():
                self._charge()
                self._sessions.take_proof(self, message, body)
            case _:
                raise ProtocolError(f"{type(message).__name__} in an open session")

    def _tell_records(self) -> None:
        self._has_told = True
        self.outbox.put(wire.Members(), wire.encode_records(self._sessions.records()))

    def _require_known(self) -> None:
        if not self._sessions.knows(self.device):
            raise Refused("removed", "this device is not a member of the volume")

    def _judge(self) -> None:
        """The member records are known on both sides: does this peer belong?"""
        if self.role <= Role.STORE:
            raise Refused("removed", "this device is not a member of the volume")
        self.outbox.put(wire.Ready(self._sessions.replica.root_digest()))

    def rejudge(self) -> None:
        """The members changed: tell the peer, and see whether it still belongs."""
        if self._phase is Phase.OPEN:
            self.send(wire.Members(), wire.encode_records(self._sessions.records()))
        if self.is_open and self.may_write and not (self._could_write or self.is_beside):
            self.rounds.begin()  # it may have been a writer before, with changes that nobody took
        self._could_write = self.may_write
        if self.is_open and self.role <= Role.STORE:
            self._is_refusing = True
            self.spawn(self.refuse, "removed", "this device is not a member of the volume any more")

    def _open(self, root: bytes) -> None:
        if self.role <= Role.STORE:
            raise ProtocolError("Ready before the member records")
        self._phase = Phase.OPEN
        self.is_open = True
        self.opened_at = trio.current_time()
        self._could_write = self.may_write
        if self.is_beside:
            self._sessions.opened(self)
            return
        self.live.begin()
        self._sessions.opened(self)
        if self._records_told != self._sessions.records():  # some came from others meanwhile
            self.send(wire.Members(), wire.encode_records(self._sessions.records()))
        if root != self._sessions.replica.root_digest() or self._sessions.replica.documents.awaited:
            self.rounds.begin()

    def _charge(self, cost: float = 1.0) -> None:
        """Count a message that makes us work. ProtocolError when a peer floods."""
        now = trio.current_time()
        self._control = min(CONTROL_BURST, self._control + (now - self._control_at) * CONTROL_RATE) - cost
        self._control_at = now
        if self._control < 0:
            raise ProtocolError("more messages than a peer has reason to send")

    async def _watch(self) -> None:
        """Notice that the peer is gone, or never opens the session; compare digests after a pause."""
        began = trio.current_time()

        def looked() -> None:
            now = trio.current_time()
            self.sent.note(now, self.outbox.total_bytes)
            self.received.note(now, self.bytes_received)
            if self.liveness.is_in_doubt:
                self._sessions.doubted(self)
            if not self.is_open and now - began > OPENING_S:
                raise LinkBroken("the peer did not open the session in time")
            if self.is_open and not self.is_beside and self.live.quiet_since + IDLE_DIGEST_S < now:
                self.live.quiet_since = now
                self.send(wire.Digest(self._sessions.replica.root_digest(), self.live.sequence))

        await self.liveness.run(looked)
