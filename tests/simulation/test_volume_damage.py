"""Damage behind the volume's back: every file is its right bytes or an error that names what is wrong."""

import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from dittofs.control.protocol import Finding
from dittofs.errors import DittoError
from dittofs.journal.journal import Journal
from dittofs.local_disk import LocalDisk
from dittofs.tree.record import DOCUMENTS, shard_of
from dittofs.volume.holdings import COUNT_PATIENCE_S, LOOK_INTERVAL_S, LOST
from dittofs.volume.opening import rescue_replica
from mountd.checking import check
from tests.simulation.disk import SimulatedDisk
from tests.simulation.estate import (
    INTERRUPTED,
    MACHINE,
    Estate,
    Verdict,
    interrupt,
    judge,
    look,
    paths,
    settle,
)
from tests.simulation.rig import Rig

pytestmark = pytest.mark.logs_warning(
    "index",
    "staged content cannot be read",
    "a file cannot be published",
    "publication failed",
    "damage",
    "volume turned read-only",
    "chunk store recovered",
    "the journal's end is missing",
    "a document was damaged",
)


CHANGED = "substr(value, 1, length(value)/2) || x'41' || substr(value, length(value)/2 + 2)"
"""SQL: one byte is another, and the row still decodes where that byte is content."""


class Kept:
    """A directory as it lay before the damage, brought back for each try."""

    def __init__(self, root: Path, estate: Estate) -> None:
        self.root = root
        self.estate = estate
        self.work = root.with_name("work")

    def restored(self) -> Path:
        if self.work.exists():
            shutil.rmtree(self.work)
        shutil.copytree(self.root, self.work)
        return self.work

    def judged(self, damage: Callable[[Path], object]) -> Verdict:
        work = self.restored()
        damage(work)
        return judge(LocalDisk(str(work)), self.estate)


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    root = tmp_path_factory.mktemp("settled") / "store"
    return Kept(root, trio.run(settle, LocalDisk(str(root))))


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    root = tmp_path_factory.mktemp("interrupted") / "store"
    estate = trio.run(settle, LocalDisk(str(root)))
    trio.run(interrupt, LocalDisk(str(root)), estate)
    return Kept(root, estate)


def flip(path: Path, offset: int, bit: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1 << bit]))


def test_undamaged_everything_is_right(settled: Kept, interrupted: Kept) -> None:
    for kept in (settled, interrupted):
        verdict = kept.judged(lambda _: None)
        assert verdict.is_whole, verdict
        assert not verdict.named
        assert verdict.right == set(kept.estate.now)


def flipped(kept: Kept, name: str, count: int) -> Iterator[tuple[str, Verdict]]:
    """What is left after a bit was flipped at each of `count` places of one file."""
    chance = random.Random(name)
    size = (kept.root / name).stat().st_size
    for _ in range(count):
        offset, bit = chance.randrange(size), chance.randrange(8)
        verdict = kept.judged(lambda work: flip(work / name, offset, bit))  # noqa: B023 - run at once
        yield f"bit {bit} of byte {offset} of {name}", verdict


def expect_right_or_named(verdict: Verdict, where: str) -> None:
    assert not verdict.wrong, (where, verdict)
    assert not verdict.strangers, (where, verdict)
    if verdict.gone or verdict.outdated:
        assert verdict.named, (where, verdict)


def test_a_flipped_bit_in_a_pack_costs_at_most_the_files_of_one_chunk_and_they_say_so(settled: Kept) -> None:
    hurt = 0
    for where, verdict in flipped(settled, "chunks/00000001.pack", 40):
        assert not verdict.refused, where
        assert not (verdict.gone or verdict.outdated or verdict.wrong or verdict.strangers), (where, verdict)
        assert verdict.errors.keys() <= {"file 0", "d/other name"} or len(verdict.errors) <= 1, (
            where,
            verdict,
        )
        assert all("chunk" in error for error in verdict.errors.values()), (where, verdict)
        hurt += bool(verdict.errors)
    assert hurt > 10


