from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import apsw
import pytest

from dittofs.disk import InUse
from dittofs.errors import Damaged, FormatError
from dittofs.ids import InodeId, Slot, Stamp
from dittofs.journal.chain import FIRST_EPOCH
from dittofs.journal.journal import Journal
from dittofs.local_disk import LocalDisk
from tests.unit.journal.conftest import PATH

SLOT = Slot("AAAAAAAA")
SECOND_EPOCH = (1, b"d" * 32)


@dataclass
class Effect:
    stamp: Stamp
    inode: InodeId
    kind: str = "write"
    slot: Slot = SLOT
    before: bytes = b"before"
    after: bytes = b"after"
    source: InodeId | None = None
    target: InodeId | None = None


class Interrupted(Exception):
    pass


def append(journal: Journal, shard: int, *updates: bytes, epoch: tuple[int, bytes] = FIRST_EPOCH) -> None:
    with journal.transaction():
        journal.append(journal.next_group, [(shard, epoch, update) for update in updates], b"via")


def reopened(disk: LocalDisk, journal: Journal) -> Journal:
    journal.abandon()
    return Journal.open(disk, PATH)


# -- transactions


def test_a_transaction_that_raises_leaves_nothing_of_itself(disk: LocalDisk, journal: Journal) -> None:
    append(journal, 1, b"one")
    with pytest.raises(Interrupted), journal.transaction():
        journal.append(9, [(1, FIRST_EPOCH, b"two"), (2, FIRST_EPOCH, b"other")], b"")
        journal.put("added", b"k", b"v")
        journal.put_local("kind", b"k", b"v")
        journal.put_meta("name", b"v")
        journal.append_history([Effect(Stamp(5), InodeId("i"))], 5)
        raise Interrupted
    # Without loading first: what memory knows of the chains must have gone back too.
    append(journal, 1, b"three")
    append(journal, 2, b"four")
    with journal.transaction():
        journal.put("added", b"x", b"y")
    for again in (False, True):
        look = reopened(disk, journal) if again else journal
        assert look.load(1) == (FIRST_EPOCH, None, [b"one", b"three"])
        assert look.load(2) == (FIRST_EPOCH, None, [b"four"])
        assert list(look.scan("added", b"")) == [(b"x", b"y")]
        assert list(look.scan_local("kind", b"")) == []
        assert look.get_meta("name") is None
        assert look.greatest_stamp() == 0
        assert list(look.check()) == []
        assert look.damage == []


def test_a_change_outside_a_transaction_is_a_bug(journal: Journal) -> None:
    changes: list[Callable[[], None]] = [
        lambda: journal.append(1, [], b""),
        lambda: journal.put("t", b"k", b"v"),
        lambda: journal.delete("t", b"k"),
        lambda: journal.put_meta("k", b"v"),
        lambda: journal.put_local("k", b"k", b"v"),
        journal.clear_index,
    ]
    for change in changes:
        with pytest.raises(AssertionError):
            change()
    with pytest.raises(AssertionError), journal.transaction(), journal.transaction():
        pass


def test_what_was_committed_is_there_after_the_process_is_gone(disk: LocalDisk, journal: Journal) -> None:
    append(journal, 7, b"update")
    again = reopened(disk, journal)
    assert again.load(7) == (FIRST_EPOCH, None, [b"update"])
    assert not again.damage


def test_one_process_at_a_time_has_the_journal(disk: LocalDisk, journal: Journal) -> None:
    with pytest.raises(InUse):
        Journal.open(disk, PATH)
    journal.abandon()
    Journal.open(disk, PATH).abandon()


def test_an_opening_that_fails_lets_go_of_the_lock(disk: LocalDisk) -> None:
    file = disk.open(PATH, create=True)
    file.write(0, b"this is not a database" * 1000)
    for _ in range(2):
        with pytest.raises(Damaged, match="not a database"):
            Journal.open(disk, PATH)


def test_a_database_of_another_program_or_a_later_format_is_refused(disk: LocalDisk, tmp_path: Path) -> None:
    connection = apsw.Connection(str(tmp_path / "volume" / PATH))
    connection.execute("CREATE TABLE t(x)")
    connection.close()
    with pytest.raises(Damaged, match="no journal"):
        Journal.open(disk, PATH)
    (tmp_path / "volume" / PATH).unlink()
    journal = Journal.open(disk, PATH)
    with journal.transaction():
        journal._database.statements.run("test", "PRAGMA user_version=4")
    journal.abandon()
    with pytest.raises(FormatError, match="format 4; this program knows format 3"):
        Journal.open(disk, PATH)


def test_its_files_are_for_their_owner_only(journal: Journal, tmp_path: Path) -> None:
    append(journal, 1, b"x")
    journal.checkpoint()
    files = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "volume").iterdir()}
    assert files == {"journal.db": 0o600, "journal.db-wal": 0o600, "lock": 0o600}


