"""Keeping copies: asking others to hold what too few hold, and holding what others ask for.

A push is a request to pull: the receiver fetches as it fetches anything, at low priority, from whoever has
it, and says that it holds a content only when all of it is durable.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final

import structlog
import trio

from dittofs.errors import DittoError
from dittofs.identity.keys import DeviceId
from dittofs.replication.copies import Copies
from dittofs.replication.custody import EVICTED, Custody
from dittofs.replication.errors import ProtocolError
from dittofs.replication.fetcher import Fetcher
from dittofs.replication.lonely import Lonely
from dittofs.replication.parts import LocalReplica
from dittofs.replication.session import Session
from dittofs.replication.wholeness import whole
from dittofs.sync import messages as wire

log = structlog.get_logger()

KEEP_BYTES: Final = 64 << 20  # asked of one peer at a time
DECLINED_S: Final = 30.0
GATHER_S: Final = 3.0
"""Whoever holds a content whole has said so by then; else its chunks may lie here and there."""
OFFERED_S: Final = 2.0
"""How long a request to keep waits for the changes before it: contents may travel with them."""
RETRY_S: Final = 10.0
WANTED_MAX: Final = 200_000
"""Contents waiting to be fetched; beyond that whoever wants them asks again."""
FREE_BYTES_MIN: Final = 256 << 20
"""Room that is left on this disk for its user: nothing is kept for others below it."""
BATCH_CONTENTS: Final = 256
ROOTS_QUEUED_MAX: Final = 256

Contents = Sequence[tuple[bytes, int]]


class Keeping:
    """Both directions. `run` must be running."""

    def __init__(
        self,
        replica: LocalReplica,
        custody: Custody,
        fetcher: Fetcher,
        *,
        copies: Copies,
        may_push: Callable[[], bool],
        offered: Callable[[], Awaitable[None]],
        free_bytes: Callable[[], int],
    ) -> None:
        """`offered` returns when every change made so far is queued on every session."""
        self._replica = replica
        self._custody = custody
        self._fetcher = fetcher
        self._copies = copies
        self._may_push = may_push
        self._offered = offered
        self._free_bytes = free_bytes
        self._sessions: dict[Session, dict[bytes, int]] = {}
        """What each peer was asked to keep and has not answered yet, with sizes."""
        self._roots: dict[Session, trio.MemorySendChannel[tuple[wire.AnyMessage, bytes]]] = {}
        self._declined: dict[tuple[Session, bytes], float] = {}
        self._full: dict[Session, tuple[float, frozenset[bytes]]] = {}
        """Whose disk is nearly full: when it said so, and what it had been asked to keep until then."""
        self._wanted: deque[tuple[bytes, int]] = deque()
        self._is_wanted: set[bytes] = set()
        self._scattered: dict[bytes, float] = {}
        """What no device is known to hold whole, and when it is gathered."""
        self._gathered: set[bytes] = set()
        """Of these, what that was tried for."""
        self._failed: dict[bytes, int] = {}
        """What everybody should hold and could not be fetched, with sizes: tried again."""
        self._wake = trio.Event()
        self._push_wake = trio.Event()
        self.bytes_wanted = 0
        """Of contents that are still to be fetched."""
        custody.on_here = self._tell
        custody.on_absent = self._want_if_all
        custody.on_lonely = self._ask_all

    # -- sessions

    def connected(self, session: Session) -> None:
        """Ask what the peer holds of what too few hold, then ask it to keep; answer what it asks."""
        sender, receiver = trio.open_memory_channel[tuple[wire.AnyMessage, bytes]](ROOTS_QUEUED_MAX)
        self._roots[session] = sender
        session.spawn(self._handle_roots, session, receiver)
        session.spawn(self.ask, session)
        self._sessions[session] = {}
        self._push_wake.set()
        self._wake.set()

    def knows(self, session: Session) -> bool:
        """Whether the session is connected."""
        return session in self._sessions

    def left(self, session: Session) -> None:
        """Another session with that device is used: nothing is asked of this one any more."""
        self._sessions.pop(session, None)
        self._full.pop(session, None)

    def disconnected(self, session: Session) -> None:
        self._sessions.pop(session, None)
        self._roots.pop(session, None)
        self._full.pop(session, None)
        for key in [key for key in self._declined if key[0] is session]:
            del self._declined[key]
        self._push_wake.set()

    def take(self, session: Session, message: wire.AnyMessage, body: bytes) -> None:
        """A question or statement of a peer about contents. ProtocolError if there are too many at once."""
        try:
            self._roots[session].send_nowait((message, body))
        except trio.WouldBlock:
            raise ProtocolError("asks about more contents than can be answered") from None

    async def _handle_roots(
        self, session: Session, channel: "trio.MemoryReceiveChannel[tuple[wire.AnyMessage, bytes]]"
    ) -> None:
        async for message, body in channel:
            match message:
                case wire.Ask():
                    await self.answer(session, wire.decode_roots(body))
                case wire.Keep():
                    self.keep(session, wire.decode_sized_roots(body))
                case wire.Holds() if session.is_left:
                    pass  # what is said over the other link may be newer; it is asked there
                case wire.Holds(number=number):
                    self.holds(session, wire.decode_roots(body), number)
                case wire.Released(number=number, is_full=is_full):
                    self.released(session, wire.decode_roots(body))
                    if is_full and session in self._sessions:
                        self._full[session] = trio.current_time(), frozenset(self._sessions[session])
                    if number:
                        await self._replica.run_blocking(self._replica.journal.sync)
                        session.send(wire.Forgotten(number))

    def _ask_all(self, roots: Sequence[bytes]) -> None:
        """Which of these contents does anybody have?"""
        for session in list(self._sessions):
            asked = [
                root
                for root in roots
                if (one := self._custody.find(root)) is not None and session.device not in one.holders
            ]
            for start in range(0, len(asked), wire.ROOTS_MAX):
                session.send(wire.Ask(), wire.encode_roots(asked[start : start + wire.ROOTS_MAX]))
        self._push_wake.set()

    def ask_about(self, roots: Sequence[bytes]) -> None:
        """Ask every connected device which of these contents it holds, shown by anything or not."""
        for session in list(self._sessions):
            for start in range(0, len(roots), wire.ROOTS_MAX):
                session.send(wire.Ask(), wire.encode_roots(roots[start : start + wire.ROOTS_MAX]))

    async def ask(self, session: Session) -> None:
        """Which of the contents that too few hold does the peer have? What is counted now is asked later."""
        if self._custody.is_counting:
            return
        roots = [one.root for one in self._custody.lonely() if session.device not in one.holders]
        for start in range(0, len(roots), wire.ROOTS_MAX):
            some = roots[start : start + wire.ROOTS_MAX]
            await session.outbox.put_bulk(wire.Ask(), wire.encode_roots(some))

    async def answer(self, session: Session, roots: Sequence[bytes]) -> None:
        """Say which of these contents are whole and durable here, and are to stay."""
        intents, evictions = self._custody.intents, self._custody.intents.evictions
        roots = [root for root in roots if root not in intents]
        known = [(root, one.size) for root in roots if (one := self._custody.find(root)) is not None]
        found = await self._replica.run_blocking(whole, self._replica.chunks, known)
        here = [root for (root, _), is_here in zip(known, found, strict=True) if is_here]
        rest = set(roots) - {root for root, _ in known}
        here += [root for root in rest if self._custody.is_known_whole(root)]
        if not here:
            return
        await self._replica.run_blocking(self._replica.chunks.sync)
        if evictions != intents.evictions:  # what was here may have gone meanwhile
            await self.answer(session, here)
            return
        here = [root for root in here if root not in intents]
        found_now = {root for root in here if (one := self._custody.find(root)) and not one.is_here}
        if found_now:  # its chunks came one by one, for other contents or readers: all who listen are told
            self._custody.here(list(found_now))
        rest_here = [root for root in here if root not in found_now]
        if rest_here:
            session.send(wire.Holds(self._custody.next_told()), wire.encode_roots(rest_here))

    # -- what others say

    def holds(self, session: Session, roots: Sequence[bytes], number: int) -> None:
        asked = self._sessions.get(session, {})
        _, asked_before = self._full.get(session, (0, frozenset()))
        if any(root in asked and root not in asked_before for root in roots):
            self._full.pop(session, None)  # it takes again
        for root in roots:
            asked.pop(root, None)
        self._custody.holds(session.device, roots, number)
        self._push_wake.set()

    def released(self, session: Session, roots: Sequence[bytes]) -> None:
        asked = self._sessions.get(session, {})
        for root in roots:
            if asked.pop(root, None) is not None:
                self._declined[session, root] = trio.current_time() + DECLINED_S
        self._custody.released(session.device, roots)

    def keep(self, session: Session, contents: Contents) -> None:
        """A peer asks us to hold these contents. What was let go on purpose is not taken back."""
        unwanted = {root for root, _ in contents if self._is_unwanted(root)}
        if unwanted:
            session.send(wire.Released(), wire.encode_roots(list(unwanted)))
            contents = [one for one in contents if one[0] not in unwanted]
        is_full = self._free_bytes() < FREE_BYTES_MIN
        if is_full or len(self._wanted) + len(contents) > WANTED_MAX:
            roots = [root for root, _ in contents]
            if roots:
                session.send(wire.Released(is_full=is_full), wire.encode_roots(roots))
            return
        self.want(contents)

    @property
    def full(self) -> list[DeviceId]:
        """The connected devices that take nothing more, for their disks are nearly full."""
        now = trio.current_time()
        return [one.device for one, (at, _) in self._full.items() if at + 3 * DECLINED_S > now]

    def _is_unwanted(self, root: bytes) -> bool:
        """Whether a content is to go, or was let go on purpose."""
        evicted = self._replica.journal.get_local(EVICTED, root)
        return root in self._custody.intents or evicted is not None

    def want(self, contents: Iterable[tuple[bytes, int]]) -> None:
        """Fetch these contents, and say so to all when they are whole and durable here."""
        for root, size in contents:
            if root not in self._is_wanted:
                self._is_wanted.add(root)
                self._wanted.append((root, size))
                self.bytes_wanted += size
        self._wake.set()

    def _want_if_all(self, contents: Contents) -> None:
        if self._copies.wants_any:
            self.want([one for one in contents if self._is_for_all(one[0]) and not self._is_unwanted(one[0])])
        if contents:
            self._push_wake.set()

    def _is_for_all(self, root: bytes) -> bool:
        """Whether every device is to hold a content that is not here."""
        one = self._custody.find(root)
        return one is not None and one.policy.wants_all

    def _tell(self, roots: Sequence[bytes]) -> None:
        """These contents are durable here: every peer may count on it."""
        for session in list(self._sessions):
            for start in range(0, len(roots), wire.ROOTS_MAX):
                some = roots[start : start + wire.ROOTS_MAX]
                session.send(wire.Holds(self._custody.next_told()), wire.encode_roots(some))
        self._push_wake.set()

    # -- tasks

    async def run(self) -> None:
        """For ever: ask others to keep, and fetch what others ask us to."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._push)
            nursery.start_soon(self._fetch)

    async def _push(self) -> None:
        while True:
            with trio.move_on_after(DECLINED_S if self._scattered.keys() <= self._gathered else GATHER_S):
                await self._push_wake.wait()
            self._push_wake = trio.Event()
            if self._copies.pushes and self._may_push() and self._sessions:
                lonely = self._custody.lonely()
                with trio.move_on_after(OFFERED_S):  # else what travels with its change would be fetched too
                    await self._offered()
                if self._may_push():
                    self._push_once(one for one in lonely if self._custody.find(one.root) is one)
                    self._gather()

    def _push_once(self, lonely: Iterable[Lonely]) -> None:
        now = trio.current_time()
        batches: dict[Session, list[tuple[bytes, int]]] = {session: [] for session in self._sessions}
        room = {
            session: KEEP_BYTES - sum(asked.values())
            for session, asked in self._sessions.items()
            if self._full.get(session, (-DECLINED_S,))[0] + DECLINED_S <= now
        }
        for one in lonely:
            if not any(left > 0 for left in room.values()):
                break
            if not one.is_here or not one.policy.pushes:
                continue
            for session in self._keepers(one, one.required - one.copies, now):
                if room.get(session, 0) > 0 and one.root not in self._sessions[session]:
                    batches[session].append((one.root, one.size))
                    self._sessions[session][one.root] = one.size
                    room[session] -= one.size
        for session, contents in batches.items():
            for start in range(0, len(contents), wire.ROOTS_MAX):
                session.send(wire.Keep(), wire.encode_sized_roots(contents[start : start + wire.ROOTS_MAX]))

    def _gather(self) -> None:
        """Fetch what nobody holds whole for a while: an edit of a file that is elsewhere has its chunks there
        and here.
        """
        now = trio.current_time()
        alone = (one for one in self._custody.lonely() if not one.copies)
        scattered = {one.root: one.size for one in alone if one.policy.pushes}
        self._scattered = {root: self._scattered.get(root, now + GATHER_S) for root in scattered}
        self._gathered &= scattered.keys()
        due = [root for root, at in self._scattered.items() if at <= now and root not in self._failed]
        self._gathered.update(due)
        self._scattered.update(dict.fromkeys(due, now + DECLINED_S))
        self.want((root, scattered[root]) for root in due)

    def may_gather(self, root: bytes) -> bool:
        """Whether a content that no device is known to hold whole may still be had from several."""
        is_tried = root in self._gathered and not self.bytes_wanted
        one = self._custody.find(root)
        is_pushed = one is not None and one.policy.pushes and self._may_push()
        return is_pushed and bool(self._sessions) and not is_tried

    def _keepers(self, one: Lonely, count: int, now: float) -> list[Session]:
        """Who should be asked to hold a content, or was: as many as copies are missing."""
        able = [
            session
            for session in self._sessions
            if session.device not in one.holders and self._declined.get((session, one.root), 0) <= now
        ]
        able.sort(key=lambda session: one.root not in self._sessions[session])
        return able[: max(0, count)]

    async def _fetch(self) -> None:
        while True:
            if not self._wanted or not self._sessions:
                self._wake = trio.Event()
                with trio.move_on_after(RETRY_S):
                    await self._wake.wait()
                if self._failed and self._sessions and not self._wanted:
                    failed, self._failed = self._failed, {}
                    self._want_if_all(list(failed.items()))
                continue
            batch: list[tuple[bytes, int]] = []
            size = 0
            while self._wanted and len(batch) < BATCH_CONTENTS and size < KEEP_BYTES:
                one = self._wanted.popleft()
                self._is_wanted.discard(one[0])
                batch.append(one)
                size += one[1]
            try:
                await self._take(batch)
            finally:
                self.bytes_wanted -= size

    async def _take(self, batch: list[tuple[bytes, int]]) -> None:
        """Fetch some contents whole, make them durable, say so."""
        await self._fetcher.fetch_contents(batch)
        failed, done = [root for root, _ in batch], []
        intents, evictions = self._custody.intents, -1
        try:
            while evictions != intents.evictions:  # what was here may have gone meanwhile
                evictions = intents.evictions
                found = await self._replica.run_blocking(whole, self._replica.chunks, batch)
                await self._replica.run_blocking(self._replica.chunks.sync)
        except DittoError as error:
            log.error("what was fetched could not be made durable", reason=str(error))
        else:
            here = {root for (root, _), is_here in zip(batch, found, strict=True) if is_here}
            done = [root for root, _ in batch if root in here and root not in intents]
            failed = [root for root, _ in batch if root not in here or root in intents]
        if done:
            self._custody.here(done)
        if failed:
            for session in list(self._sessions):
                session.send(wire.Released(), wire.encode_roots(failed))
            if self._copies.wants_any and len(self._failed) < WANTED_MAX:
                sizes = dict(batch)
                self._failed.update((root, sizes[root]) for root in failed if self._is_for_all(root))
