"""A journal made anew: what cannot be read is lost alone, what cannot be written ends it."""

from collections.abc import Sequence
from typing import Any

import pytest

from dittofs.disk import Disk
from dittofs.errors import Damaged, DiskError
from dittofs.ids import InodeId, Slot, Stamp
from dittofs.journal.chain import FIRST_EPOCH
from dittofs.journal.history import HistoryRow
from dittofs.journal.journal import Journal
from dittofs.journal.rescue import PAGE_ROWS, Loss, rescue
from dittofs.journal.statements import Statements
from tests.simulation.disk import SimulatedDisk
from tests.unit.journal.conftest import PATH

SHARDS = 4
ROWS = 3 * PAGE_ROWS
BAD = PAGE_ROWS + 5
FEW = 5


@pytest.fixture
def simulated() -> SimulatedDisk:
    return filled(ROWS)


def filled(rows: int) -> SimulatedDisk:
    """A journal nobody has open."""
    disk = SimulatedDisk()
    journal = Journal.open(disk, PATH)
    with journal.transaction():
        for number in range(rows):
            journal.put_local("kind", number.to_bytes(4, "big"), b"value")
            journal.append(number, [(number % SHARDS, FIRST_EPOCH, bytes(100))], b"via")
            row = HistoryRow(
                0, 0, Stamp(number), Slot("AAAAAAAA"), InodeId("i"), "write", None, InodeId("to"), b"", b"x"
            )
            journal.append_history([row], number)
    journal.close()
    return disk


def rescued(disk: Disk) -> list[Loss]:
    return rescue(disk, PATH, SHARDS, {})


def local_rows(disk: Disk) -> int:
    journal = Journal.open(disk, PATH)
    try:
        return len(list(journal.scan_local("kind", b"")))
    finally:
        journal.abandon()


class Reading:
    """Reads of one table of a journal that is copied, changed on the way."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, table: str, met: Any) -> None:
        rows = Statements.rows

        def read(statements: Statements, what: str, sql: str, *rest: Any) -> list[Any]:
            found = rows(statements, what, sql, *rest)
            is_copied = what == table and statements.path == PATH and sql.startswith("SELECT * ")
            return met(found) if is_copied else found

        monkeypatch.setattr(Statements, "rows", read)


@pytest.mark.parametrize("error", [DiskError("a bad sector"), Damaged("a page", "a bad checksum")])
@pytest.mark.parametrize(("table", "column"), [("local", 1), ("history", 1), ("log", 1)])
def test_a_place_that_cannot_be_read_costs_itself_alone_whatever_the_reason(
    simulated: SimulatedDisk, monkeypatch: pytest.MonkeyPatch, table: str, column: int, error: Exception
) -> None:
    journal = Journal.open(simulated, PATH)
    bad = journal._database.statements.rows("test", f"SELECT * FROM {table}")[BAD][column]
    journal.abandon()

    def met(found: Sequence[Any]) -> Sequence[Any]:
        if any(row[column] == bad for row in found):
            raise error
        return found

    with monkeypatch.context() as patch:
        Reading(patch, table, met)
        lost = rescued(simulated)
    assert len(lost) == 1
    assert local_rows(simulated) == ROWS - (table == "local")


@pytest.mark.parametrize(("table", "column"), [("local", 1), ("history", 0), ("log", 1)])
def test_a_key_of_another_type_costs_itself_alone(
    simulated: SimulatedDisk, monkeypatch: pytest.MonkeyPatch, table: str, column: int
) -> None:
    journal = Journal.open(simulated, PATH)
    bad = journal._database.statements.rows("test", f"SELECT * FROM {table}")[BAD][column]
    journal.abandon()

    def met(found: Sequence[Any]) -> Sequence[Any]:
        return [(*row[:column], "text", *row[column + 1 :]) if row[column] == bad else row for row in found]

    with monkeypatch.context() as patch:
        Reading(patch, table, met)
        lost = rescued(simulated)
    assert len(lost) == 1
    assert local_rows(simulated) >= ROWS - 1


@pytest.mark.parametrize("table", ["local", "log"])
def test_a_disk_that_does_not_take_the_copy_ends_it_and_nothing_has_changed(
    simulated: SimulatedDisk, monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    run = Statements.run

    def fail(statements: Statements, what: str, sql: str, *rest: Any) -> None:
        if what == table and statements.path != PATH and sql.startswith("INSERT"):
            raise DiskError("writing fails")
        run(statements, what, sql, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Statements, "run", fail)
        with pytest.raises(DiskError, match="writing fails"):
            rescued(simulated)
    assert local_rows(simulated) == ROWS
    assert rescued(simulated) == []
    assert local_rows(simulated) == ROWS


def test_part_of_a_copy_is_never_taken_for_the_journal(
    simulated: SimulatedDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise DiskError("the disk fails")

    with monkeypatch.context() as patch:
        patch.setattr("dittofs.journal.rescue._Copy.run", fail)
        with pytest.raises(DiskError):
            rescued(simulated)
    simulated.unlink(PATH)
    with pytest.raises(FileNotFoundError):
        rescued(simulated)


def test_a_crash_at_any_change_costs_nothing_when_it_is_called_again() -> None:
    simulated = filled(FEW)
    journal = Journal.open(simulated, PATH)
    with journal.transaction():
        journal.put_local("kind", b"late", b"only in the -wal file")
    journal.abandon()
    names = [f"{PATH}.damaged-1", f"{PATH}.damaged-1-wal"]
    for changes in range(10_000):
        disk = simulated.fork()
        disk.fail_after(changes)
        try:
            rescued(disk)
        except DiskError:
            disk.fail_after(None)
            disk.kill()
            rescued(disk)
            assert local_rows(disk) == FEW + 1, changes
            assert not any(
                name.endswith(("rescued", "rescuing", "rescuing-wal")) for name in disk.listdir("")
            )
            assert set(names) <= set(disk.listdir("")), changes
        else:
            assert changes > 10
            return
    raise AssertionError("it never comes to its end")
