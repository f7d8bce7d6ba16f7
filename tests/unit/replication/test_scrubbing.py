"""The scrub: damage that nobody has met is found, healed from another device, or told."""

import random

import pytest
import trio
from trio.testing import MockClock

from dittofs.identity.records import Role
from dittofs.replication.scrubbing import STEP_BYTES, Scrubbing
from tests.simulation.disk import SimulatedDisk
from tests.unit.replication.pair import Side, connect, sides, until

DATA = random.Random(1).randbytes(9_000_000)
PACK = "chunks/00000001.pack"


def scrubbing(side: Side, told: list[str]) -> Scrubbing:
    return Scrubbing(side.peers, bytes_per_second=1 << 20, is_busy=lambda: False, report=told.append)


def damage(side: Side) -> None:
    """Flip a bit near the end of what is stored."""
    disk = side.rig.disk
    assert isinstance(disk, SimulatedDisk)
    disk.damage(PACK, disk.open(PACK).size() - 300_000, 1)


async def a_pass(scrub: Scrubbing) -> int:
    """Steps until everything was read."""
    steps = 1
    await scrub.step()
    while scrub.cursor != (0, 0):
        await scrub.step()
        steps += 1
    return steps


@pytest.mark.logs_warning("what is stored is damaged")
async def test_a_flipped_bit_is_found_and_healed_from_the_other_device(autojump_clock: MockClock) -> None:
    async with sides(Role.WRITER) as (a, b), trio.open_nursery() as nursery:
        await a.write("large", DATA)
        connect(nursery, a, b)
        await until(lambda: not a.peers.custody.tally().unsent and not a.peers.custody.is_counting)
        damage(b)
        told: list[str] = []
        assert await a_pass(scrubbing(b, told)) >= len(DATA) // STEP_BYTES
        assert told == []
        assert b.rig.read("large") == DATA
        assert await a_pass(scrubbing(b, told)) > 1
        assert told == [], "what was healed lies elsewhere"
        nursery.cancel_scope.cancel()


@pytest.mark.logs_warning("what is stored is damaged")
async def test_what_nobody_has_is_told_and_healed_when_somebody_comes(autojump_clock: MockClock) -> None:
    async with sides(Role.WRITER) as (a, b), trio.open_nursery() as nursery:
        await a.write("large", DATA)
        cut, _ = connect(nursery, a, b)
        await until(lambda: not a.peers.custody.tally().unsent and not a.peers.custody.is_counting)
        cut.close()
        await until(lambda: not (a.peers.open_sessions or b.peers.open_sessions))
        damage(b)
        told: list[str] = []
        scrub = scrubbing(b, told)
        nursery.start_soon(scrub.run)
        await until(lambda: told, 600)
        assert "no connected device has that chunk" in told[0]
        connect(nursery, a, b)
        await until(lambda: not b.peers.replica.chunks.damaged, 3600)
        assert b.rig.read("large") == DATA
        nursery.cancel_scope.cancel()


async def test_a_scrub_goes_on_where_the_last_process_left_it(autojump_clock: MockClock) -> None:
    async with sides() as (a,):
        await a.write("large", DATA)
        await scrubbing(a, []).step()
        at = scrubbing(a, []).cursor
        assert at[1] >= STEP_BYTES
        await scrubbing(a, []).step()
        assert scrubbing(a, []).cursor[1] >= 2 * STEP_BYTES
