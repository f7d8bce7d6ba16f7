"""The shard documents of a volume: loaded at their first change, written as one client.

Of epochs that were left it remembers what of them is in the present one, as long as the documents are not
dropped. To have forgotten costs being told once more.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from dittofs.ids import Slot
from dittofs.tree.heads import Preview
from dittofs.tree.index import ShardSource
from dittofs.tree.shard import Epoch, Shard
from dittofs.tree.states import States
from dittofs.tree.update import DecodedUpdate, StateVector, slot_of

LEFT_MAX: Final = 4
"""Epochs of one document that are remembered after they were left."""
_NOTHING: StateVector = {}


class Documents:
    """Holds what is loaded. Nothing is ever loaded to be read: reads go to the index."""

    def __init__(self, source: ShardSource, states: States, client_id: int) -> None:
        self._source = source
        self._states = states
        self._loaded: dict[int, Shard] = {}
        self._left: dict[int, dict[Epoch, StateVector]] = {}
        self.client_id = client_id
        """Who writes here. Drop all documents to change it."""

    @property
    def slot(self) -> Slot:
        """Where our own values stand."""
        return slot_of(self.client_id)

    def shard(self, number: int) -> Shard:
        """One document. Raises FormatError if what is stored of it is not what a shard wrote."""
        shard = self._loaded.get(number)
        return shard if shard is not None else self._load(number, *self._source.load(number))

    def stored(self, number: int) -> Shard | None:
        """One document; None if nothing was ever stored of it. Raises FormatError as `shard` does."""
        if number in self._loaded:
            return self._loaded[number]
        epoch, snapshot, updates = self._source.load(number)
        return self._load(number, epoch, snapshot, updates) if snapshot is not None or updates else None

    def _load(
        self, number: int, epoch: tuple[int, bytes], snapshot: bytes | None, updates: Sequence[bytes]
    ) -> Shard:
        shard = Shard.load(Epoch(*epoch), snapshot, updates, self.client_id)
        self._loaded[number] = shard
        if shard.epoch != self._states.epoch(number):  # the source had to make it anew
            self._states.moved(number, shard.epoch, shard.known)
        return shard

    @contextmanager
    def reading(self, number: int) -> Iterator[Shard]:
        """One document, for this block only: it does not stay in memory if it was not there before."""
        was_loaded = number in self._loaded
        try:
            yield self.shard(number)
        finally:
            if not was_loaded:
                self._loaded.pop(number, None)

    def write(self, number: int, values: Mapping[str, bytes]) -> tuple[Epoch, bytes]:
        """Set records (by record key) in our own slot and drop the other slots; one transaction."""
        shard = self.shard(number)
        own = shard.slot
        gone = [f"{key}:{slot}" for key in values for slot in shard.live_slots(key) if slot != own]
        update = shard.write({f"{key}:{own}": value for key, value in values.items()}, gone)
        self._states.moved(number, shard.epoch, shard.known)
        return shard.epoch, update

    def take(self, number: int, updates: Iterable[DecodedUpdate], preview: Preview) -> Shard:
        """Take updates in of which `preview` was made."""
        shard = self.shard(number)
        shard.take(updates, preview)
        self._states.moved(number, shard.epoch, shard.known)
        return shard

    def replace(self, number: int, shard: Shard) -> None:
        """Go on with another document, of a higher epoch."""
        self._loaded[number] = shard
        self._states.moved(number, shard.epoch, shard.known)

    def drop(self, numbers: Collection[int] | None = None) -> None:
        """Forget documents, all of them by default: their next use loads them again."""
        for number in [*self._loaded, *self._left] if numbers is None else numbers:
            self._loaded.pop(number, None)
            self._left.pop(number, None)

    def succeed(self, number: int, shard: Shard) -> None:
        """Go on with another document, of a higher epoch, that says all which the present one says."""
        self.joined(number, self._states.epoch(number), self._states.known(number))
        self.replace(number, shard)

    def joined(self, number: int, epoch: Epoch, known: StateVector) -> None:
        """All that a document of an epoch that is left had seen is in the present one."""
        left = self._left.setdefault(number, {})
        before = left.pop(epoch, _NOTHING)
        left[epoch] = {
            client: max(known.get(client, 0), before.get(client, 0)) for client in {**known, **before}
        }
        if len(left) > LEFT_MAX:
            del left[next(iter(left))]

    def left(self, number: int, epoch: Epoch) -> StateVector:
        """What of an epoch that was left is known to be in the present one."""
        return self._left.get(number, {}).get(epoch, _NOTHING)

    @property
    def loaded(self) -> Mapping[int, Shard]:
        """Those in memory, by number."""
        return self._loaded