@pytest.mark.parametrize("name", ["chunks/index/current", "chunks/index/00000001.run"])
def test_a_damaged_or_deleted_chunk_index_costs_nothing(settled: Kept, name: str) -> None:
    for where, verdict in flipped(settled, name, 25):
        assert verdict.is_whole, (where, verdict)
    assert settled.judged(lambda work: (work / name).unlink()).is_whole
    assert settled.judged(lambda work: shutil.rmtree(work / "chunks/index")).is_whole
    assert settled.judged(lambda work: (work / name).write_bytes(b"")).is_whole


def test_a_chunk_index_older_than_its_packs_costs_nothing(settled: Kept, tmp_path: Path) -> None:
    async def add() -> None:
        rig = Rig(LocalDisk(str(tmp_path / "store")), seed=8, machine=MACHINE)
        await rig.write("late", b"later than the index" * 5_000)
        await rig.close()

    shutil.copytree(settled.root, tmp_path / "store")
    trio.run(add)
    shutil.rmtree(tmp_path / "store/chunks/index")
    shutil.copytree(settled.root / "chunks/index", tmp_path / "store/chunks/index")
    estate = Estate({**settled.estate.now, "late": b"later than the index" * 5_000})
    assert judge(LocalDisk(str(tmp_path / "store")), estate).is_whole


