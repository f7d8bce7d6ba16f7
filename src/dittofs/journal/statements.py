"""SQL on one connection, with errors in our words."""

import errno
from collections.abc import Sequence
from typing import Any, NoReturn

import apsw

from dittofs.errors import Damaged, DiskError, DiskFull

Value = None | int | float | bytes | str
_CORRUPT_IO = frozenset({apsw.SQLITE_IOERR_DATA, apsw.SQLITE_IOERR_CORRUPTFS})
_FAILED_SYNC = frozenset({apsw.SQLITE_IOERR_FSYNC, apsw.SQLITE_IOERR_DIR_FSYNC})


class RowRefused(DiskError):
    """The table does not take these values: of another type than its columns, or a second row of one key."""


class Statements:
    """Runs statements, each to its end: an open read would hold up checkpoints."""

    def __init__(self, connection: apsw.Connection, path: str) -> None:
        self.connection = connection
        self.path = path
        self.is_sync_failed = False
        """Whether SQLite itself could not sync: what is durable is then unknown."""
        cursor = connection.cursor()
        self._execute, self._execute_many = cursor.execute, cursor.executemany

    def run(
        self, what: str, sql: str, values: Sequence[Value] = (), damaged: type[Damaged] = Damaged
    ) -> None:
        """Run a statement without result. `what` and `damaged` name a page that cannot be read."""
        try:
            self._execute(sql, values)
        except apsw.Error as error:
            self._raise(error, what, damaged)

    def run_many(
        self, what: str, sql: str, rows: Sequence[Sequence[Value]], damaged: type[Damaged] = Damaged
    ) -> None:
        """Run a statement without result once for each of `rows`, as one call of the library."""
        try:
            self._execute_many(sql, rows)
        except apsw.Error as error:
            self._raise(error, what, damaged)

    def rows(
        self, what: str, sql: str, values: Sequence[Value] = (), damaged: type[Damaged] = Damaged
    ) -> list[Any]:
        """All rows of a query."""
        try:
            return self._execute(sql, values).fetchall()
        except apsw.Error as error:
            self._raise(error, what, damaged)
        except UnicodeDecodeError as error:
            raise damaged(f"{self.path}: {what}", "text is not UTF-8") from error

    def _raise(self, error: apsw.Error, what: str, damaged: type[Damaged]) -> NoReturn:
        """Raise `error` as `DiskFull`, `DiskError` or `damaged`."""
        place = f"{self.path}: {what}"
        extended: int = getattr(error, "extendedresult", 0)
        match error:
            case apsw.FullError():
                raise DiskFull(f"{place}: no room left") from error
            case apsw.CorruptError() | apsw.NotADBError():
                raise damaged(place, str(error)) from error
            case apsw.IOError() if extended in _CORRUPT_IO:
                raise damaged(place, "a page fails its checksum") from error
            case apsw.IOError() if self.connection.system_errno == errno.EDQUOT:
                raise DiskFull(f"{place}: over the disk quota") from error
            case apsw.ConstraintError() | apsw.MismatchError():
                raise RowRefused(f"{place}: {error}") from error
        if extended in _FAILED_SYNC:
            self.is_sync_failed = True
        raise DiskError(f"{place}: {error}") from error


def before_end_of(prefix: bytes) -> tuple[str, tuple[bytes, ...]]:
    """A condition on `key`, and its value, that ends a scan where no key begins with `prefix` any more."""
    stem = prefix.rstrip(b"\xff")
    return (" AND key<?", (stem[:-1] + bytes([stem[-1] + 1]),)) if stem else ("", ())
