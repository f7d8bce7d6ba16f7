"""Settings of rounds as no device sets them: they stop no sweeping, permit none, and end nobody's daemon."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import msgspec
import pytest
import trio
from trio.testing import MockClock

from dittofs.identity.keys import DeviceId
from dittofs.identity.records import Role
from dittofs.replication import garbage_rounds as rounds
from dittofs.tree.settings import VALUE_BYTES_MAX
from tests.unit.replication.pair import Side, connect, sides
from tests.unit.replication.sweeping import LARGE, Sweeper, in_step, settle

LAST: Final = (1 << 64) - 1
NAMES: Final = {
    "a number": LAST,
    "a negative number": -1,
    "a long name": b"n" * (VALUE_BYTES_MAX - 40),
    "an empty name": b"",
}


def say(side: Side, setting: str, value: object) -> None:
    with side.rig.volume.replica.change() as change:
        change.group.set_setting(setting, rounds.encode(value))


@asynccontextmanager
async def with_garbage() -> AsyncIterator[tuple[Side, Side, Sweeper, Sweeper]]:
    """Two writers in step, a's and b's; a has something to sweep."""
    async with sides(Role.WRITER) as (a, b), trio.open_nursery() as nursery:
        mine, theirs = Sweeper(a), Sweeper(b)
        await a.write("gone", LARGE)
        connect(nursery, a, b)
        await in_step(a, b)
        await a.rig.unlink("gone")
        mine.forget_the_past()
        await in_step(a, b)
        yield a, b, mine, theirs
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())
async def test_a_round_that_another_overwrote_by_no_name_begins_anew_and_ends(
    name: object, autojump_clock: MockClock
) -> None:
    async with with_garbage() as (a, b, mine, theirs):
        await mine.collector.collect()
        await in_step(a, b)
        say(b, rounds.ROUND + a.device.id.hex(), name)
        await in_step(a, b)
        await theirs.collector.step()
        await settle(mine, theirs, done=lambda: mine.is_done)


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())
async def test_an_answer_that_is_no_name_permits_nothing_and_holds_nothing_up(
    name: object, autojump_clock: MockClock
) -> None:
    async with with_garbage() as (a, b, mine, theirs):
        before = mine.chunks
        for answer in (name, {a.device.id: name}, {LAST: name}):
            say(b, rounds.SEEN + b.device.id.hex(), answer)
            await in_step(a, b)
            await mine.collector.collect()
            assert not mine.is_done
            assert mine.chunks == before
        await settle(mine, theirs, done=lambda: mine.is_done)
        assert mine.chunks < before


@pytest.mark.parametrize("at", [(-1, 0), (LAST, 0), (1 << 63, 0), (0, -1), (0, LAST)])
async def test_a_device_that_was_retired_at_no_time_is_waited_for_and_goes_on(
    at: tuple[int, int], autojump_clock: MockClock
) -> None:
    async with with_garbage() as (a, b, mine, theirs):
        for device in (a.device.id, b.device.id):
            say(b, rounds.RETIRED + device.hex(), rounds.Retired(at[0], "nobody", at[1]))
        await in_step(a, b)
        await mine.collector.collect()
        assert not mine.is_done
        await settle(mine, theirs, done=lambda: mine.is_done)


async def test_a_rounds_setting_of_any_form_is_read_without_an_error() -> None:
    for value in (
        b"",
        b"\xff",
        b"\xc1",
        b"\xdd\xff\xff\xff\xff",
        msgspec.msgpack.encode([LAST, b"\xff", LAST]),
        b"\x94\x01\xa0\x01" + b"\x91" * 30_000,
    ):
        settings = {prefix + "00" * 32: value for prefix in (rounds.ROUND, rounds.SEEN, rounds.RETIRED)}
        device = DeviceId(bytes(32))
        assert rounds.round_of(settings, device) == b""
        assert rounds.answers_of(settings, device) == {}
        assert rounds.retired(settings) == {}
