"""`sync` ends, with the truth, whoever can be asked from here and whoever cannot."""

import os
import random
from dataclasses import dataclass

import pytest
import trio
from trio.testing import MockClock

from dittofs.control.sharing import SyncResult
from dittofs.identity.records import Role
from dittofs.replication.keeping import GATHER_S
from dittofs.replication.peers import Peers
from dittofs.replication.policy import Policy
from dittofs.volume.volume import Volume
from mountd.syncing import GRACE_S, STALL_S, sync
from tests.unit.replication.pair import Side, connect, sides, until

DATA = bytes(range(256)) * 4000


@dataclass
class Opened:
    """A device of a test, as `sync` sees it."""

    volume: Volume
    peers: Peers
    name: str = "Shared"

    @property
    def copies(self) -> Policy:
        return self.peers.copies.policy


async def synced(side: Side, timeout_s: float | None) -> SyncResult:
    results = [one async for one in sync(Opened(side.rig.volume, side.peers), timeout_s)]
    last = results[-1]
    assert isinstance(last, SyncResult)
    return last


def _ask_copies(side: Side, copies: bytes) -> None:
    with side.rig.volume.replica.change() as change:
        change.group.set_setting("copies", copies)


async def _equal(*some: Side) -> None:
    await until(lambda: len({side.rig.volume.replica.root_digest() for side in some}) == 1)
    await until(lambda: not any(side.peers.custody.is_counting for side in some))


async def test_what_is_held_elsewhere_by_a_device_that_cannot_be_asked_holds_nothing_up(
    autojump_clock: MockClock,
) -> None:
    async with sides(Role.WRITER, Role.WRITER) as (a, b, c), trio.open_nursery() as nursery:
        _ask_copies(a, b"on-demand")
        connect(nursery, a, b)
        connect(nursery, b, c)
        await _equal(a, b, c)
        await b.write("large", DATA)
        await _equal(a, b, c)
        handle = c.rig.open_file("large")
        data = c.rig.volume.files.read(handle.inode, 0, len(DATA))
        assert (data if isinstance(data, bytes) else await data) == DATA
        c.rig.close_file(handle)
        await until(lambda: not b.peers.custody.tally().only_here)
        _ask_copies(b, b"2")
        await _equal(a, b, c)
        begun = trio.current_time()
        result = await synced(a, 65)
        assert (result.is_safe, result.reason) == (True, "")
        assert (result.unseen, result.unseen_bytes) == (1, len(DATA))
        assert trio.current_time() - begun < 2 * GRACE_S
        nursery.cancel_scope.cancel()


async def test_what_nobody_takes_is_told_and_not_that_changes_were_not_confirmed(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dittofs.replication.keeping.FREE_BYTES_MIN", 2 << 40)
    async with sides(Role.WRITER) as (a, b), trio.open_nursery() as nursery:
        await a.write("large", DATA)
        connect(nursery, a, b)
        await _equal(a, b)
        for timeout_s in (10, None):
            begun = trio.current_time()
            with trio.fail_after(3 * STALL_S):
                result = await synced(a, timeout_s)
            assert not result.is_safe
            assert "on fewer devices" in result.reason
            assert "not confirmed" not in result.reason
            assert trio.current_time() - begun <= (timeout_s or 2 * STALL_S) + 1
        nursery.cancel_scope.cancel()


async def test_what_came_here_is_counted_when_sync_ends(autojump_clock: MockClock) -> None:
    async with sides(Role.WRITER) as (a, b), trio.open_nursery() as nursery:
        _ask_copies(a, b"on-demand")
        await a.write("large", DATA)
        connect(nursery, a, b)
        await _equal(a, b)
        holdings = b.rig.volume.holdings
        await holdings.count()
        assert holdings.bytes_here == 0
        _ask_copies(a, b"all")
        await _equal(a, b)
        assert (await synced(b, None)).is_safe
        assert holdings.bytes_here == len(DATA)
        nursery.cancel_scope.cancel()


async def test_what_lies_on_several_devices_in_pieces_is_gathered_before_sync_ends(
    autojump_clock: MockClock,
) -> None:
    """An edit of a file whose bytes are elsewhere: the new piece is here, the rest there."""
    data = random.Random(1).randbytes(4 << 20)  # many chunks, each another one
    async with sides(Role.WRITER) as (a, b), trio.open_nursery() as nursery:
        _ask_copies(a, b"on-demand")
        connect(nursery, a, b)
        await _equal(a, b)
        await b.write("large", data)
        await _equal(a, b)
        handle = a.rig.open_file("large", os.O_RDWR)
        await a.rig.write_at(handle, len(data) // 2, b"edited here")
        a.rig.close_file(handle)
        await a.rig.publish()
        await _equal(a, b)
        assert a.peers.custody.tally().missing == b.peers.custody.tally().missing == 1
        _ask_copies(a, b"2")
        begun = trio.current_time()
        result = await synced(a, 65)
        assert (result.is_safe, result.reason) == (True, "")
        assert trio.current_time() - begun < 3 * GATHER_S
        assert not b.peers.custody.tally().missing
        nursery.cancel_scope.cancel()
