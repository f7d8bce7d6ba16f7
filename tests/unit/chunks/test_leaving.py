"""Chunks that go though something names them: who touches one before the decision keeps it."""

import random

import pytest

from dittofs.chunks.seal import ChunkKind
from dittofs.chunks.store import AbsentChunk, ChunkStore
from dittofs.errors import DiskFull
from tests.simulation.disk import SimulatedDisk
from tests.unit.chunks.stores import open_store

DATA = ChunkKind.DATA
PLAINS = [random.Random(number).randbytes(60_000) for number in range(60)]


def test_what_is_decided_to_go_is_absent_at_once_and_its_room_comes_back() -> None:
    disk = SimulatedDisk()
    store = open_store(disk)
    ids = store.put([(DATA, plain) for plain in PLAINS])
    store.sync()
    before = store.statistics().pack_bytes
    garbage = store.garbage
    with garbage.leaving(ids[:50]) as leaving:
        garbage.locate(leaving)
        assert store.claim(DATA, ids[0]), "who touches it keeps it"
        leaving.decide()
        assert store.has(DATA, ids[0])
        assert not store.claim(DATA, ids[1])
        assert store.put([(DATA, PLAINS[2])]) == [ids[2]], "what is put meanwhile is stored again"
        assert garbage.evict(leaving).chunks == 48
    assert [number for number, one in enumerate(ids) if store.has(DATA, one)] == [0, 2, *range(50, 60)]
    assert len(list(garbage.compact(is_tight=True))) == 1
    assert store.statistics().pack_bytes < before // 2
    store.close()
    disk.crash(1)
    again = open_store(disk)
    assert [again.get(DATA, ids[number]) for number in (0, 2, 55)] == [PLAINS[n] for n in (0, 2, 55)]
    with pytest.raises(AbsentChunk):
        again.get(DATA, ids[1])


def test_what_cannot_be_written_down_stays() -> None:
    disk = SimulatedDisk()
    store = open_store(disk)
    ids = store.put([(DATA, plain) for plain in PLAINS])
    store.sync()
    with store.garbage.leaving(ids) as leaving:
        store.garbage.locate(leaving)
        leaving.decide()
        disk.capacity = disk.total_bytes() - disk.free_bytes()
        with pytest.raises(DiskFull):
            store.garbage.evict(leaving)
    assert all(store.has(DATA, one) for one in ids)


def test_what_is_put_under_a_lease_that_is_held_is_disputed_until_it_ends() -> None:
    store: ChunkStore = open_store(SimulatedDisk())
    garbage = store.garbage
    with store.lease(), garbage.leaving([]) as leaving:
        assert garbage.is_disputed(leaving)
    with garbage.leaving([]) as leaving, store.lease():
        assert not garbage.is_disputed(leaving), "what is touched under this one is kept"


def test_a_pack_is_emptied_for_an_eighth_when_room_is_wanted() -> None:
    store = open_store(SimulatedDisk())
    ids = store.put([(DATA, random.Random(n).randbytes(60_000)) for n in range(100)])
    store.sync()
    with store.garbage.leaving(ids[:20]) as leaving:
        store.garbage.locate(leaving)
        leaving.decide()
        store.garbage.evict(leaving)
    assert list(store.garbage.compact()) == []
    assert len(list(store.garbage.compact(is_tight=True))) == 1
    assert all(store.has(DATA, one) for one in ids[20:])


def test_what_is_adopted_meanwhile_keeps_what_it_has_in_common() -> None:
    store = open_store(SimulatedDisk())
    ids = store.put([(DATA, plain) for plain in PLAINS[:4]])
    with store.garbage.leaving(ids) as leaving:
        store._sweeping.touch_all(ids[:2])
        assert leaving.chunks() == ids[2:]
