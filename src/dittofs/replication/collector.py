"""Rounds of garbage: mark, ask the others, wait, mark again, sweep, make room (decision 0030).

A round begins when somebody asks for it, or once a day; it is announced only if what nothing names is worth
it. It ends when all have answered and the grace is over; then this device sweeps its own store, and no other.
"""

import math
from collections.abc import Generator, Sequence
from typing import Final

import msgspec
import structlog
import trio

from dittofs.chunks.amount import Amount
from dittofs.chunks.compaction import PackShare
from dittofs.chunks.id_filter import IdFilter
from dittofs.chunks.marking import ROOT_BYTES, Marker, Named, named_root
from dittofs.chunks.seal import ChunkKind
from dittofs.clock import SECOND_NS
from dittofs.errors import DiskError, DiskFull, DittoError
from dittofs.identity.keys import DeviceId
from dittofs.identity.records import Role
from dittofs.replication import garbage_rounds as rounds
from dittofs.replication.answers import Answers
from dittofs.replication.custody import EVICTED, HOLD, WHOLE
from dittofs.replication.garbage_rounds import Outstanding
from dittofs.replication.garbage_status import (
    LAST_ROW,
    LOOKED_ROW,
    OPEN_ROW,
    GarbageStatus,
    LastSweep,
    Looked,
    Measured,
    OpenRound,
)
from dittofs.replication.marking import NAMED_AT_ONCE, Incomplete, Marking
from dittofs.replication.parts import Retained
from dittofs.replication.peers import Peers
from dittofs.replication.retirement import Retirement
from dittofs.sync import messages as wire
from dittofs.tree.entry import Change

log = structlog.get_logger()

ROW: Final = "gc"
OPEN: Final = b"round"
LOOKED: Final = b"looked"
SWEPT: Final = b"swept"
GRACE_S: Final = 24 * 3600.0
QUIET_S: Final = 600.0  # after a start, before a mark that nobody asked for
LOOK_S: Final = 24 * 3600.0  # between two marks that nobody asked for
TICK_S: Final = 30.0
CAUGHT_UP_S: Final = 60.0
RETRY_S: Final = 600.0  # after a round that could not end
WORTH_BYTES: Final = 64 << 20
WORTH_SHARE: Final = 20  # or one part in so many of the packs
ROWS_AT_ONCE: Final = 512
RELEASED_MAX: Final = 65_536
"""Contents that connected devices are told of; all others forget them before they answer."""