# -- the log


def test_updates_come_back_in_order_with_their_size(journal: Journal) -> None:
    updates = [bytes([number]) * number for number in range(50)]
    for update in updates:
        append(journal, 3, update)
        append(journal, 256, b"meta")
    assert journal.load(3) == (FIRST_EPOCH, None, updates)
    assert journal.log_bytes(3) == sum(range(50))
    assert journal.load(0) == (FIRST_EPOCH, None, [])
    assert journal.log_bytes(0) == 0


def test_a_snapshot_replaces_what_was_logged_before_it_and_nothing_else(
    disk: LocalDisk, journal: Journal
) -> None:
    for shard in (1, 2):
        append(journal, shard, b"a", b"b")
    with journal.transaction():
        journal.put_snapshot(1, SECOND_EPOCH, b"whole")
    append(journal, 1, b"after", epoch=SECOND_EPOCH)
    for again in (False, True):
        look = reopened(disk, journal) if again else journal
        assert look.load(1) == (SECOND_EPOCH, b"whole", [b"after"])
        assert look.log_bytes(1) == len(b"after")
        assert look.load(2) == (FIRST_EPOCH, None, [b"a", b"b"])


@pytest.mark.parametrize("blob", [b"", b"x", bytes(1 << 20), bytes(range(256)) * 3])
def test_a_snapshot_comes_back_as_it_was(disk: LocalDisk, journal: Journal, blob: bytes) -> None:
    with journal.transaction():
        journal.put_snapshot(1, SECOND_EPOCH, blob)
    assert reopened(disk, journal).load(1) == (SECOND_EPOCH, blob, [])


def test_a_snapshot_that_shrinks_is_stored_small(journal: Journal, tmp_path: Path) -> None:
    with journal.transaction():
        journal.put_snapshot(1, SECOND_EPOCH, bytes(4 << 20))
    journal.checkpoint()
    assert (tmp_path / "volume" / PATH).stat().st_size < 1 << 18


def test_an_update_of_another_epoch_is_refused(journal: Journal) -> None:
    append(journal, 1, b"a")
    with pytest.raises(ValueError, match="epoch"):
        append(journal, 1, b"b", epoch=SECOND_EPOCH)
    with journal.transaction():
        journal.put_snapshot(1, FIRST_EPOCH, b"whole")
    with pytest.raises(ValueError, match="epoch"):
        append(journal, 1, b"b", epoch=SECOND_EPOCH)
    assert journal.load(1) == (FIRST_EPOCH, b"whole", [])


def test_a_group_number_is_never_given_twice(disk: LocalDisk, journal: Journal) -> None:
    seen = set()
    for shard in range(3):
        assert journal.next_group not in seen
        seen.add(journal.next_group)
        append(journal, shard, b"x")
    with journal.transaction():
        for shard in range(3):
            journal.put_snapshot(shard, FIRST_EPOCH, b"s")
    assert reopened(disk, journal).next_group not in seen


# -- index, local rows, meta


def test_a_scan_gives_the_keys_of_a_prefix_in_order(journal: Journal) -> None:
    with journal.transaction():
        for key in (b"b", b"a\xff", b"a", b"a\x00", b"\xff\xff", b"", b"ab"):
            journal.put("t", key, b"value of " + key)
            journal.put("other", key, b"-")
    assert [key for key, _ in journal.scan("t", b"")] == sorted(
        (b"b", b"a\xff", b"a", b"a\x00", b"\xff\xff", b"", b"ab")
    )
    assert list(journal.scan("t", b"a")) == [
        (key, b"value of " + key) for key in (b"a", b"a\x00", b"ab", b"a\xff")
    ]
    assert list(journal.scan("t", b"c")) == []
    assert list(journal.scan("none", b"")) == []


def test_a_scan_longer_than_a_page_gives_every_row_once(journal: Journal) -> None:
    keys = [number.to_bytes(2, "big") for number in range(1500)]
    with journal.transaction():
        for key in keys:
            journal.put("t", key, key)
            journal.put_local("k", key, key)
    assert [key for key, _ in journal.scan("t", b"")] == keys
    assert [key for key, _ in journal.scan_local("k", b"")] == keys


def test_an_unfinished_scan_holds_nothing_up(journal: Journal) -> None:
    with journal.transaction():
        for number in range(1500):
            journal.put("t", number.to_bytes(2, "big"), b"x")
    scan = journal.scan("t", b"")
    next(scan)
    with journal.transaction():
        journal.delete("t", (1400).to_bytes(2, "big"))
    journal.checkpoint()
    append(journal, 1, b"x")
    assert journal._database._wal_pages < 10
    assert len(list(scan)) == 1498


