"""A journal that cannot be opened: another is made of all that can still be read in it.

Every row carries a hash of its own, so pages are read whatever their checksums say. What is lost is named.
The damaged file is kept beside the other one, as `<path>.damaged-<number>`.
"""

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from dittofs.disk import Disk
from dittofs.errors import Damaged, DiskError
from dittofs.journal.damage import Damage
from dittofs.journal.database import Database
from dittofs.journal.history import is_sound_row
from dittofs.journal.index import REBUILDING, write_changes
from dittofs.journal.journal import LOCK_NAME
from dittofs.journal.redo import read
from dittofs.journal.rows import Rows, checksum
from dittofs.journal.statements import RowRefused, Statements
from dittofs.journal.writer import WRITER

PAGE_ROWS: Final = 256
SEQS_SKIPPED: Final = 1 << 20
"""So far behind the greatest number that can be read none was given: a lost row had a lower one."""
SEQ_MAX: Final = 1 << 62
UNREADABLE: Final = (Damaged, DiskError)
"""What reading raises: a page that makes no sense, a sector that cannot be read."""
Row = Sequence[Any]


class Loss(NamedTuple):
    """Something that could not be read."""

    detail: str
    is_mended: bool
    """It is made anew from the rest, or is had from another device."""


_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "history": ("at", "id"),
    "local": ("kind", "key"),
    "meta": ("key",),
    "damaged": ("id",),
    "entry_table": ("tbl",),
    "entry": ("tbl", "key"),
    "redo": ("id",),
}
_WHAT: Final[Mapping[str, str]] = {
    "history": "steps of the past (log, trash, undo)",
    "local": "rows of this device alone (what was staged, member records, what is held)",
    "meta": "rows about the journal itself",
    "damaged": "rows that were set aside earlier",
    "entry_table": "the index of names, which is made anew",
    "entry": "the index of names, which is made anew",
    "redo": "the latest steps of the past",
}
_DERIVED: Final = frozenset({"meta", "entry_table", "entry"})


def rescue(disk: Disk, path: str, shards: int, needed: Mapping[str, bytes]) -> list[Loss]:
    """Put a journal that can be opened in the place of the one at `path`; returns what is lost. Blocking.

    `shards`: how many there are; `needed`: meta rows that every journal in use has. `Damaged` if nothing of
    it can be read, FileNotFoundError if there is none: then nothing has changed. After a crash in between
    it is simply called again.
    """
    directory = path.rpartition("/")[0]
    rescued, rescuing = f"{path}.rescued", f"{path}.rescuing"
    lock = disk.lock(f"{directory}/{LOCK_NAME}" if directory else LOCK_NAME)
    try:
        lost: list[Loss] = []
        if disk.exists(path):
            for name in (rescued, rescuing, f"{rescuing}-wal", f"{rescuing}-journal"):
                if disk.exists(name):
                    disk.unlink(name)
            lost = _copied(disk, path, rescuing, shards, needed)
            # Only a whole copy ever has that name: it is the result where the journal itself is gone.
            disk.rename(rescuing, rescued)
            disk.sync_directory(directory)
            set_aside(disk, path)
        elif disk.exists(rescued) and disk.exists(f"{path}-wal"):
            # A crash came before it followed its journal aside: it must not be taken for the other one's.
            disk.rename(f"{path}-wal", f"{_aside(path, max(1, _number_aside(disk, path) - 1))}-wal")
            disk.sync_directory(directory)
        disk.rename(rescued, path)
        disk.sync_directory(directory)
        return lost
    finally:
        lock.close()


def set_aside(disk: Disk, path: str) -> str:
    """Move a journal out of its place, whole; returns its name. Nothing can be opened there afterwards."""
    aside = _aside(path, _number_aside(disk, path))
    disk.rename(path, aside)
    if disk.exists(f"{path}-wal"):
        disk.rename(f"{path}-wal", f"{aside}-wal")
    disk.sync_directory(path.rpartition("/")[0])
    return aside


def _aside(path: str, number: int) -> str:
    return f"{path}.damaged-{number}"


def _number_aside(disk: Disk, path: str) -> int:
    """The first that is free."""
    number = 1
    while disk.exists(_aside(path, number)):
        number += 1
    return number


def _copied(disk: Disk, path: str, rescuing: str, shards: int, needed: Mapping[str, bytes]) -> list[Loss]:
    source = Database(disk, path, reads_anything=True)
    try:
        lost = _written(disk, rescuing, source.statements, shards, needed)
    finally:
        source.close()
    if disk.exists(f"{rescuing}-wal"):
        disk.unlink(f"{rescuing}-wal")
    return lost


def _written(
    disk: Disk, rescuing: str, source: Statements, shards: int, needed: Mapping[str, bytes]
) -> list[Loss]:
    try:
        target = Database(disk, rescuing)
        try:
            target.begin()
            lost = _Copy(source, target.statements).run(shards, needed)
            target.commit()
            target.empty_wal()
            target.sync()
        finally:
            target.close()
    except Damaged as error:  # of the source it is counted; nothing is to be learned of it from the copy
        raise DiskError(f"what was just written cannot be read: {error}") from error
    return lost


