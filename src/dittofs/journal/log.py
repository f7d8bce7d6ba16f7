"""The updates of each shard since its snapshot, chained by hash."""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import zstandard
from blake3 import blake3

from dittofs.errors import Damaged, DittoError
from dittofs.journal.damage import Damage
from dittofs.journal.database import Database, Value

Epoch = tuple[int, bytes]
"""(number, digest) of a compaction; (0, b"") before the first."""
FIRST_EPOCH: Final[Epoch] = (0, b"")
SNAPSHOT_BYTES_MAX: Final = 1 << 30
_LOG_DOMAIN = b"dittofs/1 log\0"
_SNAPSHOT_DOMAIN = b"dittofs/1 snapshot\0"
_CHAIN_START = bytes(32)
_LOG_HEADER = struct.Struct(">QQHQHH")
_SNAPSHOT_HEADER = struct.Struct(">HQQHBQ")
_RAW, _ZSTD = 0, 1
_ZSTD_LEVEL = 1  # 3 takes twice the time for 4 % less, and this runs on the event loop
_COLUMNS = 'seq, grp, epoch, digest, "update", via, hash'
_INSERT = f"INSERT INTO log(shard, {_COLUMNS}) VALUES(?,?,?,?,?,?,?,?)"
_SELECT = f"SELECT {_COLUMNS} FROM log WHERE shard=? ORDER BY seq"
_LAST_HASH = "SELECT hash FROM log WHERE shard=? ORDER BY seq DESC LIMIT 1"
_Row = tuple[int, int, int, bytes, bytes, bytes, bytes]


@dataclass(frozen=True, slots=True)
class _Head:
    """Where a verified shard's chain stands."""

    epoch: Epoch
    hash: bytes
    is_settled: bool
    """Whether anything is stored that fixes the epoch."""
    size: int


@dataclass(frozen=True, slots=True)
class _Chain:
    """A shard as far as its hashes hold."""

    head: _Head
    snapshot: bytes | None
    updates: list[bytes]
    broken: int | None
    """The seq of the first row that does not follow from what precedes it."""


