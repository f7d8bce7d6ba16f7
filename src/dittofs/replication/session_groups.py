"""All links of one peer are one group: the best is used; a better one opens beside it, then takes its place.

What is on its way over the link that was left still comes: it is emptied before it ends, so that nothing is
asked for twice (docs/decisions/0097).
"""

from collections.abc import Callable
from typing import Final

import structlog
import trio

from dittofs.identity.keys import DeviceId
from dittofs.replication.calls import is_better, transport_of
from dittofs.replication.session import Session

log = structlog.get_logger()

RACE_S: Final = 3.0  # links that both sides began at the same time come within this
PROBE_S: Final = 2.0
EMPTY_S: Final = 1.0
"""So long nothing is on its way before a link that was left ends: the other side may just be asking."""
EMPTY_MAX_S: Final = 30.0
EMPTY_LOOK_S: Final = 0.25
BESIDE_CHUNKS_MAX: Final = 4
"""Of these for chunks alone: two that either side has begun."""
BESIDE_MAX: Final = 8
"""Links of a device beside the one in use: one begins, one is left; more come of paths that break often."""

Refusal = tuple[str, str]


class SessionGroups:
    """Of one volume. Of each device one session is used; others are beginning, or are left."""

    def __init__(self, device: DeviceId) -> None:
        self._device = device
        self._used: dict[DeviceId, Session] = {}
        self._beside: set[Session] = set()
        self._others: dict[DeviceId, bytes] = {}
        """The process that last called while another one of its device answered."""

    def used(self, device: DeviceId) -> Session | None:
        """The open session that is used with a device."""
        found = self._used.get(device)
        return found if found is not None and found.is_open else None

    @property
    def open_sessions(self) -> list[Session]:
        """Those that are used, one of each device."""
        return [session for session in self._used.values() if session.is_open]

    @property
    def every(self) -> list[Session]:
        """Also those that begin, and those that were left."""
        return [*self._used.values(), *self._beside]

    async def why_not(self, session: Session) -> Refusal | None:
        """Why another link with a device is not taken; None: it is, beside the first or in its place."""
        if session.is_beside:
            return self._why_not_beside(session)
        present = self._used.get(session.device)
        if present is None:
            return None
        if sum(one.device == session.device for one in self._beside) >= BESIDE_MAX:
            return "second", "other links of the two are still opened or emptied"
        is_other = session.theirs.instance != present.theirs.instance
        answers = is_other and await present.liveness.probe(PROBE_S) is not None
        if self._used.get(session.device) is not present:
            return await self.why_not(session)  # a third link came, or that one ended
        if answers and self._others.get(session.device) != session.theirs.instance:
            # Its words may have been under way for longer than it lived; one that calls again is alive.
            self._others[session.device] = session.theirs.instance
            return "second", "another process of this device is connected"
        if answers:
            log.error("two devices with one key are running", device=session.device.hex()[:16])
            return (
                "duplicate",
                "another device with the same key is connected: run `dittofs device new` on one",
            )
        is_better_link = is_better(transport_of(session.link), present.link)
        is_worse_link = is_better(transport_of(present.link), session.link)
        is_race = present.is_open and trio.current_time() - present.opened_at < RACE_S
        if is_race and not (is_other or is_better_link):
            lower = min(self._device, session.device)
            dialler = self._device if session.link.is_dialer else session.device
            if dialler != lower:
                return "second", "the other link of the two is used"
        if is_other or not present.is_open:
            present.end("another link took its place")
        elif is_worse_link and not present.liveness.is_in_doubt:
            return "second", "a better link is used"
        return None

    def lanes(self, device: DeviceId | None) -> list[Session]:
        """The open sessions with a device, or with any, that are for chunks alone."""
        lanes = [one for one in self._beside if one.is_beside and one.is_open]
        return [one for one in lanes if device in (None, one.device)]

    def _why_not_beside(self, session: Session) -> Refusal | None:
        """Why a link for chunks alone is not taken; None: it is."""
        present = self.used(session.device)
        if present is None or present.theirs.instance != session.theirs.instance:
            return "second", "there is no session that it would be beside"
        mine = [one for one in self._beside if one.device == session.device]
        if len(mine) >= BESIDE_MAX or sum(one.is_beside for one in mine) >= BESIDE_CHUNKS_MAX:
            return "second", "other links of the two are used"
        return None

    def begin(self, session: Session) -> None:
        """It is being opened."""
        if session.is_beside or session.device in self._used:
            self._beside.add(session)
        else:
            self._used[session.device] = session

    def opened(self, session: Session) -> Session | None:
        """It is used from now on; the one that was, if it is still open."""
        left = self.used(session.device)
        if left is session:
            return None
        present = self._used.get(session.device)
        if present is not None:
            self._beside.add(present)
        self._beside.discard(session)
        self._used[session.device] = session
        return left

    def ended(self, session: Session) -> None:
        """It has ended."""
        self._beside.discard(session)
        if self._used.get(session.device) is session:
            del self._used[session.device]


async def emptied(session: Session, is_awaited: Callable[[], bool]) -> None:
    """Return when nothing is on its way over a session that was left, either way, or EMPTY_MAX_S are over.

    `is_awaited`: whether this side waits for something from there.
    """
    quiet_s = 0.0
    with trio.move_on_after(EMPTY_MAX_S):
        while quiet_s < EMPTY_S:
            await trio.sleep(EMPTY_LOOK_S)
            is_busy = is_awaited() or not (session.serving.is_idle and session.outbox.is_empty)
            quiet_s = 0.0 if is_busy else quiet_s + EMPTY_LOOK_S
