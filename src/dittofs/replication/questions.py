"""Questions to peers that are answered under their number, or not in time."""

from typing import Final

import trio

from dittofs.replication.errors import ProtocolError
from dittofs.replication.session import Session
from dittofs.sync import messages as wire

PATIENCE_S: Final = 60.0


class _Question:
    def __init__(self) -> None:
        self.done = trio.Event()
        self.answer: bytes | None = None


class Questions:
    """Of one volume. An answer that comes late is passed over."""

    def __init__(self) -> None:
        self._open: dict[tuple[Session, int], _Question] = {}
        self._number = 0

    def next_number(self) -> int:
        """The number of the next question."""
        self._number += 1
        return self._number

    async def ask(
        self,
        session: Session,
        number: int,
        message: wire.Message,
        body: bytes,
        patience_s: float = PATIENCE_S,
    ) -> bytes | None:
        """The body of the answer; None: the session ended, or the patience."""
        question = _Question()
        self._open[session, number] = question
        try:
            session.send(message, body)
            with trio.move_on_after(patience_s):
                await question.done.wait()
        finally:
            self._open.pop((session, number), None)
        return question.answer

    def answered(self, session: Session, number: int, body: bytes) -> None:
        """ProtocolError if nobody can have asked that."""
        if not 0 < number <= self._number:
            raise ProtocolError("an answer to no question")
        question = self._open.get((session, number))
        if question is not None:
            question.answer = body
            question.done.set()

    def disconnected(self, session: Session) -> None:
        """A session has ended: it answers nothing any more."""
        for (asked, _), question in self._open.items():
            if asked is session:
                question.done.set()
