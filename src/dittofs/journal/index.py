"""The persisted index: small rows by table and key, the read path of the tree."""

import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from dittofs.journal import schema
from dittofs.journal.damage import Damage, IndexDamaged
from dittofs.journal.rows import UNWRITTEN_ROWS_MAX
from dittofs.journal.statements import Statements, before_end_of

PAGE_ROWS = 512
"""Rows that `scan` reads at a time."""
REBUILDING: Final = "journal/rebuilding"
"""Of the meta row that says whether the index is whole."""
IndexChange = tuple[int, bytes, bytes | None]
"""Number of the table, key, value; None: the row goes."""
_Layer = dict[int, dict[bytes, bytes | None]]
_WHAT = "index"
_GET = "SELECT value, sum FROM entry WHERE tbl=? AND key=?"
_PUT = "INSERT OR REPLACE INTO entry VALUES(?,?,?,?)"
_DELETE = "DELETE FROM entry WHERE tbl=? AND key=?"
_ROWS = "SELECT key, value, sum FROM entry WHERE tbl=? AND key"
_PAGE = f" ORDER BY key LIMIT {PAGE_ROWS}"


class Index:
    """Rows (table, key) -> value, ordered by key. Every failure to read one right is `IndexDamaged`.

    What transactions change stays in memory until `write`, so that a row which many of them change is
    written once; redo.py makes it durable. Reads see the changes of the open transaction, then those
    that are late, then the tables.
    """

    def __init__(self, statements: Statements) -> None:
        self._statements = statements
        self._unreadable: IndexDamaged | None = None
        """Why not even the names of the tables are known: an index to be cleared."""
        self._tables: dict[str, int] = {}
        try:
            self._tables = dict(statements.rows(_WHAT, "SELECT name, tbl FROM entry_table", (), IndexDamaged))
        except IndexDamaged as error:
            self._unreadable = error
        self._before = self._tables, self._unreadable
        self._late: _Layer = {}
        """What committed transactions changed."""
        self._changed: _Layer = {}
        """What the open transaction changed; None: the row goes."""
        self._changes = 0
        self.late = 0
        """Rows in `_late`."""
        self._written: tuple[_Layer, int] | None = None
        """What was late until the open transaction wrote it."""
        self.settle: Callable[[], None] = self.write
        """Called within a transaction that changes too much to be kept in memory."""

    def get(self, table: str, key: bytes) -> bytes | None:
        number = self._number(table)
        if number is None:
            return None
        for layer in (self._changed, self._late):
            changes = layer.get(number)
            if changes is not None and key in changes:
                return changes[key]
        rows = self._statements.rows(_WHAT, _GET, (number, key), IndexDamaged)
        if not rows:
            return None
        value: bytes
        value, checksum = rows[0]
        if checksum != zlib.crc32(value, zlib.crc32(key, number)):
            raise self._mismatch(table)
        return value

    def put(self, table: str, key: bytes, value: bytes) -> None:
        number = self._number(table) or self._add_table(table)
        self._change(number, key, value)

    def delete(self, table: str, key: bytes) -> None:
        number = self._number(table)
        if number is not None:
            self._change(number, key, None)

    def _change(self, number: int, key: bytes, value: bytes | None) -> None:
        self._changed.setdefault(number, {})[key] = value
        self._changes += 1
        if self._changes > UNWRITTEN_ROWS_MAX:
            self.settle()

    def changes(self) -> list[IndexChange]:
        """What the open transaction changed and did not write."""
        return [(number, key, value) for number, keys in self._changed.items() for key, value in keys.items()]

    def lay(self, changes: Iterable[IndexChange]) -> None:
        """Have changes that are durable elsewhere, and in no table."""
        for number, key, value in changes:
            layer = self._late.setdefault(number, {})
            self.late += key not in layer
            layer[key] = value

    def write(self) -> None:
        """Hand what is late, and what the open transaction changed so far, to SQLite, in order of key."""
        layer = {
            number: {**self._late.get(number, {}), **self._changed.get(number, {})}
            for number in sorted({*self._late, *self._changed})
        }
        write_changes(
            self._statements,
            [(number, key, value) for number, keys in layer.items() for key, value in sorted(keys.items())],
        )
        if self._written is None:
            self._written = self._late, self.late
        self._late, self.late = {}, 0
        self._changed, self._changes = {}, 0

    def scan(self, table: str, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Rows whose key begins with `prefix`, in order of key.

        No read is open between two rows, so a scan may be left unfinished and the index changed
        meanwhile; a row changed during the scan appears as it was or as it is.
        """
        number = self._number(table)
        if number is None:
            return
        below, bound = before_end_of(prefix)
        operator, last = ">=", prefix
        while True:
            sql = f"{_ROWS}{operator}?{below}{_PAGE}"
            rows = self._statements.rows(_WHAT, sql, (number, last, *bound), IndexDamaged)
            found: dict[bytes, bytes] = {}
            for key, value, checksum in rows:
                if checksum != zlib.crc32(value, zlib.crc32(key, number)):
                    raise self._mismatch(table)
                found[key] = value
            is_last = len(rows) < PAGE_ROWS
            self._lay_over(
                found, number, prefix, None if operator == ">=" else last, None if is_last else rows[-1][0]
            )
            yield from found.items()
            if is_last:
                return
            operator, last = ">", rows[-1][0]

    def _lay_over(
        self, found: dict[bytes, bytes], number: int, prefix: bytes, after: bytes | None, last: bytes | None
    ) -> None:
        """Change a page of rows, those with `prefix` behind `after` up to `last`, as what is late says."""
        is_ordered = True
        for layer in (self._late, self._changed):
            for key, value in layer.get(number, {}).items():
                if not key.startswith(prefix) or (after is not None and key <= after):
                    continue
                if last is not None and key > last:
                    continue
                if value is None:
                    found.pop(key, None)
                else:
                    is_ordered = is_ordered and key in found
                    found[key] = value
        if not is_ordered:
            ordered = sorted(found.items())
            found.clear()
            found.update(ordered)

    def clear(self, *, is_readable: bool) -> None:
        """Remove every row. From pages that cannot be read too: those stay lost in the file."""
        run = self._statements.run
        if self._written is None:
            self._written = self._late, self.late
        self._late, self.late = {}, 0
        self._changed, self._changes = {}, 0
        if is_readable:
            run(_WHAT, "DROP TABLE entry", (), IndexDamaged)
            run(_WHAT, "DROP TABLE entry_table", (), IndexDamaged)
        else:
            # Freeing the pages means reading them, and SQLite answers a read error by undoing the
            # whole transaction; forgetting them reads none.
            run(_WHAT, "PRAGMA writable_schema=ON")
            run(_WHAT, "DELETE FROM sqlite_schema WHERE tbl_name IN ('entry', 'entry_table')")
            run(_WHAT, "PRAGMA writable_schema=RESET")
        run(_WHAT, schema.INDEX_TABLES)
        self._tables, self._unreadable = {}, None

    def committed(self) -> None:
        for number, changes in self._changed.items():
            layer = self._late.setdefault(number, {})
            self.late -= len(layer)
            layer.update(changes)
            self.late += len(layer)
        self._changed, self._changes = {}, 0
        self._written = None
        self._before = self._tables, self._unreadable

    def rolled_back(self) -> None:
        self._changed, self._changes = {}, 0
        if self._written is not None:
            self._late, self.late = self._written
            self._written = None
        self._tables, self._unreadable = self._before

    def check(self) -> Iterator[Damage]:
        if self._unreadable is not None:
            yield Damage(self._unreadable.what, str(self._unreadable))
        for table in sorted(self._tables):
            try:
                for _ in self.scan(table, b""):
                    pass
            except IndexDamaged as error:
                yield Damage(error.what, str(error))

    def _number(self, table: str) -> int | None:
        if self._unreadable is not None:
            raise IndexDamaged(self._unreadable.what, "its tables' names cannot be read")
        return self._tables.get(table)

    def _add_table(self, table: str) -> int:
        self._statements.run(
            "index tables", "INSERT INTO entry_table(name) VALUES(?)", (table,), damaged=IndexDamaged
        )
        number = self._statements.connection.last_insert_rowid()
        self._tables = {**self._tables, table: number}
        return number

    def _mismatch(self, table: str) -> IndexDamaged:
        return IndexDamaged(f"{self._statements.path}: index table {table}", "a row fails its checksum")


def write_changes(statements: Statements, changes: Iterable[IndexChange]) -> None:
    """Do to the table what `changes` say, each of another row."""
    puts, deletes = [], []
    for number, key, value in changes:
        if value is None:
            deletes.append((number, key))
        else:
            puts.append((number, key, value, zlib.crc32(value, zlib.crc32(key, number))))
    statements.run_many(_WHAT, _DELETE, deletes, IndexDamaged)
    statements.run_many(_WHAT, _PUT, puts, IndexDamaged)


def is_index_readable(statements: Statements) -> bool:
    """Whether every page of the index can be read.

    If not, a transaction open on `statements` is undone.
    """
    try:
        statements.rows(_WHAT, "SELECT count(*), max(substr(value, -1)) FROM entry", (), IndexDamaged)
        statements.rows(_WHAT, "SELECT name, tbl FROM entry_table NOT INDEXED", (), IndexDamaged)
        statements.rows(_WHAT, "SELECT name FROM entry_table ORDER BY name", (), IndexDamaged)
    except IndexDamaged:
        return False
    return True
