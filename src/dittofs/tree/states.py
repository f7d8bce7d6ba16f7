"""What each document has seen, as rows of the index: exchanging digests and vectors loads no document.

A row also holds how much this writer changed in the document, and the greatest stamp given or followed by
then, so that one row per changed document says all that a restart and a peer need to know.
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
from blake3 import blake3

from dittofs.errors import Behind
from dittofs.ids import Slot, Stamp
from dittofs.tree.index import IndexStore
from dittofs.tree.record import DOCUMENTS
from dittofs.tree.shard import FIRST_EPOCH, Epoch
from dittofs.tree.update import StateVector, decode_state_vector, encode_state_vector

__all__ = ["Behind", "Difference", "DocumentState", "States"]

DIGEST_BYTES = 8
"""Of one document: enough to tell what differs, once the roots do."""
_STATE_DOMAIN = b"dittofs/1 state\0"
_ROOT_DOMAIN = b"dittofs/1 states\0"
_NO_SLOT = Slot("")


class DocumentState(NamedTuple):
    """What a document has seen."""

    epoch: Epoch
    vector: bytes
    """The encoded state vector, sorted by client."""


class Difference(NamedTuple):
    """What one document has that another replica lacks."""

    document: int
    epoch: Epoch
    update: bytes
    is_whole: bool
    """A snapshot of another epoch, instead of an update to what they have."""


class _Row(msgspec.Struct, array_like=True):
    """A row of table `state`."""

    number: int
    digest: bytes
    vector: bytes
    slot: str
    n: int
    stamp: int


class _State:
    """A row in memory; what is encoded of it is made when it is asked for."""

    __slots__ = ("encoded", "epoch", "known", "n", "slot")

    def __init__(self, epoch: Epoch, known: StateVector, slot: Slot, n: int) -> None:
        self.epoch = epoch
        self.known = known
        self.slot = slot
        self.n = n
        self.encoded: DocumentState | None = None


def exceeds(one: StateVector, other: StateVector) -> bool:
    """Whether one state vector knows an operation that another does not."""
    return any(other.get(client, 0) < clock for client, clock in one.items())


class States:
    """The states of all documents, cached. `flush` writes what changed."""

    def __init__(self, store: IndexStore) -> None:
        self._store = store
        self._states: list[_State] = []
        self._changed: set[int] = set()
        self._greatest = Stamp(0)
        self._moved: set[int] = set(range(DOCUMENTS))
        """Those of which what follows does not tell the present state."""
        self._all = [DocumentState(FIRST_EPOCH, b"")] * DOCUMENTS
        self._leaves = [b""] * DOCUMENTS
        self._digests = [b""] * DOCUMENTS
        self._root: bytes | None = None

    def forget(self) -> None:
        """Drop everything, unwritten changes too: the store was rolled back."""
        self._states = []
        self._changed.clear()
        self._moved.update(range(DOCUMENTS))

    def get(self, number: int) -> DocumentState:
        """What one document has seen."""
        state = self._state(number)
        if state.encoded is None:
            state.encoded = DocumentState(state.epoch, encode_state_vector(state.known))
        return state.encoded

    def all(self) -> Sequence[DocumentState]:
        """What every document has seen, by number."""
        self._catch_up()
        return list(self._all)

    def epoch(self, number: int) -> Epoch:
        return self._state(number).epoch

    def known(self, number: int) -> StateVector:
        """The state vector of one document."""
        return self._state(number).known

    def moved(self, number: int, epoch: Epoch, known: StateVector) -> None:
        """A document has changed. `known` may move on with it; then this is called again."""
        state = self._state(number)
        state.epoch, state.known = epoch, known
        state.encoded = None
        self._changed.add(number)
        self._moved.add(number)

    def own_count(self, number: int, slot: Slot) -> int:
        """How many changes `slot`, which is ours, has made in a document."""
        state = self._state(number)
        return state.n if state.slot == slot else 0

    def put_own_count(self, number: int, slot: Slot, n: int) -> None:
        state = self._state(number)
        state.slot, state.n = slot, n
        self._changed.add(number)

    @property
    def greatest(self) -> Stamp:
        """The greatest stamp that was given or followed when a document last changed."""
        self._load()
        return self._greatest

    def digests(self) -> list[bytes]:
        """The first 8 bytes of each document's digest."""
        self._catch_up()
        return list(self._digests)

    def root_digest(self) -> bytes:
        """One digest over all states: equal for equal ones."""
        self._catch_up()
        if self._root is None:
            self._root = blake3(_ROOT_DOMAIN + b"".join(self._leaves)).digest()
        return self._root

    def flush(self, greatest: Stamp) -> None:
        """Write the rows of what changed. `greatest`: the clock's."""
        if not self._changed:
            return
        self._greatest = max(self._greatest, greatest)
        for number in sorted(self._changed):
            state = self._states[number]
            vector = self.get(number).vector
            row = _Row(*state.epoch, vector, state.slot, state.n, greatest)
            self._store.put("state", number.to_bytes(2, "big"), msgspec.msgpack.encode(row))
        self._changed.clear()

    def _state(self, number: int) -> _State:
        if not self._states:
            self._load()
        return self._states[number]

    def _load(self) -> None:
        if self._states:
            return
        states = [_State(FIRST_EPOCH, {}, _NO_SLOT, 0) for _ in range(DOCUMENTS)]
        for key, raw in self._store.scan("state", b""):
            row = msgspec.msgpack.decode(raw, type=_Row)
            known = decode_state_vector(row.vector)
            state = _State(Epoch(row.number, row.digest), known, Slot(row.slot), row.n)
            state.encoded = DocumentState(state.epoch, row.vector)
            states[int.from_bytes(key, "big")] = state
            self._greatest = max(self._greatest, Stamp(row.stamp))
        self._states = states

    def _catch_up(self) -> None:
        """Encode and hash what has moved since this was last done."""
        if not self._moved:
            return
        for number in self._moved:
            (age, digest), vector = self._all[number] = self.get(number)
            head = number.to_bytes(2, "big") + age.to_bytes(8, "big") + bytes([len(digest)])
            leaf = blake3(b"".join((_STATE_DOMAIN, head, digest, vector))).digest()
            self._leaves[number], self._digests[number] = leaf, leaf[:DIGEST_BYTES]
        self._moved.clear()
        self._root = None