class _Copy:
    def __init__(self, source: Statements, target: Statements) -> None:
        self._source = source
        self._target = target
        self._lost: dict[str, int] = {}

    def run(self, count: int, needed: Mapping[str, bytes]) -> list[Loss]:
        shards = self._shards(count)
        for table in _KEYS:
            if table != "redo":
                self._table(table, _IS_SOUND.get(table, lambda _row: True))
        self._late()
        meta = Rows(self._target)
        self._target.run("meta", "DELETE FROM meta WHERE key=?", (WRITER,))  # who writes on is another
        if self._lost.keys() & {"entry", "entry_table", "redo"}:
            for table in ("entry", "entry_table"):
                self._target.run(table, f"DELETE FROM {table}")
            meta.put_meta(REBUILDING, b"1")
        for key, value in needed.items():
            meta.put_meta(key, value)
        lost = [Loss(f"document {shard} of the tree cannot be read", is_mended=True) for shard in shards]
        for table, places in self._lost.items():
            lost.append(Loss(f"{_WHAT[table]}: {places} places cannot be read", table in _DERIVED))
        for loss in lost:
            values = (f"{self._source.path}: rescue", loss.detail, b"")
            self._target.run("damaged rows", 'INSERT INTO damaged(what, detail, "row") VALUES(?,?,?)', values)
        return lost

    def _shards(self, count: int) -> list[int]:
        """Snapshots and logs, shard by shard. One that cannot be read whole gets a snapshot that fails its
        hash: it is found to be damaged whenever it is asked for, and mended then.
        """
        lost, seq = [], 0
        for shard in range(count):
            try:
                snapshots = self._source.rows("snapshot", "SELECT * FROM snapshot WHERE shard=?", (shard,))
                updates = self._source.rows("log", "SELECT * FROM log WHERE shard=? ORDER BY seq", (shard,))
            except UNREADABLE:
                lost.append(shard)
                continue
            rows = [*(("snapshot", row) for row in snapshots), *(("log", row) for row in updates)]
            seqs = [row[1] for _, row in rows]
            if not all(isinstance(one, int) and 0 <= one < SEQ_MAX for one in seqs) or not all(
                self._is_inserted(table, row) for table, row in rows
            ):
                lost.append(shard)
            else:
                seq = max([seq, *seqs])
        for shard in lost:
            for table in ("snapshot", "log"):
                self._target.run(table, f"DELETE FROM {table} WHERE shard=?", (shard,))
            self._insert("snapshot", (shard, seq + SEQS_SKIPPED, 0, b"", 0, 0, b"", b"lost"))
        return lost

    def _table(self, table: str, is_sound: Callable[[Row], bool]) -> None:
        for row in self._rows(table):
            try:
                is_taken = is_sound(row)
            except (TypeError, AttributeError, ValueError):  # values of other types than were written
                is_taken = False
            if not is_taken or not self._is_inserted(table, row):
                self._lose(table)

    def _late(self) -> None:
        """What is in no table yet goes where it belongs."""
        for said in read(self._source.path, self._rows("redo")):
            if isinstance(said, Damage):
                self._lose("redo")
                continue
            write_changes(self._target, said[0])
            for one in said[1]:
                if not self._is_inserted("history", one):
                    self._lose("history")

    def _rows(self, table: str) -> Iterator[Row]:
        """From the front to a page that cannot be read, then from the end to it."""
        last: Row | None = None
        try:
            for row in self._ordered(table, "", last):
                last = row
                yield row
        except UNREADABLE:
            self._lose(table)
        else:
            return
        try:
            for row in self._ordered(table, " DESC", None):
                if last is not None and not self._is_behind(table, row, last):
                    return
                yield row
        except UNREADABLE:
            return

    def _ordered(self, table: str, direction: str, last: Row | None) -> Iterator[Row]:
        keys = ", ".join(_KEYS[table])
        marks = ", ".join("?" * len(_KEYS[table]))
        order = ", ".join(key + direction for key in _KEYS[table])
        operator = "<" if direction else ">"
        limit = PAGE_ROWS
        while True:
            where, values = "", []
            if last is not None:
                where, values = f"WHERE ({keys}) {operator} ({marks})", list(self._key(table, last))
            try:
                sql = f"SELECT * FROM {table} {where} ORDER BY {order} LIMIT {limit}"
                rows = self._source.rows(table, sql, values)
            except UNREADABLE:
                if limit == 1:
                    raise
                limit = 1
                continue
            for row in rows:
                if last is not None and self._is_behind(table, row, last) != (operator == ">"):
                    raise Damaged(table, "its rows are out of order")
                last = row
                yield row
            if len(rows) < limit:
                return

    def _key(self, table: str, row: Row) -> tuple[Any, ...]:
        return tuple(row[: len(_KEYS[table])])

    def _is_behind(self, table: str, row: Row, other: Row) -> bool:
        try:
            return self._key(table, row) > self._key(table, other)
        except TypeError as error:
            raise Damaged(table, "its keys are of different types") from error

    def _is_inserted(self, table: str, row: Row) -> bool:
        """Whether the table takes the row. What the disk says is not the row's fault: DiskFull, DiskError."""
        try:
            self._insert(table, row)
        except (RowRefused, ValueError, OverflowError):
            return False
        return True

    def _insert(self, table: str, row: Row) -> None:
        self._target.run(table, f"INSERT INTO {table} VALUES({','.join('?' * len(row))})", row)

    def _lose(self, table: str) -> None:
        self._lost[table] = self._lost.get(table, 0) + 1


_IS_SOUND: Final[Mapping[str, Callable[[Row], bool]]] = {
    "history": lambda row: is_sound_row(tuple(row)),
    "local": lambda row: bool(row[3] == checksum(row[0].encode(), row[1], row[2])),
    "meta": lambda row: bool(row[2] == checksum(b"", row[0].encode(), row[1])),
    "entry": lambda row: bool(row[3] == zlib.crc32(row[2], zlib.crc32(row[1], row[0]))),
}
