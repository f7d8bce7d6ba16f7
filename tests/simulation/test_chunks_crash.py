"""The chunk store under a power cut, a kill or a failing disk at every change it makes to the disk."""

import random
from collections.abc import Callable

import pytest

from dittofs.chunks.chunker import Chunking
from dittofs.chunks.content import ContentReader, store_content
from dittofs.chunks.seal import ChunkKind
from dittofs.chunks.store import ChunkStore
from dittofs.errors import DiskError, DiskFull
from dittofs.ids import ChunkId
from tests.unit.chunks.stores import MemorySource, noise, open_store

from .disk import SimulatedDisk

DATA = ChunkKind.DATA
LARGE = noise(1, 200_000)


class Stopped(BaseException):
    """The machine stopped."""


class Story:
    """What a device does with its store, and what it was promised on the way."""

    def __init__(self) -> None:
        self.acknowledged: dict[ChunkId, bytes] = {}
        self.root = b""

    def tell(self, disk: SimulatedDisk) -> None:
        """Two lives with puts, syncs, rotations, runs and merges."""
        for life in range(2):
            store = open_store(disk, seed=life)
            for step in range(5):
                plains = [noise(1000 * life + 10 * step + n, 200) for n in range(3)]
                ids = store.put([(DATA, plain) for plain in plains])
                if step % 2:
                    store.sync()
                    self.acknowledged |= dict(zip(ids, plains, strict=True))
            self.collect(store, life)
            root = store_content(store, MemorySource(LARGE), b"", 0, chunking=Chunking.CONTENT_DEFINED)
            store.sync()
            self.root = root
            store.close()

    def collect(self, store: ChunkStore, life: int) -> None:
        """A round of garbage: every third chunk is named by nothing any more, nor promised from then on."""
        named = {chunk for number, chunk in enumerate(self.acknowledged) if number % 3}
        self.acknowledged = {chunk: plain for chunk, plain in self.acknowledged.items() if chunk in named}
        if self.root:
            reader = ContentReader(store, self.root, len(LARGE))
            named |= {chunk for _, _, chunk in reader.chunks() if chunk} | {ChunkId(self.root[1:])}
        for half in range(2):
            marks = store.garbage.marks() if half else store.garbage.begin_round()
            marks.update(named)
            if half:
                (plain,) = [noise(1000 * life + 7777, 200)]
                (chunk,) = store.put([(DATA, plain)])
                store.sync()
                self.acknowledged[chunk] = plain  # after the first mark: in neither
                store.garbage.sweep(marks)
            else:
                store.garbage.close_marks(marks)
        list(store.garbage.compact())

    def holds(self, store: ChunkStore) -> None:
        """Everything acknowledged is there, nothing is wrong, and the store works on."""
        self.reads_back(store)
        plains = [noise(n, 150) for n in (0, 10, 1040, 5000)]
        ids = store.put([(DATA, plain) for plain in plains])
        store.sync()
        self.acknowledged |= dict(zip(ids, plains, strict=True))

    def reads_back(self, store: ChunkStore) -> None:
        for chunk, plain in self.acknowledged.items():
            assert store.get(DATA, chunk) == plain
        if self.root:
            assert ContentReader(store, self.root, len(LARGE)).read(0, len(LARGE)) == LARGE
        for kind, chunk in store.ids():
            assert store.get(kind, chunk) is not None


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs and packs so small that the story writes and merges several."""
    for module in ("dittofs.chunks.store", "dittofs.chunks.recovery"):
        monkeypatch.setattr(f"{module}.RECENT_ENTRIES_MAX", 4)
    for module in ("dittofs.chunks.appender", "dittofs.chunks.recovery"):
        monkeypatch.setattr(f"{module}.PACK_BYTES_MAX", 2500)
    monkeypatch.setattr("dittofs.chunks.compaction.GARBAGE_BYTES_MIN", 100)


def length_of_the_story() -> int:
    disk = SimulatedDisk()
    Story().tell(disk)
    return len(disk.trace)


def stopping_at(event: int, disk: SimulatedDisk) -> Callable[[str], None]:
    def hook(_: str) -> None:
        if len(disk.trace) == event:
            raise Stopped

    return hook


def test_the_story_is_the_same_each_time() -> None:
    digests = []
    for _ in range(2):
        disk = SimulatedDisk()
        Story().tell(disk)
        digests.append(disk.digest())
    assert digests[0] == digests[1]


@pytest.mark.parametrize("seed", range(3))
def test_after_a_power_cut_at_any_change_everything_synced_is_there(seed: int) -> None:
    for event in range(length_of_the_story()):
        disk = SimulatedDisk()
        disk.hook = stopping_at(event, disk)
        story = Story()
        with pytest.raises(Stopped):
            story.tell(disk)
        disk.hook = None
        disk.crash(1000 * seed + event)
        store = open_store(disk, seed=9)
        story.holds(store)
        rebuilt = [note for note in store.notes if "rebuilt" in note]
        assert all("there is no index" in note for note in rebuilt), "what is named is durable"
        assert not any("is gone" in note for note in store.notes), "a pack goes after all that leads there"
        disk.crash(event)  # and again, after what recovery did
        story.holds(open_store(disk, seed=10))


def test_after_a_kill_at_any_change_nothing_is_lost() -> None:
    for event in range(length_of_the_story()):
        disk = SimulatedDisk()
        disk.hook = stopping_at(event, disk)
        story = Story()
        with pytest.raises(Stopped):
            story.tell(disk)
        disk.hook = None
        disk.kill()
        story.holds(open_store(disk, seed=9))


def test_a_power_cut_during_recovery_is_recovered_from() -> None:
    first = SimulatedDisk()
    story = Story()
    first.hook = stopping_at(length_of_the_story() * 3 // 4, first)
    with pytest.raises(Stopped):
        story.tell(first)
    first.hook = None
    first.crash(5)
    for name in first.listdir("chunks/index"):
        first.unlink(f"chunks/index/{name}")
    for event in range(200):
        disk = first.fork()
        disk.hook = stopping_at(event, disk)
        try:
            open_store(disk)
        except Stopped:
            disk.hook = None
            disk.crash(event)
            story.reads_back(open_store(disk))
        else:
            assert event > 5
            return
    raise AssertionError("recovery ends")


@pytest.mark.parametrize("seed", range(2))
def test_a_disk_that_fails_and_comes_back_loses_nothing_it_acknowledged(seed: int) -> None:
    """Every change fails from some point on; the caller tries each step again once the disk is back."""
    for changes in range(0, length_of_the_story(), 2):
        disk = SimulatedDisk()
        store = open_store(disk)
        acknowledged: dict[ChunkId, bytes] = {}
        rng = random.Random(seed)
        disk.fail_after(changes)
        for step in range(12):
            plains = [noise(10 * step + n, 200) for n in range(3)]
            try:
                ids = store.put([(DATA, plain) for plain in plains])
                store.sync()
            except (DiskError, DiskFull):
                if rng.random() < 0.5:
                    disk.fail_after(None)
                continue
            acknowledged |= dict(zip(ids, plains, strict=True))
        disk.fail_after(None)
        store.sync()
        for chunk, plain in acknowledged.items():
            assert store.get(DATA, chunk) == plain
        disk.crash(seed)
        again = open_store(disk)
        for chunk, plain in acknowledged.items():
            assert again.get(DATA, chunk) == plain
