"""All sessions of one volume, and what they share: members, the stream of changes, fetching, custody."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Final

import structlog
import trio

from dittofs.errors import DittoError, FormatError
from dittofs.identity.keys import DeviceId
from dittofs.identity.records import Role
from dittofs.ids import InodeId, VolumeId
from dittofs.links.link import Link
from dittofs.links.tcp import TRANSPORT
from dittofs.replication.allowance import UNLIMITED, Allowance
from dittofs.replication.calls import is_better
from dittofs.replication.comparing import all_told, in_step
from dittofs.replication.copies import Copies, Holders
from dittofs.replication.custody import Custody, Item
from dittofs.replication.errors import ProtocolError
from dittofs.replication.fetcher import Fetcher
from dittofs.replication.intents import Intents
from dittofs.replication.keeping import Keeping
from dittofs.replication.live import Live
from dittofs.replication.lost_chunks import LostChunks
from dittofs.replication.members import Members
from dittofs.replication.outbox import Outbox
from dittofs.replication.pace import Pace
from dittofs.replication.parts import LiveContent, LocalReplica
from dittofs.replication.peer_status import PeerStatus, status_of
from dittofs.replication.proving import Proving
from dittofs.replication.questions import Questions
from dittofs.replication.round import Filling
from dittofs.replication.session import Session
from dittofs.replication.session_groups import PROBE_S, SessionGroups, emptied
from dittofs.replication.stream import Stream
from dittofs.replication.untaken import Untaken
from dittofs.replication.upkeep import kept_up
from dittofs.replication.whereabouts import Whereabouts
from dittofs.sync import messages as wire
from dittofs.sync.frame import FrameReader
from dittofs.tree.entry import Change
from dittofs.tree.record import META_SHARD

log = structlog.get_logger()

BANNED_S: Final = 3600.0
PACE_S: Final = 0.5


class Peers:
    """See the module. `run` must be running. Implements `session.Sessions`."""

    def __init__(
        self,
        replica: LocalReplica,
        content: LiveContent,
        members: Members,
        *,
        device: DeviceId,
        volume: VolumeId,
        label: str,
        instance: bytes,
        port: Callable[[], int],
        free_bytes: Callable[[], int],
        on_event: Callable[[str, DeviceId], None],
        allowance: Callable[[DeviceId], Allowance] = lambda _device: UNLIMITED,
    ) -> None:
        self.allowance = allowance
        self.replica = replica
        self.members = members
        self.device = device
        self.volume = volume
        self.label = label
        self._instance = instance
        self._port = port
        self.free_bytes = free_bytes
        self._on_event = on_event
        """Told `up` and `down` with the device."""
        self._groups = SessionGroups(device)
        self._banned: dict[DeviceId, float] = {}
        self.filling = Filling()
        self.stream = Stream(replica, content, self._live)
        self.intents = Intents(device)
        self.holders = Holders(members, device, lambda: self.retired())
        self.copies = Copies(replica.tree, lambda: 1 + len(self.holders()), lambda: self.custody.recount())
        self.custody = Custody(
            replica,
            content,
            self.intents,
            members=self.holders,
            copies=self.copies,
            is_alone=lambda: not self.others,
        )
        self.fetcher = Fetcher(replica, device, self.ban)
        self.fetcher.on_read = self.custody.came
        self.fetcher.is_alone = lambda: not self.others
        self.untaken = Untaken(lambda: self.role(device), lambda: self.open_sessions)
        self.keeping = Keeping(
            replica,
            self.custody,
            self.fetcher,
            copies=self.copies,
            may_push=lambda: self.untaken.may_push,
            offered=self.stream.flushed,
            free_bytes=free_bytes,
        )
        self.proving = Proving(replica, self.custody, self.intents, lambda: self.role(device))
        self.questions = Questions()
        self.whereabouts = Whereabouts(lambda: self.changed)
        self.pace = Pace()  # of what is here and on too few other devices
        self.on_progress: Callable[[], None] = lambda: None  # told that more is known of who holds what
        self.changed = trio.Event()  # set, and replaced, when a session opens or ends
        self.on_doubt: Callable[[], None] = lambda: None
        """Told when a session is silent, or its link is of a worse kind: its device had better be dialled."""
        self.retired: Callable[[], frozenset[DeviceId]] = frozenset
        """The members that nobody waits for, and whose copies do not count."""
        self.lost_chunks = LostChunks(replica.chunks, self._tell_of_loss)
        self._is_closed = False
        self._retired: frozenset[DeviceId] = frozenset()
        self._writer = replica.tree.client_id
        members.listeners.append(self._members_changed)
        replica.listeners.append(self._tree_changed)
        self.copies.read()

    @property
    def others(self) -> list[DeviceId]:
        """The other members."""
        members = self.members.membership.members()
        return [member.device for member in members if member.device != self.device]

    def out_of_reach(self) -> frozenset[DeviceId]:
        """The other devices that may hold content and cannot be asked now."""
        return frozenset(self.holders()) - {session.device for session in self.open_sessions}

    def writers(self) -> list[DeviceId]:
        """The other members that may publish."""
        return [device for device in self.others if self.role(device) >= Role.WRITER]

    def knows(self, device: DeviceId) -> bool:
        """Whether the device is a member, or was one."""
        return self.members.membership.deciding(device) is not None

    # -- policy

    def _tree_changed(self, change: Change) -> None:
        affected = self.copies.follow(change)
        if affected.is_everything:
            self.custody.recount()
        elif affected.directories:
            self.custody.look_again(self._items(self.copies.files_below(affected.directories)))
        if affected.files:
            self.custody.look_again(self._items(affected.files))
        if change.is_round or any(document == META_SHARD for document, _, _ in change.updates):
            self.copies.read()
            if (retired := self.retired()) != self._retired:  # whoever retired a device, or took it back
                self._retired = retired
                self.custody.recount()
        if self.replica.tree.client_id != self._writer:
            self._writer = self.replica.tree.client_id
            self._end_all("this device goes on as another writer, and says anew what it holds")

    def _items(self, files: Iterable[InodeId]) -> Iterator[Item]:
        versions = self.replica.tree.versions
        return ((file, one.root, one.size) for file in files for one in versions(file) if one.size)

    # -- sessions

    def hello(self, device: DeviceId, *, is_beside: bool = False) -> wire.Hello:
        """What this side says first."""
        return wire.Hello(
            wire.VERSION,
            self.volume,
            self._instance,
            self.custody.behind.nonce_for(device),
            self.custody.told,
            self.members.membership.digest(),
            self.label,
            self._port(),
            is_beside,
        )

    def session(self, device: DeviceId) -> Session | None:
        """The open session with a device."""
        return self._groups.used(device)

    def beside(self, device: DeviceId | None = None) -> list[Session]:
        """The open sessions with a device, or with any, that are for chunks alone."""
        return self._groups.lanes(device)

    @property
    def open_sessions(self) -> list[Session]:
        return self._groups.open_sessions

    def is_banned(self, device: DeviceId) -> bool:
        """Whether the device sent something wrong and is left alone for a while."""
        return self._banned.get(device, 0.0) > trio.current_time()

    async def serve(
        self, link: Link, reader: FrameReader, outbox: Outbox, ours: wire.Hello, theirs: wire.Hello
    ) -> str:
        """Hold the session of a link on which both Hellos were exchanged. Returns why it ended."""
        session = Session(self, link, reader, outbox, ours, theirs)
        refusal = await self._refusal(session)
        if refusal is not None:
            outbox.put(wire.Refuse(*refusal))
            with trio.move_on_after(PROBE_S), suppress(DittoError):  # it may be gone already
                await outbox.drain(link)
            with trio.move_on_after(PROBE_S):
                await link.aclose()
            return refusal[1]
        self._groups.begin(session)
        try:
            await session.run()
        finally:
            self._groups.ended(session)
            self._closed(session)
        return session.why_ended

    async def _refusal(self, session: Session) -> tuple[str, str] | None:
        """Why this link is not taken; None: it is, beside another one or in its place."""
        if session.theirs.version != wire.VERSION:
            return "version", f"this device speaks version {wire.VERSION} of the session"
        if self._is_closed:
            return "unknown", "this device closes the volume"
        if self.is_banned(session.device):
            return "banned", "a chunk from this device was not what it should have been"
        return await self._groups.why_not(session)

    def opened(self, session: Session) -> None:
        """The session is open: everything that wants to know does."""
        if session.is_beside:
            log.info("another link", peer=session.device.hex()[:16], link=session.link.description)
            self.fetcher.connected(session)
            return
        if self.custody.behind.is_stale(session.device, session.ours.custody):
            session.end("something went from here while the session began")
            return
        self.custody.behind.met(session.device)
        self.custody.met(session.device, session.theirs.custody, session.theirs.told)
        left = self._groups.opened(session)
        if left is not None:
            self._leave(left)
        self.fetcher.connected(session)
        self.keeping.connected(session)
        self.proving.connected(session)
        self._signal()
        self._on_event("up", session.device)
        log.info("peer connected", peer=session.device.hex()[:16], link=session.link.description)
        if is_better(TRANSPORT, session.link):
            self.on_doubt()

    def _leave(self, session: Session) -> None:
        """Another link is used from now on; this one ends when nothing is on its way over it."""
        why = "another link took its place"
        session.is_left = True
        if session.liveness.is_in_doubt:
            session.end(why)
            return
        self.keeping.left(session)

        async def end() -> None:
            await emptied(session, lambda: self.fetcher.awaits(session))
            session.end(why)

        session.spawn(end)

    def doubted(self, session: Session) -> None:
        log.debug("a peer is silent", peer=session.device.hex()[:16])
        self.on_doubt()

    def _closed(self, session: Session) -> None:
        was_open = self.keeping.knows(session) or session.is_left
        may_return = not (session.is_left or self.is_banned(session.device))
        self.fetcher.disconnected(session, may_return=may_return)
        self.keeping.disconnected(session)
        self.proving.disconnected(session)
        self.questions.disconnected(session)
        self._signal()
        if was_open:
            if self.session(session.device) is None:  # else another link has taken its place
                self._on_event("down", session.device)
            log.info("peer disconnected", peer=session.device.hex()[:16], reason=session.why_ended)

    def _signal(self) -> None:
        self.changed.set()
        self.changed = trio.Event()

    def ban(self, session: Session, why: str) -> None:
        """End a session, and let none begin for a while: the device sent what was wrong."""
        self._banned[session.device] = trio.current_time() + BANNED_S
        for one in self._groups.every:
            if one.device == session.device:
                one.end(why)

    def _live(self) -> list[Live]:
        return [session.live for session in self.open_sessions]

    # -- what sessions ask

    def records(self) -> list[bytes]:
        return self.members.records()

    def take_records(self, teller: DeviceId, records: list[bytes]) -> None:
        """Records of a peer. ProtocolError if one is forged: then none was taken."""
        try:
            self.members.hear(teller, records)
        except FormatError as error:
            raise ProtocolError(f"member records: {error}") from error

    def role(self, device: DeviceId) -> Role:
        return self.members.role(device)

    def _members_changed(self) -> None:
        if not self.members.is_naming:
            self.custody.recount()
        for session in self._groups.every:
            session.rejudge()

    def awaits(self, session: Session) -> bool:
        """Whether chunks were asked for there and have not come."""
        return self.fetcher.awaits(session)

    def take_chunks(self, session: Session, sizes: Sequence[tuple[int, int]], body: bytes) -> None:
        self.fetcher.take_chunks(session, sizes, body)

    def take_absent(self, session: Session, requests: Sequence[int]) -> None:
        self.fetcher.take_absent(session, requests)

    async def take_having(self, session: Session, message: wire.Having, body: bytes) -> None:
        await self.fetcher.swarm.take(session, message, body)

    def take_roots(self, session: Session, message: wire.AnyMessage, body: bytes) -> None:
        self.keeping.take(session, message, body)

    def take_proof(self, session: Session, message: wire.AnyMessage, body: bytes) -> None:
        match message:
            case wire.Prove():
                self.proving.take(session, message, body)
            case wire.Proof(request=number) | wire.Forgotten(number=number):
                self.questions.answered(session, number, body)

    async def durable(self) -> None:
        await self.stream.flushed()

    def chunk_lost(self) -> None:
        """A chunk that was here cannot be read any more: what is held here is told anew, to everybody."""
        self.lost_chunks.note()

    def _tell_of_loss(self) -> None:
        self.custody.renew()
        self._end_all("a chunk was lost here, so what is held here is told anew")

    # -- for the local API

    def status(self) -> list[PeerStatus]:
        """Every other device that was let in, connected or not; some may do nothing now."""
        others = [one for one in self.members.membership.all_admitted() if one.device != self.device]
        return [status_of(one, self.session(one.device), self.beside(one.device)) for one in others]

    async def told(self) -> None:
        """Return when every connected device has every change of ours, durably."""
        await self.stream.flushed()
        await all_told(self.open_sessions)

    async def in_step(self, since: float | None = None) -> None:
        """As `comparing.in_step`, of every connected device."""
        await in_step(self.open_sessions, self.stream, since)

    async def run(self) -> None:
        """For ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(kept_up, self.stream.run, self.custody.recount)
            nursery.start_soon(kept_up, self.fetcher.run, self.custody.recount)
            nursery.start_soon(kept_up, self.custody.run, self.custody.recount)
            nursery.start_soon(kept_up, self.keeping.run, self.custody.recount)
            nursery.start_soon(kept_up, self._measure, self.custody.recount)
            nursery.start_soon(kept_up, self.lost_chunks.run, self.lost_chunks.note)

    async def _measure(self) -> None:
        while True:
            await self.custody.changed.wait()
            self.pace.note(trio.current_time(), self.custody.tally().unsent_bytes)
            self.on_progress()
            await trio.sleep(PACE_S)

    async def closed(self) -> None:
        """Return when no session is left, after `close`."""
        while self._groups.every:
            await self.changed.wait()

    def close(self) -> None:
        """End every session, and let none begin."""
        self._is_closed = True
        self._end_all("this device closes the volume")

    def _end_all(self, why: str) -> None:
        for session in self._groups.every:
            session.end(why)
