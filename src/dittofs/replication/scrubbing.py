"""The background scrub: everything is read again at a budget, and what is damaged is had from others."""

import ctypes
import os
from collections.abc import Callable
from typing import Final

import msgspec
import structlog
import trio

from dittofs.chunks.check import Problem
from dittofs.chunks.scrub import Cursor, Scrub
from dittofs.chunks.seal import ChunkKind
from dittofs.errors import ChunkUnavailable, DittoError
from dittofs.ids import ChunkId
from dittofs.replication.peers import Peers

log = structlog.get_logger()

ROW: Final = "scrub"
CURSOR: Final = b"cursor"
STEP_BYTES: Final = 4 << 20
BUSY_S: Final = 5.0  # between two looks whether the volume is in use
PASS_S: Final = 24 * 3600.0  # between two beginnings
HEAL_S: Final = 600.0
HURT_MAX: Final = 10_000

_SYS_IOPRIO_SET: Final = {"x86_64": 251, "aarch64": 30}.get(os.uname().machine)
_WHO_PROCESS, _IDLE, _NONE = 1, 3 << 13, 0  # linux/ioprio.h; 0 is the calling thread


class State(msgspec.Struct, array_like=True, frozen=True):
    """Where a pass is."""

    pack: int
    offset: int
    begun: int
    """When the pass began, nanoseconds since 1970."""


_state = msgspec.msgpack.Decoder(State)


class Scrubbing:
    """Of one volume. `run` must be running."""

    def __init__(
        self,
        peers: Peers,
        *,
        bytes_per_second: int,
        is_busy: Callable[[], bool],
        report: Callable[[str], None],
    ) -> None:
        """`is_busy`: the volume is in use, so the scrub waits. `report` is told what could not be mended."""
        self._peers = peers
        self._replica = peers.replica
        self._rate = bytes_per_second
        self._is_busy = is_busy
        self._report = report
        self._hurt: dict[tuple[ChunkKind, ChunkId], str] = {}
        """Chunks that nobody had so far, and what is wrong with each."""

    @property
    def cursor(self) -> Cursor:
        """Up to where this pass has read; (0, 0) between two."""
        state = self._load()
        return Cursor(state.pack, state.offset)

    async def run(self) -> None:
        """For ever."""
        if not self._rate:
            await trio.sleep_forever()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._scrub)
            nursery.start_soon(self._heal_again)

    async def _scrub(self) -> None:
        while True:
            state = self._load()
            rest_s = (state.begun - self._now()) / 1e9 + PASS_S
            if (state.pack, state.offset) == (0, 0) and 0 < rest_s <= PASS_S and state.begun:
                await trio.sleep(min(rest_s, HEAL_S))
                continue
            if self._is_busy():
                await trio.sleep(BUSY_S)
                continue
            await trio.sleep(await self.step() / self._rate)

    async def step(self) -> int:
        """Read on a little; the bytes that were read."""
        state = self._load()
        begun = state.begun if (state.pack, state.offset) != (0, 0) else self._now()
        scrub = self._replica.chunks.scrub
        cursor = Cursor(state.pack, state.offset)
        problems, done, cursor_after = await self._replica.run_blocking(_idly, scrub, cursor)
        for problem in problems:
            await self._mend(problem)
        at = cursor_after or Cursor()
        journal = self._replica.journal
        with journal.transaction():
            journal.put_local(ROW, CURSOR, msgspec.msgpack.encode(State(at.pack, at.offset, begun)))
        return max(done, 1)

    async def _mend(self, problem: Problem) -> None:
        log.error("what is stored is damaged", what=problem.what, reason=problem.detail)
        sentence = f"{problem.what}: {problem.detail}"
        is_known = problem.kind is not None and problem.kind in ChunkKind._value2member_map_
        if problem.chunk is None or problem.kind is None or not is_known:
            self._report(sentence)
            return
        wanted = ChunkKind(problem.kind), problem.chunk
        if not await self._fetch(wanted[0], problem.chunk):
            if len(self._hurt) < HURT_MAX:
                self._hurt[wanted] = sentence
            self._report(f"{sentence}; no connected device has that chunk")

    async def _heal_again(self) -> None:
        """When a device connects: perhaps it has what nobody had."""
        while True:
            with trio.move_on_after(HEAL_S):
                await self._peers.changed.wait()
            for kind, chunk in list(self._hurt):
                if self._peers.open_sessions and await self._fetch(kind, chunk):
                    del self._hurt[kind, chunk]

    async def _fetch(self, kind: ChunkKind, chunk: ChunkId) -> bool:
        try:
            await self._peers.fetcher.fetch(b"", [(kind, chunk)], is_bulk=True)
            await self._replica.run_blocking(self._replica.chunks.sync)
        except ChunkUnavailable:
            return False
        except DittoError as error:
            log.error("a damaged chunk could not be replaced", reason=str(error))
            return False
        log.info("a damaged chunk was replaced by another device's")
        return True

    def _load(self) -> State:
        row = self._replica.journal.get_local(ROW, CURSOR)
        try:
            return State(0, 0, 0) if row is None else _state.decode(row)
        except msgspec.MsgspecError:
            return State(0, 0, 0)

    def _now(self) -> int:
        return self._replica.clock.now_ns()


def _idly(scrub: Scrub, cursor: Cursor) -> tuple[list[Problem], int, Cursor | None]:
    """Blocking: a step whose reads yield to everybody else's."""
    _set_io_priority(_IDLE)
    try:
        return scrub.step(cursor, STEP_BYTES)
    finally:
        _set_io_priority(_NONE)


def _set_io_priority(priority: int) -> None:
    """Of this thread; where the system cannot, it is as it was."""
    if _SYS_IOPRIO_SET is not None:
        ctypes.CDLL(None).syscall(_SYS_IOPRIO_SET, _WHO_PROCESS, 0, priority)
