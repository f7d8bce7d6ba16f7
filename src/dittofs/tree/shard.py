"""One CRDT document of the tree: keys of the form `<record>:<slot>`, each written by one client only.

The only module that imports pycrdt. It knows nothing of what a value means, and it never lets the library
decide anything: what an update will do is worked out here beforehand (`preview`), so that a document and this
account of it cannot disagree. Not thread-safe: one task owns all shards.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from blake3 import blake3
from pycrdt import Doc, Map

from dittofs.errors import FormatError
from dittofs.ids import GENESIS_SLOT, Slot
from dittofs.tree.update import (
    GENESIS_CLIENT,
    RECORD_BYTES_MAX,
    STATE,
    DecodedUpdate,
    StateVector,
    client_of,
    decode,
    decode_state_vector,
    encode_state_vector,
    is_record_key,
    slot_of,
)

GARBAGE_ITEMS_MIN = 1_000
"""Less garbage than this is never worth a compaction."""


class Epoch(NamedTuple):
    """The age of a shard: how often it was compacted, and the digest of the content it began with."""

    number: int
    digest: bytes


FIRST_EPOCH = Epoch(0, b"")
"""A shard that was never compacted: it began empty."""


class Garbage(NamedTuple):
    """Keys that hold a value, and the items that hold none but cannot be forgotten."""

    live: int
    dead: int

    @property
    def is_excessive(self) -> bool:
        """Whether compaction is due."""
        return self.dead > max(self.live, GARBAGE_ITEMS_MIN)


_Heads = tuple[tuple[int, int], ...]
"""For each client that ever wrote a record, the clock of its last operation on it: `clock` if that left a
value, `~clock` if the value is gone."""


class Preview(NamedTuple):
    """What an update would change in a shard."""

    changes: dict[str, bytes | None]
    """Key -> its value afterwards, None where it will be gone. Keys that keep their state are left out."""
    heads: dict[tuple[int, str], int]
    """(client, record) -> the last operation on its key, see `_Heads`, wherever it changes."""
    clocks: dict[int, int]
    """Client -> number of its operations known afterwards, wherever that changes."""
    items: int


class Shard:
    """One document and what is known of it. Made by `load`."""

    def __init__(self, epoch: Epoch, client_id: int) -> None:
        self.epoch = epoch
        self.client_id = client_id
        self.slot = slot_of(client_id)
        self._doc: Doc[Map[bytes]] = Doc(client_id=client_id)
        self._map: Map[bytes] = self._doc.get("m", type=Map)
        self._clocks: dict[int, int] = {}
        self._records: dict[str, _Heads] = {}
        self._chains: dict[int, dict[int, str]] = {}  # client -> last clock on a key of its -> record
        self._live = 0
        self._items = 0  # structs of the document, at most
        self._items_counted_at = 0  # operations in all when they were last counted

    @classmethod
    def load(cls, epoch: Epoch, snapshot: bytes | None, updates: Sequence[bytes], client_id: int) -> "Shard":
        """The shard of `snapshot` and the `updates` after it, ready to write as `client_id`.

        Raises FormatError if any of them is not what a shard of this history could have written.
        """
        shard = cls(epoch, client_id)
        if snapshot is not None:
            shard.apply(decode(snapshot, shard.known, limits=STATE))
        for update in updates:
            shard.apply(decode(update, shard.known, limits=STATE))
        return shard

    @property
    def known(self) -> StateVector:
        """What this shard has seen, for `decode`. A view: it moves on with the shard."""
        return self._clocks

    def entries(self) -> Mapping[str, bytes]:
        """The whole content, key -> value, sorted by key."""
        keys = [
            f"{record}:{slot_of(client)}"
            for record, heads in self._records.items()
            for client, head in heads
            if head >= 0
        ]
        return self._values(sorted(keys))

    def records(self) -> Iterator[str]:
        """Every record key with a value in some slot, in no order. The shard must not change meanwhile."""
        return (record for record, heads in self._records.items() if any(head >= 0 for _, head in heads))

    def get_slots(self, record_key: str) -> dict[Slot, bytes]:
        """The values of one record, by the slot that wrote them. Empty if there is none."""
        slots = [slot_of(client) for client, head in self._records.get(record_key, ()) if head >= 0]
        values = self._values(f"{record_key}:{slot}" for slot in slots)
        return dict(zip(slots, values.values(), strict=True))

    def write(self, sets: Mapping[str, bytes], deletes: Collection[str]) -> bytes:
        """Set and delete keys in one transaction; return the update that does the same elsewhere.

        The keys set must be in the shard's own slot; at least one is set, because a deletion alone would not
        move the state vector. Keys to delete that hold nothing are passed over. Raises ValueError, having
        changed nothing, if a key or a value is not one that `decode` lets through.
        """
        if not sets:
            raise ValueError("a transaction sets at least one key")
        own = ":" + self.slot
        for key, value in sets.items():
            if not key.endswith(own) or not is_record_key(key[: -len(own)]):
                raise ValueError(f"{key!r} is not a key of slot {self.slot}")
            if len(value) > RECORD_BYTES_MAX:
                raise ValueError(f"a record of {len(value)} bytes; {RECORD_BYTES_MAX} are allowed")
            if key in deletes:
                raise ValueError(f"{key!r} is both set and deleted")
        gone = [key for key in deletes if self._is_live(key)]
        emitted: list[bytes] = []
        with _foreign():
            subscription = self._doc.observe(lambda event: emitted.append(event.update))
            try:
                with self._doc.transaction():
                    for key, value in sets.items():
                        self._map[key] = value
                    for key in gone:
                        del self._map[key]
            finally:
                self._doc.unobserve(subscription)
        clock = self._clocks.get(self.client_id, 0)
        for key in sets:
            self._set_head(self.client_id, key[: -len(own)], clock)
            clock += 1
        self._clocks[self.client_id] = clock
        self._items += len(sets)
        for key in gone:
            record, _, slot = key.rpartition(":")
            client = client_of(Slot(slot))
            self._set_head(client, record, ~self._head(client, record))
        (update,) = emitted
        return update

    def preview(self, update: DecodedUpdate) -> Preview:
        """What `apply` would change. Raises FormatError if `update` does not continue this shard's history.

        Operations that are known already change nothing, even if they differ from those we have: the library
        passes them over by their number.
        """
        heads: dict[tuple[int, str], int] = {}
        values: dict[tuple[int, str], bytes | None] = {}
        clocks: dict[int, int] = {}
        items = 0
        for client, start, length, origin, key, value in update.writes:
            known = clocks.get(client, self._clocks.get(client, 0))
            last = start + length - 1
            if last < known:
                continue
            if start > known:
                raise FormatError("an update leaves a gap in the operations of a client")
            if start < known:
                origin = known - 1
            record = self._record_of(client, origin, key, heads)
            heads[client, record] = ~last if value is None else last
            values[client, record] = value
            clocks[client] = last + 1
            items += 1
        for client, start, length in update.deletions:
            for record, head in self._live_heads(client, start, length, heads):
                heads[client, record] = ~head
                values[client, record] = None
        changes = {
            f"{record}:{slot_of(client)}": value
            for (client, record), value in values.items()
            if value is not None or self._head(client, record) >= 0
        }
        return Preview(changes, heads, clocks, items)

    def apply(self, update: DecodedUpdate) -> dict[str, bytes | None]:
        """Take in an update; return the keys that changed, with their new values (None: gone).

        Raises FormatError, having changed nothing, if it does not continue this shard's history.
        """
        changes, heads, clocks, items = self.preview(update)
        if heads or clocks:
            with _foreign():
                self._doc.apply_update(update.raw)
            for (client, record), head in heads.items():
                self._set_head(client, record, head)
            self._clocks.update(clocks)
            self._items += items
        return changes

    def state_vector(self) -> bytes:
        """What this shard has seen, encoded; equal for equal states."""
        return encode_state_vector(self._clocks)

    def diff(self, vector: bytes) -> bytes:
        """The update that brings a shard of this epoch and state `vector` up to this one's state.

        It is decoded with the limits `STATE`. Raises FormatError for a vector that is none.
        """
        known = decode_state_vector(vector)
        with _foreign():
            return self._doc.get_update(encode_state_vector(known))

    def snapshot(self) -> bytes:
        """The whole document, as an update for an empty one."""
        with _foreign():
            return self._doc.get_update()

    def garbage(self) -> Garbage:
        """How much of the document is garbage. `dead` may be a quarter too high, never too low."""
        limit = max(self._live, GARBAGE_ITEMS_MIN)
        operations = sum(self._clocks.values())
        grown = operations - self._items_counted_at
        if self._items - self._live > limit and grown > limit // 4:
            # The library merges the dead operations of one key that nothing stands between.
            self._items = len(decode(self.snapshot(), None, limits=STATE).writes)
            self._items_counted_at = operations
        return Garbage(self._live, self._items - self._live)

    def compacted(
        self, join: Callable[[str, Mapping[Slot, bytes]], bytes | None], *, client_id: int
    ) -> "Shard":
        """A fresh shard of the next epoch with the same content: one value per record, in slot `g`.

        `join` makes it of the record's slots, or None to leave the record out; it must not depend on their
        order. Replicas of equal content get equal snapshots and equal epochs, whatever their histories.
        `client_id` is who writes in the fresh shard; this one stays as it is.
        """
        joined = {}
        for record in sorted(self.records()):
            value = join(record, self.get_slots(record))
            if value is not None:
                joined[f"{record}:{GENESIS_SLOT}"] = value
        epoch = Epoch(self.epoch.number + 1, _digest(joined))
        genesis = Shard(epoch, GENESIS_CLIENT)
        snapshot = genesis.write(joined, ()) if joined else None
        return Shard.load(epoch, snapshot, (), client_id)

    def _values(self, keys: Iterable[str]) -> dict[str, bytes]:
        with _foreign(), self._doc.transaction():
            return {key: bytes(self._map[key]) for key in keys}

    def _head(self, client: int, record: str) -> int:
        """The last operation of `client` on `record`, as in `_Heads`; below -CLOCK_MAX if there was none."""
        for writer, head in self._records.get(record, ()):
            if writer == client:
                return head
        return _NO_HEAD

    def _is_live(self, key: str) -> bool:
        record, _, slot = key.rpartition(":")
        heads = self._records.get(record)
        return heads is not None and self._head(client_of(Slot(slot)), record) >= 0

    def _set_head(self, client: int, record: str, head: int) -> None:
        chain = self._chains.setdefault(client, {})
        before = self._head(client, record)
        self._live += (head >= 0) - (before >= 0)
        if before == _NO_HEAD:
            self._records[record] = (*self._records.get(record, ()), (client, head))
        else:
            heads = self._records[record]
            self._records[record] = tuple((c, head if c == client else h) for c, h in heads)
            del chain[_clock(before)]
        chain[_clock(head)] = record

    def _record_of(
        self, client: int, origin: int, key: str | None, heads: Mapping[tuple[int, str], int]
    ) -> str:
        """The record that an operation writes, given the `heads` changed so far. Raises FormatError."""
        slot = slot_of(client)
        if origin < 0:
            assert key is not None, "the decoder gives a first write its key"
            record = key[: -len(slot) - 1]
            if (client, record) in heads or self._head(client, record) != _NO_HEAD:
                raise FormatError("an update writes a key as if for the first time")
            return record
        found = self._chains.get(client, {}).get(origin)
        if key is not None:
            record = key[: -len(slot) - 1]
            if found is not None and found != record:
                raise FormatError("a run of operations changes its key")
            found = record
        if found is None or _clock(heads.get((client, found), self._head(client, found))) != origin:
            raise FormatError("an operation replaces what is no key's last operation")
        return found

    def _live_heads(
        self, client: int, start: int, length: int, changed: Mapping[tuple[int, str], int]
    ) -> list[tuple[str, int]]:
        """The records whose last operation by `client` is among `length` from `start` on and left a value."""
        chain = self._chains.get(client, {})
        end = start + length
        if length < len(chain):
            found = [(chain[clock], clock) for clock in range(start, end) if clock in chain]
        else:
            found = [(record, clock) for clock, record in chain.items() if start <= clock < end]
        live = [
            (record, clock)
            for record, clock in found
            if (client, record) not in changed and self._head(client, record) == clock
        ]
        live += [
            (record, head) for (c, record), head in changed.items() if c == client and start <= head < end
        ]
        return live


_NO_HEAD = -1 << 32


def _clock(head: int) -> int:
    return head if head >= 0 else ~head


def _digest(content: Mapping[str, bytes]) -> bytes:
    """BLAKE3 of a content that is sorted by key."""
    hasher = blake3()
    for key, value in content.items():
        for part in (key.encode("ascii"), value):
            hasher.update(len(part).to_bytes(4, "big"))
            hasher.update(part)
    return hasher.digest()


@contextmanager
def _foreign() -> Iterator[None]:
    """Turn what pycrdt raises, its panics among it (they are BaseExceptions), into FormatError."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        raise FormatError(f"the document library failed: {error}") from error