def test_a_pack_cut_short_or_deleted_keeps_what_lies_before_and_every_loss_is_an_error(settled: Kept) -> None:
    name = "chunks/00000001.pack"
    size = (settled.root / name).stat().st_size
    right = []
    for length in (0, 40, size // 3, size * 2 // 3, size - 1):
        verdict = settled.judged(lambda work: os.truncate(work / name, length))  # noqa: B023 - run at once
        assert not verdict.refused, length
        assert not (verdict.gone or verdict.outdated or verdict.wrong or verdict.strangers), (length, verdict)
        right.append(len(verdict.right))
    assert right[0] == 0 < right[-1]
    assert right == sorted(right)
    verdict = settled.judged(lambda work: (work / name).unlink())
    assert verdict.errors.keys() == settled.estate.now.keys()


def test_a_flipped_bit_anywhere_in_the_journal_is_harmless_or_named_and_then_rescued(
    settled: Kept, interrupted: Kept
) -> None:
    refused = whole = rescued_whole = 0
    for kept, count in ((settled, 160), (interrupted, 140)):
        for where, verdict in flipped(kept, "journal.db", count):
            if verdict.refused:
                assert "journal.db" in verdict.refused, where
                assert "index" not in verdict.refused, (
                    f"{where}: the index is derived, and no reason to refuse"
                )
                refused += 1
                lost = rescue_replica(LocalDisk(str(kept.work)))
                again = judge(LocalDisk(str(kept.work)), kept.estate)
                rescued_whole += again.is_whole
                if any("whole tree" in loss.detail for loss in lost):
                    assert again.named, where
                    continue
                assert not (again.refused or again.wrong or again.strangers), (where, lost, again)
                hurt = again.gone | again.outdated | again.errors.keys()
                assert not hurt or (hurt <= INTERRUPTED and not all(one.is_mended for one in lost)), (
                    where,
                    lost,
                    again,
                )
            else:
                expect_right_or_named(verdict, where)
                whole += verdict.is_whole
    assert refused > 30
    assert whole > 100
    assert rescued_whole > refused * 0.8


def test_a_flipped_bit_in_the_write_ahead_log_costs_late_changes_only_and_is_named(interrupted: Kept) -> None:
    for where, verdict in flipped(interrupted, "journal.db-wal", 100):
        expect_right_or_named(verdict, where)
        assert not verdict.errors, (where, verdict)
        assert (verdict.gone | verdict.outdated) <= INTERRUPTED, (where, verdict)


def test_a_refused_volume_is_left_as_it_lay(settled: Kept) -> None:
    def ruin(work: Path) -> None:
        with (work / "journal.db").open("r+b") as file:
            file.write(b"not a database at all" * 100)

    verdict = settled.judged(ruin)
    assert "journal.db" in verdict.refused
    work = settled.work
    for path in settled.root.rglob("*"):
        name = path.relative_to(settled.root)
        if path.is_file() and not str(name).startswith(("journal.db", "lock")):
            assert (work / name).read_bytes() == path.read_bytes(), name
    ruined = (work / "journal.db").read_bytes()
    assert ruined[2100:] == (settled.root / "journal.db").read_bytes()[2100:]


@pytest.mark.parametrize("table", ["record", "claim", "directory", "number", "total"])
def test_an_altered_index_row_is_noticed_when_it_is_met_and_the_index_made_anew(
    settled: Kept, table: str
) -> None:
    def alter(work: Path) -> None:
        run(
            work,
            "UPDATE entry SET value=CAST(x'00' || value AS BLOB)"
            f" WHERE tbl=(SELECT tbl FROM entry_table WHERE name='{table}')",
        )

    verdict = settled.judged(alter)
    assert verdict.is_whole, verdict


def test_an_altered_index_row_keeps_nobody_from_coming_back_or_publishing(interrupted: Kept) -> None:
    work = interrupted.restored()
    only = "WHERE tbl IN (SELECT tbl FROM entry_table WHERE name IN ('record', 'claim'))"
    run(work, f"UPDATE entry SET value=CAST(x'00' || value AS BLOB) {only}")
    assert judge(LocalDisk(str(work)), interrupted.estate).is_whole

    async def publish() -> None:
        rig = Rig(LocalDisk(str(interrupted.restored())), seed=9, machine=MACHINE)
        with rig.volume.replica.journal.transaction():
            rig.volume.replica.journal._database.statements.run(
                "test", "UPDATE entry SET value=CAST(x'00' || value AS BLOB)"
            )
        rig.volume.replica.tree.unload()
        assert await rig.volume.publisher.publish_point()
        assert rig.volume.publisher.is_idle
        assert not rig.volume.summary().damage
        assert look(rig, interrupted.estate).is_whole
        rig.abandon()

    trio.run(publish)


def altered(table: str, column: str, where: str) -> str:
    return f'UPDATE {table} SET "{column}"=CAST("{column}"||x\'00\' AS BLOB) WHERE {where}'


@pytest.mark.parametrize("table", ["log", "snapshot"])
async def test_an_altered_document_is_made_anew_where_it_is_met_and_costs_nothing(
    settled: Kept, table: str
) -> None:
    work = settled.restored()
    if table == "snapshot":
        rig = Rig(LocalDisk(str(work)), seed=8, machine=MACHINE)
        for number in range(DOCUMENTS):
            epoch, blob = rig.volume.replica.tree.snapshot(number)
            with rig.volume.replica.journal.transaction():
                rig.volume.replica.journal.put_snapshot(number, epoch, blob)
        await rig.close()
    shards = [row[0] for row in rows_of(work, f"SELECT DISTINCT shard FROM {table} ORDER BY shard")]
    assert len(shards) > 10
    for shard in shards:
        last = f" AND seq=(SELECT max(seq) FROM log WHERE shard={shard})" if table == "log" else ""
        run(work, altered(table, "update" if table == "log" else "blob", f"shard={shard}{last}"))
    rig = Rig(LocalDisk(str(work)), seed=9, machine=MACHINE)
    for path in paths(rig):
        rig.chmod(path, 0o600)
        assert rig.stat(path).mode & 0o777 == 0o600
    assert look(rig, settled.estate).is_whole
    assert rig.volume.summary().read_only is None
    assert {one.shard for one in rig.volume.replica.journal.damage} >= {
        shard_of(rig.walk(path).id) for path in paths(rig)
    }
    rig.abandon()
    verdict = judge(LocalDisk(str(work)), settled.estate)
    assert verdict.is_whole, verdict
    assert not verdict.named


@pytest.mark.parametrize("kind", ["entry", "content", "bytes"])
def test_an_altered_local_row_costs_its_file_only_and_is_named(interrupted: Kept, kind: str) -> None:
    keys = [row[0] for row in rows_of(interrupted.root, f"SELECT key FROM local WHERE kind='{kind}'")]
    assert keys
    for key in keys:
        where = f"kind='{kind}' AND key=x'{key.hex()}'"
        sql = "UPDATE local SET value=CAST(" + CHANGED + f" AS BLOB) WHERE {where}"
        verdict = interrupted.judged(lambda work: run(work, sql))  # noqa: B023 - run at once
        assert not verdict.refused, verdict
        expect_right_or_named(verdict, kind)
        hurt = verdict.gone | verdict.outdated | verdict.errors.keys()
        assert len(hurt) == 1, verdict
        assert hurt <= INTERRUPTED, verdict
        assert verdict.named


@pytest.mark.logs_warning("which chunks were damaged is not known any more")
@pytest.mark.usefixtures("autojump_clock")
async def test_an_altered_local_row_of_damaged_chunks_ends_nothing_and_is_written_anew(settled: Kept) -> None:
    work = settled.restored()
    run(work, "INSERT INTO local VALUES('lost', x'', zeroblob(32), zeroblob(16))")
    rig = Rig(LocalDisk(str(work)), seed=9, machine=MACHINE)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.volume.holdings.run)
        await trio.sleep(COUNT_PATIENCE_S + LOOK_INTERVAL_S)
        nursery.cancel_scope.cancel()
    assert rig.volume.holdings.bytes_here == rig.volume.summary().content_bytes
    assert rig.volume.replica.journal.get_local(LOST, b"") == b""
    rig.abandon()


