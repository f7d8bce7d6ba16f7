"""The shard documents of a volume: loaded at their first change, written as one client."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager

from dittofs.ids import Slot, slot_of_client
from dittofs.tree.heads import Preview
from dittofs.tree.index import ShardSource
from dittofs.tree.shard import Epoch, Shard
from dittofs.tree.states import States
from dittofs.tree.update import DecodedUpdate


class Documents:
    """Holds what is loaded. Nothing is ever loaded to be read: reads go to the index."""

    def __init__(self, source: ShardSource, states: States, client_id: int) -> None:
        self._source = source
        self._states = states
        self._loaded: dict[int, Shard] = {}
        self.client_id = client_id
        """Who writes here. Drop all documents to change it."""

    @property
    def slot(self) -> Slot:
        """Where our own values stand."""
        return slot_of_client(self.client_id)

    def shard(self, number: int) -> Shard:
        """One document. Raises FormatError if what is stored of it is not what a shard wrote."""
        shard = self._loaded.get(number)
        if shard is None:
            epoch, snapshot, updates = self._source.load(number)
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
        for number in list(self._loaded) if numbers is None else numbers:
            self._loaded.pop(number, None)

    @property
    def loaded(self) -> Mapping[int, Shard]:
        """Those in memory, by number."""
        return self._loaded
