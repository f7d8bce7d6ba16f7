"""What programs do while a worker thread publishes or syncs what they wrote before."""

import os
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from dittofs.blocking import run_inline
from dittofs.errors import DiskFull
from dittofs.tree.record import Kind
from tests.simulation.rig import USER, Rig

BIG = os.urandom(700_000)


@pytest.fixture(autouse=True)
def by_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few small files are published without one: here there is always something to overtake."""
    monkeypatch.setattr("dittofs.volume.carried.FILES_MAX", 0)


class Meanwhile:
    """Does something once while the next blocking function is under way, before or after its work."""

    def __init__(self, rig: Rig, act: Callable[[], Awaitable[None]], *, first: bool) -> None:
        self._replica = rig.volume.replica
        self._act = act
        self._first = first
        self._replica.run_blocking = self._run  # type: ignore[assignment] # mypy cannot match *Args with Any

    async def _run(self, function: Callable[..., Any], /, *arguments: Any) -> Any:
        self._replica.run_blocking = run_inline
        if self._first:
            await self._act()
        result = function(*arguments)
        if not self._first:
            await self._act()
        return result


async def test_a_file_written_while_it_is_published_empty_does_not_conflict_with_itself(rig: Rig) -> None:
    rig.volume.names.make(rig.volume.root, b"a", Kind.FILE, 0o644, USER)

    async def write() -> None:
        await rig.write("a", b"content")

    Meanwhile(rig, write, first=False)
    await rig.publish()
    assert rig.listing("") == ["a"]
    assert rig.read("a") == b"content"
    rig.abandon()
    rig.open()
    assert rig.listing("") == ["a"]
    assert rig.read("a") == b"content"


async def test_a_file_opened_while_it_is_published_empty_does_not_conflict_with_itself(rig: Rig) -> None:
    rig.volume.names.make(rig.volume.root, b"a", Kind.FILE, 0o644, USER)
    handle = rig.open_file("a", os.O_WRONLY)

    async def write() -> None:
        await rig.write_at(handle, 0, b"content")
        rig.volume.save()

    Meanwhile(rig, write, first=False)
    await rig.publish()
    await rig.write_at(handle, 7, b" and more")
    rig.close_file(handle)
    rig.abandon()
    rig.open()
    await rig.publish()
    assert rig.listing("") == ["a"]
    assert rig.read("a") == b"content and more"


async def test_an_fsync_that_a_publication_overtakes_is_fine(rig: Rig) -> None:
    await rig.write("a", BIG)
    handle = rig.open_file("a", os.O_RDWR)
    Meanwhile(rig, rig.publish, first=True)
    await rig.volume.files.fsync(handle.inode)
    rig.close_file(handle)
    assert rig.read("a") == BIG
    await rig.volume.files.sync()
    await rig.volume.files.sync()
    assert not rig.disk.listdir("staging")


async def test_a_file_removed_while_it_is_published_is_gone_and_harms_nothing_else(rig: Rig) -> None:
    for size in (100, len(BIG)):
        await rig.write("removed", BIG[:size])
        await rig.write("kept", BIG[:size])

        async def remove() -> None:
            parent, name = rig.place("removed")
            assert rig.volume.names.unlink(parent, name) is None

        Meanwhile(rig, remove, first=True)
        await rig.publish()
        assert rig.volume.publisher.problem is None
        assert rig.listing("") == ["kept"]
        assert rig.read("kept") == BIG[:size]
        await rig.volume.files.sync()
    assert not rig.disk.listdir("staging")


async def test_a_file_removed_while_it_is_synced_harms_nothing(rig: Rig) -> None:
    handle = rig.open_file("removed", os.O_RDWR | os.O_CREAT)
    await rig.write_at(handle, 0, BIG)

    async def remove() -> None:
        parent, name = rig.place("removed")
        assert rig.volume.names.unlink(parent, name) is None
        rig.close_file(handle)

    Meanwhile(rig, remove, first=True)
    await rig.volume.files.fsync(handle.inode)
    assert rig.listing("") == []
    await rig.volume.files.sync()
    await rig.volume.files.sync()
    assert not rig.disk.listdir("staging")


@pytest.mark.logs_warning("publication failed")
async def test_a_file_fsynced_while_its_publication_fails_is_published_once(rig: Rig) -> None:
    handle = rig.open_file("a", os.O_CREAT | os.O_WRONLY)
    await rig.write_at(handle, 0, BIG)
    publisher = rig.volume.publisher
    publisher.enqueue_open(handle.inode.ref)

    async def fail() -> None:
        publisher.enqueue_open(handle.inode.ref)
        raise DiskFull("no room for chunks")

    Meanwhile(rig, fail, first=True)
    assert not await publisher.publish_point()
    assert await publisher.publish_point()
    assert publisher.is_idle
    assert not publisher.stuck
    rig.close_file(handle)
