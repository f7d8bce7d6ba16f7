"""A document that a device lost: had from who has more of it, and awaited no more once nobody has."""

from collections.abc import Iterator

import pytest
import trio
from trio.testing import MockClock

from dittofs.identity.records import Role
from dittofs.tree.record import shard_of
from tests.unit.replication.pair import Side, connect, sides, until

pytestmark = pytest.mark.logs_warning("a document", "the index", "what is lost of a document")


@pytest.fixture
def lost() -> Iterator[list[str]]:
    yield []


def heed(side: Side, lost: list[str]) -> None:
    """As a shared volume does."""
    documents = side.rig.volume.replica.documents
    documents.others, documents.on_lost = side.peers.writers, lost.append


def document_of(side: Side, path: str) -> int:
    return shard_of(side.rig.walk(path).id)


def lose_tail(side: Side, number: int) -> None:
    """What is logged of a document since its last snapshot is damaged, and there is no index."""
    replica = side.rig.volume.replica
    with replica.journal.transaction():
        replica.journal._database.statements.run(
            "test", f'UPDATE log SET "update"=zeroblob(length("update")) WHERE shard={number}'
        )
        replica.journal.mark_index(partial=True)
    replica.tree.unload()
    replica.rebuild_index()
    assert list(replica.documents.awaited) == [number]


def keep_what_is_known(side: Side, number: int) -> None:
    replica = side.rig.volume.replica
    epoch, blob = replica.tree.snapshot(number)
    with replica.journal.transaction():
        replica.journal.put_snapshot(number, epoch, blob)


async def in_step(*all_sides: Side) -> None:
    await until(lambda: len({side.rig.volume.replica.root_digest() for side in all_sides}) == 1)


async def stay_connected(a: Side, b: Side) -> None:
    """For ever: a session ends when a device goes on as another writer, and devices dial again."""
    async with trio.open_nursery() as nursery:
        while True:
            if a.peers.session(b.device.id) is None:
                connect(nursery, a, b)
            await trio.sleep(1)


def awaited(side: Side) -> bool:
    return bool(side.rig.volume.replica.documents.awaited)


async def test_what_no_other_device_has_is_awaited_no_more_and_told(
    autojump_clock: MockClock, lost: list[str]
) -> None:
    async with sides(Role.WRITER) as (a, b), trio.open_nursery() as nursery:
        heed(a, lost)
        await a.write("f", b"known to both")
        cut, _ = connect(nursery, a, b)
        await in_step(a, b)
        cut.close()
        number = document_of(a, "f")
        keep_what_is_known(a, number)
        await a.write("f", b"of this device alone")
        lose_tail(a, number)
        assert a.rig.read("f") == b"known to both"
        assert a.rig.volume.replica.not_allowed
        nursery.start_soon(stay_connected, a, b)
        await until(lambda: not awaited(a))
        (told,) = lost
        assert "no other device has more of it" in told
        await a.write("f", b"goes on")
        await in_step(a, b)
        assert b.rig.walk("f")
        nursery.cancel_scope.cancel()


async def test_as_long_as_one_device_was_not_heard_the_document_is_awaited(
    autojump_clock: MockClock, lost: list[str]
) -> None:
    async with sides(Role.WRITER, Role.WRITER) as (a, b, c), trio.open_nursery() as nursery:
        heed(a, lost)
        await a.write("f", b"known to all")
        for other in (b, c):
            cut, _ = connect(nursery, a, other)
            await in_step(a, other)
            cut.close()
        number = document_of(a, "f")
        keep_what_is_known(a, number)
        await a.write("f", b"known to c alone")
        cut, _ = connect(nursery, a, c)
        await in_step(a, c)
        cut.close()
        lose_tail(a, number)
        nursery.start_soon(stay_connected, a, b)
        with trio.move_on_after(60):
            await until(lambda: not awaited(a), patience_s=100)
        assert awaited(a), "c may have more, and has"
        nursery.start_soon(stay_connected, a, c)
        await until(lambda: not awaited(a))
        await in_step(a, c)
        assert a.rig.volume.summary().conflicts == 0
        assert await a.rig.fetch("f") == b"known to c alone"
        assert not lost
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("is_whole_one_there", [False, True])
async def test_what_a_device_gives_that_lost_it_too_ends_no_waiting_for_one_that_did_not(
    autojump_clock: MockClock, lost: list[str], *, is_whole_one_there: bool
) -> None:
    roles = (Role.WRITER, Role.WRITER) if is_whole_one_there else (Role.WRITER,)
    async with sides(*roles) as (a, b, *rest), trio.open_nursery() as nursery:
        heed(a, lost)
        heed(b, [])
        await a.write("f", b"first")
        number = document_of(a, "f")
        cut, _ = connect(nursery, a, b)
        await in_step(a, b)
        for side in (a, b):
            keep_what_is_known(side, number)
        await a.write("f", b"second")
        await in_step(a, b)
        keep_what_is_known(b, number)
        for other in rest:
            further, _ = connect(nursery, a, other)
            await in_step(a, other)
            further.close()
        cut.close()
        await b.write("f", b"third")  # nobody heard of it
        for side in (a, b):
            lose_tail(side, number)
        nursery.start_soon(stay_connected, a, b)
        if not is_whole_one_there:
            await until(lambda: not awaited(a) and not awaited(b))
            await in_step(a, b)
            await a.write("after", b"it goes on")
        else:
            await in_step(a, b)  # a has of b what that has left
            with trio.move_on_after(60):
                await until(lambda: not awaited(a) or not awaited(b), patience_s=100)
            assert awaited(a)
            assert awaited(b)
            nursery.start_soon(stay_connected, a, rest[0])
            await until(lambda: not awaited(a))
        nursery.cancel_scope.cancel()
