"""Devices that sweep: collectors that wait for no day, and two devices of which one has the names alone."""

import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Final, NamedTuple

import trio

from dittofs.history.snapshots import snapshot_roots
from dittofs.identity.records import Role
from dittofs.replication.collector import Collector
from dittofs.replication.policy import SETTING
from dittofs.replication.retirement import Retirement
from dittofs.volume.retained import Retained
from tests.unit.replication.pair import Side, connect, sides, until

LARGE = random.Random(3).randbytes(1_500_000)
OTHER = random.Random(4).randbytes(700_000)
EDITED = LARGE[:700_000] + b"x" * 4096 + LARGE[704_096:]


class Sweeper:
    """One device's collector, without waiting for a day."""

    def __init__(self, side: Side, *, grace_s: float = 0.0) -> None:
        self.side = side
        self.retirement = Retirement(side.peers)
        volume = side.rig.volume
        retained = Retained(volume.state, partial(snapshot_roots, volume.replica))
        self.collector = Collector(side.peers, retained, self.retirement, grace_s=grace_s)

    @property
    def chunks(self) -> int:
        return self.side.rig.volume.replica.chunks.statistics().chunks

    def forget_the_past(self) -> None:
        """As if the history's time were over."""
        journal = self.side.rig.volume.replica.journal
        with journal.transaction():
            for row in list(journal.history.since(0)):
                journal.history.remove(row)

    @property
    def is_done(self) -> bool:
        status = self.collector.status()
        return status.round is None and status.swept is not None


async def in_step(*all_sides: Side) -> None:
    def equal() -> bool:
        return len({side.rig.volume.replica.root_digest() for side in all_sides}) == 1

    await until(equal)


async def read(side: Side, path: str) -> bytes:
    return await side.rig.fetch(path)


async def on_demand(side: Side) -> None:
    """Contents go only where they are read: nobody pushes."""
    with side.rig.volume.replica.change() as change:
        change.group.set_setting(SETTING, b"on-demand")


async def apart(a: Side, b: Side) -> None:
    await until(lambda: not (a.peers.open_sessions or b.peers.open_sessions))


async def edited_lazily(a: Side, b: Side) -> None:
    """b has the names alone and edits 4 KiB in the middle of what a holds."""
    handle = b.rig.open_file("large", 2)
    await b.rig.write_at(handle, 700_000, b"x" * 4096)
    b.rig.close_file(handle)


async def until_published(side: Side) -> None:
    with trio.fail_after(120):
        while side.rig.volume.publisher.waiting or not side.rig.volume.publisher.is_idle:
            await side.rig.publish()
            await trio.sleep(0.1)


async def settle(*sweepers: Sweeper, done: Callable[[], bool]) -> None:
    with trio.fail_after(600):
        while not done():
            for sweeper in sweepers:
                await sweeper.collector.step()
            await trio.sleep(1)


class LazyPair(NamedTuple):
    """Two devices that are connected; a has the bytes of all files and b their names."""

    a: Side
    b: Side
    mine: Sweeper
    """a's."""
    theirs: Sweeper
    cut: trio.testing.MemorySendStream
    """Closing it ends the connection."""
    nursery: trio.Nursery


FILES: Final[Mapping[str, bytes]] = {"large": LARGE}


@asynccontextmanager
async def lazy_pair(files: Mapping[str, bytes] = FILES, *, grace_s: float = 0.0) -> AsyncIterator[LazyPair]:
    """The pair, in step; everything ends with it."""
    async with sides(Role.WRITER) as (a, b), trio.open_nursery() as nursery:
        mine, theirs = Sweeper(a, grace_s=grace_s), Sweeper(b)
        await on_demand(a)
        for name, data in files.items():
            await a.write(name, data)
        cut, _ = connect(nursery, a, b)
        await in_step(a, b)
        yield LazyPair(a, b, mine, theirs, cut, nursery)
        nursery.cancel_scope.cancel()
