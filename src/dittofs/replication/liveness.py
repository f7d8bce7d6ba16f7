"""Whether a session's peer is still there: what was heard, pings, and what the transport knows of the path.

Three answers, each of its own weight (docs/decisions/0096). *In doubt*: a ping is late, so another link is
tried beside this one. *Cut*: the other machine's transport answers nothing any more, so the link ends.
*Silent*: the machine may answer, its program does not; that link ends too, later.
"""

from collections.abc import Callable
from typing import Final

import trio

from dittofs.links.link import Link, LinkBroken
from dittofs.replication.errors import ProtocolError
from dittofs.replication.outbox import Outbox
from dittofs.sync import messages as wire

PING_S: Final = 5.0
PING_UNTOLD_S: Final = 2.0
"""The same on a link whose transport does not know whether the other machine answers."""
DOUBT_S: Final = 1.0
"""How long after a ping nothing may have come before another link is tried beside this one."""
CUT_S: Final = 3.5
"""So long the other machine may answer nothing of what it was sent."""
SILENCE_S: Final = 15.0  # a link on which nothing came for so long is dead
PINGS_MAX: Final = 64
"""So many unanswered ones are remembered: a peer may go on talking and answer none."""
LOOK_S: Final = 0.5
"""How often is looked while something is unanswered, or awaited on a link that knows nothing of its path."""
SILENT_LOOKS: Final = 7
"""So many looks in a row find the ping unanswered on such a link, while something is awaited: it is cut.
Looks are counted, not seconds: after a pause of this program itself what came meanwhile is read first.
"""


class Liveness:
    """Of one session. `run` must be running; LinkBroken from it ends the session."""

    def __init__(
        self,
        link: Link,
        outbox: Outbox,
        send: Callable[[wire.Message], None],
        awaits: Callable[[], bool] = lambda: False,
    ) -> None:
        """`awaits`: whether the peer owes an answer to anything but a ping."""
        self.round_trip_s = 0.05
        """Smoothed; a guess until the first answer to a ping."""
        self.is_measured = False
        self._link = link
        self._outbox = outbox
        self._send = send
        self._awaits = awaits
        self._pings: dict[int, tuple[float, trio.Event]] = {}
        self._ping_number = 0
        self._forgotten = 0
        """No ping up to this number is awaited."""
        self._heard = trio.current_time()
        self._asked_at: float | None = None  # the first ping since anything was heard
        self._silent_looks = 0  # while something was awaited, since anything was heard

    @property
    def is_in_doubt(self) -> bool:
        """The peer was asked whether it is there and has said nothing since."""
        patience_s = max(DOUBT_S, 4 * self.round_trip_s)
        return self._asked_at is not None and trio.current_time() - self._asked_at >= patience_s

    def heard(self) -> None:
        """Something came."""
        self._heard = trio.current_time()
        self._asked_at = None
        self._silent_looks = 0

    def ask(self) -> None:
        """Find out whether the peer is still there: it may be in doubt soon."""
        if self._asked_at is None:
            self._ping()

    async def run(self, looked: Callable[[], None]) -> None:
        """Ping, and raise LinkBroken when the peer is gone. `looked` is called each time after looking.

        Nothing is done while nothing is sent and no ping is due.
        """
        is_told = self._link.pulse.unanswered_s() is not None
        ping_s = PING_S if is_told else PING_UNTOLD_S
        ping_at = trio.current_time()
        while True:
            unanswered_s = self._link.pulse.unanswered_s() or 0.0
            now = trio.current_time()
            if unanswered_s >= CUT_S:
                raise LinkBroken(f"the other device's machine has answered nothing for {CUT_S:g} s")
            if now - self._heard > SILENCE_S:
                raise LinkBroken(f"nothing was heard for {SILENCE_S:g} s")
            if now >= ping_at:
                ping_at = now + ping_s
                self.ask()
            is_watched = not is_told and self._awaits()
            if is_watched:
                self._look_closely(now)
            looked()
            if self._asked_at is None and not (unanswered_s or is_watched):
                stirred = self._outbox.stir()
                with trio.move_on_at(ping_at):
                    await stirred.wait()
                if not stirred.is_set():
                    continue
            await trio.sleep(LOOK_S)

    def _look_closely(self, now: float) -> None:
        """Something is awaited, and the transport would not tell of a cut: LinkBroken when it is one."""
        if self._asked_at is not None:
            self._silent_looks += 1
        elif now - self._heard >= LOOK_S:
            self.ask()
        if self._silent_looks >= SILENT_LOOKS:
            raise LinkBroken(f"nothing was heard for {SILENT_LOOKS * LOOK_S:g} s of what is awaited")

    def _ping(self) -> trio.Event:
        """Set once it is answered."""
        if len(self._pings) >= PINGS_MAX:
            self._forgotten = next(iter(self._pings))
            del self._pings[self._forgotten]
        self._ping_number += 1
        now, answered = trio.current_time(), trio.Event()
        self._pings[self._ping_number] = now, answered
        self._asked_at = now if self._asked_at is None else self._asked_at
        self._send(wire.Ping(self._ping_number))
        return answered

    def answered(self, number: int) -> None:
        """A Pong came. ProtocolError if that ping was not sent."""
        found = self._pings.pop(number, None)
        if found is None:
            if 0 < number <= self._forgotten:
                return
            raise ProtocolError("an answer to no ping")
        sent, answered = found
        answered.set()
        took = trio.current_time() - sent
        self.round_trip_s += (took - self.round_trip_s) / (4 if self.is_measured else 1)
        self.is_measured = True

    async def probe(self, patience_s: float) -> float | None:
        """The seconds that the peer takes to answer; None: it does not within `patience_s`."""
        begun = trio.current_time()
        answered = self._ping()
        with trio.move_on_after(patience_s):
            await answered.wait()
        return trio.current_time() - begun if answered.is_set() else None
