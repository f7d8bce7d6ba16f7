"""The store: what was put is got back, once, after any end of the process."""

import resource
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dittofs.chunks import index, pack
from dittofs.chunks.check import Problem, Progress
from dittofs.chunks.seal import Buffer, ChunkKind, GenerationMissing, Sealer, VolumeKeys
from dittofs.chunks.store import AbsentChunk, ChunkStore
from dittofs.errors import ChunkMissing, Damaged, DiskError, DiskFull, FormatError
from dittofs.ids import ChunkId
from dittofs.local_disk import LocalDisk
from tests.simulation.disk import SimulatedDisk
from tests.unit.chunks.stores import DIRECTORY, KEYS, noise, open_store

DATA = ChunkKind.DATA


def put_all(store: ChunkStore, plains: list[bytes]) -> list[ChunkId]:
    return [store.put([(DATA, plain)])[0] for plain in plains]


def problems(store: ChunkStore) -> list[Problem]:
    return [finding for finding in store.verify() if isinstance(finding, Problem)]


def small_runs(monkeypatch: pytest.MonkeyPatch, entries: int) -> None:
    """Let runs be written often, so that a small test has many."""
    for module in ("dittofs.chunks.store", "dittofs.chunks.recovery"):
        monkeypatch.setattr(f"{module}.RECENT_ENTRIES_MAX", entries)