def test_rows_are_replaced_and_deleted(journal: Journal) -> None:
    with journal.transaction():
        journal.put("t", b"k", b"1")
        journal.put("t", b"k", b"2")
        journal.put_local("k", b"k", b"1")
        journal.put_local("k", b"k", b"2")
        journal.put_meta("m", b"1")
        journal.put_meta("m", b"2")
    assert journal.get("t", b"k") == b"2"
    assert list(journal.scan_local("k", b"")) == [(b"k", b"2")]
    assert journal.get_meta("m") == b"2"
    with journal.transaction():
        journal.delete("t", b"k")
        journal.delete("t", b"never there")
        journal.delete("no table", b"k")
        journal.delete_local("k", b"k")
    assert journal.get("t", b"k") is None
    assert list(journal.scan_local("k", b"")) == []


def test_the_journals_own_meta_rows_cannot_be_overwritten(journal: Journal) -> None:
    with pytest.raises(ValueError, match="own"), journal.transaction():
        journal.put_meta("journal/writer", b"")


def test_a_rebuild_that_was_not_ended_is_known_after_a_restart(disk: LocalDisk, journal: Journal) -> None:
    assert not journal.is_index_partial
    with journal.transaction():
        journal.mark_index(partial=True)
        journal.clear_index()
    again = reopened(disk, journal)
    assert again.is_index_partial
    with again.transaction():
        again.mark_index(partial=False)
    assert not again.is_index_partial
    again.abandon()


def test_a_cleared_index_is_empty_and_takes_rows(journal: Journal) -> None:
    with journal.transaction():
        journal.put("t", b"k", b"v")
    with pytest.raises(Interrupted), journal.transaction():
        journal.clear_index()
        raise Interrupted
    assert journal.get("t", b"k") == b"v"
    with journal.transaction():
        journal.clear_index()
        journal.put("u", b"k", b"w")
    assert journal.get("t", b"k") is None
    assert journal.get("u", b"k") == b"w"


# -- history


def step(journal: Journal, now_ns: int, *effects: Effect) -> None:
    with journal.transaction():
        journal.append_history(effects, now_ns)


def test_history_answers_by_inode_and_by_time(journal: Journal) -> None:
    for number in range(700):
        step(journal, 10 + number, *(Effect(Stamp(7), InodeId(inode)) for inode in "ab"))
    assert [row.at for row in journal.history.of_inode(InodeId("a"))] == list(range(709, 9, -1))
    assert [row.at for row in journal.history.of_inode(InodeId("b"), before=12)] == [11, 10]
    assert [row.at for row in journal.history.before(11)] == [10, 10]
    assert [(row.at, row.inode) for row in journal.history.since(709)] == [(709, "a"), (709, "b")]
    row = next(journal.history.of_inode(InodeId("a")))
    assert (row.slot, row.kind, row.before, row.after) == ("AAAAAAAA", "write", b"before", b"after")
    with journal.transaction():
        journal.history.remove(row)
    assert next(journal.history.of_inode(InodeId("a"))).at == 708
    assert journal.history.first_at() == 10


def test_history_answers_by_directory(journal: Journal) -> None:
    here, there = InodeId("here"), InodeId("there")
    step(journal, 1, Effect(Stamp(1), InodeId("a"), target=here))
    step(journal, 2, Effect(Stamp(1), InodeId("a"), source=here, target=there))
    step(journal, 3, Effect(Stamp(1), InodeId("a")))
    assert [row.at for row in journal.history.of_directory(here, 0)] == [2, 1]
    assert [row.at for row in journal.history.of_directory(there, 0)] == [2]
    assert [row.at for row in journal.history.of_directory(here, 2)] == [2]
    assert journal.history.directory_changed(here, 2) == 1
    assert journal.history.directory_changed(there, 2) == 0


def test_history_goes_on_in_order_when_the_clock_goes_back(disk: LocalDisk, journal: Journal) -> None:
    step(journal, 1000, Effect(Stamp(1), InodeId("a")))
    step(journal, 10, Effect(Stamp(2), InodeId("a")))
    journal.abandon()
    again = Journal.open(disk, PATH)
    step(again, 20, Effect(Stamp(3), InodeId("a")))
    assert [(row.at, row.stamp) for row in again.history.before()] == [(1002, 3), (1001, 2), (1000, 1)]
    again.abandon()


def test_the_greatest_stamp_is_our_clocks_and_not_anothers(disk: LocalDisk, journal: Journal) -> None:
    with journal.transaction():
        journal.append_history([Effect(Stamp(1 << 61), InodeId("a"))], 5)
    assert journal.greatest_stamp() == 0
    journal.close(greatest=Stamp(50))
    again = Journal.open(disk, PATH)
    assert again.greatest_stamp() == 50
    again.abandon()
