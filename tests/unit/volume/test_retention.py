"""Old history becomes coarser: what is kept is exact, and nothing's only version goes."""

import random

from dittofs.volume.past import Pasts
from dittofs.volume.retention import DAY_S, HOUR_S, WEEK_S
from dittofs.volume.versions import Versions
from tests.simulation.rig import Rig
from tests.unit.volume.test_past import FILES, act, seen, was

DAY_NS = DAY_S * 1_000_000_000


def rows(rig: Rig) -> int:
    return len(list(rig.volume.replica.journal.history.before()))


async def test_all_of_a_day_then_by_the_hour_the_day_and_the_week(rig: Rig) -> None:
    await rig.write("a", b"%d" % 0)
    await rig.publish()
    begun = rig.volume.replica.clock.now_ns()
    rig.clock.advance(HOUR_S - begun // 1_000_000_000 % WEEK_S + WEEK_S)  # the first hour of a week
    inode = rig.walk("a").id
    for number in range(1, 25):
        rig.clock.advance(600)
        await rig.write("a", b"%d" % number)
        await rig.publish()
    versions = Versions(rig.volume.replica)
    counts = [len(versions.of(inode))]
    for days in (1, 7, 30, 365):
        rig.clock.advance(days * DAY_S)
        await rig.volume.retention.thin()
        counts.append(len(versions.of(inode)))
    assert counts[0] == 25
    assert counts[1] in (5, 6)  # four hours and some minutes, and what was before
    assert counts[2:] == [2, 2, 1]
    assert rig.read("a") == b"24"


async def test_the_ends_of_what_is_kept_are_as_they_were(rig: Rig) -> None:
    chance = random.Random(7)
    hour = HOUR_S * 1_000_000_000
    moments = {}
    for _ in range(120):
        rig.clock.advance(100)
        await act(rig, chance, [*FILES, "d", "e"], 8)
        now = rig.volume.replica.clock.now_ns()
        moments[now // hour * hour + hour - 1] = seen(rig)  # the last of an hour
    before = rows(rig)
    rig.clock.advance(2 * DAY_S)
    gone = await rig.volume.retention.thin()
    assert gone == before - rows(rig) > 10
    assert await rig.volume.retention.thin() == 0
    for at, shown in list(moments.items()):
        assert was(rig, at) == shown


async def test_a_removed_file_can_be_had_for_a_year_and_no_longer(rig: Rig) -> None:
    await rig.write("a", b"x")
    await rig.publish()
    inode = rig.walk("a").id
    await rig.unlink("a")
    rig.clock.advance(300 * DAY_S)
    await rig.volume.retention.thin()
    pasts = Pasts(rig.volume.replica)
    assert pasts.had_path([b"a"]) == [inode]
    rig.clock.advance(100 * DAY_S)
    await rig.volume.retention.thin()
    assert pasts.had_path([b"a"]) == []
    assert rows(rig) == 0