def small_packs(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    for module in ("dittofs.chunks.appender", "dittofs.chunks.recovery"):
        monkeypatch.setattr(f"{module}.PACK_BYTES_MAX", size)


def test_what_was_put_is_got_back_under_its_kind_only() -> None:
    store = open_store(SimulatedDisk())
    plains = [b"", b"one", noise(1, 70_000)]
    ids = store.put([(DATA, plain) for plain in plains])
    assert [store.get(DATA, chunk) for chunk in ids] == plains
    assert store.has(DATA, ids[0])
    assert not store.has(ChunkKind.MANIFEST, ids[0])
    with pytest.raises(ChunkMissing):
        store.sealed(ChunkKind.MANIFEST, ids[0])


def test_an_absent_chunk_is_named() -> None:
    store = open_store(SimulatedDisk())
    with pytest.raises(AbsentChunk) as caught:
        store.get(ChunkKind.VERSION, ChunkId(b"x" * 32))
    assert (caught.value.kind, caught.value.chunk) == (ChunkKind.VERSION, b"x" * 32)


def test_the_same_bytes_are_stored_once() -> None:
    store = open_store(SimulatedDisk())
    first = store.put([(DATA, b"twice"), (DATA, b"twice")])
    size = store.statistics().pack_bytes
    for _ in range(2):
        assert store.put([(DATA, b"twice")]) == first[:1]
        assert store.statistics().pack_bytes == size
        assert store.statistics().chunks == 1
        store.save_index()


def test_a_chunk_that_another_thread_stores_meanwhile_is_stored_once(monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(SimulatedDisk())
    store.put([(DATA, b"first")])
    size = store.statistics().pack_bytes
    seal = Sealer.seal

    def overtaken(sealer: Sealer, kind: ChunkKind, chunk: ChunkId, plain: Buffer) -> bytes:
        monkeypatch.undo()
        store.put([(kind, plain)])
        return seal(sealer, kind, chunk, plain)

    monkeypatch.setattr(Sealer, "seal", overtaken)
    store.put([(DATA, b"other")])
    assert store.statistics().pack_bytes - size == size - pack.PACK_HEADER_BYTES


@pytest.mark.parametrize("end", ["close", "kill"])
def test_everything_is_there_after_the_process_ends(end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    small_runs(monkeypatch, 10)
    small_packs(monkeypatch, 4000)
    disk = SimulatedDisk()
    plains: list[bytes] = []
    ids: list[ChunkId] = []
    for life in range(4):
        store = open_store(disk, seed=life)
        assert store.notes == []
        assert [store.get(DATA, chunk) for chunk in ids] == plains
        fresh = [noise(100 * life + n, 300 + n) for n in range(37)]
        plains += fresh
        ids += put_all(store, fresh)
        if end == "close":
            store.close()
        disk.kill()
    store = open_store(disk)
    assert sorted(ids) == [chunk for _, chunk in store.ids()]
    assert problems(store) == []
    assert store.statistics().packs > 4


def test_a_clean_start_reads_no_pack_again() -> None:
    disk = SimulatedDisk()
    store = open_store(disk)
    put_all(store, [noise(n, 5000) for n in range(20)])
    store.close()
    reads: list[int] = []

    def counted(read: Callable[[int, int], bytes], start: int, end: int) -> Iterator[pack.Frame | pack.Gap]:
        reads.append(start)
        return pack.scan(read, start, end)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dittofs.chunks.recovery.scan", counted)
        open_store(disk)
    assert reads == []


def test_a_reopened_pack_is_filled_up_before_the_next_begins() -> None:
    disk = SimulatedDisk()
    for life in range(5):
        store = open_store(disk, seed=life)
        put_all(store, [noise(life, 1000)])
        store.close()
    assert open_store(disk).statistics().packs == 1


def test_a_chunk_that_a_peer_sealed_is_stored_if_it_is_that_chunk() -> None:
    there, here = open_store(SimulatedDisk(), seed=1), open_store(SimulatedDisk(), seed=2)
    (chunk,) = there.put([(DATA, b"from a peer")])
    sealed = there.sealed(DATA, chunk)
    other, short = here.put_sealed([(DATA, ChunkId(bytes(32)), sealed), (DATA, chunk, sealed[:20])])
    assert isinstance(other, Damaged)
    assert isinstance(short, FormatError)
    assert here.statistics().chunks == 0
    assert here.put_sealed([(DATA, chunk, sealed)] * 2) == [None, None]
    assert here.put_sealed([(DATA, chunk, sealed)]) == [None]
    assert here.get(DATA, chunk) == b"from a peer"
    assert here.statistics().chunks == 1


def test_a_chunk_of_an_unknown_generation_is_named_and_kept() -> None:
    disk = SimulatedDisk()
    newer = VolumeKeys(KEYS.volume_id, KEYS.secret, {**KEYS.generations, b"gen-0002": b"2" * 32}, b"gen-0002")
    store = open_store(disk, newer)
    (chunk,) = store.put([(DATA, b"newer")])
    store.close()
    with pytest.raises(GenerationMissing):
        open_store(disk).get(DATA, chunk)
    assert open_store(disk, newer).get(DATA, chunk) == b"newer"


def test_threads_that_put_the_same_chunks_store_each_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_runs(monkeypatch, 50)
    store = open_store(LocalDisk(str(tmp_path)))
    plains = [noise(n, 200) for n in range(400)]
    errors: list[BaseException] = []

    def work(start: int) -> None:
        try:
            for at in range(start, start + 400, 4):
                batch = [(DATA, plains[n % 400]) for n in range(at, at + 4)]
                ids = store.put(batch)
                if at % 40 == 0:
                    store.sync()
                assert [store.get(DATA, chunk) for chunk in ids] == [plain for _, plain in batch]
        except BaseException as error:  # noqa: BLE001 - told to the test
            errors.append(error)

    threads = [threading.Thread(target=work, args=(100 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(list(store.ids())) == 400
    assert problems(store) == []
    store.close()
    again = open_store(LocalDisk(str(tmp_path)))
    sealer = Sealer(KEYS, lambda n: bytes(n))
    assert all(again.get(DATA, sealer.identify(DATA, plain)) == plain for plain in plains)


def test_a_put_waits_for_no_sync_of_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop may put; the index is saved by who syncs, and by a put only when nobody does for long."""
    small_runs(monkeypatch, 4)
    disk = SimulatedDisk()
    store = open_store(disk)
    store.put([(DATA, b"begins the pack")])
    begun = len(disk.trace)
    put_all(store, [noise(n, 50) for n in range(20)])
    assert {event.split()[0] for event in disk.trace[begun:]} == {"write"}
    put_all(store, [noise(n, 50) for n in range(20, 40)])
    assert [event for event in disk.trace[begun:] if event.startswith("sync")]
    store.sync()
    assert store.statistics().index_bytes


def test_a_file_that_is_no_pack_is_left_alone(tmp_path: Path) -> None:
    disk = LocalDisk(str(tmp_path))
    disk.make_directory(DIRECTORY)
    (tmp_path / DIRECTORY / "notes.txt").write_text("mine")
    store = open_store(disk)
    put_all(store, [b"x"])
    store.close()
    assert (tmp_path / DIRECTORY / "notes.txt").read_text() == "mine"


def test_a_check_tells_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dittofs.chunks.check._PROGRESS_BYTES", 1000)
    store = open_store(SimulatedDisk())
    put_all(store, [noise(n, 600) for n in range(10)])
    found = list(store.verify())
    assert all(isinstance(finding, Progress) for finding in found)
    assert len(found) >= 5
    last = found[-1]
    assert isinstance(last, Progress)
    assert last.done_bytes == last.total_bytes == store.statistics().pack_bytes


class TestNoRoom:
    def test_a_put_that_finds_no_room_changes_nothing_and_the_next_works(self) -> None:
        disk = SimulatedDisk(capacity=10_000)
        store = open_store(disk)
        kept = put_all(store, [noise(1, 4000)])
        before = store.statistics()
        for _ in range(3):
            with pytest.raises(DiskFull):
                store.put([(DATA, noise(2, 9000))])
        assert store.statistics() == before
        disk.capacity = 1 << 30
        kept += put_all(store, [noise(2, 9000)])
        store.close()
        disk.kill()
        again = open_store(disk)
        assert again.notes == []
        assert [again.get(DATA, chunk) for chunk in kept] == [noise(1, 4000), noise(2, 9000)]

    def test_no_room_for_a_first_pack_leaves_no_trace(self) -> None:
        disk = SimulatedDisk(capacity=10)
        store = open_store(disk)
        with pytest.raises(DiskFull):
            store.put([(DATA, b"x")])
        assert [name for name in disk.listdir(DIRECTORY) if name != "index"] == []
        disk.capacity = 1 << 20
        store.put([(DATA, b"x")])

    def test_no_room_for_the_index_fails_no_put(self, monkeypatch: pytest.MonkeyPatch) -> None:
        small_runs(monkeypatch, 10)
        disk = SimulatedDisk()
        store = open_store(disk)
        plains = [noise(n, 50) for n in range(30)]
        ids = put_all(store, plains[:5])
        monkeypatch.setattr(index, "write_run", _no_room)
        ids += put_all(store, plains[5:])
        with pytest.raises(DiskFull):
            store.save_index()
        assert [store.get(DATA, chunk) for chunk in ids] == plains
        monkeypatch.undo()
        store.close()
        assert len(list(open_store(disk).ids())) == 30

    def test_a_write_that_stops_half_way_is_cut_off_again(self, tmp_path: Path) -> None:
        """A real file that may not grow takes a part of the bytes and then says no."""
        store = open_store(LocalDisk(str(tmp_path)))
        first = put_all(store, [noise(1, 10_000)])
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, hard))
        try:
            with pytest.raises(DiskError):
                store.put([(DATA, noise(2, 50_000))])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        second = put_all(store, [noise(3, 10_000)])
        store.sync()
        again = open_store(LocalDisk(str(tmp_path)))
        assert again.notes == []
        assert [again.get(DATA, chunk) for chunk in first + second] == [noise(1, 10_000), noise(3, 10_000)]

    def test_what_a_failed_write_left_is_never_written_behind(self) -> None:
        disk = SimulatedDisk()
        store = open_store(disk)
        first = put_all(store, [b"first"])
        disk.fail_path(f"{DIRECTORY}/00000001.pack", ["write", "truncate"])
        with pytest.raises(DiskError):
            store.put([(DATA, b"second")])
        disk.fail_path(f"{DIRECTORY}/00000001.pack", [])
        second = put_all(store, [b"second"])
        assert store.statistics().packs == 2
        assert [store.get(DATA, chunk) for chunk in first + second] == [b"first", b"second"]


def _no_room(*_: object) -> None:
    raise DiskFull("no room left")


class TestDurability:
    def test_what_was_synced_survives_a_power_cut_and_what_was_not_may_be_gone(self) -> None:
        for seed in range(40):
            disk = SimulatedDisk()
            store = open_store(disk)
            synced = put_all(store, [noise(n, 900) for n in range(5)])
            store.sync()
            loose = put_all(store, [noise(n, 900) for n in range(5, 12)])
            disk.crash(seed)
            again = open_store(disk)
            assert [again.get(DATA, chunk) for chunk in synced] == [noise(n, 900) for n in range(5)]
            for n, chunk in zip(range(5, 12), loose, strict=True):
                if again.has(DATA, chunk):
                    assert again.get(DATA, chunk) == noise(n, 900)
            more = put_all(again, [noise(n, 900) for n in range(5, 20)])
            again.close()
            last = open_store(disk)
            assert [last.get(DATA, chunk) for chunk in more] == [noise(n, 900) for n in range(5, 20)]

    def test_what_a_killed_process_wrote_is_durable_before_it_counts(self) -> None:
        """A chunk found in the cache after a kill is not stored again, so it must be synced."""
        for seed in range(20):
            disk = SimulatedDisk()
            put_all(open_store(disk), [b"left in the cache"])
            disk.kill()
            store = open_store(disk)
            (chunk,) = store.put([(DATA, b"left in the cache")])
            store.sync()
            disk.crash(seed)
            assert open_store(disk).get(DATA, chunk) == b"left in the cache"

    def test_callers_of_sync_share_one_and_none_returns_early(self, tmp_path: Path) -> None:
        store = open_store(LocalDisk(str(tmp_path)))
        put_all(store, [b"a"])
        files = store._files
        running, release = threading.Event(), threading.Event()
        syncs: list[int] = []
        original = files.sync

        def slow(number: int) -> None:
            syncs.append(number)
            if len(syncs) == 1:
                running.set()
                assert release.wait(10)
            original(number)

        files.sync = slow  # type: ignore[method-assign]
        threads = [threading.Thread(target=store.sync)]
        threads[0].start()
        assert running.wait(10)
        put_all(store, [b"b"])  # too late for the sync under way
        threads += [threading.Thread(target=store.sync) for _ in range(5)]
        for thread in threads[1:]:
            thread.start()
        assert all(thread.is_alive() for thread in threads)
        release.set()
        for thread in threads:
            thread.join(10)
        assert len(syncs) == 2

    def test_after_a_failed_sync_everything_is_stored_again_elsewhere(self) -> None:
        disk = SimulatedDisk()
        store = open_store(disk)
        plains = [noise(n, 700) for n in range(8)]
        ids = put_all(store, plains[:3])
        store.sync()
        ids += put_all(store, plains[3:])
        disk.fail_path(f"{DIRECTORY}/00000001.pack", ["sync"])
        store.sync()
        disk.crash(3)
        disk.fail_path(f"{DIRECTORY}/00000001.pack", [])
        again = open_store(disk)
        assert [again.get(DATA, chunk) for chunk in ids] == plains

    def test_a_sync_that_cannot_be_mended_fails_until_it_can(self) -> None:
        disk = SimulatedDisk()
        store = open_store(disk)
        ids = put_all(store, [b"one", b"two"])
        disk.fail_after(0)
        for _ in range(3):
            with pytest.raises(DiskError):
                store.sync()
        disk.fail_after(None)
        store.sync()
        disk.crash(1)
        again = open_store(disk)
        assert [again.get(DATA, chunk) for chunk in ids] == [b"one", b"two"]
