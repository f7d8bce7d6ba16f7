"""The form of a shard's stored state: a snapshot and the updates after it, chained by hash."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

import zstandard
from blake3 import blake3

from dittofs.errors import Damaged
from dittofs.journal.damage import Damage, ShardDamaged
from dittofs.journal.statements import Statements

EpochPair = tuple[int, bytes]
"""What callers give: (number, digest) of a compaction."""
SNAPSHOT_BYTES_MAX: Final = 1 << 30
_LOG_DOMAIN = b"dittofs/1 log\0"
_SNAPSHOT_DOMAIN = b"dittofs/1 snapshot\0"
_STATE_DOMAIN = b"dittofs/1 log state\0"
_CHAIN_START = bytes(32)
_LOG_HEADER = struct.Struct(">QQHQHH")
_SNAPSHOT_HEADER = struct.Struct(">HQQHBQ")
_RAW, _ZSTD = 0, 1
_ZSTD_LEVEL = 1  # 3 takes twice the time for 4 % less, and this runs on the event loop
_LOG_ROWS = 'SELECT seq, grp, epoch, digest, "update", via, hash FROM log WHERE shard=? ORDER BY seq'
_LAST_HASH = "SELECT hash FROM log WHERE shard=? ORDER BY seq DESC LIMIT 1"


class Epoch(NamedTuple):
    """The age of a shard: how often it was compacted, and what its content was then."""

    number: int
    digest: bytes


FIRST_EPOCH: Final = Epoch(0, b"")
"""Before the first compaction."""


@dataclass(frozen=True, slots=True)
class Head:
    """Where a verified shard's chain stands."""

    epoch: EpochPair
    hash: bytes
    size: int


@dataclass(frozen=True, slots=True)
class Chain:
    """A shard as far as its hashes hold."""

    head: Head
    snapshot: bytes | None
    updates: list[bytes]
    broken: int | None
    """The seq of the first row that does not follow from what precedes it."""


@dataclass(frozen=True, slots=True)
class PackedSnapshot:
    """A snapshot as its row holds it."""

    codec: int
    size: int
    stored: bytes


def read_chain(statements: Statements, shard: int) -> Chain:
    """Read and verify a shard. `ShardDamaged` if its snapshot or a page of its log cannot be trusted."""
    try:
        return _read_chain(statements, shard)
    except Damaged as error:
        raise ShardDamaged(shard, error.what, error.detail) from error


def _read_chain(statements: Statements, shard: int) -> Chain:
    what = f"snapshot of shard {shard}"
    snapshots = statements.rows(what, "SELECT * FROM snapshot WHERE shard=?", (shard,))
    epoch: EpochPair
    epoch, previous, blob, through = FIRST_EPOCH, _CHAIN_START, None, 0
    if snapshots:
        _, through, number, digest, codec, size, stored, hashed = snapshots[0]
        what = f"{statements.path}: {what}"
        packed = PackedSnapshot(codec, size, stored)
        if snapshot_hash(shard, through, (number, digest), packed) != hashed:
            raise Damaged(what, "its hash does not match")
        epoch, previous, blob = (number, digest), hashed, _unpacked(what, packed)
    updates: list[bytes] = []
    broken: int | None = None
    for seq, group, number, digest, update, via, hashed in statements.rows(
        f"log of shard {shard}", _LOG_ROWS, (shard,)
    ):
        found = (number, digest)
        follows = seq > through and found == epoch
        if not follows or row_hash(previous, shard, seq, group, found, update, via) != hashed:
            broken = seq
            break
        previous = hashed
        updates.append(update)
    head = Head(epoch, previous, sum(map(len, updates)))
    return Chain(head, blob, updates, broken)


def tail_damage(statements: Statements, shard: int, seq: int) -> ShardDamaged:
    """What to say of a log whose row `seq` does not follow from what precedes it."""
    detail = f"row {seq} does not match its hash"
    return ShardDamaged(shard, f"{statements.path}: log of shard {shard}", detail, is_tail=True)


def stored_shards(statements: Statements) -> list[int]:
    """Shards that hold anything."""
    found = statements.rows("snapshots", "SELECT shard FROM snapshot")
    shard = -1
    # A step of the index per shard; DISTINCT would read the whole log.
    while rows := statements.rows("log", "SELECT shard FROM log WHERE shard>? LIMIT 1", (shard,)):
        shard = rows[0][0]
        found += rows
    return sorted({row[0] for row in found})


