"""What a power cut leaves of a simulated disk: everything synced, some of the rest, nothing else."""

from collections.abc import Callable

import pytest

from dittofs.errors import DiskError, DiskFull
from tests.simulation.disk import PAGE_BYTES, SECTOR_BYTES, SimulatedDisk

SEEDS = range(200)


def outcomes(prepared: SimulatedDisk, path: str) -> set[bytes | None]:
    """The content of `path` after each of many power cuts; None: gone."""
    found: set[bytes | None] = set()
    for seed in SEEDS:
        disk = prepared.fork()
        disk.crash(seed)
        file = disk.open(path) if disk.exists(path) else None
        found.add(None if file is None else file.read(0, file.size()))
    return found


def durable_file(disk: SimulatedDisk, path: str, data: bytes) -> None:
    file = disk.open(path, create=True)
    file.write(0, data)
    file.sync()
    disk.sync_directory("")


def test_what_was_synced_survives_every_power_cut() -> None:
    disk = SimulatedDisk()
    durable_file(disk, "a", b"abc")
    assert outcomes(disk, "a") == {b"abc"}


def test_an_unsynced_write_may_survive_be_lost_or_tear() -> None:
    disk = SimulatedDisk()
    durable_file(disk, "a", b"a" * SECTOR_BYTES)
    disk.open("a").write(0, b"b" * SECTOR_BYTES)
    found = outcomes(disk, "a")
    assert {b"a" * SECTOR_BYTES, b"b" * SECTOR_BYTES} < found
    for content in found:
        assert content is not None
        kept = content.count(b"b")
        assert content == b"b" * kept + b"a" * (SECTOR_BYTES - kept)


def test_unsynced_sectors_survive_in_any_combination() -> None:
    disk = SimulatedDisk()
    durable_file(disk, "a", bytes(3 * PAGE_BYTES))
    for page in range(3):
        disk.open("a").write(page * PAGE_BYTES, b"x" * PAGE_BYTES)
    patterns = {
        tuple(content[page * PAGE_BYTES] for page in range(3)) for content in outcomes(disk, "a") if content
    }
    assert patterns == {(a, b, c) for a in (0, 120) for b in (0, 120) for c in (0, 120)}


def test_a_later_unsynced_write_to_a_sector_never_survives_without_the_earlier() -> None:
    disk = SimulatedDisk()
    durable_file(disk, "a", b"..........")
    disk.open("a").write(0, b"one")
    disk.open("a").write(5, b"two")
    for content in outcomes(disk, "a"):
        assert content is not None
        assert b"t" not in content or content.startswith(b"one")


def test_a_new_name_is_sure_only_after_its_directory_was_synced() -> None:
    disk = SimulatedDisk()
    file = disk.open("a", create=True)
    file.write(0, b"abc")
    file.sync()
    assert outcomes(disk, "a") == {None, b"abc"}
    disk.sync_directory("")
    assert outcomes(disk, "a") == {b"abc"}


def test_of_unsynced_names_a_first_part_survives() -> None:
    disk = SimulatedDisk()
    for name in "abc":
        disk.open(name, create=True)
    found = set()
    for seed in SEEDS:
        crashed = disk.fork()
        crashed.crash(seed)
        found.add("".join(crashed.listdir("")))
    assert found == {"", "a", "ab", "abc"}


def test_an_unsynced_replacement_is_whole_or_not_at_all() -> None:
    disk = SimulatedDisk()
    durable_file(disk, "a", b"old")
    durable_file(disk, "new", b"new")
    disk.rename("new", "a")
    assert outcomes(disk, "a") == {b"old", b"new"}


def test_killing_the_process_loses_no_byte_and_no_name_but_its_files_and_locks() -> None:
    disk = SimulatedDisk()
    disk.lock("lock")
    file = disk.open("a", create=True)
    file.write(0, b"abc")
    disk.kill()
    assert disk.open("a").read(0, 9) == b"abc"
    disk.lock("lock")
    for attempt in (lambda: file.read(0, 1), lambda: file.write(0, b"x"), file.sync):
        with pytest.raises(DiskError, match="dead"):
            attempt()


def test_a_full_disk_takes_no_growth_and_all_else() -> None:
    disk = SimulatedDisk(capacity=2 * SECTOR_BYTES)
    file = disk.open("a", create=True)
    file.write(0, bytes(2 * SECTOR_BYTES))
    with pytest.raises(DiskFull):
        file.write(2 * SECTOR_BYTES, b"x")
    assert file.size() == 2 * SECTOR_BYTES
    file.write(0, b"xyz")
    assert disk.free_bytes() == 0
    file.truncate(10)
    file.write(10, b"more")


def test_failures_come_when_and_where_they_were_ordered() -> None:
    disk = SimulatedDisk()
    file = disk.open("a", create=True)
    disk.fail_after(1)
    file.write(0, b"one")
    with pytest.raises(DiskError):
        file.write(3, b"two")
    disk.fail_after(None)
    file.write(3, b"two")
    disk.fail_path("a", ["read"])
    with pytest.raises(DiskError):
        file.read(0, 1)
    disk.fail_path("a", [])
    assert file.read(0, 9) == b"onetwo"


def test_after_a_failed_sync_the_bytes_are_readable_and_lost_with_the_power() -> None:
    disk = SimulatedDisk()
    durable_file(disk, "a", b"old")
    file = disk.open("a")
    file.write(0, b"new")
    disk.fail_path("a", ["sync"])
    with pytest.raises(DiskError):
        file.sync()
    disk.fail_path("a", [])
    with pytest.raises(DiskError, match="earlier"):
        file.sync()
    disk.open("a").sync()
    assert file.read(0, 9) == b"new"
    assert outcomes(disk, "a") == {b"old"}


def test_every_descriptor_open_at_a_failed_sync_learns_of_it() -> None:
    disk = SimulatedDisk()
    one, other = disk.open("a", create=True), disk.open("a")
    one.write(0, b"x")
    disk.fail_path("a", ["sync"])
    with pytest.raises(DiskError):
        one.sync()
    disk.fail_path("a", [])
    with pytest.raises(DiskError):
        other.sync()
    disk.open("a").sync()


def test_the_same_calls_leave_the_same_trace_and_the_same_bytes() -> None:
    def run(act: Callable[[SimulatedDisk], None]) -> tuple[str, bytes]:
        disk = SimulatedDisk()
        durable_file(disk, "a", bytes(PAGE_BYTES))
        act(disk)
        disk.crash(7)
        file = disk.open("a")
        return disk.digest(), file.read(0, file.size())

    def one(disk: SimulatedDisk) -> None:
        for offset in range(0, PAGE_BYTES, 100):
            disk.open("a").write(offset, b"x" * 100)

    def other(disk: SimulatedDisk) -> None:
        disk.open("a").write(0, b"y")

    assert run(one) == run(one)
    assert run(one)[0] != run(other)[0]


def test_the_hook_sees_each_event_before_it_happens() -> None:
    seen: list[tuple[str, list[str]]] = []
    disk = SimulatedDisk()
    disk.hook = lambda event: seen.append((event, list(disk.listdir(""))))
    disk.open("a", create=True).sync()
    disk.rename("a", "b")
    assert seen == [("create a", []), ("sync a", ["a"]), ("rename a b", ["a"])]
