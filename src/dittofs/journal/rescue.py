"""A journal that cannot be opened: another is made of all that can still be read in it.

Every row carries a hash of its own, so pages are read whatever their checksums say. What is lost is named.
The damaged file is kept beside the other one, as `<path>.damaged-<number>`.
"""

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from dittofs.disk import Disk
from dittofs.errors import Damaged, DiskError
from dittofs.journal.database import Database
from dittofs.journal.history import is_sound_row
from dittofs.journal.journal import LOCK_NAME, REBUILDING
from dittofs.journal.rows import Rows, checksum
from dittofs.journal.statements import Statements
from dittofs.journal.writer import WRITER

PAGE_ROWS: Final = 256
SEQS_SKIPPED: Final = 1 << 20
"""So far behind the greatest number that can be read none was given: a lost row had a lower one."""
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
}
_WHAT: Final[Mapping[str, str]] = {
    "history": "steps of the past (log, trash, undo)",
    "local": "rows of this device alone (what was staged, member records, what is held)",
    "meta": "rows about the journal itself",
    "damaged": "rows that were set aside earlier",
    "entry_table": "the index of names, which is made anew",
    "entry": "the index of names, which is made anew",
}
_DERIVED: Final = frozenset({"meta", "entry_table", "entry"})


def rescue(disk: Disk, path: str, shards: int, needed: Mapping[str, bytes]) -> list[Loss]:
    """Put a journal that can be opened in the place of the one at `path`; returns what is lost. Blocking.

    `shards`: how many there are; `needed`: meta rows that every journal in use has. `Damaged` if nothing of
    it can be read, FileNotFoundError if there is none: then nothing has changed. After a crash in between
    it is simply called again.
    """
    directory = path.rpartition("/")[0]
    rescued = f"{path}.rescued"
    lock = disk.lock(f"{directory}/{LOCK_NAME}" if directory else LOCK_NAME)
    try:
        lost: list[Loss] = []
        if disk.exists(path):
            for name in (rescued, f"{rescued}-wal"):
                if disk.exists(name):
                    disk.unlink(name)
            lost = _copied(disk, path, rescued, shards, needed)
            set_aside(disk, path)
        disk.rename(rescued, path)
        disk.sync_directory(directory)
        return lost
    finally:
        lock.close()


def set_aside(disk: Disk, path: str) -> str:
    """Move a journal out of its place, whole; returns its name. Nothing can be opened there afterwards."""
    number = 1
    while disk.exists(aside := f"{path}.damaged-{number}"):
        number += 1
    disk.rename(path, aside)
    if disk.exists(f"{path}-wal"):
        disk.rename(f"{path}-wal", f"{aside}-wal")
    disk.sync_directory(path.rpartition("/")[0])
    return aside


def _copied(disk: Disk, path: str, rescued: str, shards: int, needed: Mapping[str, bytes]) -> list[Loss]:
    source = Database(disk, path, reads_anything=True)
    try:
        target = Database(disk, rescued)
        try:
            target.begin()
            lost = _Copy(source.statements, target.statements).run(shards, needed)
            target.commit()
            target.empty_wal()
            target.sync()
        finally:
            target.close()
    finally:
        source.close()
    if disk.exists(f"{rescued}-wal"):
        disk.unlink(f"{rescued}-wal")
    return lost


class _Copy:
    def __init__(self, source: Statements, target: Statements) -> None:
        self._source = source
        self._target = target
        self._lost: dict[str, int] = {}

    def run(self, count: int, needed: Mapping[str, bytes]) -> list[Loss]:
        shards = self._shards(count)
        for table in _KEYS:
            self._table(table, _IS_SOUND.get(table, lambda _row: True))
        meta = Rows(self._target)
        self._target.run("meta", "DELETE FROM meta WHERE key=?", (WRITER,))  # who writes on is another
        if "entry" in self._lost or "entry_table" in self._lost:
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
                for table, rows in (("snapshot", snapshots), ("log", updates)):
                    for row in rows:
                        self._insert(table, row)
                seq = max([seq, *(row[1] for row in (*snapshots, *updates))])
            except (Damaged, DiskError):
                lost.append(shard)
        for shard in lost:
            for table in ("snapshot", "log"):
                self._target.run(table, f"DELETE FROM {table} WHERE shard=?", (shard,))
            self._insert("snapshot", (shard, seq + SEQS_SKIPPED, 0, b"", 0, 0, b"", b"lost"))
        return lost

    def _table(self, table: str, is_sound: Callable[[Row], bool]) -> None:
        for row in self._rows(table):
            try:
                if not is_sound(row):
                    raise Damaged(table, "a row fails its checksum")
                self._insert(table, row)
            except (Damaged, DiskError, TypeError, AttributeError, ValueError, OverflowError):
                self._lose(table)

    def _rows(self, table: str) -> Iterator[Row]:
        """From the front to a page that cannot be read, then from the end to it."""
        last: Row | None = None
        try:
            for row in self._ordered(table, "", last):
                last = row
                yield row
        except Damaged:
            self._lose(table)
        else:
            return
        try:
            for row in self._ordered(table, " DESC", None):
                if last is not None and self._key(table, row) <= self._key(table, last):
                    return
                yield row
        except Damaged:
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
            except Damaged:
                if limit == 1:
                    raise
                limit = 1
                continue
            for row in rows:
                if last is not None and (self._key(table, row) > self._key(table, last)) != (operator == ">"):
                    raise Damaged(table, "its rows are out of order")
                last = row
                yield row
            if len(rows) < limit:
                return

    def _key(self, table: str, row: Row) -> tuple[Any, ...]:
        return tuple(row[: len(_KEYS[table])])

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
