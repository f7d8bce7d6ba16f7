"""Damaged bytes: what is read is right, or the error says what is wrong."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from dittofs.errors import Damaged, DittoError
from dittofs.ids import InodeId, Slot, Stamp
from dittofs.journal.chain import FIRST_EPOCH, PackedSnapshot, row_hash, snapshot_hash
from dittofs.journal.damage import IndexDamaged, ShardDamaged
from dittofs.journal.history import HistoryRow
from dittofs.journal.journal import Journal
from dittofs.journal.rows import checksum
from dittofs.journal.schema import PAGE_BYTES
from dittofs.local_disk import LocalDisk
from tests.unit.journal.conftest import PATH

EPOCH = (3, b"d" * 32)
SHARDS = 4
FLIPS = 700
FIFTH = "(SELECT seq FROM log WHERE shard=0 LIMIT 1 OFFSET 4)"


def fill(journal: Journal) -> None:
    """Rows of every kind, over some dozens of pages."""
    chance = random.Random(1)
    for number in range(60):
        with journal.transaction():
            journal.append(number, [(number % SHARDS, FIRST_EPOCH, chance.randbytes(150))], b"via")
            row = HistoryRow(
                0,
                0,
                Stamp(number),
                Slot("AAAAAAAA"),
                InodeId(f"inode {number % 3}"),
                "write",
                InodeId("from") if number % 2 else None,
                InodeId("to"),
                b"",
                b"x",
            )
            journal.append_history([row], number)
            journal.put("names", chance.randbytes(8), chance.randbytes(60))
            journal.put_local("staging", chance.randbytes(8), chance.randbytes(60))
            journal.put_meta(f"name {number % 5}", chance.randbytes(20))
    with journal.transaction():
        journal.put_snapshot(1, EPOCH, chance.randbytes(9000))
        journal.put_snapshot(2, EPOCH, bytes(9000))
        journal.append(99, [(1, EPOCH, b"after")], b"")


def reads(journal: Journal) -> dict[str, Callable[[], object]]:
    """Every way to read, by name."""
    return {
        **{f"shard {shard}": lambda shard=shard: journal.load(shard) for shard in range(SHARDS)},  # type: ignore[misc]
        "index": lambda: list(journal.scan("names", b"")),
        "gets": lambda: [journal.get("names", key) for key, _ in journal.scan("names", b"")],
        "local": lambda: list(journal.scan_local("staging", b"")),
        "meta": lambda: [journal.get_meta(f"name {number}") for number in range(5)],
        "history": lambda: list(journal.history.since(0)),
        "history of inode": lambda: list(journal.history.of_inode(InodeId("inode 1"))),
        "stamp": lambda: journal.greatest_stamp(),
        "slots": lambda: journal.own_slots(),
    }


@pytest.fixture
def filled(journal: Journal) -> Journal:
    fill(journal)
    journal.settle()
    return journal


def tamper(journal: Journal, sql: str) -> None:
    with journal.transaction():
        journal._database.statements.run("test", sql)


def overwrite(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def test_a_flipped_bit_anywhere_in_the_file_is_harmless_or_named(
    disk: LocalDisk, filled: Journal, tmp_path: Path
) -> None:
    right = {name: read() for name, read in reads(filled).items()}
    filled.close()
    path = tmp_path / "volume" / PATH
    sound = path.read_bytes()
    chance = random.Random(2)
    # Every byte of the header, the rest by lot.
    places = [*range(100), *(chance.randrange(len(sound)) for _ in range(FLIPS))]
    named = 0
    for offset in places:
        bit = 1 << chance.randrange(8)
        overwrite(path, offset, bytes([sound[offset] ^ bit]))
        where = f"bit {bit} of byte {offset}"
        try:
            journal = Journal.open(disk, PATH)
        except DittoError as error:
            assert PATH in str(error), where
            named += 1
        else:
            for name, read in reads(journal).items():
                try:
                    found = read()
                except Damaged as error:
                    assert PATH in error.what, where
                    named += 1
                else:
                    assert found == right[name], f"{where}: {name} is silently wrong"
            journal.abandon()
        path.write_bytes(sound)
        path.with_name(PATH + "-wal").write_bytes(b"")
    assert named > len(places) // 2


def test_a_flipped_bit_in_the_wal_costs_no_commit_unnamed(
    disk: LocalDisk, filled: Journal, tmp_path: Path
) -> None:
    right = {name: read() for name, read in reads(filled).items()}
    volume, kept = tmp_path / "volume", tmp_path / "kept"
    shutil.copytree(volume, kept)  # what a kill would leave
    filled.abandon()
    wal = (kept / (PATH + "-wal")).read_bytes()
    frame_bytes = PAGE_BYTES + 24
    last_frame = len(wal) - frame_bytes
    chance = random.Random(3)
    named = 0
    for offset in [*range(80), *(chance.randrange(last_frame) for _ in range(150))]:
        for name in (PATH, PATH + "-wal"):
            shutil.copy(kept / name, volume / name)
        overwrite(volume / (PATH + "-wal"), offset, bytes([wal[offset] ^ 1 << chance.randrange(8)]))
        try:
            journal = Journal.open(disk, PATH)
        except DittoError as error:
            assert PATH in str(error)
            named += 1
            continue
        if journal.tail_lost is not None:
            assert "breaks off at frame" in journal.tail_lost.detail
            named += 1
        else:
            assert {name: read() for name, read in reads(journal).items()} == right, f"byte {offset}"
        journal.abandon()
    assert named > 150


def drop_tail(journal: Journal, shard: int) -> None:
    """A shard whose log is broken is refused until its tail is dropped."""
    for _ in range(2):
        with pytest.raises(ShardDamaged) as refusal:
            journal.load(shard)
        assert (refusal.value.shard, refusal.value.is_tail) == (shard, True)
    with pytest.raises(ShardDamaged), journal.transaction():
        journal.append(1, [(shard, FIRST_EPOCH, b"x")], b"")
    with journal.transaction():
        journal.drop_tail(shard)


def test_a_bad_log_row_is_refused_until_that_shards_tail_is_dropped_aside(
    disk: LocalDisk, filled: Journal
) -> None:
    whole = {shard: filled.load(shard) for shard in range(SHARDS)}
    tamper(
        filled,
        'UPDATE log SET "update"=zeroblob(150) WHERE shard=0 AND seq=(SELECT seq FROM log WHERE shard=0'
        " ORDER BY seq LIMIT 1 OFFSET 9)",
    )
    filled.abandon()
    journal = Journal.open(disk, PATH)
    assert journal.damage == []
    drop_tail(journal, 0)
    assert journal.load(0) == (FIRST_EPOCH, None, whole[0][2][:9])
    assert [damage.what for damage in journal.damage] == [f"{PATH}: log of shard 0"]
    for shard in range(1, SHARDS):
        assert journal.load(shard) == whole[shard]
    assert len(journal.damage) == 1
    rows = journal._database.statements.rows("test", "SELECT row FROM damaged")
    aside = [msgspec.msgpack.decode(row) for (row,) in rows]
    assert [row[:2] for row in aside] == [["log", 0]] * 6
    assert [row[6] for row in aside[1:]] == list(whole[0][2][10:])
    with journal.transaction():
        journal.append(1, [(0, FIRST_EPOCH, b"goes on")], b"")
    journal.abandon()
    journal = Journal.open(disk, PATH)
    assert journal.load(0) == (FIRST_EPOCH, None, [*whole[0][2][:9], b"goes on"])
    assert journal.damage == []
    assert ["set aside earlier" in damage.detail for damage in journal.check()] == [True]
    journal.abandon()


@pytest.mark.parametrize(
    "change",
    [
        f"DELETE FROM log WHERE shard=0 AND seq={FIFTH}",
        f"UPDATE log SET seq=seq+100000 WHERE shard=0 AND seq={FIFTH}",
        f"UPDATE log SET grp=grp+1 WHERE shard=0 AND seq={FIFTH}",
        f"UPDATE log SET epoch=1 WHERE shard=0 AND seq={FIFTH}",
        f"UPDATE log SET digest=x'00' WHERE shard=0 AND seq={FIFTH}",
        f"UPDATE log SET via=x'' WHERE shard=0 AND seq={FIFTH}",
        f"UPDATE log SET shard=9 WHERE shard=0 AND seq>={FIFTH}",
    ],
)
def test_every_column_of_a_log_row_and_its_place_are_covered(filled: Journal, change: str) -> None:
    whole = filled.load(0)[2]
    tamper(filled, change)
    problems = [damage.what for damage in filled.check()]
    moved = "SET shard" in change
    assert problems == [f"{PATH}: log of shard {9 if moved else 0}"]
    drop_tail(filled, 9 if moved else 0)
    assert filled.load(9) == (FIRST_EPOCH, None, [])
    assert filled.load(0)[2] == whole[:4]
    assert [damage.what for damage in filled.damage] == problems


def test_a_tail_dropped_inside_a_transaction_that_fails_is_there_again(filled: Journal) -> None:
    tamper(filled, "DELETE FROM log WHERE shard=0 AND seq=(SELECT min(seq) FROM log WHERE shard=0)")
    with pytest.raises(ZeroDivisionError), filled.transaction():
        filled.drop_tail(0)
        assert filled.load(0)[2] == []
        raise ZeroDivisionError
    drop_tail(filled, 0)
    assert filled.load(0)[2] == []
    assert len(filled.damage) == 1
    assert len(filled._database.statements.rows("test", "SELECT * FROM damaged")) == 14


def test_a_bad_snapshot_is_named_and_dropped_only_on_demand(filled: Journal) -> None:
    tamper(filled, "UPDATE snapshot SET blob=zeroblob(9000) WHERE shard=1")
    for _ in range(2):
        with pytest.raises(Damaged, match="snapshot of shard 1"):
            filled.load(1)
    with pytest.raises(Damaged), filled.transaction():
        filled.append(1, [(1, EPOCH, b"x")], b"")
    assert [damage.what for damage in filled.check()] == [f"{PATH}: snapshot of shard 1"]
    with filled.transaction():
        filled.discard_shard(1, "its snapshot was damaged")
    assert filled.load(1) == (FIRST_EPOCH, None, [])
    assert [damage.what for damage in filled.damage] == [f"{PATH}: shard 1"]
    assert len(filled._database.statements.rows("test", "SELECT * FROM damaged")) == 2


@pytest.mark.parametrize("column", ["epoch=7", "through=1", "size=8999", "codec=1-codec", "digest=x'00'"])
def test_every_column_of_a_snapshot_is_covered(filled: Journal, column: str) -> None:
    tamper(filled, f"UPDATE snapshot SET {column}")
    for shard in (1, 2):
        with pytest.raises(Damaged, match=f"snapshot of shard {shard}"):
            filled.load(shard)


@pytest.mark.parametrize("change", ["value=zeroblob(60)", "key=x'00'", "sum=sum+1"])
def test_a_bad_index_row_condemns_the_index_and_nothing_else(filled: Journal, change: str) -> None:
    key, _ = next(iter(filled.scan("names", b"")))
    tamper(filled, f"UPDATE entry SET {change} WHERE key=x'{key.hex()}'")
    with pytest.raises(IndexDamaged, match="index table names"):
        list(filled.scan("names", b""))
    with pytest.raises(IndexDamaged):
        filled.get("names", b"\0" if change.startswith("key") else key)
    assert len(filled.load(0)[2]) == 15
    assert [damage.what for damage in filled.check()] == [f"{PATH}: index table names"]
    with filled.transaction():
        filled.clear_index()
    assert list(filled.check()) == []


def page_of(journal: Journal, table: str) -> int:
    """A leaf page of a table."""
    sql = "SELECT pageno FROM dbstat WHERE name=? AND pagetype='leaf' ORDER BY pageno DESC LIMIT 1"
    page: int = journal._database.statements.rows("test", sql, (table,))[0][0]
    return page


def with_bad_page(disk: LocalDisk, journal: Journal, tmp_path: Path, table: str) -> Journal:
    page = page_of(journal, table)
    journal.close()
    overwrite(tmp_path / "volume" / PATH, (page - 1) * PAGE_BYTES + 2000, b"\xff" * 50)
    return Journal.open(disk, PATH)


@pytest.mark.parametrize("table", ["entry", "entry_table", "sqlite_autoindex_entry_table_1"])
def test_an_index_with_unreadable_pages_can_be_cleared_and_rebuilt(
    disk: LocalDisk, filled: Journal, tmp_path: Path, table: str
) -> None:
    journal = with_bad_page(disk, filled, tmp_path, table)
    with pytest.raises(IndexDamaged), journal.transaction():
        list(journal.scan("names", b""))
        journal.put("more names", b"", b"")
    with journal.transaction():
        journal.clear_index()
        journal.put("names", b"k", b"v")
    assert list(journal.scan("names", b"")) == [(b"k", b"v")]
    assert len(journal.load(0)[2]) == 15
    journal.abandon()
    journal = Journal.open(disk, PATH)
    assert list(journal.scan("names", b"")) == [(b"k", b"v")]
    journal.abandon()


@pytest.mark.parametrize(
    ("table", "read", "what"),
    [
        ("log", "shard 3", "log of shard 3"),
        ("snapshot", "shard 2", "snapshot of shard 2"),
        ("local", "local", "local rows of kind staging"),
        ("meta", "meta", "meta row name"),
        ("history", "history", "history"),
    ],
)
def test_an_unreadable_page_is_named_by_what_it_holds(
    disk: LocalDisk, filled: Journal, tmp_path: Path, table: str, read: str, what: str
) -> None:
    try:
        journal = with_bad_page(disk, filled, tmp_path, table)
    except Damaged as error:
        assert f"{PATH}: {what.split()[0]}" in str(error)
        return
    with pytest.raises(Damaged, match=f"{PATH}: {what}.*checksum"):
        reads(journal)[read]()
    assert any(what.split()[0] in damage.what or "structure" in damage.detail for damage in journal.check())
    journal.abandon()


@pytest.mark.parametrize(
    ("change", "read", "what"),
    [
        ("UPDATE local SET value=x'00'", "local", "local row staging"),
        ("UPDATE meta SET value=x'00' WHERE key='name 3'", "meta", "meta row name 3"),
        ("UPDATE history SET after=x'00' WHERE at=7", "history", "history row 7.1"),
        ("UPDATE history SET at=1000 WHERE at=7", "history", "history row 1000.1"),
    ],
)
def test_a_bad_row_is_named(filled: Journal, change: str, read: str, what: str) -> None:
    tamper(filled, change)
    with pytest.raises(Damaged, match=what):
        reads(filled)[read]()
    assert any(what in damage.what for damage in filled.check())


def test_a_database_whose_pages_lost_their_checksums_is_refused(
    disk: LocalDisk, filled: Journal, tmp_path: Path
) -> None:
    filled.close()
    overwrite(tmp_path / "volume" / PATH, 20, b"\0")
    with pytest.raises(Damaged):
        Journal.open(disk, PATH)


def test_hashes_are_those_of_the_format() -> None:
    assert (
        row_hash(bytes(32), 7, 1, 2, (3, b"d" * 32), b"update", b"via").hex()
        == "520f217063860ab0b603149b98add575117be96eb18a97209bfe69b3aed99cfb"
    )
    assert (
        snapshot_hash(7, 5, (3, b"d" * 32), PackedSnapshot(0, 4, b"blob")).hex()
        == "b3a7bcb1a7d3de71c1a247e31a215693ec3d5180b0529f785ff5338bc1160030"
    )
    assert checksum(b"kind", b"key", b"value").hex() == "4e93e03aa42132d4b2c63a01d321497b"


def test_a_shard_in_a_page_that_cannot_be_read_is_set_aside_with_all_its_bytes(
    disk: LocalDisk, filled: Journal, tmp_path: Path
) -> None:
    with filled.transaction():
        filled.put_snapshot(1, EPOCH, random.Random(3).randbytes(60_000))
    which = "name='snapshot' AND pagetype='overflow' ORDER BY pageno LIMIT 1 OFFSET 5"
    sql = f"SELECT pageno FROM dbstat WHERE {which}"
    page = filled._database.statements.rows("test", sql)[0][0]
    filled.close()
    path = tmp_path / "volume" / PATH
    place = (page - 1) * PAGE_BYTES + 700
    overwrite(path, place, bytes([path.read_bytes()[place] ^ 1]))
    journal = Journal.open(disk, PATH)
    with pytest.raises(ShardDamaged, match="snapshot of shard 1"):
        journal.load(1)
    with journal.transaction():
        journal.discard_shard(1, "a page of it cannot be read")
    assert journal.load(1) == (FIRST_EPOCH, None, [])
    with journal.transaction():
        journal.put_snapshot(1, EPOCH, b"had anew")
    ((aside,),) = journal._database.statements.rows("test", "SELECT row FROM damaged")
    assert len(aside) > 60_000
    journal.close()
    again = Journal.open(disk, PATH)
    assert again.load(1) == (EPOCH, b"had anew", [])
    assert [damage.what for damage in again.check()] == [f"{PATH}: shard 1"]
    again.abandon()
