"""What happened to each inode, when and by whom: what log, trash, undo and time views query.

Rows stand in the order in which this device applied them, whoever made the change: taken back from the last
one on, they give exactly what was shown here before.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from dittofs.errors import Damaged
from dittofs.ids import InodeId, Slot, Stamp
from dittofs.journal.damage import Damage
from dittofs.journal.rows import checksum
from dittofs.journal.statements import Statements

PAGE_ROWS = 512
END: Final = (1 << 63) - 1
"""After everything."""
_COLUMNS = "at, id, hlc, slot, inode, kind, source, target, before, after, sum"
_INSERT = f"INSERT INTO history({_COLUMNS}) VALUES(?,?,?,?,?,?,?,?,?,?,?)"
_Row = tuple[int, int, int, str, str, str, str | None, str | None, bytes, bytes, bytes]


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
    """Rows are added at the end; taken out or merged only by what thins the past."""

    def __init__(self, statements: Statements) -> None:
        self._statements = statements
        self._last: int | None = None

    def append(self, effects: Iterable[HistoryEffect], now_ns: int) -> None:
        """Add what one step did, now by this device's clock. If that went back, times go on from the last."""
        at = 0
        rows: list[_Row] = []
        for number, effect in enumerate(effects, 1):
            if not at:
                at = max(now_ns, self.last_at + 1)
            rows.append(
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
        if rows:
            self._statements.run_many("history", _INSERT, rows)
            self._last = at

    @property
    def last_at(self) -> int:
        """When the last row was applied; 0 if there is none."""
        if self._last is None:
            found = self._statements.rows("history", "SELECT max(at) FROM history")
            self._last = found[0][0] or 0
        return self._last

    def forget(self) -> None:
        """Drop what is cached: rows were rolled back, or moved."""
        self._last = None

    def last_before(self, at: int) -> int:
        """When the last row before a time was applied; 0 if there is none."""
        found: int | None = self._statements.rows("history", "SELECT max(at) FROM history WHERE at<?", (at,))[
            0
        ][0]
        return found or 0

    def first_at(self) -> int | None:
        """When the oldest row was applied: before that nothing is known."""
        found: int | None = self._statements.rows("history", "SELECT min(at) FROM history")[0][0]
        return found

    def of_inode(self, inode: InodeId, *, before: int = END) -> Iterator[HistoryRow]:
        """What happened to `inode` before a time, latest first."""
        where = "inode=? AND (at, id)<(?,?) ORDER BY at DESC, id DESC"
        yield from self._paged(where, (inode,), (before, 0))

    def of_directory(self, directory: InodeId, since: int) -> Iterator[HistoryRow]:
        """What gave a directory a name, or took one from it, at a time and after, earliest first each."""
        for column in ("source", "target"):
            where = f"{column}=? AND (at, id)>(?,?) ORDER BY at, id"
            yield from self._paged(where, (directory,), (since, 0))

    def directory_changed(self, directory: InodeId, before: int) -> int:
        """When a name of a directory changed last, before a time; 0: never, as far as is known."""
        times = [
            self._statements.rows(
                "history", f"SELECT max(at) FROM history WHERE {column}=? AND at<?", (directory, before)
            )[0][0]
            or 0
            for column in ("source", "target")
        ]
        return max(times)

    def before(self, at: int = END) -> Iterator[HistoryRow]:
        """What happened before a time, latest first."""
        yield from self._paged("(at, id)<(?,?) ORDER BY at DESC, id DESC", (), (at, 0))

    def since(self, at: int) -> Iterator[HistoryRow]:
        """What happened at a time and after, earliest first."""
        yield from self._paged("(at, id)>(?,?) ORDER BY at, id", (), (at, 0))

    def some_since(self, key: tuple[int, int], end: int, count: int) -> list[HistoryRow]:
        """At most `count` rows after the one that stood at `key`, before a time, earliest first."""
        where = "(at, id)>(?,?) AND at<? ORDER BY at, id"
        sql = f"SELECT {_COLUMNS} FROM history WHERE {where} LIMIT ?"
        return [self._row(row) for row in self._statements.rows("history", sql, (*key, end, count))]

    def remove(self, row: HistoryRow) -> None:
        """Take a row out. Time views stay right only if another says what it said."""
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
                rows: list[_Row] = self._statements.rows("history", sql, last)
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

    def _row(self, row: _Row) -> HistoryRow:
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

    def _paged(self, where: str, fixed: tuple[str, ...], start: tuple[int, int]) -> Iterator[HistoryRow]:
        sql = f"SELECT {_COLUMNS} FROM history WHERE {where} LIMIT {PAGE_ROWS}"
        while True:
            rows: list[_Row] = self._statements.rows("history", sql, (*fixed, *start))
            for row in rows:
                yield self._row(row)
            if len(rows) < PAGE_ROWS:
                return
            start = rows[-1][0], rows[-1][1]


def is_sound_row(row: _Row) -> bool:
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
) -> _Row:
    """A row with its checksum."""
    texts = (slot, inode, kind, source or "", target or "")
    found = checksum(*_numbers(at, number, hlc), *map(str.encode, texts), before, after)
    return at, number, hlc, slot, inode, kind, source, target, before, after, found


def _numbers(*numbers: int) -> Iterator[bytes]:
    return (number.to_bytes(8, "big") for number in numbers)
