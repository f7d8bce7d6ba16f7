"""Whoever waits for publication is told when there is nothing left to wait for."""

import os

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from dittofs.volume.publication import OPEN_INTERVAL_S
from tests.simulation.rig import Rig

PATIENCE_S = 60.0


async def test_a_wait_ends_when_all_that_was_queued_is_removed(rig: Rig, autojump_clock: MockClock) -> None:
    begin = autojump_clock.current_time()
    await rig.write("temporary", b"content")
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rig.volume.publisher.drain_all)
            await wait_all_tasks_blocked()
            await rig.unlink("temporary")
            assert await rig.volume.publisher.publish_point()
    assert rig.volume.publisher.is_idle
    assert autojump_clock.current_time() == begin


async def test_a_wait_that_gave_up_leaves_the_others_in_a_hurry(rig: Rig, autojump_clock: MockClock) -> None:
    publisher = rig.volume.publisher
    handle = rig.open_file("open", os.O_WRONLY | os.O_CREAT)
    await rig.write_at(handle, 0, b"one")
    publisher.enqueue_open(handle.inode.ref)
    await rig.publish()
    await rig.write_at(handle, 0, b"two")
    publisher.enqueue_open(handle.inode.ref)
    begin = autojump_clock.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(publisher.drain_all)
        with trio.move_on_after(OPEN_INTERVAL_S / 10):
            await publisher.drain_all()
        async with trio.open_nursery() as publishing:
            publishing.start_soon(publisher.run)
            await trio.sleep(OPEN_INTERVAL_S / 10)
            publishing.cancel_scope.cancel()
        assert publisher.is_idle
    assert autojump_clock.current_time() - begin < OPEN_INTERVAL_S


@pytest.mark.usefixtures("autojump_clock")
async def test_a_removal_waits_for_what_was_closed_before_it_and_for_nothing_later(rig: Rig) -> None:
    await rig.write("published", b"content")
    await rig.publish()
    handle = rig.open_file("busy", os.O_RDWR | os.O_CREAT)
    removed = trio.Event()

    async def keep_fsyncing() -> None:
        while not removed.is_set():
            await rig.write_at(handle, 0, b"more")
            await rig.volume.files.fsync(handle.inode)
            await trio.sleep(0.01)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.volume.publisher.run)
        nursery.start_soon(keep_fsyncing)
        await trio.sleep(0.1)
        with trio.fail_after(30):
            parent, name = rig.place("published")
            answer = rig.volume.names.unlink(parent, name)
            if answer is not None:
                await answer
        removed.set()
        await trio.sleep(0.1)
        nursery.cancel_scope.cancel()
    rig.close_file(handle)
    assert not rig.exists("published")
