"""Which CRDT client id this process writes with.

A client id used twice from different states makes replicas diverge without any error, so an id is
used again only when the state it was last used with is proven to be the state at hand.
"""

from typing import Final, TypeVar

import msgspec

from dittofs.clock import Entropy
from dittofs.errors import FormatError
from dittofs.ids import SLOT_BYTES, Slot, slot_of_client
from dittofs.journal.chain import is_log_proven, state_digest
from dittofs.journal.rows import Rows
from dittofs.journal.statements import Statements

CLIENT_ID_MIN: Final = 2
"""0 is nobody's, 1 is what compaction writes."""
PROVEN_ROWS_MAX: Final = 10_000
"""Proving a longer log would hold up the start (20 ms); a new id costs nothing."""
WRITER: Final = "journal/writer"
"""Of the row that names the last incarnation."""
_SLOTS = "journal/slots"
_Kind = TypeVar("_Kind")


class _Writer(msgspec.Struct, frozen=True, array_like=True):
    """The last incarnation. `state` is empty from the claim until it ended cleanly."""

    client_id: int
    machine: str
    state: bytes


class Incarnations:
    """Own slots so far, and the rule for the next one (tree.md §6)."""

    def __init__(self, statements: Statements, rows: Rows) -> None:
        self._rows = rows
        self._statements = statements
        raw = rows.get_meta(_SLOTS)
        self._used: list[int] = [] if raw is None else _decoded(raw, list[int])
        raw = rows.get_meta(WRITER)
        self._last = None if raw is None else _decoded(raw, _Writer)
        self._claimed: _Writer | None = None

    @property
    def ended_cleanly(self) -> bool:
        """Whether the last process to write closed this journal; True if there was none."""
        return self._last is None or self._last.state != b""

    def slots(self) -> frozenset[Slot]:
        return frozenset(map(slot_of_client, self._used))

    def claim(self, entropy: Entropy, machine: str, *, may_reuse: bool) -> int:
        """Choose the id and write that it is in use; the caller makes that durable before using it."""
        last = self._last
        if may_reuse and last is not None and last.machine == machine and self._is_state(last.state):
            client_id = last.client_id
        else:
            client_id = self.fresh(entropy)
        used = [*(known for known in self._used if known != client_id), client_id]
        claimed = _Writer(client_id, machine, b"")
        self._rows.put_meta(_SLOTS, msgspec.msgpack.encode(used))
        self._rows.put_meta(WRITER, msgspec.msgpack.encode(claimed))
        self._used, self._last, self._claimed = used, claimed, claimed
        return client_id

    def fresh(self, entropy: Entropy) -> int:
        """An id that was never used here."""
        client_id = 0
        while client_id < CLIENT_ID_MIN or client_id in self._used:
            client_id = int.from_bytes(entropy(SLOT_BYTES), "big")
        return client_id

    def end(self) -> None:
        """Write that the claimed incarnation ended with the log as it is now."""
        if self._claimed is not None:
            ended = msgspec.structs.replace(self._claimed, state=state_digest(self._statements))
            self._rows.put_meta(WRITER, msgspec.msgpack.encode(ended))

    def _is_state(self, state: bytes) -> bool:
        return state == state_digest(self._statements) and is_log_proven(self._statements, PROVEN_ROWS_MAX)


def _decoded(raw: bytes, kind: type[_Kind]) -> _Kind:
    try:
        return msgspec.msgpack.decode(raw, type=kind)
    except msgspec.MsgspecError as error:
        raise FormatError(f"journal: writer row: {error}") from error