class Collector:
    """Of one volume on this device. `run` must be running."""

    def __init__(
        self, peers: Peers, retained: Retained, retirement: Retirement, *, grace_s: float = GRACE_S
    ) -> None:
        self._peers = peers
        self._replica = peers.replica
        self._retained = retained
        self._marking = Marking(peers, retained)
        self._retirement = retirement
        self._grace_ns = int(grace_s * SECOND_NS)
        self.answers = Answers(
            peers.replica,
            retained,
            peers.custody,
            device=peers.device,
            others=lambda: [one for one in peers.others if peers.role(one) >= Role.READER],
            request=self._request,
        )
        self._wake = trio.Event()
        self._is_asked = False
        self._begun_here = b""
        self._quiet_until = -math.inf
        self._is_stepping = trio.Lock()
        self._retry_at = -math.inf
        self._problem = ""
        peers.replica.listeners.append(self._on_change)

    # -- what others see

    def status(self) -> GarbageStatus:
        """As of now."""
        row = self._round()
        looked = self._replica.journal.get_local(ROW, LOOKED)
        last = self._replica.journal.get_local(ROW, SWEPT)
        return GarbageStatus(
            row,
            0 if row is None else row.begun + self._grace_ns,
            () if row is None else tuple(self.outstanding()),
            self._why_not() or self._problem,
            None if looked is None else LOOKED_ROW.decode(looked),
            None if last is None else LAST_ROW.decode(last),
            tuple(self.answers.reasons.items()),
        )

    def outstanding(self) -> list[Outstanding]:
        """Who has not answered the open round."""
        row = self._round()
        if row is None:
            return []
        settings = self._replica.tree.settings()
        return rounds.outstanding(settings, self._peers.device, row.name, self._peers.writers())

    async def collect(self) -> None:
        """Do now what can be done: begin a round if none is open, end it if nothing is in the way."""
        self._is_asked = True
        self._retry_at = -math.inf
        await self.step()

    async def measure(self) -> Measured:
        """Mark, and say how much is named by what. Changes nothing, and no round is affected. Incomplete."""
        async with self._is_stepping:
            garbage, run_blocking = self._replica.chunks.garbage, self._replica.run_blocking
            marks, live = garbage.marks(), garbage.marks()
            unknown = await self._marking.mark(marks, with_promised=False)
            marker = Marker(self._replica.chunks, live)
            some: list[Named] = []
            for number, (named, is_live) in enumerate(self._retained.named(), 1):
                if is_live:
                    some.append(named)
                if len(some) >= NAMED_AT_ONCE:
                    await run_blocking(marker.mark, some)
                    some = []
                if number % NAMED_AT_ONCE == 0:
                    await trio.lowlevel.checkpoint()
            await run_blocking(marker.mark, some)
            amounts = await run_blocking(garbage.count, live, marks)
            named_now, named_once, unnamed = amounts
            return Measured(named_now, named_once, unnamed, len({one.root for one in unknown}))

    # -- following

    def _on_change(self, change: Change) -> None:
        if change.via and not change.effects:  # a setting has no effects
            self._wake.set()

    async def run(self) -> None:
        """For ever."""
        self._quiet_until = trio.current_time() + QUIET_S
        while True:
            with trio.move_on_after(TICK_S):
                await self._wake.wait()
            self._wake = trio.Event()
            self._retirement.note_connected()
            await self._retirement.retire_absent()
            await self.step()

    async def step(self) -> None:
        """Answer others, and go on with our own round as far as that can be."""
        async with self._is_stepping:
            self._problem = ""
            try:
                if self._replica.not_allowed is not None and self._replica.read_only is None:
                    self.answers.note_unasked()
                if self._why_not():
                    return
                await self.answers.give()
                await self._own()
            except Incomplete as error:
                self._fail(str(error))
            except DittoError as error:
                log.error("a round of garbage failed", reason=str(error))
                self._fail(str(error))

    def _fail(self, why: str) -> None:
        self._problem = why
        self._retry_at = trio.current_time() + RETRY_S

    def _why_not(self) -> str:
        """Why this device may neither sweep nor answer; empty if it may."""
        replica = self._replica
        if replica.read_only is not None:
            return replica.read_only
        if replica.not_allowed is not None:
            return f"{replica.not_allowed}: it cannot ask the others, so it sweeps nothing"
        if self._retirement.is_retired:
            return "this device was retired: `dittofs devices rejoin` takes it back"
        if self._retained.holds_back:
            return "the brake holds changes: `dittofs brake` shows them"
        return ""

    def _round(self) -> OpenRound | None:
        row = self._replica.journal.get_local(ROW, OPEN)
        try:
            return None if row is None else OPEN_ROW.decode(row)
        except msgspec.MsgspecError:
            return None  # of another version: a round begins anew

    # -- our own round

    async def _own(self) -> None:
        garbage = self._replica.chunks.garbage
        row = self._round()
        if row is not None and garbage.candidates is None:
            # The process died: what was claimed since the first mark is not known.
            self._put({OPEN: None})
            row, self._is_asked = None, True
        elif row is not None and self._is_superseded(row):
            self._put({OPEN: None})
            row, self._is_asked = None, True
        if trio.current_time() < self._retry_at:
            return
        if row is None:
            if not self._is_asked and not self._is_look_due():
                return
            is_asked, self._is_asked = self._is_asked, False
            await self._begin(is_asked=is_asked)
            row = self._round()
        if row is not None and self._now() >= row.begun + self._grace_ns and not self.outstanding():
            await self._end(row)

    def _is_look_due(self) -> bool:
        if trio.current_time() < self._quiet_until:
            return False
        row = self._replica.journal.get_local(ROW, LOOKED)
        return row is None or abs(self._now() - LOOKED_ROW.decode(row).at) >= LOOK_S * SECOND_NS

    async def _begin(self, *, is_asked: bool) -> None:
        """The first mark. The round is announced if it is worth it."""
        garbage, run_blocking = self._replica.chunks.garbage, self._replica.run_blocking
        await self.answers.forget_whole()
        begun = self._now()
        marks = await run_blocking(garbage.begin_round)
        unknown = await self._marking.mark(marks)
        amount = await run_blocking(garbage.close_marks, marks)
        if unknown and self._is_worth(amount, is_asked=is_asked):
            await self._marking.resolve(unknown, marks)
            amount = await run_blocking(garbage.close_marks, marks)
        self._put({LOOKED: Looked(begun, amount.chunks, amount.bytes)})
        await self._forget_unnamed(marks)
        if not self._is_worth(amount, is_asked=is_asked):
            await run_blocking(garbage.end_round)
            return
        name = self._replica.entropy(rounds.NAME_BYTES)
        with self._replica.change() as change:
            if self._peers.writers():
                change.group.set_setting(rounds.ROUND + self._peers.device.hex(), rounds.encode(name))
                self._retirement.announced(name)
            self._begun_here = name
            row = OpenRound(name, begun, amount.chunks, amount.bytes)
            self._replica.journal.put_local(ROW, OPEN, rounds.encode(row))
        log.info("a round of garbage has begun", chunks=amount.chunks, bytes=amount.bytes)

    def _is_superseded(self, row: OpenRound) -> bool:
        """Whether another history of this device announced a round: others answer that one."""
        announced = rounds.round_of(self._replica.tree.settings(), self._peers.device)
        return bool(self._peers.writers()) and announced != row.name

    async def _has_caught_up(self) -> bool:
        """See what this device did after a backup was made, if it was set back to that since the round began.

        What it did then may name what it found by its own store alone, after others had answered.
        """
        gone = rounds.retired(self._replica.tree.settings())
        if all(one in gone for one in self._peers.writers()):
            return True
        with trio.move_on_after(CAUGHT_UP_S):
            if self._peers.open_sessions:
                await self._peers.in_step()
                return bool(self._peers.open_sessions)
        self._fail("the round was begun before the last start: it ends once another device is connected")
        return False

    def _is_worth(self, amount: Amount, *, is_asked: bool) -> bool:
        packs = self._replica.chunks.statistics().pack_bytes
        return amount.chunks > 0 and (
            is_asked or amount.bytes >= WORTH_BYTES or amount.bytes * WORTH_SHARE >= packs
        )

    async def _end(self, row: OpenRound) -> None:
        """The second mark, and what follows from it."""
        if row.name != self._begun_here and not await self._has_caught_up():
            return
        chunks, run_blocking = self._replica.chunks, self._replica.run_blocking
        marks = await run_blocking(chunks.garbage.marks)
        unknown = await self._marking.mark(marks)
        is_naming = self._retained.is_naming  # at the instant of the mark: it may name what was not marked
        if unknown:
            await self._marking.resolve(unknown, marks)
        if is_naming or self._why_not() or self.outstanding() or self._round() != row:
            return  # later: something changed meanwhile, or is about to
        await self._release(marks)
        swept = await run_blocking(chunks.garbage.sweep, marks)
        room = await self.make_room()
        self._put({OPEN: None, SWEPT: LastSweep(self._now(), swept.chunks, swept.bytes, room)})
        log.info("garbage was swept", chunks=swept.chunks, bytes=swept.bytes, room=room)

    async def make_room(self, *, is_tight: bool = False) -> int:
        """Compact packs that are mostly garbage, or if room is wanted now (`is_tight`) to some part.

        The bytes that are free for it.
        """
        chunks = self._replica.chunks
        before = chunks.statistics().pack_bytes
        steps = chunks.garbage.compact(is_tight=is_tight)
        try:
            while await self._replica.run_blocking(_next, steps) is not None:
                pass
        except (DiskFull, DiskError) as error:
            log.error("packs could not be compacted", reason=str(error))
        finally:
            steps.close()
        return max(0, before - chunks.statistics().pack_bytes)

    # -- custody

    async def _forget_unnamed(self, marks: IdFilter) -> None:
        """What was noted of contents that nothing names: who holds them, and that they are whole here."""
        journal = self._replica.journal
        for kind in (HOLD, WHOLE, EVICTED):
            rows = [key for key, _ in journal.scan_local(kind, b"")]
            for start in range(0, len(rows), ROWS_AT_ONCE):
                dead = [key for key in rows[start : start + ROWS_AT_ONCE] if _is_dead(key, marks)]
                if dead:
                    with journal.transaction():
                        for key in dead:
                            journal.delete_local(kind, key)
                await trio.lowlevel.checkpoint()

    async def _release(self, marks: IdFilter) -> None:
        """Take back what was promised of what goes, durably, before it goes."""
        await self._forget_unnamed(marks)
        roots: list[bytes] = []
        for number, (kind, chunk) in enumerate(self._replica.chunks.garbage.unmarked(marks), 1):
            if kind is not ChunkKind.VERSION and len(roots) < RELEASED_MAX:
                roots.append(bytes([kind]) + chunk)
            if number % NAMED_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
        for session in self._peers.open_sessions:
            for start in range(0, len(roots), wire.ROOTS_MAX):
                some = roots[start : start + wire.ROOTS_MAX]
                await session.outbox.put_bulk(wire.Released(), wire.encode_roots(some))
        await self._replica.run_blocking(self._replica.journal.sync)

    def _request(self, device: DeviceId, contents: Sequence[tuple[bytes, int]]) -> None:
        session = self._peers.session(device)
        if session is not None:
            session.send(wire.Keep(), wire.encode_sized_roots(contents))

    def _put(self, rows: dict[bytes, msgspec.Struct | None]) -> None:
        journal = self._replica.journal
        with journal.transaction():
            for key, row in rows.items():
                if row is None:
                    journal.delete_local(ROW, key)
                else:
                    journal.put_local(ROW, key, rounds.encode(row))

    def _now(self) -> int:
        return self._replica.clock.now_ns()


def _next(steps: Generator[PackShare, None, None]) -> PackShare | None:
    return next(steps, None)


def _is_dead(key: bytes, marks: IdFilter) -> bool:
    """Of a row whose key ends with a content's root."""
    named = named_root(key[-ROOT_BYTES:])
    return named is not None and named.chunk not in marks
