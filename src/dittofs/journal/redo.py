"""Rows of index and history that are committed, and not in their tables yet.

A transaction that changes little writes one row that says what it does to both: one page instead of ten.
Memory lays these changes over the tables, and a later transaction writes many of them at once. What a
process did not live to write is in memory again when the journal is opened.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec

from dittofs.journal.damage import Damage
from dittofs.journal.database import Database
from dittofs.journal.history import History, Row
from dittofs.journal.index import REBUILDING, Index, IndexChange
from dittofs.journal.rows import Rows, checksum
from dittofs.journal.statements import Statements

LATE_ROWS_MAX: Final = 1024
"""In memory only, of index and history together: so many are written within some milliseconds."""
LATE_BYTES_MAX: Final = 512 << 10
_LOST = "the index is made anew, what it said of the past is lost"
_Body = tuple[list[IndexChange], list[Row]]
_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(_Body)
_INSERT = "INSERT INTO redo(id, body, sum) VALUES(?,?,?)"
_SET_ASIDE = "INSERT INTO damaged(what, detail, row) VALUES(?,?,?)"
_SELECT = "SELECT id, body, sum FROM redo ORDER BY id"


class Redo:
    """What is late of one journal. Everything but `__init__` is called within a transaction or at its end."""

    def __init__(self, database: Database, index: Index, history: History) -> None:
        self._statements = database.statements
        self._index = index
        self._history = history
        history.settle = self.settle
        index.settle = self.settle
        self._damage: list[Damage] = []
        """Of rows that the table has."""
        self._is_emptied = False
        """In this transaction: `_damage` is of rows that are set aside."""
        self._last = self._bytes = 0
        """The greatest id in the table, and the size of its bodies."""
        self._before = 0, 0
        self._lay(database)

    def _lay(self, database: Database) -> None:
        """Lay what the table says over the others."""
        rows = self._statements.rows("redo", _SELECT)
        for said in read(self._statements.path, rows):
            if isinstance(said, Damage):
                self._damage.append(said)
            else:
                self._index.lay(said[0])
                self._history.lay(said[1])
        database.damage.extend(self._damage)
        self._last = rows[-1][0] if rows else 0
        self._bytes = sum(len(body) for _, body, _ in rows)
        self._before = self._last, self._bytes

    def write(self) -> None:
        """At the end of a transaction: one row for what it did, or everything into its tables."""
        changes, added = self._index.changes(), self._history.added
        if not changes and not added:
            return
        if self._index.late + self._history.late + len(changes) + len(added) <= LATE_ROWS_MAX:
            body = _encode((changes, added))
            if self._bytes + len(body) <= LATE_BYTES_MAX:
                self._last += 1
                self._bytes += len(body)
                self._statements.run("redo", _INSERT, (self._last, body, _sum(self._last, body)))
                return
        self.settle()

    def settle(self) -> None:
        """Write everything that is late, of this transaction too, into its tables."""
        self._index.write()
        self._history.write()
        self._empty()

    def clear_index(self, *, is_readable: bool) -> None:
        """Remove every row of the index, and what is late of it."""
        self._index.clear(is_readable=is_readable)
        self._history.write()
        self._empty()

    def _empty(self) -> None:
        """Remove every row of the table; all are kept aside if one could not be believed."""
        if self._damage and not self._is_emptied:
            first = self._damage[0]
            for row in self._statements.rows("redo", _SELECT):
                packed = msgspec.msgpack.encode(("redo", *row))
                self._statements.run("damaged rows", _SET_ASIDE, (first.what, first.detail, packed))
            Rows(self._statements).put_meta(REBUILDING, b"1")  # what would condemn the index goes
        if self._last or self._damage:
            self._statements.run("redo", "DELETE FROM redo")
        self._last = self._bytes = 0
        self._is_emptied = True

    def committed(self) -> None:
        self._index.committed()
        self._history.committed()
        if self._is_emptied:
            self._damage = []
        self._is_emptied = False
        self._before = self._last, self._bytes

    def rolled_back(self) -> None:
        self._index.rolled_back()
        self._history.rolled_back()
        self._last, self._bytes = self._before
        self._is_emptied = False


def read(path: str, rows: Iterable[Sequence[Any]]) -> Iterator[_Body | Damage]:
    """What each row of the table says, in order; `Damage` where one cannot be believed, or is missing."""
    expected = 1
    for found, body, summed in rows:
        if found != expected:
            yield Damage(f"{path}: redo row {expected}", f"it is missing: {_LOST}")
        expected = found + 1 if isinstance(found, int) else 0
        try:
            is_sound = summed == _sum(found, body)
            said: _Body | None = _decoder.decode(body) if is_sound else None
        except (msgspec.MsgspecError, TypeError, AttributeError, OverflowError):  # values of other types
            said = None
        yield said or Damage(f"{path}: redo row {found}", f"it does not match its checksum: {_LOST}")


def check_redo(statements: Statements) -> Iterator[Damage]:
    """What is wrong with the table."""
    rows = statements.rows("redo", _SELECT)
    yield from (said for said in read(statements.path, rows) if isinstance(said, Damage))


def _sum(number: int, body: bytes) -> bytes:
    return checksum(number.to_bytes(8, "big"), body)
