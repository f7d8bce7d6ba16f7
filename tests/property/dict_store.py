"""The index of a tree in memory."""

from bisect import bisect_left, insort
from collections.abc import Iterator


class DictStore:
    """An `IndexStore` of dictionaries."""

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
