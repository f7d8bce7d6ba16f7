"""A disk that fills up or fails under a volume: nothing acknowledged is lost, and work goes on later."""

import errno
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import trio
import trio.testing

from dittofs.errors import DiskFull, DittoError, FSError
from dittofs.volume import files, replica
from dittofs.volume.files import LAYERS_MAX, Handle
from dittofs.volume.publication import RETRY_S
from dittofs.volume.room import FREE_BYTES_FLOOR
from tests.simulation.disk import SimulatedDisk
from tests.simulation.rig import Rig

PATIENCE_S = 100.0
ROOM = 1 << 40
WAL = "journal.db-wal"
Shown = dict[str, bytes]

pytestmark = pytest.mark.logs_warning(
    "volume turned read-only",
    "saving failed",
    "publication failed",
    "background sync failed",
    "index",
    "recovered",
)


def used(disk: SimulatedDisk) -> int:
    return disk.total_bytes() - disk.free_bytes()


async def waited_for(rig: Rig, answer: Any) -> None:
    """Take an operation's answer as a front end does, while the publisher runs."""
    if not isinstance(answer, Awaitable):
        return
    refused: list[DittoError] = []

    async def publish() -> None:
        while True:
            await rig.volume.publisher.publish_point()
            await trio.sleep(RETRY_S)

    async def wait() -> None:
        try:
            await answer
        except DittoError as error:
            refused.append(error)
        nursery.cancel_scope.cancel()

    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            nursery.start_soon(publish)
    if refused:
        raise refused[0]


async def publish_all(rig: Rig) -> None:
    for _ in range(10):
        await rig.volume.publisher.publish_point()
    assert rig.volume.publisher.is_idle, rig.volume.publisher.problem