class Log:
    """Snapshots and updates. A shard is verified when it is first touched and stays so in memory."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._heads: dict[int, _Head] = {}
        self._touched: set[int] = set()
        self._seq = self._greatest_seq() + 1

    @property
    def next_seq(self) -> int:
        return self._seq

    def append(self, group: int, updates: Sequence[tuple[int, Epoch, bytes]], via: bytes) -> None:
        for shard, epoch, update in updates:
            head = self._heads.get(shard) or self._verified(shard).head
            number, digest = epoch
            if head.is_settled and head.epoch != (number, digest):
                raise ValueError(f"shard {shard} is at epoch {head.epoch[0]}; only a snapshot changes that")
            seq = self._seq
            chained = row_hash(head.hash, shard, seq, group, number, digest, update, via)
            self._database.run("log", _INSERT, (shard, seq, group, number, digest, update, via, chained))
            self._seq = seq + 1
            self._touched.add(shard)
            self._heads[shard] = _Head((number, digest), chained, True, head.size + len(update))

    def load(self, shard: int) -> tuple[Epoch, bytes | None, Sequence[bytes]]:
        chain = self._verified(shard)
        return chain.head.epoch, chain.snapshot, chain.updates

    def size(self, shard: int) -> int:
        return (self._heads.get(shard) or self._verified(shard).head).size

    def put_snapshot(self, shard: int, epoch: Epoch, blob: bytes) -> None:
        number, digest = epoch
        packed = zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compress(blob)
        codec, stored = (_ZSTD, packed) if len(packed) < len(blob) * 9 // 10 else (_RAW, blob)
        through = self._seq - 1
        hashed = snapshot_hash(shard, through, number, digest, codec, len(blob), stored)
        row = (shard, through, number, digest, codec, len(blob), stored, hashed)
        what = f"snapshot of shard {shard}"
        self._database.run(what, "INSERT OR REPLACE INTO snapshot VALUES(?,?,?,?,?,?,?,?)", row)
        self._database.run(what, "DELETE FROM log WHERE shard=?", (shard,))
        self._touched.add(shard)
        self._heads[shard] = _Head((number, digest), hashed, True, 0)

    def discard(self, shard: int, detail: str) -> Damage:
        """Move a shard's snapshot and log aside, whatever they hold: it is empty afterwards."""
        damage = Damage(f"{self._database.path}: shard {shard}", detail)
        for table in ("snapshot", "log"):
            what = f"{table} of shard {shard}"
            for row in self._database.rows(what, f"SELECT * FROM {table} WHERE shard=?", (shard,)):
                self._set_aside(damage, row)
            self._database.run(what, f"DELETE FROM {table} WHERE shard=?", (shard,))
        self._heads.pop(shard, None)
        return damage

    def committed(self) -> None:
        self._touched.clear()

    def rolled_back(self) -> None:
        for shard in self._touched:
            self._heads.pop(shard, None)
        self._touched.clear()

    def shards(self) -> list[int]:
        """Shards that hold anything."""
        found = self._database.rows("snapshots", "SELECT shard FROM snapshot")
        shard = -1
        while rows := self._database.rows("log", "SELECT shard FROM log WHERE shard>? LIMIT 1", (shard,)):
            shard = rows[0][0]
            found += rows
        return sorted({row[0] for row in found})

    def check(self, shard: int) -> Iterator[Damage]:
        """Verify a shard and change nothing."""
        try:
            chain = self._chain(shard)
        except Damaged as error:
            yield Damage(error.what, str(error))
            return
        if chain.broken is not None:
            yield self._tail_damage(shard, chain.broken)

    def state_digest(self) -> bytes:
        """A hash over where each shard's chain ends: another log, or an older one, has another."""
        digest = blake3(b"dittofs/1 log state\0")
        for shard in self.shards():
            last = self._database.rows("log", _LAST_HASH, (shard,)) or self._database.rows(
                "snapshots", "SELECT hash FROM snapshot WHERE shard=?", (shard,)
            )
            digest.update(struct.pack(">H", shard) + last[0][0])
        return digest.digest()

    def _greatest_seq(self) -> int:
        greatest = 0
        for shard in self.shards():
            for sql in (
                "SELECT max(seq) FROM log WHERE shard=?",
                "SELECT max(through) FROM snapshot WHERE shard=?",
            ):
                greatest = max(greatest, self._database.rows("log", sql, (shard,))[0][0] or 0)
        return greatest

    def _verified(self, shard: int) -> _Chain:
        chain = self._chain(shard)
        if chain.broken is not None:
            self._drop_tail(shard, chain.broken)
        self._heads[shard] = chain.head
        return chain

    def _chain(self, shard: int) -> _Chain:
        what = f"snapshot of shard {shard}"
        snapshots = self._database.rows(what, "SELECT * FROM snapshot WHERE shard=?", (shard,))
        epoch, previous, blob = FIRST_EPOCH, _CHAIN_START, None
        through = 0
        if snapshots:
            _, through, number, digest, codec, size, stored, hashed = snapshots[0]
            what = f"{self._database.path}: {what}"
            if snapshot_hash(shard, through, number, digest, codec, size, stored) != hashed:
                raise Damaged(what, "its hash does not match")
            epoch, previous, blob = (number, digest), hashed, _unpacked(what, codec, size, stored)
        rows: list[_Row] = self._database.rows(f"log of shard {shard}", _SELECT, (shard,))
        updates: list[bytes] = []
        broken: int | None = None
        for row in rows:
            seq, _, number, digest, update, _, hashed = row
            follows = (number, digest) == epoch or not (updates or snapshots)
            if seq <= through or not follows or row_hash(previous, shard, *row[:-1]) != hashed:
                broken = seq
                break
            epoch, previous = (number, digest), hashed
            updates.append(update)
        head = _Head(epoch, previous, bool(snapshots or updates), sum(map(len, updates)))
        return _Chain(head, blob, updates, broken)

    def _drop_tail(self, shard: int, seq: int) -> None:
        damage = self._tail_damage(shard, seq)
        what = f"log of shard {shard}"
        is_inside = self._database.is_in_transaction
        if not is_inside:
            self._database.begin()
        try:
            for row in self._database.rows(what, "SELECT * FROM log WHERE shard=? AND seq>=?", (shard, seq)):
                self._set_aside(damage, row)
            self._database.run(what, "DELETE FROM log WHERE shard=? AND seq>=?", (shard, seq))
        except DittoError:
            if not is_inside:
                self._database.rollback()
            raise
        if is_inside:
            self._touched.add(shard)
        else:
            self._database.commit()
        if damage not in self._database.damage:
            self._database.damage.append(damage)

    def _set_aside(self, damage: Damage, row: Sequence[Value]) -> None:
        packed = msgspec.msgpack.encode(row)
        self._database.run(
            "damaged rows",
            "INSERT INTO damaged(what, detail, row) VALUES(?,?,?)",
            (damage.what, damage.detail, packed),
        )

    def _tail_damage(self, shard: int, seq: int) -> Damage:
        return Damage(
            f"{self._database.path}: log of shard {shard}",
            f"row {seq} does not match its hash; it and what follows are set aside in table `damaged`",
        )


def row_hash(
    previous: bytes, shard: int, seq: int, group: int, epoch: int, digest: bytes, update: bytes, via: bytes
) -> bytes:
    """The hash of a log row: of all it says and of the row (or snapshot) before it in its shard."""
    header = _LOG_HEADER.pack(seq, group, shard, epoch, len(digest), len(via))
    return blake3(b"".join((_LOG_DOMAIN, previous, header, digest, via, update))).digest()


def snapshot_hash(
    shard: int, through: int, epoch: int, digest: bytes, codec: int, size: int, stored: bytes
) -> bytes:
    """The hash of a snapshot row."""
    header = _SNAPSHOT_HEADER.pack(shard, through, epoch, len(digest), codec, size)
    return blake3(b"".join((_SNAPSHOT_DOMAIN, header, digest, stored))).digest()


def _unpacked(what: str, codec: int, size: int, stored: bytes) -> bytes:
    if codec == _RAW:
        return stored
    if codec != _ZSTD or size > SNAPSHOT_BYTES_MAX:
        raise Damaged(what, f"codec {codec}, {size} bytes")
    try:
        return zstandard.ZstdDecompressor().decompress(stored, max_output_size=size)
    except zstandard.ZstdError as error:
        raise Damaged(what, str(error)) from error