def greatest_seq(statements: Statements) -> int:
    """The greatest seq in use or covered by a snapshot."""
    greatest = 0
    for shard in stored_shards(statements):
        for sql in (
            "SELECT max(seq) FROM log WHERE shard=?",
            "SELECT max(through) FROM snapshot WHERE shard=?",
        ):
            greatest = max(greatest, statements.rows("log", sql, (shard,))[0][0] or 0)
    return greatest


def state_digest(statements: Statements) -> bytes:
    """A hash over where each shard's chain ends: another log, or an older one, has another."""
    digest = blake3(_STATE_DOMAIN)
    for shard in stored_shards(statements):
        last = statements.rows("log", _LAST_HASH, (shard,)) or statements.rows(
            "snapshots", "SELECT hash FROM snapshot WHERE shard=?", (shard,)
        )
        digest.update(struct.pack(">H", shard) + last[0][0])
    return digest.digest()


def is_log_proven(statements: Statements, rows_max: int) -> bool:
    """Whether every log row follows from the one before; False also if there are more than `rows_max`."""
    count = 0
    for shard in stored_shards(statements):
        snapshots = statements.rows("snapshots", "SELECT hash FROM snapshot WHERE shard=?", (shard,))
        previous = snapshots[0][0] if snapshots else _CHAIN_START
        rows = statements.rows("log", _LOG_ROWS + " LIMIT ?", (shard, rows_max - count + 1))
        count += len(rows)
        if count > rows_max:
            return False
        for seq, group, number, digest, update, via, hashed in rows:
            if row_hash(previous, shard, seq, group, (number, digest), update, via) != hashed:
                return False
            previous = hashed
    return True


def check_chains(statements: Statements) -> Iterator[Damage]:
    """Verify every shard, each as it was at one instant, and change nothing."""
    try:
        shards = stored_shards(statements)
    except Damaged as error:
        yield Damage(error.what, str(error))
        return
    for shard in shards:
        statements.run("check", "SAVEPOINT check_chain")
        try:
            chain = read_chain(statements, shard)
        except ShardDamaged as error:
            yield Damage(error.what, error.detail, shard)
        else:
            if chain.broken is not None:
                tail = tail_damage(statements, shard, chain.broken)
                yield Damage(tail.what, tail.detail, shard)
        finally:
            statements.run("check", "RELEASE check_chain")


def row_hash(
    previous: bytes, shard: int, seq: int, group: int, epoch: EpochPair, update: bytes, via: bytes
) -> bytes:
    """The hash of a log row: of all it says and of the row (or snapshot) before it in its shard."""
    number, digest = epoch
    header = _LOG_HEADER.pack(seq, group, shard, number, len(digest), len(via))
    return blake3(b"".join((_LOG_DOMAIN, previous, header, digest, via, update))).digest()


def snapshot_hash(shard: int, through: int, epoch: EpochPair, packed: PackedSnapshot) -> bytes:
    """The hash of a snapshot row, where the chain of its shard begins."""
    number, digest = epoch
    header = _SNAPSHOT_HEADER.pack(shard, through, number, len(digest), packed.codec, packed.size)
    return blake3(b"".join((_SNAPSHOT_DOMAIN, header, digest, packed.stored))).digest()


def pack_snapshot(blob: bytes) -> PackedSnapshot:
    """`blob` compressed, if that saves a tenth."""
    if len(blob) > SNAPSHOT_BYTES_MAX:
        raise ValueError(f"a snapshot has at most {SNAPSHOT_BYTES_MAX} bytes, not {len(blob)}")
    packed = zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compress(blob)
    if len(packed) < len(blob) * 9 // 10:
        return PackedSnapshot(_ZSTD, len(blob), packed)
    return PackedSnapshot(_RAW, len(blob), blob)


def _unpacked(what: str, packed: PackedSnapshot) -> bytes:
    if packed.codec == _RAW:
        return packed.stored
    if packed.codec != _ZSTD or packed.size > SNAPSHOT_BYTES_MAX:
        raise Damaged(what, f"codec {packed.codec}, {packed.size} bytes")
    try:
        return zstandard.ZstdDecompressor().decompress(packed.stored, max_output_size=packed.size)
    except zstandard.ZstdError as error:
        raise Damaged(what, str(error)) from error
