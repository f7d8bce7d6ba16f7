"""What happened to each inode, when and by whom: what log, trash, undo and time views query."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from dittofs.errors import Damaged
from dittofs.ids import InodeId, Slot, Stamp
from dittofs.journal.damage import Damage
from dittofs.journal.rows import checksum
from dittofs.journal.statements import Statements

PAGE_ROWS = 512
_STAMP_MAX = Stamp((1 << 63) - 1)
_COLUMNS = "hlc, id, slot, inode, kind, before, after, sum"
_INSERT = """INSERT INTO history(hlc, id, slot, inode, kind, before, after, sum)
    VALUES(?1, (SELECT coalesce(max(id), 0) + 1 FROM history WHERE hlc=?1), ?2, ?3, ?4, ?5, ?6, ?7)"""
_Row = tuple[int, int, str, str, str, bytes, bytes, bytes]


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
    def before(self) -> bytes: ...
    @property
    def after(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """One effect as it was recorded. `id` counts the rows of one stamp from 1, in the order of recording."""

    stamp: Stamp
    id: int
    slot: Slot
    inode: InodeId
    kind: str
    before: bytes
    after: bytes


class History:
    """Rows are only ever added, and removed from the old end."""

    def __init__(self, statements: Statements) -> None:
        self._statements = statements

    def append(self, effects: Iterable[HistoryEffect]) -> None:
        for effect in effects:
            row = (effect.stamp, effect.slot, effect.inode, effect.kind, effect.before, effect.after)
            self._statements.run(
                "history",
                _INSERT,
                (*row, _row_sum(*row)),
            )

    def of_inode(self, inode: InodeId, *, before: Stamp = _STAMP_MAX) -> Iterator[HistoryRow]:
        """What happened to `inode` before a stamp, latest first."""
        where = "inode=? AND (hlc, id)<(?,?) ORDER BY hlc DESC, id DESC"
        yield from self._paged(where, (inode,), (before, 0))

    def before(self, stamp: Stamp = _STAMP_MAX) -> Iterator[HistoryRow]:
        """What happened before a stamp, latest first."""
        yield from self._paged("(hlc, id)<(?,?) ORDER BY hlc DESC, id DESC", (), (stamp, 0))

    def since(self, stamp: Stamp) -> Iterator[HistoryRow]:
        """What happened at a stamp and after, earliest first."""
        yield from self._paged("(hlc, id)>(?,?) ORDER BY hlc, id", (), (stamp, 0))

    def prune(self, before: Stamp, limit: int) -> int:
        """Remove at most `limit` rows older than a stamp; the number removed."""
        oldest = "SELECT hlc, id FROM history WHERE hlc<? ORDER BY hlc LIMIT ?"
        self._statements.run("history", f"DELETE FROM history WHERE (hlc, id) IN ({oldest})", (before, limit))
        return self._statements.connection.changes()

    def check(self) -> Iterator[Damage]:
        last = (-1, 0)
        sql = f"SELECT {_COLUMNS} FROM history WHERE (hlc, id)>(?,?) ORDER BY hlc, id LIMIT {PAGE_ROWS}"
        while True:
            try:
                rows: list[_Row] = self._statements.rows("history", sql, last)
            except Damaged as error:
                yield Damage(f"{error.what} after row {last[0]}.{last[1]}", str(error))
                return
            for row in rows:
                if _row_sum(row[0], *row[2:-1]) != row[-1]:
                    what = f"{self._statements.path}: history row {row[0]}.{row[1]}"
                    yield Damage(what, "its checksum differs")
            if len(rows) < PAGE_ROWS:
                return
            last = rows[-1][0], rows[-1][1]

    def _paged(self, where: str, fixed: tuple[str, ...], start: tuple[int, int]) -> Iterator[HistoryRow]:
        sql = f"SELECT {_COLUMNS} FROM history WHERE {where} LIMIT {PAGE_ROWS}"
        while True:
            rows: list[_Row] = self._statements.rows("history", sql, (*fixed, *start))
            for hlc, number, slot, inode, kind, before, after, found in rows:
                if _row_sum(hlc, slot, inode, kind, before, after) != found:
                    raise Damaged(
                        f"{self._statements.path}: history row {hlc}.{number}", "its checksum differs"
                    )
                yield HistoryRow(Stamp(hlc), number, Slot(slot), InodeId(inode), kind, before, after)
            if len(rows) < PAGE_ROWS:
                return
            start = rows[-1][0], rows[-1][1]


def _row_sum(stamp: int, slot: str, inode: str, kind: str, before: bytes, after: bytes) -> bytes:
    return checksum(stamp.to_bytes(8, "big"), slot.encode(), inode.encode(), kind.encode(), before, after)
