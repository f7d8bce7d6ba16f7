"""What happened to each inode, when and by whom: what log, trash, undo and time views query.

Rows stand in the order in which this device applied them, whoever made the change: taken back from the last
one on, they give exactly what was shown here before.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from dittofs.errors import Damaged
from dittofs.ids import InodeId, Slot, Stamp
from dittofs.journal.damage import Damage
from dittofs.journal.rows import UNWRITTEN_ROWS_MAX, checksum
from dittofs.journal.statements import Statements

PAGE_ROWS = 512
END: Final = (1 << 63) - 1
"""After everything."""
_COLUMNS = "at, id, hlc, slot, inode, kind, source, target, before, after, sum"
_INSERT = f"INSERT INTO history({_COLUMNS}) VALUES(?,?,?,?,?,?,?,?,?,?,?)"
Row = tuple[int, int, int, str, str, str, str | None, str | None, bytes, bytes, bytes]
_INODE, _SOURCE, _BEFORE = 4, 6, 8
_DIRECTORIES: Final = {"source": 6, "target": 7}


class HistoryEffect(Protocol):
    """What `tree` returns for each change it made."""

    @property
    def stamp(self) -> Stamp: ...
    @property
    def slot(self) -> Slot: ...
    @property
    def inode(self) -> InodeId: ...
    @property
    def kind(self) -> str: ...
    @property
    def source(self) -> InodeId | None: ...
    @property
    def target(self) -> InodeId | None: ...
    @property
    def before(self) -> bytes: ...
    @property
    def after(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """One effect as it was recorded."""

    at: int
    """When this device applied it, by its clock, nanoseconds; greater than that of every step before."""
    id: int
    """Counts the rows of one step from 1."""
    stamp: Stamp
    """When it was made, by the clock of whoever made it."""
    slot: Slot
    inode: InodeId
    kind: str
    source: InodeId | None
    """The directory that lost a name by it."""
    target: InodeId | None
    """The directory that got one."""
    before: bytes
    after: bytes

    @property
    def key(self) -> tuple[int, int]:
        """Where it stands."""
        return self.at, self.id


class History:
    """Rows are added at the end; taken out or merged only by what thins the past.

    Those of the last transactions stay in memory until `write`; redo.py makes them durable. They stand
    behind all that are in the table.
    """

    def __init__(self, statements: Statements) -> None:
        self._statements = statements
        self._last: int | None = None
        self._late: list[Row] = []
        """Of committed transactions, and in no table."""
        self.added: list[Row] = []
        """Of the open transaction, and in no table."""
        self._written: list[Row] | None = None
        """What was late until the open transaction wrote it."""
        self.settle: Callable[[], None] = self.write
        """Called within a transaction before rows of the table are changed."""

    def append(self, effects: Iterable[HistoryEffect], now_ns: int) -> None:
        """Add what one step did, now by this device's clock. If that went back, times go on from the last."""
        at = 0
        for number, effect in enumerate(effects, 1):
            if not at:
                at = max(now_ns, self.last_at + 1)
            self.added.append(
                _summed(
                    at,
                    number,
                    effect.stamp,
                    effect.slot,
                    effect.inode,
                    effect.kind,
                    effect.source,
                    effect.target,
                    effect.before,
                    effect.after,
                )
            )
        if at:
            self._last = at
        if len(self.added) > UNWRITTEN_ROWS_MAX:
            self.settle()

    @property
    def late(self) -> int:
        """How many committed rows are in no table."""
        return len(self._late)

    def lay(self, rows: Iterable[Row]) -> None:
        """Have rows that are durable elsewhere, and in no table."""
        self._late.extend(rows)

    def write(self) -> None:
        """Hand what is late, and what the open transaction added so far, to SQLite."""
        write_rows(self._statements, [*self._late, *self.added])
        if self._written is None:
            self._written = self._late
        self._late, self.added = [], []

    def committed(self) -> None:
        if self.added:
            self._late.extend(self.added)
            self.added = []
        self._written = None

    def rolled_back(self) -> None:
        self.added = []
        if self._written is not None:
            self._late, self._written = self._written, None
        self.forget()

    @property
    def last_at(self) -> int:
        """When the last row was applied; 0 if there is none."""
        if self._last is None:
            unwritten = self._unwritten
            found = unwritten or self._statements.rows("history", "SELECT max(at) FROM history")
            self._last = found[-1][0] or 0
        return self._last

    @property
    def _unwritten(self) -> Sequence[Row]:
        """What the table lacks, in order."""
        return [*self._late, *self.added] if self.added else self._late

    def forget(self) -> None:
        """Drop what is cached: rows were rolled back, or moved."""
        self._last = None

    def last_before(self, at: int) -> int:
        """When the last row before a time was applied; 0 if there is none."""
        late = [row[0] for row in self._unwritten if row[0] < at]
        if late:
            return late[-1]
        found: int | None = self._statements.rows("history", "SELECT max(at) FROM history WHERE at<?", (at,))[
            0
        ][0]
        return found or 0

    def first_at(self) -> int | None:
        """When the oldest row was applied: before that nothing is known."""
        found: int | None = self._statements.rows("history", "SELECT min(at) FROM history")[0][0]
        late = self._unwritten
        return late[0][0] if found is None and late else found

    def of_inode(self, inode: InodeId, *, before: int = END) -> Iterator[HistoryRow]:
        """What happened to `inode` before a time, latest first."""
        where = "inode=? AND (at, id)<(?,?)"
        yield from self._backwards(where, (inode,), before, lambda row: row[_INODE] == inode)

    def of_directory(self, directory: InodeId, since: int) -> Iterator[HistoryRow]:
        """What gave a directory a name, or took one from it, at a time and after, earliest first each."""
        for column, place in _DIRECTORIES.items():
            where = f"{column}=? AND (at, id)>(?,?)"
            yield from self._forwards(where, (directory,), since, lambda row, at=place: row[at] == directory)  # type: ignore[misc]

    def directory_changed(self, directory: InodeId, before: int) -> int:
        """When a name of a directory changed last, before a time; 0: never, as far as is known."""
        late = [row[0] for row in self._unwritten if directory in row[_SOURCE:_BEFORE] and row[0] < before]
        if late:
            return late[-1]
        times = [
            self._statements.rows(
                "history", f"SELECT max(at) FROM history WHERE {column}=? AND at<?", (directory, before)
            )[0][0]
            or 0
            for column in _DIRECTORIES
        ]
        return max(times)

    def before(self, at: int = END) -> Iterator[HistoryRow]:
        """What happened before a time, latest first."""
        yield from self._backwards("(at, id)<(?,?)", (), at, lambda _: True)

    def since(self, at: int) -> Iterator[HistoryRow]:
        """What happened at a time and after, earliest first."""
        yield from self._forwards("(at, id)>(?,?)", (), at, lambda _: True)

    def some_since(self, key: tuple[int, int], end: int, count: int) -> list[HistoryRow]:
        """At most `count` rows after the one that stood at `key`, before a time, earliest first."""
        where = "(at, id)>(?,?) AND at<? ORDER BY at, id"
        sql = f"SELECT {_COLUMNS} FROM history WHERE {where} LIMIT ?"
        rows: list[Row] = self._statements.rows("history", sql, (*key, end, count))
        late = [row for row in self._unwritten if row[:2] > key and row[0] < end]
        return [self._row(row) for row in [*rows, *late][:count]]

    def remove(self, row: HistoryRow) -> None:
        """Take a row out. Time views stay right only if another says what it said."""
        self.settle()
        self._statements.run("history", "DELETE FROM history WHERE at=? AND id=?", row.key)

    def replace(self, row: HistoryRow) -> None:
        """Put `row` in place of the one that stands where it does."""
        self.remove(row)
        fields = row.at, row.id, row.stamp, row.slot, row.inode, row.kind, row.source, row.target
        self._statements.run("history", _INSERT, _summed(*fields, row.before, row.after))

    def check(self) -> Iterator[Damage]:
        last = (-1, 0)
        sql = f"SELECT {_COLUMNS} FROM history WHERE (at, id)>(?,?) ORDER BY at, id LIMIT {PAGE_ROWS}"
        while True:
            try:
                rows: list[Row] = self._statements.rows("history", sql, last)
            except Damaged as error:
                yield Damage(f"{error.what} after row {last[0]}.{last[1]}", str(error))
                return
            for row in rows:
                if not is_sound_row(row):
                    what = f"{self._statements.path}: history row {row[0]}.{row[1]}"
                    yield Damage(what, "its checksum differs")
            if len(rows) < PAGE_ROWS:
                return
            last = rows[-1][0], rows[-1][1]

    def _row(self, row: Row) -> HistoryRow:
        at, number, hlc, slot, inode, kind, source, target, before, after, _ = row
        if not is_sound_row(row):
            raise Damaged(f"{self._statements.path}: history row {at}.{number}", "its checksum differs")
        return HistoryRow(
            at,
            number,
            Stamp(hlc),
            Slot(slot),
            InodeId(inode),
            kind,
            InodeId(source) if source is not None else None,
            InodeId(target) if target is not None else None,
            before,
            after,
        )

    def _backwards(
        self, where: str, fixed: tuple[str, ...], before: int, is_meant: Callable[[Row], bool]
    ) -> Iterator[HistoryRow]:
        """Rows before a time, latest first; `is_meant` says of one that is in no table what `where` says."""
        late, start = list(self._unwritten), (before, 0)
        for row in reversed(late):
            if row[:2] < start and is_meant(row):
                yield self._row(row)
        if late:
            start = min(start, late[0][:2])  # by now they may be in the table
        yield from self._paged(f"{where} ORDER BY at DESC, id DESC", fixed, start)

    def _forwards(
        self, where: str, fixed: tuple[str, ...], since: int, is_meant: Callable[[Row], bool]
    ) -> Iterator[HistoryRow]:
        """Rows at a time and after, earliest first; `is_meant` as of `_backwards`."""
        yield from self._paged(f"{where} ORDER BY at, id", fixed, (since, 0), is_meant)

    def _paged(
        self,
        where: str,
        fixed: tuple[str, ...],
        start: tuple[int, int],
        ends_with: Callable[[Row], bool] = lambda _: False,
    ) -> Iterator[HistoryRow]:
        """Rows of the table, and behind its end those that are in none and that `ends_with` is true of."""
        sql = f"SELECT {_COLUMNS} FROM history WHERE {where} LIMIT {PAGE_ROWS}"
        while True:
            rows: list[Row] = self._statements.rows("history", sql, (*fixed, *start))
            is_last = len(rows) < PAGE_ROWS
            if rows:
                start = rows[-1][0], rows[-1][1]
            if is_last:
                # At the same instant: while the caller has a row, what is late may become a row of the table.
                rows += [row for row in self._unwritten if row[:2] > start and ends_with(row)]
            for row in rows:
                yield self._row(row)
            if is_last:
                return


def write_rows(statements: Statements, rows: Sequence[Row]) -> None:
    """Add rows to the table."""
    statements.run_many("history", _INSERT, rows)


def is_sound_row(row: Row) -> bool:
    """Whether a row of the table is as it was written."""
    return _summed(*row[:-1])[-1] == row[-1]


def _summed(
    at: int,
    number: int,
    hlc: int,
    slot: str,
    inode: str,
    kind: str,
    source: str | None,
    target: str | None,
    before: bytes,
    after: bytes,
) -> Row:
    """A row with its checksum."""
    found = checksum(
        at.to_bytes(8, "big"),
        number.to_bytes(8, "big"),
        hlc.to_bytes(8, "big"),
        slot.encode(),
        inode.encode(),
        kind.encode(),
        (source or "").encode(),
        (target or "").encode(),
        before,
        after,
    )
    return at, number, hlc, slot, inode, kind, source, target, before, after, found
