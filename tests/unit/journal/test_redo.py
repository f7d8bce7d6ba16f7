"""What is late: committed, in memory, and in one row a transaction instead of its tables."""

import random

import pytest

from dittofs.ids import InodeId, Slot, Stamp
from dittofs.journal import redo
from dittofs.journal.chain import FIRST_EPOCH
from dittofs.journal.history import END, HistoryRow
from dittofs.journal.journal import Journal
from dittofs.journal.rescue import rescue
from dittofs.local_disk import LocalDisk
from tests.unit.journal.conftest import PATH

INODES = [InodeId(letter * 16) for letter in "ABC"]
TABLES = ("t", "other")
KEYS = [bytes([a, b]) for a in b"ab\xff" for b in b"xyz\xff"]
STEPS = 160


def effect(number: int, chance: random.Random) -> HistoryRow:
    source, target = (chance.choice([None, *INODES]) for _ in range(2))
    inode = chance.choice(INODES)
    return HistoryRow(0, 0, Stamp(number), Slot("AAAAAAAA"), inode, "name", source, target, b"", bytes(9))


class Model:
    """What a journal must say."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, bytes], bytes] = {}
        self.past: list[HistoryRow] = []

    def copy(self) -> "Model":
        other = Model()
        other.rows, other.past = dict(self.rows), list(self.past)
        return other

    def agrees(self, journal: Journal) -> None:
        for table in TABLES:
            for key in KEYS:
                assert journal.get(table, key) == self.rows.get((table, key))
            for prefix in (b"", b"a", b"\xff", b"ax", b"c"):
                expected = {k: v for (t, k), v in self.rows.items() if t == table and k.startswith(prefix)}
                assert list(journal.scan(table, prefix)) == sorted(expected.items())
        history, past = journal.history, self.past
        at = past[len(past) // 2].at if past else 1
        assert list(history.before()) == past[::-1]
        assert list(history.before(at)) == [row for row in past[::-1] if row.at < at]
        assert list(history.since(at)) == [row for row in past if row.at >= at]
        assert history.first_at() == (past[0].at if past else None)
        assert history.last_at == (past[-1].at if past else 0)
        assert history.last_before(at) == max((row.at for row in past if row.at < at), default=0)
        after = [row for row in past if row.key > (at, 1) and row.at < at + 9]
        assert history.some_since((at, 1), at + 9, 3) == after[:3]
        for inode in INODES:
            assert list(history.of_inode(inode)) == [row for row in past[::-1] if row.inode == inode]
            times = [row.at for row in past if inode in (row.source, row.target)]
            assert history.directory_changed(inode, END) == max(times, default=0)
            found = list(history.of_directory(inode, at))
            sources = [row for row in past if row.source == inode and row.at >= at]
            assert found == sources + [row for row in past if row.target == inode and row.at >= at]


def act(journal: Journal, model: Model, number: int, chance: random.Random) -> None:
    """One transaction, in both."""
    for _ in range(chance.randrange(4)):
        table, key = chance.choice(TABLES), chance.choice(KEYS)
        if chance.random() < 0.3:
            journal.delete(table, key)
            model.rows.pop((table, key), None)
        else:
            journal.put(table, key, b"%d" % number)
            model.rows[table, key] = b"%d" % number
    effects = [effect(number, chance) for _ in range(chance.randrange(3))]
    journal.append_history(effects, number * 3)
    at = journal.history.last_at
    for count, one in enumerate(effects, 1):
        model.past.append(
            HistoryRow(
                at, count, one.stamp, one.slot, one.inode, one.kind, one.source, one.target, b"", one.after
            )
        )
    if chance.random() < 0.05 and model.past:
        gone = model.past.pop(chance.randrange(len(model.past)))
        journal.history.remove(gone)
        if not model.past or gone.key > model.past[-1].key:
            journal.history.forget()
    if chance.random() < 0.02:
        journal.clear_index()
        model.rows.clear()


def test_a_row_that_cannot_be_written_undoes_its_transaction_and_no_other(journal: Journal) -> None:
    with journal.transaction():
        journal.put("t", b"a", b"before")
    with pytest.raises(TypeError), journal.transaction():
        journal.put("t", b"a", b"undone")
        journal.put("t", b"b", object())  # type: ignore[arg-type]  # whatever a bug may hand in
    assert not journal.is_in_transaction
    assert list(journal.scan("t", b"")) == [(b"a", b"before")]
    with journal.transaction():
        journal.put("t", b"c", b"after")
    assert list(journal.scan("t", b"")) == [(b"a", b"before"), (b"c", b"after")]


@pytest.mark.parametrize("most", [1, 8, 40])
def test_reads_never_differ_from_what_was_committed_whenever_it_is_written_or_the_process_dies(
    disk: LocalDisk, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(redo, "LATE_ROWS_MAX", most)
    chance = random.Random(most)
    journal, model = Journal.open(disk, PATH), Model()
    for number in range(1, STEPS):
        would_be = model.copy()
        try:
            with journal.transaction():
                act(journal, would_be, number, chance)
                would_be.agrees(journal)
                if chance.random() < 0.15:
                    raise KeyError
            model = would_be
        except KeyError:
            pass
        model.agrees(journal)
        if chance.random() < 0.05:
            journal.abandon()
            journal = Journal.open(disk, PATH)
            assert not journal.damage
            model.agrees(journal)
    assert list(journal.check()) == []
    journal.abandon()


def test_a_small_change_writes_one_row_and_a_clean_end_leaves_none(disk: LocalDisk, journal: Journal) -> None:
    chance = random.Random(1)
    for number in range(5):
        with journal.transaction():
            journal.put("t", b"%d" % number, b"value")
            journal.append_history([effect(number, chance)], number)
    assert counted(journal, "redo") == 5
    assert counted(journal, "entry") == counted(journal, "history") == 0
    journal.close()
    journal = Journal.open(disk, PATH)
    assert counted(journal, "redo") == 0
    assert counted(journal, "entry") == counted(journal, "history") == 5
    journal.abandon()


def test_a_large_change_is_written_once(journal: Journal) -> None:
    with journal.transaction():
        journal.put("t", b"before", b"value")
    with journal.transaction():
        for number in range(redo.LATE_ROWS_MAX):
            journal.put("t", b"%d" % number, b"value")
    assert counted(journal, "redo") == 0
    assert counted(journal, "entry") == redo.LATE_ROWS_MAX + 1


def test_what_is_late_is_bounded_in_bytes(journal: Journal) -> None:
    for number in range(10):
        with journal.transaction():
            journal.put("t", b"%d" % number, bytes(redo.LATE_BYTES_MAX // 4))
        assert (
            sum(length for (length,) in sql(journal, "SELECT length(body) FROM redo")) < redo.LATE_BYTES_MAX
        )
    assert counted(journal, "entry") > 5


def test_a_walk_through_the_past_meets_each_row_once_while_rows_are_written(journal: Journal) -> None:
    chance = random.Random(1)
    with journal.transaction():
        journal.append_history([effect(1, chance)], 1)
    with journal.transaction():
        journal.append_history([effect(2, chance)], 2)
    for walk in (journal.history.since(0), journal.history.before()):
        met = [next(walk)]
        journal.settle()
        with journal.transaction():
            journal.put("t", b"key", b"value")
        met += walk
        assert sorted(row.at for row in met) == [1, 2]


@pytest.fixture
def late(disk: LocalDisk) -> None:
    """A journal whose process died with three transactions late."""
    journal = Journal.open(disk, PATH)
    chance = random.Random(1)
    for number in range(1, 4):
        with journal.transaction():
            journal.put("t", b"%d" % number, b"value")
            journal.append(number, [(0, FIRST_EPOCH, b"update")], b"via")
            journal.append_history([effect(number, chance)], number)
    journal.abandon()


@pytest.mark.usefixtures("late")
@pytest.mark.parametrize(
    "change",
    [
        "UPDATE redo SET body=zeroblob(20) WHERE id=2",
        "UPDATE redo SET sum=zeroblob(16) WHERE id=2",
        "UPDATE redo SET id=7 WHERE id=2",
        "DELETE FROM redo WHERE id=2",
    ],
)
def test_a_row_that_cannot_be_believed_is_named_and_kept_aside_and_condemns_the_index(
    disk: LocalDisk, change: str
) -> None:
    journal = Journal.open(disk, PATH)
    with journal.transaction():
        journal._database.statements.run("test", change)
    found = list(journal.check())
    journal.abandon()
    journal = Journal.open(disk, PATH)
    assert journal.damage == found
    assert found[0].what.startswith(f"{PATH}: redo row ")
    assert journal.load(0)[2] == [b"update"] * 3
    assert {row.at for row in journal.history.since(0)} == {1, 3}
    journal.settle()
    assert journal.is_index_partial
    with journal.transaction():
        journal.clear_index()
        journal.mark_index(partial=False)
    assert list(journal.scan("t", b"")) == []
    journal.abandon()
    journal = Journal.open(disk, PATH)
    assert not journal.damage
    assert not journal.is_index_partial
    assert all(damage.is_past for damage in journal.check())
    assert counted(journal, "damaged") in (2, 3)
    journal.abandon()


@pytest.mark.usefixtures("late")
def test_what_is_late_after_a_damaged_row_was_kept_aside_is_not_kept_aside_too(disk: LocalDisk) -> None:
    journal = Journal.open(disk, PATH)
    with journal.transaction():
        journal._database.statements.run("test", "UPDATE redo SET body=zeroblob(20) WHERE id=2")
    journal.abandon()
    journal = Journal.open(disk, PATH)
    with pytest.raises(KeyError), journal.transaction():
        journal.history.remove(next(journal.history.before()))
        raise KeyError
    assert counted(journal, "damaged") == 0
    with journal.transaction():
        journal.history.remove(next(journal.history.before()))  # writes what is late, and then:
        journal.put("t", b"sound", b"value")
    assert counted(journal, "redo") == 1
    aside = counted(journal, "damaged")
    assert aside >= 3
    with journal.transaction():
        journal.clear_index()
    assert counted(journal, "damaged") == aside
    journal.abandon()


@pytest.mark.usefixtures("late")
def test_a_journal_made_anew_has_what_was_late(disk: LocalDisk) -> None:
    assert rescue(disk, PATH, 1, {}) == []
    journal = Journal.open(disk, PATH)
    assert [key for key, _ in journal.scan("t", b"")] == [b"1", b"2", b"3"]
    assert [row.at for row in journal.history.since(0)] == [1, 2, 3]
    journal.abandon()


@pytest.mark.usefixtures("late")
@pytest.mark.parametrize(
    "change", ["UPDATE redo SET body=zeroblob(20) WHERE id=2", "DELETE FROM redo WHERE id=1"]
)
def test_a_journal_made_anew_without_a_late_row_makes_its_index_anew(disk: LocalDisk, change: str) -> None:
    journal = Journal.open(disk, PATH)
    with journal.transaction():
        journal._database.statements.run("test", change)
    journal.abandon()
    (loss,) = rescue(disk, PATH, 1, {})
    assert "latest steps of the past" in loss.detail
    journal = Journal.open(disk, PATH)
    assert journal.is_index_partial
    assert list(journal.scan("t", b"")) == []
    assert 3 in {row.at for row in journal.history.since(0)}
    assert journal.load(0)[2] == [b"update"] * 3
    journal.abandon()


def sql(journal: Journal, statement: str) -> list[tuple[int]]:
    return journal._database.statements.rows("test", statement)


def counted(journal: Journal, table: str) -> int:
    return sql(journal, f"SELECT count(*) FROM {table}")[0][0]
