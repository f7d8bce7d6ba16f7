"""The journal through kills and power cuts at every instant: a prefix of whole transactions survives."""

import contextlib
import random
from dataclasses import dataclass

import pytest

from dittofs.errors import DiskError, DiskFull
from dittofs.ids import slot_of_client
from dittofs.journal.journal import Journal
from tests.simulation.disk import SimulatedDisk
from tests.simulation.journal_story import MACHINE, PATH, Shown, Story, open_journal, show

STEPS = 24
POWER_CUTS = 3


@dataclass
class Instant:
    """A copy of the disk just before an event, and what had been promised by then."""

    event: str
    disk: SimulatedDisk
    synced: int
    committed: int
    begun: int
    slots: frozenset[str]


def tell(story: Story, disk: SimulatedDisk) -> list[Instant]:
    """Run `story` with syncs, checkpoints and restarts; every instant at which the disk changes."""
    instants: list[Instant] = []
    slots: set[str] = set()

    def remember(event: str) -> None:
        instants.append(
            Instant(event, disk.fork(), story.synced, story.committed, story.begun, frozenset(slots))
        )

    disk.hook = remember
    journal = open_journal(disk)
    slots.add(slot_of_client(journal.claim_writer(random.Random(1).randbytes, MACHINE)))
    for number in range(1, STEPS + 1):
        story.step(journal)
        if number % 4 == 0:
            story.sync(journal)
        if number % 7 == 0:
            journal.checkpoint()
        if number == 10:
            story.sync(journal)
            journal.close()
            journal = open_journal(disk)
            journal.claim_writer(random.Random(2).randbytes, MACHINE)
        if number == 16:
            die(disk, journal)
            journal = open_journal(disk)
            slots.add(slot_of_client(journal.claim_writer(random.Random(3).randbytes, MACHINE)))
    journal.close()
    remember("end")
    disk.hook = None
    return instants


def die(disk: SimulatedDisk, journal: Journal) -> None:
    """Kill the process, then free what SQLite holds in this one."""
    disk.kill()
    with contextlib.suppress(DiskError):
        journal.abandon()


@pytest.fixture(scope="module")
def told() -> tuple[Story, list[Instant]]:
    story = Story(seed=1)
    return story, tell(story, SimulatedDisk())


def reopened(disk: SimulatedDisk, instant: Instant, seed: int) -> tuple[Journal, Shown]:
    """Open after a crash, claim a writer, read everything."""
    journal = open_journal(disk)
    ended_cleanly = journal.ended_cleanly
    slot = slot_of_client(journal.claim_writer(random.Random(f"reopened {seed}").randbytes, MACHINE))
    assert ended_cleanly or slot not in instant.slots, f"before {instant.event}: a writer id was used again"
    assert journal.own_slots() >= {slot}
    assert list(journal.check()) == []
    shown = show(journal)
    assert journal.damage == []
    return journal, shown


def test_a_power_cut_at_any_instant_leaves_a_prefix_that_holds_all_that_was_synced(
    told: tuple[Story, list[Instant]],
) -> None:
    story, instants = told
    survivors = set()
    for instant in instants:
        for seed in range(POWER_CUTS):
            disk = instant.disk.fork()
            disk.crash(seed)
            _, shown = reopened(disk, instant, seed)
            where = f"seed {seed}, before {instant.event}, synced {instant.synced}, begun {instant.begun}"
            assert instant.synced <= shown.last <= instant.begun, where
            assert shown == story.expected[shown.last], where
            survivors.add(shown.last - instant.synced)
    assert survivors >= {0, 1, 2}, "the cuts never left unsynced transactions: the test shows nothing"


def test_a_kill_at_any_instant_loses_no_commit(told: tuple[Story, list[Instant]]) -> None:
    story, instants = told
    for instant in instants:
        disk = instant.disk.fork()
        disk.kill()
        journal, shown = reopened(disk, instant, 0)
        assert instant.committed <= shown.last <= instant.begun, instant.event
        assert shown == story.expected[shown.last], instant.event
        assert journal.tail_lost is None, instant.event


def test_power_may_fail_again_while_the_journal_recovers(told: tuple[Story, list[Instant]]) -> None:
    story, instants = told
    chance = random.Random(5)
    for instant in chance.sample(instants, 25):
        disk = instant.disk.fork()
        disk.crash(chance.randrange(1000))
        recovering: list[SimulatedDisk] = []
        disk.hook = lambda _, disk=disk, kept=recovering: kept.append(disk.fork())
        _, first = reopened(disk, instant, 0)
        for again in recovering:
            again.crash(chance.randrange(1000))
            _, shown = reopened(again, instant, 0)
            assert shown == first
            assert shown == story.expected[shown.last]


