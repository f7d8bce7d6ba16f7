"""One CRDT document of the tree: keys of the form `<record>:<slot>`, each written by one client only.

The only module that imports pycrdt. It knows nothing of what a value means, and it never lets the library
decide anything: what an update will do is worked out beforehand (heads.py), so that a document and our
account of it cannot disagree. Not thread-safe: one task owns all shards.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import NamedTuple

from blake3 import blake3
from pycrdt import Doc, Map

from dittofs.errors import FormatError
from dittofs.ids import GENESIS_SLOT, Slot
from dittofs.tree.heads import Heads, Preview
from dittofs.tree.update import (
    GENESIS_CLIENT,
    KEY_BYTES_MAX,
    LIVE,
    RECORD_BYTES_MAX,
    STATE,
    DecodedUpdate,
    StateVector,
    decode,
    decode_state_vector,
    encode_state_vector,
    is_record_key,
    slot_of,
)

GARBAGE_ITEMS_MIN = 64
"""Less garbage than this is never worth a compaction."""
OVERHEAD_BYTES_MAX = KEY_BYTES_MAX + 64
"""What one operation adds to an update beside its value, at most: key, ids and numbers."""


class Epoch(NamedTuple):
    """The age of a shard: how often it was compacted, and the digest of the content it began with."""

    number: int
    digest: bytes


FIRST_EPOCH = Epoch(0, b"")
"""A shard that was never compacted: it began empty."""
EPOCHS_MAX = 1 << 48
EPOCH_DIGEST_BYTES = 32


def check_epoch(epoch: Epoch) -> None:
    """Raise FormatError if no compaction could have begun `epoch`."""
    number, digest = epoch
    if not 0 <= number < EPOCHS_MAX or len(digest) != (EPOCH_DIGEST_BYTES if number else 0):
        raise FormatError(f"there is no epoch {number} with a digest of {len(digest)} bytes")


_NOTHING_FRESH: Mapping[str, bytes | None] = {}


class Garbage(NamedTuple):
    """Keys that hold a value, and the items that hold none but cannot be forgotten."""

    live: int
    dead: int

    @property
    def is_excessive(self) -> bool:
        """Whether compaction is due."""
        return self.dead > max(self.live, GARBAGE_ITEMS_MIN)


class _Library:
    """`with` around every call of pycrdt: what it raises becomes FormatError, and is final.

    Its panics are BaseExceptions, and neither they nor its exceptions roll a transaction back: afterwards
    nobody knows what the document holds, so every later call is refused too.
    """

    __slots__ = ("failure",)

    def __init__(self) -> None:
        self.failure: str | None = None

    def __enter__(self) -> None:
        if self.failure is not None:
            raise FormatError(f"the document is not usable: {self.failure}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.failure = f"{type(error).__name__}: {error}"
            if not isinstance(error, KeyboardInterrupt | SystemExit):
                raise FormatError(f"the document library failed: {self.failure}") from error


class Shard:
    """One document and what is known of it. Made by `load`.

    If the library itself fails, the method raises FormatError and so does every later call: load it again.
    """

    def __init__(self, epoch: Epoch, client_id: int) -> None:
        self.epoch = epoch
        self.client_id = client_id
        self.slot = slot_of(client_id)
        self._doc: Doc[Map[bytes]] = Doc(client_id=client_id)
        self._map: Map[bytes] = self._doc.get("m", type=Map)
        self._library = _Library()
        self._heads = Heads()
        self.known: StateVector = self._heads.known
        """What this shard has seen, for `decode`. A view: it moves on with the shard."""
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

    def entries(self) -> Mapping[str, bytes]:
        """The whole content, key -> value, sorted by key."""
        keys = [f"{record}:{slot}" for record in self.records() for slot in self._heads.slots(record)]
        return self._values(sorted(keys))

    def records(self) -> Iterator[str]:
        """Every record key with a value in some slot, in no order. The shard must not change meanwhile."""
        return self._heads.records()

    def live_slots(self, record_key: str) -> list[Slot]:
        """The slots in which a record has a value."""
        return self._heads.slots(record_key)

    def get_slots(
        self, record_key: str, fresh: Mapping[str, bytes | None] = _NOTHING_FRESH
    ) -> dict[Slot, bytes]:
        """The values of one record, by the slot that wrote them. Empty if there is none.

        `fresh`: values known to the caller, by key, which the library need not be asked for.
        """
        slots = self._heads.slots(record_key)
        if fresh and len(slots) == 1:
            value = fresh.get(f"{record_key}:{slots[0]}")
            if value is not None:
                return {slots[0]: value}
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
        if len(sets) + len(deletes) > LIVE.operations:
            raise ValueError(f"a transaction of more than {LIVE.operations} operations")
        own = ":" + self.slot
        size = 0
        for key, value in sets.items():
            if not key.endswith(own) or not is_record_key(key[: -len(own)]) or key in deletes:
                raise ValueError(f"{key!r} is not a key of slot {self.slot}, or is both set and deleted")
            if len(value) > RECORD_BYTES_MAX:
                raise ValueError(f"a record of {len(value)} bytes; {RECORD_BYTES_MAX} are allowed")
            size += len(value)
        if size + (len(sets) + len(deletes)) * OVERHEAD_BYTES_MAX > LIVE.bytes:
            raise ValueError(f"a transaction of {size} bytes; an update has at most {LIVE.bytes}")
        return self._transact(sets, [key for key in dict.fromkeys(deletes) if self._heads.is_live(key)])

    def preview(self, updates: Sequence[DecodedUpdate]) -> Preview:
        """What `take` of these updates, in this order, would change.

        Raises FormatError unless they continue this shard's history, `Behind` if something before them is
        missing. Operations that are known already change nothing, even if they differ from the ones known.
        """
        return self._heads.preview(updates)

    def empties(self, preview: Preview) -> bool:
        """Whether `preview` leaves a record that has a value without any. No shard does that."""
        return self._heads.empties(preview)

    def take(self, updates: Iterable[DecodedUpdate], preview: Preview) -> None:
        """Take in updates of which `preview` was made; the shard has not changed since."""
        with self._library:
            for update in updates:
                self._doc.apply_update(update.raw)
        self._heads.take(preview)
        self._items += preview.items

    def apply(self, update: DecodedUpdate) -> dict[str, bytes | None]:
        """Take in an update; return the keys that changed, with their new values (None: gone).

        Raises FormatError, having changed nothing, if it does not continue this shard's history.
        """
        preview = self._heads.preview([update])
        if preview.heads or preview.clocks:
            self.take([update], preview)
        return preview.changes

    def state_vector(self) -> bytes:
        """What this shard has seen, encoded; equal for equal states."""
        return encode_state_vector(self.known)

    def diff(self, vector: bytes) -> bytes:
        """The update that brings a shard of this epoch and state `vector` up to this one's state.

        It is decoded with the limits `STATE`. Raises FormatError for a vector that is none.
        """
        known = decode_state_vector(vector)
        with self._library:
            return self._doc.get_update(encode_state_vector(known))

    def snapshot(self) -> bytes:
        """The whole document, as an update for an empty one."""
        with self._library:
            return self._doc.get_update()

    def garbage(self) -> Garbage:
        """How much of the document is garbage. `dead` may be a quarter too high, never too low."""
        live = self._heads.live
        limit = max(live, GARBAGE_ITEMS_MIN)
        operations = sum(self.known.values())
        if self._items - live > limit and operations - self._items_counted_at > limit // 4:
            # The library merges the dead operations of one key that nothing stands between.
            self._items = len(decode(self.snapshot(), None, limits=STATE).writes)
            self._items_counted_at = operations
        return Garbage(live, self._items - live)

    def compacted(
        self, join: Callable[[str, Mapping[Slot, bytes]], bytes | None], *, client_id: int
    ) -> "Shard":
        """A fresh shard of the next epoch with the same content: one value per record, in slot `g`.

        `join` makes it of the record's slots, or None to leave the record out; it must not depend on their
        order. Replicas of equal content get equal snapshots and equal epochs, whatever their histories.
        `client_id` is who writes in the fresh shard; this one stays as it is.
        """
        joined = {}
        for record in self.records():
            value = join(record, self.get_slots(record))
            if value is not None:
                joined[record] = value
        return Shard.begin(self.epoch.number + 1, joined, client_id)

    @classmethod
    def begin(cls, number: int, joined: Mapping[str, bytes], client_id: int) -> "Shard":
        """The shard that begins epoch `number` with these records: one value each, in slot `g`."""
        content = {f"{record}:{GENESIS_SLOT}": joined[record] for record in sorted(joined)}
        epoch = Epoch(number, _digest(content))
        snapshot = Shard(epoch, GENESIS_CLIENT)._transact(content, ()) if content else None
        return cls.load(epoch, snapshot, (), client_id)

    def _transact(self, sets: Mapping[str, bytes], gone: Collection[str]) -> bytes:
        emitted: list[bytes] = []
        with self._library:
            subscription = self._doc.observe(lambda event: emitted.append(event.update))
            try:
                with self._doc.transaction():
                    for key, value in sets.items():
                        self._map[key] = value
                    for key in gone:
                        del self._map[key]
            finally:
                self._doc.unobserve(subscription)
        self._heads.wrote(self.client_id, sets, gone)
        self._items += len(sets)
        (update,) = emitted
        return update

    def _values(self, keys: Iterable[str]) -> dict[str, bytes]:
        with self._library, self._doc.transaction():
            return {key: bytes(self._map[key]) for key in keys}


def _digest(content: Mapping[str, bytes]) -> bytes:
    """BLAKE3 of a content that is sorted by key."""
    hasher = blake3()
    for key, value in content.items():
        for part in (key.encode("ascii"), value):
            hasher.update(len(part).to_bytes(4, "big"))
            hasher.update(part)
    return hasher.digest()
