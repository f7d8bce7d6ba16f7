"""Proving to other devices that contents are here, so that theirs may go; what is proven stays.

Bounded whatever a peer asks: few questions at a time, one of all peers' answered at a time, and at most a
quarter of the time of one thread.
"""

from collections.abc import Callable, Sequence
from typing import Final

import structlog
import trio

from dittofs.errors import DittoError
from dittofs.identity.records import Role
from dittofs.ids import InodeId
from dittofs.replication.custody import Custody
from dittofs.replication.errors import ProtocolError
from dittofs.replication.intents import Intents
from dittofs.replication.parts import LocalReplica
from dittofs.replication.pieces import proofs
from dittofs.replication.session import Session
from dittofs.sync import messages as wire
from dittofs.sync.proofs import PROVES_MAX, Piece, Refusal, decode_pieces, encode_proofs

log = structlog.get_logger()

REST: Final = 3
"""So many times as long as a proof took nothing more is proven."""
Question = tuple[wire.Prove, list[Piece]]


class Proving:
    """Of one volume on this device."""

    def __init__(
        self, replica: LocalReplica, custody: Custody, intents: Intents, role: Callable[[], Role]
    ) -> None:
        self._replica = replica
        self._custody = custody
        self._intents = intents
        self._role = role
        self.keeps: Callable[[], bool] = lambda: True
        """Whether this device is there to stay: it is neither ephemeral nor retired."""
        self._questions: dict[Session, trio.MemorySendChannel[Question]] = {}
        self._turn = trio.Lock()

    def connected(self, session: Session) -> None:
        sender, receiver = trio.open_memory_channel[Question](PROVES_MAX)
        self._questions[session] = sender
        session.spawn(self._answer_all, session, receiver)

    def disconnected(self, session: Session) -> None:
        self._questions.pop(session, None)

    def take(self, session: Session, message: wire.Prove, body: bytes) -> None:
        """ProtocolError for more questions than may be open."""
        try:
            self._questions[session].send_nowait((message, decode_pieces(body)))
        except trio.WouldBlock:
            raise ProtocolError("asks for more proofs than can be made at a time") from None

    async def _answer_all(self, session: Session, channel: "trio.MemoryReceiveChannel[Question]") -> None:
        async for message, pieces in channel:
            async with self._turn:
                begun = trio.current_time()
                await self._answer(session, message, pieces)
                took_s = trio.current_time() - begun
            await trio.sleep(REST * took_s)

    async def _answer(self, session: Session, message: wire.Prove, pieces: Sequence[Piece]) -> None:
        whys = [self._why_not(session, piece) for piece in pieces]
        asked = [piece for piece, why in zip(pieces, whys, strict=True) if why is None]
        made: list[bytes | int] = []
        if asked:
            replica = self._replica
            try:
                made = await replica.run_blocking(proofs, replica.chunks, message.nonce, asked)
                await replica.run_blocking(replica.chunks.sync)
                self._custody.counts_no_more(
                    session.device,
                    [
                        (InodeId(piece.inode), piece.root, piece.size)
                        for piece, one in zip(asked, made, strict=True)
                        if piece.is_last and not isinstance(one, int)
                    ],
                )
                await replica.run_blocking(replica.journal.sync)
            except DittoError as error:
                log.error("a proof could not be made", reason=str(error))
                made = [Refusal.FAILED] * len(asked)
        answers = iter(made)
        found: list[bytes | int] = []
        # From here on nothing awaits: what is true now is what the answer says.
        for piece, why in zip(pieces, whys, strict=True):
            one = why if why is not None else next(answers)
            again = None if isinstance(one, int) else self._why_not(session, piece)
            found.append(one if again is None else again)
        session.send(wire.Proof(message.request), encode_proofs(found))

    def _why_not(self, session: Session, piece: Piece) -> Refusal | None:
        """Why nothing is proven whatever is here. Gives up an own intent that has to yield."""
        if not self.keeps() or self._role() < Role.READER or self._replica.read_only is not None:
            return Refusal.UNFIT
        if not self._custody.content.is_live(InodeId(piece.inode), piece.root):
            return Refusal.UNKNOWN
        return None if self._intents.yields_to(session.device, piece.root) else Refusal.GOING