def test_a_recovered_journal_goes_on(told: tuple[Story, list[Instant]]) -> None:
    _, instants = told
    for instant in random.Random(6).sample(instants, 20):
        disk = instant.disk.fork()
        disk.crash(1)
        journal, shown = reopened(disk, instant, 0)
        story = Story(seed=2, committed=shown.last, expected=[shown] * (shown.last + 1))
        for _ in range(4):
            story.step(journal)
        story.sync(journal)
        disk.crash(2)
        _, later = reopened(disk, instant, 1)
        assert later == story.expected[-1]


def test_a_clean_end_lets_the_next_process_write_with_the_same_id() -> None:
    disk = SimulatedDisk()
    journal = open_journal(disk)
    client_id = journal.claim_writer(random.Random(1).randbytes, MACHINE)
    Story(seed=1).step(journal)
    journal.close()
    disk.crash(1)
    journal = open_journal(disk)
    assert journal.ended_cleanly
    assert journal.claim_writer(random.Random(2).randbytes, MACHINE) == client_id
    disk.crash(2)
    journal = open_journal(disk)
    assert not journal.ended_cleanly
    assert journal.claim_writer(random.Random(3).randbytes, MACHINE) != client_id


@pytest.mark.parametrize("fault", ["full", "broken"])
def test_a_disk_that_fails_at_any_change_leaves_a_journal_that_reads_and_later_goes_on(fault: str) -> None:
    failed_at = 0
    for position in range(1000):
        story = Story(seed=3)
        disk = SimulatedDisk()
        journal = open_journal(disk)
        for _ in range(2):
            story.step(journal)
        before = len(disk.trace)

        def fail(event: str, disk: SimulatedDisk = disk, at: int = before + position) -> None:
            if len(disk.trace) >= at and event.startswith("write"):
                if fault == "full":
                    disk.capacity = disk.total_bytes() - disk.free_bytes()
                else:
                    disk.fail_after(0)

        disk.hook = fail
        try:
            for _ in range(6):
                story.step(journal)
            journal.checkpoint()
        except (DiskFull, DiskError) as error:
            assert isinstance(error, DiskFull) == (fault == "full")
            failed_at += 1
        else:
            break
        assert show(journal) == story.expected[story.committed]
        disk.hook = None
        disk.capacity = 1 << 40
        disk.fail_after(None)
        if journal.revive():
            assert journal.usable
            story.step(journal)
            assert show(journal) == story.expected[-1]
            journal.close()
            journal = open_journal(disk)
        else:
            disk.kill()
            journal = open_journal(disk)
        assert show(journal) == story.expected[story.committed]
    assert failed_at > 30


def test_a_journal_that_cannot_be_appended_to_says_so_until_it_can() -> None:
    story, disk = Story(seed=1), SimulatedDisk()
    journal = open_journal(disk)
    assert journal.usable
    disk.capacity = disk.total_bytes() - disk.free_bytes()
    with pytest.raises(DiskFull):
        for _ in range(20):
            story.step(journal)
    assert not journal.usable
    disk.fail_path(PATH + "-wal", ["write"])
    assert not journal.revive()
    disk.fail_path(PATH + "-wal", [])
    disk.capacity = 1 << 40
    assert journal.revive()
    assert journal.usable


def test_after_a_failed_sync_nothing_is_written_until_the_journal_is_opened_anew() -> None:
    story, disk = Story(seed=1), SimulatedDisk()
    journal = open_journal(disk)
    story.step(journal)
    story.sync(journal)
    story.step(journal)
    disk.fail_path(PATH + "-wal", ["sync"])
    with pytest.raises(DiskError):
        journal.sync()
    disk.fail_path(PATH + "-wal", [])
    for attempt in (journal.sync, journal.checkpoint, lambda: story.step(journal)):
        with pytest.raises(DiskError):
            attempt()
    assert not journal.usable
    assert not journal.revive()
    assert show(journal) == story.expected[2]
    journal.abandon()
    disk.kill()
    journal = open_journal(disk)
    assert show(journal) == story.expected[2]
    disk.crash(0)
    assert show(open_journal(disk)) == story.expected[2]


def test_one_seed_leaves_one_trace() -> None:
    def trace(seed: int) -> str:
        disk = SimulatedDisk()
        tell(Story(seed=seed), disk)
        return disk.digest()

    assert trace(1) == trace(1)
    assert trace(1) != trace(2)
