"""A chunk that was held here and is lost: others stop counting on it, and give it back."""

import errno
import random
from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock

from dittofs.chunks.store import ChunkStore
from dittofs.errors import ChunkUnavailable, Damaged
from dittofs.identity.records import Role
from dittofs.replication.behind import NONCE_BYTES
from dittofs.replication.custody import KEEPER
from tests.simulation.disk import SimulatedDisk
from tests.unit.replication.pair import Side, connect, sides, until

PACK = "chunks/00000001.pack"
DATA = random.Random(1).randbytes(1_000_000)


def damage(side: Side, offset: int) -> None:
    """Flip a bit of what is stored, counted from its end."""
    disk = side.rig.disk
    assert isinstance(disk, SimulatedDisk)
    disk.damage(PACK, disk.open(PACK).size() - offset, 1)


def check(store: ChunkStore) -> None:
    list(store.verify())


def read_all(store: ChunkStore) -> None:
    for kind, chunk in list(store.ids()):
        try:
            store.get(kind, chunk)
        except Damaged:
            continue


async def safe(side: Side) -> None:
    await until(lambda: not side.peers.custody.tally().unsent and not side.peers.custody.is_counting)


def believes(side: Side, other: Side) -> bool:
    """Whether what one side knows of the other is of what that one holds now."""
    known = side.rig.volume.replica.journal.get_local(KEEPER, other.device.id)
    return known is not None and known[:NONCE_BYTES] == other.peers.custody.nonce


@pytest.mark.parametrize("find", [check, read_all])
async def test_what_is_found_to_be_lost_is_counted_on_no_more_and_comes_again(
    find: Callable[[ChunkStore], None], autojump_clock: MockClock
) -> None:
    async with sides(Role.WRITER) as (a, b), trio.open_nursery() as nursery:
        await a.write("large", DATA)
        cut, _ = connect(nursery, a, b)
        await safe(a)
        cut.close()
        await until(lambda: not (a.peers.open_sessions or b.peers.open_sessions))
        damage(b, 300_000)
        find(b.rig.volume.replica.chunks)
        await until(lambda: b.peers.custody.tally().only_elsewhere == 1)
        connect(nursery, a, b)
        await until(lambda: believes(a, b))
        await safe(a)
        assert b.rig.read("large") == DATA
        nursery.cancel_scope.cancel()


async def test_what_is_lost_on_the_only_device_is_told_at_once_and_is_not_called_late(
    autojump_clock: MockClock,
) -> None:
    async with sides() as (alone,):
        await alone.write("large", DATA)
        damage(alone, 300_000)
        begun = trio.current_time()
        handle = alone.rig.open_file("large")
        for _ in range(3):  # it is known to be absent once it was found damaged
            with pytest.raises((Damaged, ChunkUnavailable)) as caught:
                data = alone.rig.volume.files.read(handle.inode, 0, len(DATA))
                assert not isinstance(data, bytes)
                await data
            assert caught.value.errno == errno.EIO
        assert trio.current_time() == begun
        alone.rig.close_file(handle)


async def test_a_loss_soon_after_another_is_told_too(autojump_clock: MockClock) -> None:
    async with sides(Role.WRITER) as (a, b), trio.open_nursery() as nursery:
        await a.write("large", DATA)
        connect(nursery, a, b)
        await safe(a)
        for offset in (300_000, 1_000):
            nonce = b.peers.custody.nonce
            damage(b, offset)
            check(b.rig.volume.replica.chunks)
            await until(lambda nonce=nonce: b.peers.custody.nonce != nonce, 120)  # type: ignore[misc]
            await until(lambda: not (a.peers.open_sessions or b.peers.open_sessions))
            connect(nursery, a, b)
            await until(lambda: believes(a, b))
            await safe(a)
            assert b.rig.read("large") == DATA
        nursery.cancel_scope.cancel()
