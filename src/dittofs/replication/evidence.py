"""Asking other devices to prove that they have what is to go from here."""

from collections.abc import Sequence
from typing import Final

import structlog

from dittofs.errors import DittoError, FormatError
from dittofs.replication.errors import ProtocolError
from dittofs.replication.peers import Peers
from dittofs.replication.pieces import proof
from dittofs.replication.session import Session
from dittofs.replication.targets import Target, going, questions
from dittofs.sync import messages as wire
from dittofs.sync.proofs import PROOF_BYTES, Piece, Refusal, decode_proofs, encode_pieces

log = structlog.get_logger()

REASONS: Final = {
    Refusal.ABSENT: "does not have all of it",
    Refusal.UNKNOWN: "does not know this version yet",
    Refusal.GOING: "is letting it go, too",
    Refusal.UNFIT: "does not keep contents for others",
    Refusal.FAILED: "cannot read it",
}


class Asking:
    """Of one volume on this device."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        self._replica = peers.replica

    async def prove(self, targets: Sequence[Target]) -> None:
        """Ask one device after the other until enough have proven each content."""
        holders = set(self._peers.holders())
        for session in self._peers.open_sessions:
            lacking = [one for one in going(targets) if len(one.provers) < one.required]
            if lacking and session.device in holders:
                await self._ask(session, lacking)
        for target in going(targets):
            if len(target.provers) < target.required:
                target.why = self._unproven(target)

    def _unproven(self, target: Target) -> str:
        if not self._peers.open_sessions:
            return "no other device is connected that could prove that it has it"
        said = [
            f"{self._peers.members.membership.name(device) or device.hex()[:8]} {why}"
            for device, why in target.refusals.items()
        ]
        if target.provers:
            said.append(f"copies = {target.copies} asks for {target.required}")
        return f"proven by {len(target.provers)} other devices: {', '.join(said) or 'none answered'}"

    async def _ask(self, session: Session, targets: Sequence[Target]) -> None:
        proven: dict[Target, bool] = dict.fromkeys(targets, True)
        for question in questions(targets):
            answers = await self._question(session, question)
            for (target, _), answer in zip(question, answers, strict=True):
                if answer is not None:
                    proven[target] = False
                    target.refusals[session.device] = answer
        for target, is_proven in proven.items():
            if is_proven and session.is_open:
                target.provers[session] = None

    async def _question(
        self, session: Session, question: Sequence[tuple[Target, Piece]]
    ) -> Sequence[str | None]:
        """Of each piece None if the device has it, as its proof shows, or why it is not proven."""
        asking, store = self._peers.questions, self._replica.chunks
        nonce, number = self._replica.entropy(PROOF_BYTES), asking.next_number()
        pieces = [piece for _, piece in question]
        body = await asking.ask(session, number, wire.Prove(number, nonce), encode_pieces(pieces))
        if body is None:
            return ["did not answer"] * len(pieces)
        try:
            proofs = decode_proofs(body)
        except FormatError as error:
            self._peers.ban(session, str(error))
            proofs = []
        if len(proofs) != len(pieces):
            return ["did not answer"] * len(pieces)
        found: list[str | None] = []
        for piece, answer in zip(pieces, proofs, strict=True):
            if isinstance(answer, int):
                known = answer in Refusal._value2member_map_
                found.append(REASONS[Refusal(answer)] if known else "does not prove it")
                continue
            try:
                ours = await self._replica.run_blocking(proof, store, nonce, piece)
            except DittoError as error:
                found.append(f"was not believed, for it cannot be read here: {error}")
                continue
            if answer != ours:
                log.error("a peer's proof is wrong", peer=session.device.hex()[:16])
                self._peers.ban(session, str(ProtocolError("it claims to have what it has not")))
            found.append(None if answer == ours else "gave a wrong proof")
        return found
