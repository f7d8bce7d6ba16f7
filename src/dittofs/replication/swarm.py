"""Devices that fetch the same contents tell each other what they have of them, and nobody else.

Who begins to fetch a content asks every connected device once what it has of it. From then on those that
fetch it too are told what came, a few times a second; who has all of it, or none, hears no more.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Final

import structlog
import trio

from dittofs.chunks.manifest import decode_node
from dittofs.chunks.seal import ChunkKind
from dittofs.chunks.store import ChunkStore
from dittofs.errors import ChunkMissing, Damaged, FormatError
from dittofs.identity.keys import DeviceId
from dittofs.ids import ChunkId
from dittofs.replication.have_sets import Chunks, HaveSets, encode_bits
from dittofs.replication.parts import LocalReplica
from dittofs.replication.session import Session
from dittofs.sync import messages as wire

log = structlog.get_logger()

TELL_S: Final = 0.2
SILENT_S: Final = 0.5
"""So long the answer of a device is waited for before it is asked for what it may not have."""
FOLLOWED_MAX: Final = 4096
"""Followed at a time: of a fifth of a terabyte. Of what is beyond nobody is told."""


class Swarm:
    """Of one replica. `run` must be running."""

    def __init__(
        self, replica: LocalReplica, device: DeviceId, sessions: Callable[[], Collection[Session]]
    ) -> None:
        """`sessions`: those by which chunks may be asked for now."""
        self.sets = HaveSets(device)
        self._replica = replica
        self._sessions = sessions
        self._asked: dict[DeviceId, float] = {}
        """Who was asked about something that is followed, and when last."""
        self._wake = trio.Event()
        self.on_told: Callable[[Session, Sequence[ChunkId]], None] = lambda _session, _chunks: None
        """Told which chunks a device has now."""

    def follow(self, leaves: Sequence[tuple[ChunkId, Chunks]], absent: Collection[ChunkId]) -> None:
        """These leaves' chunks are about to be fetched."""
        room = max(0, FOLLOWED_MAX - len(self.sets.leaves))
        for leaf, chunks in leaves[:room]:
            self.sets.follow(leaf, chunks, absent)
        sessions = self._mains()
        if len(sessions) > 1:
            for session in sessions:
                self._tell(session, [leaf for leaf, _ in leaves], is_fetching=True)

    def unfollow(self, leaves: Sequence[tuple[ChunkId, Chunks]]) -> None:
        """They are fetched no more. Who still does is told what is here."""
        self._tell_news()
        for leaf, _ in leaves:
            self.sets.unfollow(leaf)
        if not self.sets.leaves:
            self._asked.clear()

    def connected(self) -> None:
        """Chunks may be asked for by a session that is new: whoever was not asked yet is."""
        sessions = self._mains()
        if len(sessions) > 1:
            for session in sessions:
                if session.device not in self._asked:
                    self._tell(session, self.sets.leaves, is_fetching=True)

    def disconnected(self, device: DeviceId) -> None:
        """There is no session with a device any more."""
        self.sets.forget(device)
        self._asked.pop(device, None)

    def _mains(self) -> list[Session]:
        """One of each device."""
        return [session for session in self._sessions() if not session.is_beside]

    def unsaid(self, now: float) -> set[DeviceId]:
        """Whose silence about a leaf means that they may have all of it: they were asked in vain, or not."""
        devices = {session.device for session in self._sessions()}
        return {one for one in devices if self._asked.get(one, -SILENT_S) + SILENT_S <= now}

    async def take(self, session: Session, message: wire.Having, body: bytes) -> None:
        """A device says what it has. ProtocolError if there is no such thing."""
        sets = [(ChunkId(leaf), bits) for leaf, bits in wire.decode_have_sets(body)]
        gained: list[ChunkId] = []
        for leaf, bits in sets:
            gained += self.sets.told(session.device, leaf, bits, is_fetching=message.is_fetching)
        self._wake.set()
        self.on_told(session, gained)
        if message.is_fetching:
            others = [leaf for leaf, _ in sets if self.sets.bits(leaf) is None]
            self._tell(session, [leaf for leaf, _ in sets], is_fetching=False)
            if others:
                stored = await self._replica.run_blocking(_stored, self._replica.chunks, others)
                _say(session, stored, is_fetching=False)

    async def run(self) -> None:
        """For ever: tell what came to those who fetch it too."""
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            while self.sets.leaves:
                await trio.sleep(TELL_S)
                self._tell_news()

    def _tell_news(self) -> None:
        told: dict[DeviceId, list[ChunkId]] = {}
        for leaf, devices in self.sets.news():
            for device in devices:
                told.setdefault(device, []).append(leaf)
        if told:
            for session in self._mains():
                self._tell(session, told.pop(session.device, []), is_fetching=False)

    def _tell(self, session: Session, leaves: Sequence[ChunkId], *, is_fetching: bool) -> None:
        if is_fetching and leaves:
            self._asked[session.device] = trio.current_time()
        sets = [(leaf, bits) for leaf in leaves if (bits := self.sets.bits(leaf)) is not None]
        _say(session, sets, is_fetching=is_fetching)


def _say(session: Session, sets: Sequence[tuple[ChunkId, bytes]], *, is_fetching: bool) -> None:
    for start in range(0, len(sets), wire.LEAVES_MAX):
        body = wire.encode_have_sets(sets[start : start + wire.LEAVES_MAX])
        session.send(wire.Having(is_fetching), body)


def _stored(store: ChunkStore, leaves: Sequence[ChunkId]) -> list[tuple[ChunkId, bytes]]:
    """Blocking: what of some leaves is here; nothing of those that are not here themselves."""
    found = []
    for leaf in leaves:
        try:
            node = decode_node(store.get(ChunkKind.MANIFEST, leaf))
        except (ChunkMissing, Damaged, FormatError) as error:
            log.debug("a have-set cannot be told", reason=str(error))
            found.append((leaf, b"\0"))
            continue
        bits = 0
        for place in range(len(node.ends)):
            chunk = node.id_of(place)
            bits |= (chunk is not None and store.has(ChunkKind.DATA, chunk)) << place
        found.append((leaf, encode_bits(bits, len(node.ends))))
    return found
