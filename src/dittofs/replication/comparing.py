"""Waiting until this device and others have the same."""

from collections.abc import Sequence
from typing import Final

import trio

from dittofs.replication.session import Session
from dittofs.replication.stream import Stream

COMPARE_PAUSE_S: Final = 0.05


async def all_told(sessions: Sequence[Session]) -> None:
    """Return when each has every change that was sent, durably, or has ended."""
    for session in sessions:
        while session.is_open and not session.live.is_in_step:
            await session.live.moved()


async def in_step(sessions: Sequence[Session], stream: Stream, since: float | None = None) -> None:
    """Return when each of these devices has every change of ours, durably, and we have theirs.

    `since`: a time from which on what was compared counts, instead of now. Given to a call that follows
    on a cancelled one it keeps what that has found: a comparison takes two round trips.
    """
    since = trio.current_time() if since is None else since
    async with trio.open_nursery() as nursery:
        for session in sessions:
            nursery.start_soon(_compared, session, stream, since)


async def _compared(session: Session, stream: Stream, since: float) -> None:
    """Return when both sides were found to have the same, or the session has ended."""
    while session.is_open:
        await stream.flushed()
        if session.live.is_in_step:
            rounds = session.rounds
            if not session.may_write or max(rounds.found_equal_at, rounds.found_ahead_at) >= since:
                return
            if not session.rounds.is_pulling:
                session.rounds.begin()
        next_look = trio.current_time() + COMPARE_PAUSE_S
        with trio.move_on_at(next_look):
            await session.rounds.ended()
        if session.rounds.found_equal_at < since:  # one round after the other would keep both sides busy
            await trio.sleep_until(next_look)
