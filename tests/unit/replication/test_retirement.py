"""Retired devices: nobody waits for them, their copies count no more, and they come back unharmed."""

import pytest
import trio
from trio.testing import MockClock

from dittofs.clock import DAY_NS
from dittofs.identity.records import Role
from dittofs.replication.custody import HOLD
from dittofs.replication.retirement import Retirement
from tests.unit.replication.pair import connect, sides, until
from tests.unit.replication.sweeping import (
    LARGE,
    OTHER,
    Sweeper,
    apart,
    in_step,
    lazy_pair,
    on_demand,
    settle,
)


async def test_nobody_waits_for_a_retired_device(autojump_clock: MockClock) -> None:
    async with sides(Role.WRITER) as (a, b), trio.open_nursery() as nursery:
        mine = Sweeper(a)
        await a.write("gone", LARGE)
        cut, _ = connect(nursery, a, b)
        await in_step(a, b)
        cut.close()
        await apart(a, b)
        await a.rig.unlink("gone")
        mine.forget_the_past()
        await mine.collector.collect()
        assert not mine.is_done
        assert await mine.retirement.retire(b.device.id, 0)
        assert not await mine.retirement.retire(b.device.id, 0), "it is already"
        await mine.collector.step()
        assert mine.is_done
        nursery.cancel_scope.cancel()


async def test_what_a_retired_device_holds_counts_no_more(autojump_clock: MockClock) -> None:
    async with sides(Role.WRITER) as (a, b), trio.open_nursery() as nursery:
        mine = Sweeper(a)
        await a.write("file", LARGE)
        connect(nursery, a, b)
        await until(lambda: not a.peers.custody.tally().only_here and not a.peers.custody.is_counting)
        await mine.retirement.retire(b.device.id, 0)
        assert a.peers.copies.required(()) == 1, "of the devices that count there is one"
        await until(lambda: not a.peers.custody.is_counting)
        tally = a.peers.custody.tally()
        assert (tally.only_here, tally.only_here_bytes) == (1, len(LARGE)), "one device holds it"
        nursery.cancel_scope.cancel()


async def test_what_another_device_retired_counts_here_no_more_either(autojump_clock: MockClock) -> None:
    async with sides(Role.WRITER, Role.WRITER) as (a, b, c), trio.open_nursery() as nursery:
        mine, theirs = Sweeper(a), Sweeper(b)
        await a.write("file", LARGE)
        cut, _ = connect(nursery, a, c)
        await until(lambda: not a.peers.custody.tally().only_here and not a.peers.custody.is_counting)
        cut.close()
        await apart(a, c)
        await on_demand(a)
        connect(nursery, a, b)
        await in_step(a, b)
        assert theirs.retirement.all == {}
        await theirs.retirement.retire(c.device.id, 0)
        await in_step(a, b)
        assert c.device.id in mine.retirement.all
        await until(lambda: not a.peers.custody.is_counting)
        assert a.peers.custody.tally().only_here == 1
        nursery.cancel_scope.cancel()


@pytest.mark.logs_warning("this device was retired while it was away")
async def test_a_retired_device_that_returns_merges_believes_nothing_and_rejoins(
    autojump_clock: MockClock,
) -> None:
    async with lazy_pair() as (a, b, mine, theirs, cut, nursery):
        root = next(iter(a.peers.custody.content.content_roots()))[1]
        await until(lambda: b.rig.volume.replica.journal.get_local(HOLD, a.device.id + root) is not None)
        cut.close()
        await apart(a, b)
        await b.write("made meanwhile", OTHER)
        await mine.retirement.retire(b.device.id, 0)
        await a.rig.unlink("large")
        mine.forget_the_past()
        await mine.collector.collect()
        assert mine.is_done

        connect(nursery, a, b)
        await in_step(a, b)
        assert theirs.retirement.is_retired
        assert b.rig.volume.replica.journal.get_local(HOLD, a.device.id + root) is None
        assert a.rig.listing("") == b.rig.listing("") == ["made meanwhile"]
        await theirs.collector.collect()
        assert theirs.collector.status().round is None, "it sweeps nothing"
        assert not theirs.retirement.may_borrow
        assert await theirs.retirement.rejoin()
        assert not theirs.retirement.may_borrow, "not before the others have answered"
        await settle(mine, theirs, done=lambda: theirs.retirement.may_borrow)
        assert not mine.retirement.all


async def test_a_device_is_retired_by_its_absence_only_where_the_settings_say_so(
    autojump_clock: MockClock,
) -> None:
    async with sides(Role.WRITER) as (a, b):
        never, after = Retirement(a.peers), Retirement(a.peers, after_days=30)
        for retirement in (never, after):
            await retirement.retire_absent()
        a.rig.clock.advance(31 * DAY_NS / 1e9)
        await never.retire_absent()
        assert not never.all
        await after.retire_absent()
        assert set(after.all) == {b.device.id}
