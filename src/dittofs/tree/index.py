"""What the tree needs from whoever keeps it, and an index that lives in memory.

The derived index is what every read goes to; shard documents are loaded at their first change. The tables:

| table | key | value |
|---|---|---|
| record | record key | 1 if the inode has further names, else 0; then the joined record |
| links | inode | its further names' ids, separated by commas |
| claim | parent, name | who is shown so: `D` directory, `N` name, `C` conflict entries; then the record key |
| special | parent, name | a name that shows more or other than its one claim |
| directory | inode | live entries, subdirectories, special names, first shown, mtime, touched |
| number | number | who would like to show it |
| displaced | inode | parent, name: where a directory is shown that was moved below itself |
| unknown | parent | has entries, but is not known as a directory |
| awaited | target, source | a save that waits for the target's record |
| state | document | epoch, state vector; slot, n: the last of our own changes; greatest stamp |
| setting | name | a setting of the volume, as in the meta document |
| total | | counts |
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol


class IndexStore(Protocol):
    """An ordered store of rows, in tables. What it takes is undone with the transaction it is part of."""

    def get(self, table: str, key: bytes) -> bytes | None:
        """The row, or None."""

    def put(self, table: str, key: bytes, value: bytes) -> None:
        """Set a row."""

    def delete(self, table: str, key: bytes) -> None:
        """Remove a row. One that is not there is not an error."""

    def scan(self, table: str, prefix: bytes) -> Iterable[tuple[bytes, bytes]]:
        """The rows whose key begins with `prefix`, ordered by key."""


class ShardSource(Protocol):
    """Where shard documents are kept."""

    def load(self, shard: int) -> tuple[tuple[int, bytes], bytes | None, Sequence[bytes]]:
        """A shard's epoch (number, digest), its snapshot, and the updates after it, all verified."""


class DictStore:
    """An index in memory, for tests and for comparing."""

    def __init__(self) -> None:
        self._tables: dict[str, tuple[dict[bytes, bytes], list[bytes]]] = {}

    def get(self, table: str, key: bytes) -> bytes | None:
        return self._table(table)[0].get(key)

    def put(self, table: str, key: bytes, value: bytes) -> None:
        rows, keys = self._table(table)
        if key not in rows:
            insort(keys, key)
        rows[key] = value

    def delete(self, table: str, key: bytes) -> None:
        rows, keys = self._table(table)
        if rows.pop(key, None) is not None:
            del keys[bisect_left(keys, key)]

    def scan(self, table: str, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        rows, keys = self._table(table)
        at = bisect_left(keys, prefix)
        end = at
        while end < len(keys) and keys[end].startswith(prefix):
            end += 1
        return iter([(key, rows[key]) for key in keys[at:end]])

    def tables(self) -> dict[str, dict[bytes, bytes]]:
        """A copy of everything."""
        return {name: dict(rows) for name, (rows, _) in self._tables.items() if rows}

    def restore(self, tables: dict[str, dict[bytes, bytes]]) -> None:
        """Become the copy that `tables()` gave."""
        self._tables = {name: (dict(rows), sorted(rows)) for name, rows in tables.items()}

    def _table(self, name: str) -> tuple[dict[bytes, bytes], list[bytes]]:
        table = self._tables.get(name)
        if table is None:
            table = self._tables[name] = ({}, [])
        return table
