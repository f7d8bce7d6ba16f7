"""The persisted index: small rows by table and key, the read path of the tree."""

import zlib
from collections.abc import Iterator

from dittofs.journal import schema
from dittofs.journal.damage import Damage, IndexDamaged
from dittofs.journal.statements import Statements, before_end_of

PAGE_ROWS = 512
"""Rows that `scan` reads at a time."""
UNWRITTEN_ROWS_MAX = 4096
"""Of one transaction, in memory: 2 MB."""
_WHAT = "index"
_GET = "SELECT value, sum FROM entry WHERE tbl=? AND key=?"
_PUT = "INSERT OR REPLACE INTO entry VALUES(?,?,?,?)"
_DELETE = "DELETE FROM entry WHERE tbl=? AND key=?"
_ROWS = "SELECT key, value, sum FROM entry WHERE tbl=? AND key"
_PAGE = f" ORDER BY key LIMIT {PAGE_ROWS}"


class Index:
    """Rows (table, key) -> value, ordered by key. Every failure to read one right is `IndexDamaged`.

    What a transaction changes is written at its end, each row once and in order of key: a group that
    changes a directory's row at each of its operations writes it once.
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
        self._unwritten: dict[tuple[int, bytes], bytes | None] = {}
        """What the open transaction changed; None: the row goes."""

    def get(self, table: str, key: bytes) -> bytes | None:
        number = self._number(table)
        if number is None:
            return None
        if (number, key) in self._unwritten:
            return self._unwritten[number, key]
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
        self._unwritten[number, key] = value
        if len(self._unwritten) > UNWRITTEN_ROWS_MAX:
            self.write()

    def write(self) -> None:
        """Hand what the open transaction changed so far to SQLite. Errors as of any statement."""
        if not self._unwritten:
            return
        puts, deletes = [], []
        for place, value in sorted(self._unwritten.items()):
            if value is None:
                deletes.append(place)
            else:
                number, key = place
                puts.append((number, key, value, zlib.crc32(value, zlib.crc32(key, number))))
        self._statements.run_many(_WHAT, _DELETE, deletes, IndexDamaged)
        self._statements.run_many(_WHAT, _PUT, puts, IndexDamaged)
        self._unwritten.clear()

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
            self.write()
            sql = f"{_ROWS}{operator}?{below}{_PAGE}"
            rows = self._statements.rows(_WHAT, sql, (number, last, *bound), IndexDamaged)
            for key, value, checksum in rows:
                if checksum != zlib.crc32(value, zlib.crc32(key, number)):
                    raise self._mismatch(table)
                yield key, value
            if len(rows) < PAGE_ROWS:
                return
            operator, last = ">", rows[-1][0]

    def clear(self, *, is_readable: bool) -> None:
        """Remove every row. From pages that cannot be read too: those stay lost in the file."""
        run = self._statements.run
        self._unwritten.clear()
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
        self._before = self._tables, self._unreadable

    def rolled_back(self) -> None:
        self._unwritten.clear()
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