def test_a_lost_increment_is_an_error_and_not_the_bytes_without_it(interrupted: Kept) -> None:
    keys = [row[0] for row in rows_of(interrupted.root, "SELECT key FROM local WHERE kind='bytes'")]
    hurt: set[str] = set()
    for key in keys:
        verdict = interrupted.judged(lambda work: run(work, f"DELETE FROM local WHERE key=x'{key.hex()}'"))  # noqa: B023
        expect_right_or_named(verdict, key.hex())
        hurt |= verdict.errors.keys()
    assert hurt


def test_a_file_whose_staged_bytes_cannot_be_read_is_listed_and_can_be_removed(interrupted: Kept) -> None:
    work = interrupted.restored()
    run(work, "UPDATE local SET value=CAST(x'90' || value AS BLOB) WHERE kind='bytes'")

    async def remove() -> None:
        rig = Rig(LocalDisk(str(work)), seed=9, machine=MACHINE)
        hurt = [path for path in sorted(INTERRUPTED) if is_error(lambda: rig.read(path))]  # noqa: B023
        assert hurt
        for path in hurt:
            assert rig.stat(path)
            await rig.unlink(path)
            assert not rig.exists(path)
        await rig.close()
        rig.open()
        assert not set(rig.listing("")) & set(hurt)
        assert not rig.volume.summary().damage
        rig.abandon()

    trio.run(remove)


async def test_check_names_every_file_that_lost_bytes(settled: Kept) -> None:
    work = settled.restored()
    chance = random.Random(4)
    for _ in range(8):
        path = work / "chunks/00000001.pack"
        flip(path, chance.randrange(path.stat().st_size), chance.randrange(8))
    rig = Rig(LocalDisk(str(work)), seed=9, machine=MACHINE)
    told = {
        item.path: item.detail
        async for item in check(rig.volume, [])
        if isinstance(item, Finding) and item.path
    }
    hurt = {path for path in paths(rig) if is_error(lambda: rig.read(path))}  # noqa: B023
    assert hurt
    assert told.keys() == hurt
    rig.abandon()


async def test_on_a_simulated_disk_too_a_flipped_bit_in_pack_or_index_is_harmless_or_named() -> None:
    disk = SimulatedDisk()
    estate = await settle(disk)
    chance = random.Random(12)
    for name in ("chunks/00000001.pack", "chunks/index/current", "chunks/index/00000001.run"):
        size = disk.open(name).size()
        for _ in range(12):
            damaged = disk.fork()
            damaged.damage(name, chance.randrange(size), 1 << chance.randrange(8))
            verdict = judge(damaged, estate)
            assert not (verdict.refused or verdict.gone or verdict.outdated or verdict.wrong), (name, verdict)
            assert not verdict.errors or name.endswith("pack")


def is_error(act: Callable[[], object]) -> bool:
    try:
        act()
    except DittoError:
        return True
    return False


def run(work: Path, sql: str) -> None:
    """Change rows behind the journal's back, pages being well-formed."""
    disk = LocalDisk(str(work))
    journal = Journal.open(disk, "journal.db")
    with journal.transaction():
        journal._database.statements.run("test", sql)
    journal.abandon()


def rows_of(root: Path, sql: str) -> list[tuple[Any, ...]]:
    work = root.with_name("rows")
    shutil.copytree(root, work)
    journal = Journal.open(LocalDisk(str(work)), "journal.db")
    found = journal._database.statements.rows("test", sql)
    journal.abandon()
    shutil.rmtree(work)
    return list(found)
