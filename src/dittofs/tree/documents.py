"""The shard documents of a volume: loaded at their first change, written as one client."""

from collections.abc import Collection, Mapping

from dittofs.ids import Slot
from dittofs.tree.index import ShardSource
from dittofs.tree.shard import Epoch, Shard


class Documents:
    """Holds what is loaded. Nothing is ever loaded to be read: reads go to the index."""

    def __init__(self, source: ShardSource, client_id: int) -> None:
        self._source = source
        self._client_id = client_id
        self._loaded: dict[int, Shard] = {}

    def shard(self, number: int) -> Shard:
        """One document. Raises FormatError if what is stored of it is not what a shard wrote."""
        shard = self._loaded.get(number)
        if shard is None:
            epoch, snapshot, updates = self._source.load(number)
            shard = Shard.load(Epoch(*epoch), snapshot, updates, self._client_id)
            self._loaded[number] = shard
        return shard

    def write(self, number: int, values: Mapping[str, bytes]) -> tuple[Epoch, bytes]:
        """Set records (by record key) in our own slot and drop the other slots; one transaction."""
        shard = self.shard(number)
        own = shard.slot
        gone = [f"{key}:{slot}" for key in values for slot in shard.get_slots(key) if slot != own]
        update = shard.write({f"{key}:{own}": value for key, value in values.items()}, gone)
        return shard.epoch, update

    def drop(self, numbers: Collection[int] | None = None) -> None:
        """Forget documents, all of them by default: their next use loads them again."""
        for number in list(self._loaded) if numbers is None else numbers:
            self._loaded.pop(number, None)

    @property
    def loaded(self) -> Mapping[int, Shard]:
        """Those in memory, by number."""
        return self._loaded

    def slots(self, number: int, key: str) -> dict[Slot, bytes]:
        """The values of one record, by the slot that wrote them."""
        return self.shard(number).get_slots(key)
