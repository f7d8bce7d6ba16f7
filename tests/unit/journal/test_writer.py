"""The rule of client ids: one is used again only from exactly the state it was left in."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from dittofs.ids import slot_of_client
from dittofs.journal import writer
from dittofs.journal.chain import FIRST_EPOCH
from dittofs.journal.journal import Journal
from dittofs.local_disk import LocalDisk
from tests.unit.journal.conftest import PATH


def draws(seed: int) -> Callable[[int], bytes]:
    return random.Random(seed).randbytes


def append(journal: Journal, shard: int = 1) -> None:
    with journal.transaction():
        journal.append(1, [(shard, FIRST_EPOCH, b"update")], b"")


@pytest.fixture
def ended(journal: Journal) -> int:
    """A journal that ended cleanly; the id it was written with."""
    client_id = journal.claim_writer(draws(1), "here")
    append(journal)
    append(journal, 2)
    with journal.transaction():
        journal.put_snapshot(2, FIRST_EPOCH, b"snapshot")
    journal.close()
    return client_id


def claimed(disk: LocalDisk, machine: str = "here", seed: int = 2) -> int:
    journal = Journal.open(disk, PATH)
    try:
        return journal.claim_writer(draws(seed), machine)
    finally:
        journal.abandon()


def tampered(disk: LocalDisk, sql: str) -> None:
    journal = Journal.open(disk, PATH)
    with journal.transaction():
        journal._database.statements.run("test", sql)
    journal.abandon()


def test_a_client_id_has_48_random_bits_and_is_a_slot_of_ours(journal: Journal) -> None:
    client_id = journal.claim_writer(draws(1), "here")
    assert client_id == int.from_bytes(draws(1)(6), "big")
    assert journal.own_slots() == {slot_of_client(client_id)}


def test_after_a_clean_end_the_id_is_used_again(disk: LocalDisk, ended: int) -> None:
    journal = Journal.open(disk, PATH)
    assert journal.ended_cleanly
    assert journal.claim_writer(draws(2), "here") == ended
    assert journal.own_slots() == {slot_of_client(ended)}
    journal.close()
    assert claimed(disk) == ended


def test_an_opening_that_claims_nothing_leaves_the_mark_standing(disk: LocalDisk, ended: int) -> None:
    Journal.open(disk, PATH).close()
    assert claimed(disk) == ended


def test_a_clean_end_serves_once(disk: LocalDisk, ended: int) -> None:
    assert claimed(disk) == ended
    assert claimed(disk, seed=3) != ended


def test_on_another_machine_the_id_is_new(disk: LocalDisk, ended: int) -> None:
    assert claimed(disk, machine="elsewhere") != ended


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM log",
        "DELETE FROM snapshot",
        "UPDATE snapshot SET hash=zeroblob(32)",
        "UPDATE log SET \"update\"=x'00'",
        'INSERT INTO log SELECT 9, 77, grp, epoch, digest, "update", via, hash FROM log LIMIT 1',
    ],
)
def test_with_any_other_log_the_id_is_new(disk: LocalDisk, ended: int, change: str) -> None:
    tampered(disk, change)
    assert claimed(disk) != ended


def test_with_a_log_too_long_to_prove_the_id_is_new(
    disk: LocalDisk, ended: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "PROVEN_ROWS_MAX", 1)
    Journal.open(disk, PATH).close()
    journal = Journal.open(disk, PATH)
    append(journal, 3)
    journal.close()
    assert claimed(disk) != ended


def test_a_journal_found_damaged_neither_reuses_nor_leaves_an_id(disk: LocalDisk, ended: int) -> None:
    journal = Journal.open(disk, PATH)
    assert journal.claim_writer(draws(2), "here") == ended
    with journal.transaction():
        journal._database.statements.run("test", "UPDATE log SET via=x'00'")
    with journal.transaction():
        journal.drop_tail(1)
    assert journal.damage
    second = journal.claim_writer(draws(3), "here")
    assert second != ended
    assert journal.own_slots() == {slot_of_client(ended), slot_of_client(second)}
    journal.close()
    journal = Journal.open(disk, PATH)
    assert not journal.ended_cleanly
    assert journal.claim_writer(draws(4), "here") not in (ended, second)
    journal.abandon()


def test_a_second_claim_of_one_process_is_a_new_id(journal: Journal) -> None:
    assert journal.claim_writer(draws(1), "here") != journal.claim_writer(draws(2), "here")


def test_an_id_drawn_before_or_reserved_is_drawn_again(journal: Journal) -> None:
    first = journal.claim_writer(draws(1), "here")
    drawn = iter([first, 0, 1, 2])
    assert journal.claim_writer(lambda count: next(drawn).to_bytes(count, "big"), "here") == 2


def test_that_an_id_is_in_use_is_durable_before_it_is_given(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[frozenset[str]] = []
    sync = journal._database._wal.sync

    def noted() -> None:
        synced.append(journal.own_slots())
        sync()

    monkeypatch.setattr(type(journal._database._wal), "sync", lambda _: noted())
    client_id = journal.claim_writer(draws(1), "here")
    assert slot_of_client(client_id) in synced[-1]


def test_its_rows_are_part_of_the_file(tmp_path: Path, ended: int) -> None:
    copied = LocalDisk(str(tmp_path / "copy"))
    copied.open(PATH, create=True).write(0, (tmp_path / "volume" / PATH).read_bytes())
    assert claimed(copied) == ended, "a copy on the same machine cannot be told from the original"
    assert claimed(copied, seed=5) != ended
