"""Small contents reach another device once, and many of them together."""

import random
from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from dittofs.identity.records import Role
from dittofs.replication.keeping import OFFERED_S
from tests.unit.replication.pair import Side, connect, sides, until

FILES = 40


def holds_all(side: Side, device: bytes, count: int) -> bool:
    """Whether `side` knows `device` to hold so many contents."""
    return len(list(side.rig.volume.replica.journal.scan_local("hold", device))) == count


async def test_a_content_that_travels_with_its_change_is_not_fetched_too(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its chunks are durable long before the journal is, so it may be asked to be kept before it is sent."""
    async with sides(Role.WRITER) as (a, b), trio.open_nursery() as nursery:
        connect(nursery, a, b)
        await until(lambda: a.peers.open_sessions and b.peers.open_sessions)
        replica = a.rig.volume.replica
        run_blocking = replica.run_blocking

        async def late(act: Callable[..., Any], *arguments: Any) -> Any:
            if act == replica.journal.sync:
                await trio.sleep(OFFERED_S / 10)
            return await run_blocking(act, *arguments)

        monkeypatch.setattr(replica, "run_blocking", late)
        await a.write("file", random.Random(1).randbytes(16 << 10))
        await until(lambda: holds_all(a, b.device.id, 1))
        assert b.rig.listing("") == ["file"]
        assert b.peers.fetcher.bytes_fetched == 0
        nursery.cancel_scope.cancel()


async def test_what_too_few_hold_is_sent_although_the_journal_cannot_be_synced(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with sides(Role.WRITER) as (a, b), trio.open_nursery() as nursery:
        await a.write("file", b"content")
        await a.peers.stream.flushed()
        stuck = trio.Event()
        monkeypatch.setattr(a.peers.keeping, "_offered", stuck.wait)
        connect(nursery, a, b)
        await until(lambda: holds_all(a, b.device.id, 1))
        nursery.cancel_scope.cancel()


async def test_many_small_contents_are_looked_for_and_fetched_together(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with sides(Role.WRITER) as (a, b), trio.open_nursery() as nursery:
        for number in range(FILES):
            await a.write(f"file{number}", random.Random(number).randbytes(1_000))
        replica, hops = b.rig.volume.replica, 0
        run_blocking = replica.run_blocking

        async def counted(act: Callable[..., Any], *arguments: Any) -> Any:
            nonlocal hops
            hops += 1
            return await run_blocking(act, *arguments)

        monkeypatch.setattr(replica, "run_blocking", counted)
        connect(nursery, a, b)
        await until(lambda: holds_all(a, b.device.id, FILES))
        assert hops < FILES
        nursery.cancel_scope.cancel()
