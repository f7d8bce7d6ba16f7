"""The -wal file stays bounded, and other threads sync, check and checkpoint while one writes."""

import threading
from pathlib import Path
from typing import Any

import pytest

from dittofs.journal import database
from dittofs.journal.chain import FIRST_EPOCH
from dittofs.journal.journal import Journal
from dittofs.journal.statements import Statements
from dittofs.local_disk import LocalDisk
from tests.unit.journal.conftest import PATH
from tests.unit.journal.test_journal import append


def test_the_wal_stays_bounded_without_anybody_asking(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "WAL_PAGES_DUE", 20)
    monkeypatch.setattr(database, "WAL_PAGES_MAX", 80)
    for number in range(300):
        append(journal, number % 7, bytes(3000))
    assert (tmp_path / "volume" / (PATH + "-wal")).stat().st_size < 100 * 4200
    assert sum(journal.log_bytes(shard) for shard in range(7)) == 300 * 3000


def test_a_checkpoint_that_is_outrun_ends_by_starting_the_wal_anew(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "WAL_PAGES_DUE", 20)
    reader = journal._database.connect_checker()
    assert reader is not None
    reader.run("test", "BEGIN")
    reader.rows("test", "SELECT count(*) FROM log")
    for number in range(40):
        append(journal, number % 7, bytes(3000))
    assert journal.is_checkpoint_due
    rows = Statements.rows
    modes = []

    def rows_seen(self: Statements, what: str, sql: str, *rest: Any) -> list[Any]:
        modes.append(sql)
        if len(modes) == 3:
            assert reader is not None
            reader.connection.close()
        return rows(self, what, sql, *rest)

    monkeypatch.setattr(Statements, "rows", rows_seen)
    journal.checkpoint()
    monkeypatch.setattr(Statements, "rows", rows)
    assert [sql[-8:] for sql in modes] == ["PASSIVE)", "PASSIVE)", "RESTART)"]
    append(journal, 1, b"x")
    assert journal._database._wal_pages < 10
    assert not journal.is_checkpoint_due


def test_a_checkpoint_from_another_thread_lets_commits_go_on(journal: Journal) -> None:
    done = threading.Event()
    failures: list[BaseException] = []

    def checkpoint() -> None:
        try:
            while not done.is_set():
                journal.checkpoint()
                journal.sync()
        except BaseException as error:  # noqa: BLE001 - shown below
            failures.append(error)

    thread = threading.Thread(target=checkpoint)
    thread.start()
    for number in range(500):
        append(journal, number % 5, bytes(2000))
        assert len(list(journal.scan("t", b""))) == 0
    done.set()
    thread.join()
    assert failures == []
    assert sum(len(journal.load(shard)[2]) for shard in range(5)) == 500
    assert list(journal.check()) == []


def test_a_journal_is_checked_from_another_thread_while_it_is_written(journal: Journal) -> None:
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.extend([*journal.check(), "ended"]))
    append(journal, 1, b"x")
    thread.start()
    number = 0
    while thread.is_alive() or number < 50:
        append(journal, number % 3, bytes(100))
        if number % 10 == 0:
            with journal.transaction():
                journal.put_snapshot(number % 3, FIRST_EPOCH, b"s")
        number += 1
    thread.join()
    assert found == ["ended"]


def test_a_clean_end_leaves_nothing_to_recover(disk: LocalDisk, journal: Journal, tmp_path: Path) -> None:
    append(journal, 1, b"x")
    journal.close()
    assert (tmp_path / "volume" / (PATH + "-wal")).stat().st_size == 0
    Journal.open(disk, PATH).abandon()
