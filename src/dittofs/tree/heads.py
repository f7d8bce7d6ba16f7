"""The heads of a shard: the last operation on every key, and so what an update will do before it is applied.

Each key is written by one client, which replaces its own last operation on it, so an update has one possible
outcome. What would leave room for two is refused here: the CRDT library never decides anything.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from dittofs.errors import Behind, Contradiction
from dittofs.ids import Slot
from dittofs.tree.update import DecodedUpdate, Deletion, StateVector, client_of, slot_of

_NONE: Final = -1 << 32


class Preview(NamedTuple):
    """What updates would change in a shard."""

    changes: dict[str, bytes | None]
    """Key -> its value afterwards, None where it will be gone. Keys that keep their state are left out."""
    heads: dict[tuple[int, str], int]
    """(client, record) -> the new head of its key: `clock` if that leaves a value, `~clock` if it is gone."""
    clocks: dict[int, int]
    """Client -> number of its operations known afterwards, wherever that changes."""
    items: int
    """How many of the writes are new."""


class Heads:
    """Which operation each key ends in, and how many operations of each client are known."""

    def __init__(self) -> None:
        self._clocks: dict[int, int] = {}
        self._records: dict[str, tuple[tuple[int, int], ...]] = {}  # record -> (client, head) of each writer
        self._chains: dict[int, dict[int, str]] = {}  # client -> clock of a head -> record
        self.known: StateVector = MappingProxyType(self._clocks)
        """The state vector. A view: it moves on with the heads."""
        self.live = 0
        """How many keys hold a value."""

    def records(self) -> Iterator[str]:
        """Every record with a value in some slot, in no order. Nothing may change meanwhile."""
        return (record for record, heads in self._records.items() if any(head >= 0 for _, head in heads))

    def slots(self, record: str) -> list[Slot]:
        """The slots in which `record` has a value."""
        return [slot_of(client) for client, head in self._records.get(record, ()) if head >= 0]

    def is_live(self, key: str) -> bool:
        """Whether `key` holds a value. Raises ValueError if its slot is none."""
        record, _, slot = key.rpartition(":")
        return record in self._records and self._head(client_of(Slot(slot)), record) >= 0

    def wrote(self, client: int, sets: Collection[str], gone: Collection[str]) -> None:
        """Take in that `client` has set and deleted these keys, in this order; those deleted were live."""
        clock = self._clocks.get(client, 0)
        for key in sets:
            self._set(client, key.rpartition(":")[0], clock)
            clock += 1
        self._clocks[client] = clock
        for key in gone:
            record, _, slot = key.rpartition(":")
            writer = client_of(Slot(slot))
            self._set(writer, record, ~self._head(writer, record))

    def take(self, preview: Preview) -> None:
        """Take in what `preview` found; nothing may have changed since."""
        for (client, record), head in preview.heads.items():
            self._set(client, record, head)
        self._clocks.update(preview.clocks)

    def preview(self, updates: Iterable[DecodedUpdate]) -> Preview:
        """What `updates`, in this order, would change.

        Raises `Behind` if something before them is missing, `Contradiction` if they continue another history.
        Operations that are known already change nothing, even if they differ from the ones known: the library
        passes them over by their number.
        """
        heads: dict[tuple[int, str], int] = {}
        values: dict[tuple[int, str], bytes | None] = {}
        clocks: dict[int, int] = {}
        chains: dict[int, dict[int, str]] = {}  # as in the attribute, but of the writes so far
        items = 0
        for update in updates:
            for client, start, length, origin, key, value in update.writes:
                known = clocks.get(client, self._clocks.get(client, 0))
                last = start + length - 1
                if last < known:
                    continue
                if start > known:
                    raise Behind("an update leaves a gap in the operations of a client")
                if start < known:  # the library cuts off what is known and continues from there
                    origin = known - 1
                chain = chains.setdefault(client, {})
                record = self._record(client, origin, key, chain, heads)
                chain[last] = record
                heads[client, record] = ~last if value is None else last
                values[client, record] = value
                clocks[client] = last + 1
                items += 1
            for deletion in update.deletions:
                client = deletion.client
                if deletion.clock + deletion.length > clocks.get(client, self._clocks.get(client, 0)):
                    raise Behind("an update deletes what is not known")
                found = _within(deletion, self._chains.get(client, {})) + _within(
                    deletion, chains.get(client, {})
                )
                for record, clock in found:
                    if heads.get((client, record), self._head(client, record)) == clock:
                        heads[client, record] = ~clock
                        values[client, record] = None
        changes = {
            f"{record}:{slot_of(client)}": value
            for (client, record), value in values.items()
            if value is not None or self._head(client, record) >= 0
        }
        return Preview(changes, heads, clocks, items)

    def empties(self, preview: Preview) -> bool:
        """Whether `preview` leaves a record that has a value without any. No shard does that."""
        gone = {key.rpartition(":")[0] for key, value in preview.changes.items() if value is None}
        if not gone:
            return False
        gone -= {record for (_, record), head in preview.heads.items() if head >= 0}
        return any(
            all(head < 0 or (client, record) in preview.heads for client, head in self._records[record])
            for record in gone
        )

    def _head(self, client: int, record: str) -> int:
        for writer, head in self._records.get(record, ()):
            if writer == client:
                return head
        return _NONE

    def _set(self, client: int, record: str, head: int) -> None:
        chain = self._chains.setdefault(client, {})
        before = self._head(client, record)
        self.live += (head >= 0) - (before >= 0)
        heads = self._records.get(record, ())
        if before == _NONE:
            self._records[record] = (*heads, (client, head))
        else:
            self._records[record] = tuple((c, head if c == client else h) for c, h in heads)
            del chain[_clock(before)]
        chain[_clock(head)] = record

    def _record(
        self,
        client: int,
        origin: int,
        key: str | None,
        chain: Mapping[int, str],
        changed: Mapping[tuple[int, str], int],
    ) -> str:
        """The record that an operation writes, given the `chain` and the heads `changed` before it.

        Raises Contradiction unless it replaces the head of its key, or is the first where there is none.
        """
        if key is not None:
            record = key.rpartition(":")[0]
        else:
            known = chain.get(origin) or self._chains.get(client, {}).get(origin)
            if known is None:
                raise Contradiction([client], "an operation replaces what is no key's last operation")
            record = known
        head = changed.get((client, record), self._head(client, record))
        if (head != _NONE) if origin < 0 else (_clock(head) != origin):
            raise Contradiction([client], "an operation replaces what is not the last operation on its key")
        return record


def _within(deletion: Deletion, chain: Mapping[int, str]) -> list[tuple[str, int]]:
    """The (record, clock) pairs of `chain` that `deletion` covers, in time that its length cannot blow up."""
    _, start, length = deletion
    end = start + length
    if length < len(chain):
        return [(chain[clock], clock) for clock in range(start, end) if clock in chain]
    return [(record, clock) for clock, record in chain.items() if start <= clock < end]


def _clock(head: int) -> int:
    return head if head >= 0 else ~head