@dataclass
class Session:
    """What programs did and were told, and so what must be there."""

    disk: SimulatedDisk
    rig: Rig
    shown: Shown
    """What every acknowledged operation adds up to."""
    doubtful: dict[str, list[bytes | None]] = field(default_factory=dict)
    """path -> what else may be there after an operation that was refused half way; None: nothing."""
    refusals: list[int] = field(default_factory=list)

    async def do(
        self, act: Callable[[], Awaitable[None]], after: Shown, path: str, *others: bytes | None
    ) -> None:
        """Try something. `path` may hold any of `others` if it is refused."""
        try:
            await act()
        except DittoError as error:
            self.refusals.append(error.errno)
            assert error.errno != errno.EROFS or self.rig.volume.summary().read_only
            self.doubtful.setdefault(path, []).extend([*others, after.get(path)])
            return
        for one in {path, *(self.shown.keys() ^ after.keys())}:
            self.doubtful.pop(one, None)
        self.shown = after

    async def write(self, path: str, data: bytes) -> None:
        async def act() -> None:
            handle = self.rig.open_file(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            try:
                await self.put(handle, 0, data)
            finally:
                self.rig.close_file(handle)

        await self.do(act, {**self.shown, path: data}, path, b"", self.shown.get(path))

    async def overwrite(self, path: str, data: bytes, *, is_synced: bool) -> None:
        old = self.shown.get(path)
        if old is None:
            return

        async def act() -> None:
            handle = self.rig.open_file(path, os.O_RDWR)
            try:
                await self.put(handle, 100, data)
                if is_synced:
                    await self.rig.volume.files.fsync(handle.inode)
            finally:
                self.rig.close_file(handle)

        await self.do(act, {**self.shown, path: old[:100] + data + old[100 + len(data) :]}, path, old)

    async def put(self, handle: Handle, offset: int, data: bytes) -> None:
        await waited_for(self.rig, self.rig.volume.files.write(handle.inode, offset, data))

    async def rename(self, old: str, new: str) -> None:
        if old not in self.shown:
            return
        after = dict(self.shown)
        after[new] = after.pop(old)
        names = self.rig.place(old), self.rig.place(new)

        async def act() -> None:
            await waited_for(self.rig, self.rig.volume.renaming.rename(*names[0], *names[1], 0))

        await self.do(act, after, new, None)

    async def maintain(self) -> None:
        """What a volume does by itself now and then: save, sync, shorten logs, checkpoint."""
        self.rig.volume.save()
        await self.rig.volume.background_sync()
        try:
            self.rig.volume.replica.journal.checkpoint()
        except DittoError as error:
            self.refusals.append(error.errno)

    def expect_acknowledged(self) -> None:
        for path in {*self.shown, *self.doubtful}:
            allowed = [self.shown.get(path), *self.doubtful.get(path, ())]
            found = self.rig.read(path) if self.rig.exists(path) else None
            assert found in allowed, f"{path}: {found if found is None else len(found)}"


async def begin() -> Session:
    disk = SimulatedDisk()
    session = Session(disk, Rig(disk, seed=3), {})
    await session.write("old", b"o" * 300_000)
    await session.write("old small", b"p" * 90)
    await session.rig.close()
    session.rig.open()
    return session


async def work(session: Session) -> None:
    """A short history with every kind of writing to the disk in it."""
    publisher = session.rig.volume.publisher
    await session.write("small", b"s" * 700)
    await session.write("middle", b"m" * 100_000)
    await publisher.publish_point()
    await session.write("big", b"b" * 500_000)
    await session.overwrite("big", b"#" * 3_000, is_synced=True)
    await publisher.publish_point()
    await session.overwrite("middle", b"+" * 400_000, is_synced=False)
    await session.write("small", b"t" * 800)
    await session.rename("small", "renamed")
    await publisher.publish_point()
    await publisher.publish_point()
    await session.maintain()


async def go_on(session: Session) -> None:
    """There is room again and the disk works: what waits in memory is kept, and new things too."""
    session.rig.volume.save()
    await session.rig.volume.background_sync()
    await publish_all(session.rig)
    session.expect_acknowledged()
    await session.write("again", b"a" * 50_000)
    assert session.shown["again"]


async def come_back(session: Session) -> None:
    """The process dies and the next one takes over."""
    session.rig.abandon()
    session.disk.kill()
    session.rig.open()
    session.expect_acknowledged()
    await publish_all(session.rig)
    session.expect_acknowledged()
    session.rig.volume.replica.rebuild_index()  # snapshots and logs say the same as the index
    session.expect_acknowledged()
    await session.rig.close()


def simulated(story: Callable[[], Awaitable[Session]]) -> Session:
    return trio.run(story, clock=trio.testing.MockClock(autojump_threshold=0))


@pytest.mark.parametrize("dies", [False, True])
def test_a_disk_that_fills_up_at_any_instant_loses_nothing_acknowledged(
    monkeypatch: pytest.MonkeyPatch, *, dies: bool
) -> None:
    monkeypatch.setattr(files, "FREE_BYTES_FLOOR", 0)  # or writers would be refused before anything else is
    monkeypatch.setattr(replica, "LOG_BYTES_KEPT", 0)  # so that logs are replaced by snapshots

    async def fill_up(extra: int) -> Session:
        session = await begin()
        session.disk.capacity = used(session.disk) + extra
        await work(session)
        session.expect_acknowledged()
        session.disk.capacity = ROOM
        if not dies:
            assert session.rig.volume.replica.writability.try_again()
            assert session.rig.volume.summary().read_only is None
            await go_on(session)
        await come_back(session)
        return session

    seen: set[int] = set()
    for extra in [*range(0, 100_000, 9_001), *range(100_000, 2_500_000, 60_013)]:
        seen.update(simulated(lambda: fill_up(extra)).refusals)  # noqa: B023 - run at once
    assert seen == {errno.ENOSPC}


@pytest.mark.parametrize("dies", [False, True])
def test_a_disk_that_fails_at_any_change_loses_nothing_acknowledged(
    monkeypatch: pytest.MonkeyPatch, *, dies: bool
) -> None:
    monkeypatch.setattr(replica, "LOG_BYTES_KEPT", 0)

    async def fail(changes: int) -> Session:
        session = await begin()
        session.disk.fail_after(changes)
        await work(session)
        session.expect_acknowledged()
        session.disk.fail_after(None)
        # After a failed sync the volume must be mounted anew: that is what the reason says.
        if not dies and session.rig.volume.replica.writability.try_again():
            await go_on(session)
        else:
            assert dies or "mounted anew" in str(session.rig.volume.summary().read_only)
        await come_back(session)
        return session

    seen: set[int] = set()
    for changes in range(0, 130, 2):
        seen.update(simulated(lambda: fail(changes)).refusals)  # noqa: B023 - run at once
    assert seen == {errno.EIO, errno.EROFS}


async def test_when_the_journal_cannot_grow_the_volume_is_read_only_says_why_and_reads_go_on() -> None:
    session = await begin()
    session.disk.fail_path(WAL, ("write",))
    with pytest.raises(DittoError):
        session.rig.mkdir("d")
    for refused in (
        lambda: session.rig.mkdir("d"),
        lambda: session.rig.open_file("old", os.O_RDWR),
        lambda: session.rig.chmod("old", 0o600),
        lambda: session.rig.symlink("old", "link"),
        lambda: session.rig.truncate("old", 0),
    ):
        with pytest.raises(DittoError) as refusal:
            refused()
        assert refusal.value.errno == errno.EROFS
    assert "the journal cannot be written" in str(session.rig.volume.summary().read_only)
    session.expect_acknowledged()
    assert not session.rig.volume.replica.writability.try_again()
    session.disk.fail_path(WAL, ())
    assert session.rig.volume.replica.writability.try_again()
    assert session.rig.volume.summary().read_only is None
    session.rig.mkdir("d")
    session.rig.abandon()


async def test_what_could_not_be_saved_at_close_is_saved_once_there_is_room() -> None:
    session = await begin()
    rig = session.rig
    handle = rig.open_file("old small", os.O_RDWR)
    await rig.write_at(handle, 0, b"n" * 60_000)
    session.disk.capacity = used(session.disk)
    with pytest.raises(DiskFull):
        rig.volume.files.flush(handle.inode)
    rig.volume.files.release(handle)
    assert rig.read("old small") == b"n" * 60_000
    session.disk.capacity = ROOM
    await rig.volume.background_sync()
    assert rig.volume.summary().read_only is None
    session.disk.crash(1)
    rig.open()
    assert rig.read("old small") == b"n" * 60_000
    rig.abandon()


async def test_what_was_closed_before_the_disk_was_full_outlives_a_power_cut() -> None:
    session = await begin()
    rig = session.rig
    await rig.volume.background_sync()
    await rig.write("old small", b"just closed")
    session.disk.capacity = used(session.disk)
    with pytest.raises(DiskFull):
        rig.mkdir("d")
    assert rig.volume.summary().read_only is not None
    await rig.volume.background_sync()
    assert rig.volume.summary().read_only is not None
    rig.abandon()
    for seed in range(8):
        rig.disk = session.disk.fork()
        rig.disk.crash(seed)
        rig.disk.capacity, rig.machine = ROOM, f"machine/boot-{seed + 2}"
        rig.open()
        assert rig.read("old small") == b"just closed"
        rig.abandon()


async def test_nothing_enters_the_tree_that_is_not_in_the_journal() -> None:
    session = await begin()
    rig = session.rig
    before = rig.volume.state.attributes(rig.walk("old")).version
    await rig.write("old", b"n" * 400_000)
    session.disk.fail_path(WAL, ("write",))
    assert not await rig.volume.publisher.publish_point()
    assert rig.volume.summary().publication_problem
    assert rig.volume.state.attributes(rig.walk("old")).version == before
    assert rig.read("old") == b"n" * 400_000
    session.disk.fail_path(WAL, ())
    session.shown["old"] = b"n" * 400_000
    await come_back(session)


async def test_files_can_be_removed_when_writers_have_used_all_they_may() -> None:
    session = await begin()
    rig = session.rig
    await rig.write("ballast", b"b" * 900_000)
    session.disk.capacity = used(session.disk) + FREE_BYTES_FLOOR - 1
    handle = rig.open_file("ballast", os.O_RDWR)
    with pytest.raises(FSError) as refusal:
        for part in range(8):  # the room is looked at every few MiB
            await rig.write_at(handle, part << 20, bytes(1 << 20))
    assert refusal.value.errno == errno.ENOSPC
    rig.close_file(handle)
    await rig.unlink("old small")
    await rig.rename("old", "kept")
    await rig.unlink("ballast")
    await rig.volume.files.sync()
    assert rig.listing("") == ["kept"]
    assert not session.disk.listdir("staging")
    rig.abandon()


def test_a_writer_behind_publications_that_fail_is_not_held_up_for_ever_and_loses_nothing() -> None:
    async def story() -> Session:
        session = await begin()
        for number in range(LAYERS_MAX):
            await session.write("file", b"%d" % number * 1_000)
        session.disk.fail_path("chunks/00000001.pack", ("write",))
        await session.overwrite("file", b"more", is_synced=False)
        assert not session.refusals
        session.expect_acknowledged()
        session.disk.fail_path("chunks/00000001.pack", ())
        await come_back(session)
        return session

    simulated(story)


@pytest.mark.parametrize("how", ["closed", "cut", "cut when opened"])
async def test_what_a_disk_did_not_take_when_it_was_closed_is_published_when_it_does(how: str) -> None:
    disk = SimulatedDisk()
    rig = Rig(disk)
    await rig.write("f", b"old")
    await rig.publish()
    handle = rig.open_file("f", os.O_RDWR) if how == "closed" else None
    if handle is not None:
        await rig.write_at(handle, 0, b"new")
    disk.fail_path(WAL, ("write",))
    with pytest.raises(DittoError):
        if handle is not None:
            rig.volume.files.release(handle)
        elif how == "cut":
            rig.truncate("f", 1)
        else:
            rig.open_file("f", os.O_RDONLY | os.O_TRUNC)
    disk.fail_path(WAL, ())
    assert rig.volume.replica.writability.try_again()
    rig.volume.save()
    await publish_all(rig)
    assert not list(rig.volume.state.contents)
    assert rig.read("f") == {"closed": b"new", "cut": b"o", "cut when opened": b""}[how]
