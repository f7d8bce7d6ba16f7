"""The updates of each shard since its snapshot: appending, loading, replacing by a snapshot."""

from collections.abc import Sequence

import msgspec

from dittofs.journal.chain import (
    Chain,
    Epoch,
    EpochPair,
    Head,
    greatest_seq,
    pack_snapshot,
    read_chain,
    row_hash,
    snapshot_hash,
    tail_damage,
)
from dittofs.journal.damage import Damage
from dittofs.journal.database import Database
from dittofs.journal.statements import Value

_INSERT = 'INSERT INTO log(shard, seq, grp, epoch, digest, "update", via, hash) VALUES(?,?,?,?,?,?,?,?)'


class Log:
    """Snapshots and updates. A shard is verified when it is first touched and each time it is loaded.

    One that fails is `ShardDamaged` until `drop_tail`, `discard` or `put_snapshot`.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._statements = database.statements
        self._heads: dict[int, Head] = {}
        self._touched: set[int] = set()
        self._seq = greatest_seq(database.statements) + 1

    @property
    def next_seq(self) -> int:
        return self._seq

    def append(self, group: int, updates: Sequence[tuple[int, EpochPair, bytes]], via: bytes) -> None:
        for shard, epoch, update in updates:
            head = self._heads.get(shard) or self._verified(shard).head
            if head.epoch != epoch:
                raise ValueError(f"shard {shard} is at epoch {head.epoch[0]}; only a snapshot changes that")
            seq = self._seq
            chained = row_hash(head.hash, shard, seq, group, epoch, update, via)
            self._statements.run("log", _INSERT, (shard, seq, group, *epoch, update, via, chained))
            self._seq = seq + 1
            self._touched.add(shard)
            self._heads[shard] = Head(epoch, chained, head.size + len(update))

    def load(self, shard: int) -> tuple[Epoch, bytes | None, Sequence[bytes]]:
        chain = self._verified(shard)
        return Epoch(*chain.head.epoch), chain.snapshot, chain.updates

    def size(self, shard: int) -> int:
        return (self._heads.get(shard) or self._verified(shard).head).size

    def put_snapshot(self, shard: int, epoch: EpochPair, blob: bytes) -> None:
        packed = pack_snapshot(blob)
        through = self._seq - 1
        hashed = snapshot_hash(shard, through, epoch, packed)
        row = (shard, through, *epoch, packed.codec, packed.size, packed.stored, hashed)
        what = f"snapshot of shard {shard}"
        self._touched.add(shard)
        self._statements.run(what, "INSERT OR REPLACE INTO snapshot VALUES(?,?,?,?,?,?,?,?)", row)
        self._statements.run(what, "DELETE FROM log WHERE shard=?", (shard,))
        self._heads[shard] = Head(epoch, hashed, 0)

    def discard(self, shard: int, detail: str) -> Damage:
        """Move a shard's snapshot and log aside, whatever they hold: it is empty afterwards."""
        damage = Damage(f"{self._statements.path}: shard {shard}", detail, shard)
        self._touched.add(shard)
        with self._database.reading_anything():
            for table in ("snapshot", "log"):
                self._move_aside(damage, table, "shard=?", (shard,))
        self._heads.pop(shard, None)
        return damage

    def drop_tail(self, shard: int) -> Damage | None:
        """Move aside what of a shard's log does not follow from what precedes it. None: there is nothing.

        `ShardDamaged` if not even the rest can be read.
        """
        chain = read_chain(self._statements, shard)
        if chain.broken is None:
            return None
        error = tail_damage(self._statements, shard, chain.broken)
        damage = Damage(error.what, error.detail, shard)
        self._touched.add(shard)
        self._heads.pop(shard, None)
        self._move_aside(damage, "log", "shard=? AND seq>=?", (shard, chain.broken))
        return damage

    def committed(self) -> None:
        self._touched.clear()

    def rolled_back(self) -> None:
        for shard in self._touched:
            self._heads.pop(shard, None)
        self._touched.clear()

    def _verified(self, shard: int) -> Chain:
        self._heads.pop(shard, None)
        chain = read_chain(self._statements, shard)
        if chain.broken is not None:
            raise tail_damage(self._statements, shard, chain.broken)
        self._heads[shard] = chain.head
        return chain

    def _move_aside(self, damage: Damage, table: str, where: str, values: Sequence[Value]) -> None:
        what = f"{table} of shard {damage.shard}"
        for row in self._statements.rows(what, f"SELECT * FROM {table} WHERE {where}", values):
            self._statements.run(
                "damaged rows",
                "INSERT INTO damaged(what, detail, row) VALUES(?,?,?)",
                (damage.what, damage.detail, msgspec.msgpack.encode((table, *row))),
            )
        self._statements.run(what, f"DELETE FROM {table} WHERE {where}", values)
