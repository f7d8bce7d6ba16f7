"""Old history becomes coarser: what is kept is exact, and nothing's only version goes."""

import random

import pytest

from dittofs.history.past import Pasts
from dittofs.history.retention import DAY_S, HOUR_S, WEEK_S
from dittofs.history.versions import Versions
from dittofs.journal.answered import answered_at, note_answer
from dittofs.journal.wrong_times import set_right
from dittofs.volume.attributes import Wanted
from dittofs.volume.events import author_of
from tests.simulation.pair import Pair
from tests.simulation.rig import Rig
from tests.unit.history.test_past import FILES, act, seen, was


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
        await rig.retention.thin()
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
    gone = await rig.retention.thin()
    assert gone == before - rows(rig) > 10
    assert await rig.retention.thin() == 0
    for at, shown in list(moments.items()):
        assert was(rig, at) == shown


async def test_a_removed_file_can_be_had_for_a_year_and_no_longer(rig: Rig) -> None:
    await rig.write("a", b"x")
    await rig.publish()
    inode = rig.walk("a").id
    await rig.unlink("a")
    rig.clock.advance(300 * DAY_S)
    await rig.retention.thin()
    pasts = Pasts(rig.volume.replica)
    assert pasts.had_path([b"a"]) == [inode]
    rig.clock.advance(100 * DAY_S)
    await rig.retention.thin()
    assert pasts.had_path([b"a"]) == []
    assert rows(rig) == 0


async def test_a_clock_that_is_wrong_for_a_while_takes_nothing_along(rig: Rig) -> None:
    await rig.retention.thin()
    for number in range(5):
        await rig.write("f", b"version %d" % number)
        await rig.publish()
        rig.clock.advance(10)
    await rig.write("thesis", b"x")
    await rig.publish()
    await rig.unlink("thesis")
    await rig.publish()
    before = rows(rig)
    for days in (400, -400, -30_000):
        rig.clock.set_wrong(days * DAY_S)
        for _ in range(3):
            assert await rig.retention.thin() == 0
            rig.clock.advance(HOUR_S)
        rig.clock.set_wrong(-days * DAY_S)
    assert rows(rig) == before
    rig.clock.set_wrong(400 * DAY_S)
    for _ in range(6):  # a start moves it by a day
        await rig.close()
        rig.open()
        await rig.retention.thin()
        assert Pasts(rig.volume.replica).had_path([b"thesis"])


async def test_after_a_wrong_clock_and_after_a_long_rest_it_goes_on(rig: Rig) -> None:
    await rig.write("f", b"0")
    await rig.publish()
    rig.clock.set_wrong(200 * DAY_S)
    await rig.retention.thin()
    rig.clock.set_wrong(-200 * DAY_S)
    for number in range(20):
        rig.clock.advance(60)
        await rig.write("f", b"%d" % number)
        await rig.publish()
    await rig.close()
    rig.clock.set_wrong(30 * DAY_S)  # it was off
    rig.open()
    before = rows(rig)
    for _ in range(32):
        rig.clock.advance(DAY_S)
        await rig.retention.thin()
    assert rows(rig) < before - 10


async def test_what_was_done_while_the_clock_was_ahead_lies_in_its_order_and_not_in_the_future(
    rig: Rig,
) -> None:
    await rig.retention.thin()
    await rig.write("f", b"first")
    await rig.publish()
    rig.clock.set_wrong(300 * DAY_S)
    for number in range(300):  # more than one step moves at once
        rig.chmod("f", 0o600 + number % 2)
    await rig.write("g", b"future")
    await rig.publish()
    order = [(row.inode, row.before, row.after) for row in rig.volume.replica.journal.history.since(0)]
    rig.clock.set_wrong(-300 * DAY_S)
    for name in ("h", "i"):
        rig.clock.advance(60)
        await rig.write(name, b"written now")
        await rig.publish()
    history = rig.volume.replica.journal.history
    assert [(row.inode, row.before, row.after) for row in history.since(0)][: len(order)] == order
    assert history.last_at <= rig.clock.now_ns()
    at = rig.clock.now_ns()
    rig.clock.advance(HOUR_S)
    await rig.unlink("h")
    pasts = Pasts(rig.volume.replica)
    assert [pasts.lookup([name], at) is not None for name in (b"f", b"g", b"h", b"i")] == [True] * 4
    assert not list(history.check())


async def test_a_clock_that_is_behind_moves_nothing(rig: Rig) -> None:
    await rig.write("f", b"first")
    await rig.publish()
    await rig.retention.thin()
    times = [row.key for row in rig.volume.replica.journal.history.since(0)]
    rig.clock.set_wrong(-10_000 * DAY_S)
    await rig.write("g", b"second")
    await rig.publish()
    assert [row.key for row in rig.volume.replica.journal.history.since(0)][: len(times)] == times


async def test_what_was_rolled_back_while_rows_moved_leaves_them_in_their_order(rig: Rig) -> None:
    await rig.retention.thin()
    rig.clock.set_wrong(300 * DAY_S)
    await rig.write("f", b"future")
    await rig.publish()
    rig.clock.set_wrong(-300 * DAY_S)
    replica = rig.volume.replica
    before = [row.key for row in replica.journal.history.since(0)]
    with pytest.raises(KeyError), replica.change():
        set_right(replica.journal, rig.clock.now_ns())
        assert replica.journal.history.last_at < before[-1][0]
        raise KeyError
    assert [row.key for row in replica.journal.history.since(0)] == before
    assert replica.journal.history.last_at == before[-1][0]


async def test_rows_of_an_answer_move_with_it(rig: Rig) -> None:
    await rig.retention.thin()
    replica = rig.volume.replica
    rig.clock.set_wrong(300 * DAY_S)
    rig.mkdir("before")
    with replica.change():
        note_answer(replica.journal)
    rig.mkdir("after")
    rig.clock.set_wrong(-300 * DAY_S)
    rig.mkdir("now")
    answered = answered_at(replica.journal)
    is_before = [row.at <= answered for row in replica.journal.history.since(0) if row.kind == "create"]
    assert is_before == [True, False, False]


async def test_rows_of_two_writers_are_never_merged(pair: Pair) -> None:
    a, b = pair.a, pair.b

    async def both(rig: Rig, content: bytes) -> None:
        await rig.fetch("f")
        await rig.write("f", content)
        await pair.settle()
        for one in (a, b):
            one.clock.advance(10)

    await a.write("f", b"0")
    await pair.settle()
    for one in (a, b):
        one.clock.advance(HOUR_S - one.clock.now_ns() // 10**9 % HOUR_S + 60)
    for number, rig in enumerate((a, a, b, b, a, a)):
        await both(rig, b"%d of %d" % (number, id(rig)))
    for one in (a, b):
        one.clock.advance(2 * DAY_S)
        await one.retention.thin()
        inode = one.walk("f").id
        history = one.volume.replica.journal.history.of_inode(inode)
        slots = [author_of(row)[0] for row in history if row.kind == "content"]
        writer, other = a.volume.replica.slot, b.volume.replica.slot
        assert slots == [writer, other, writer, writer]  # the last one is from an hour before


async def test_times_that_were_set_are_shown_as_they_were_whatever_was_written_between(rig: Rig) -> None:
    def touch(mtime: int) -> None:
        rig.volume.attributes.set(rig.walk("f"), Wanted(mtime=mtime))

    await rig.write("f", b"0")
    await rig.publish()
    moments = {}
    inode = rig.walk("f").id
    pasts = Pasts(rig.volume.replica)
    chance = random.Random(5)
    for hour in range(40):
        rig.clock.advance(HOUR_S - rig.clock.now_ns() // 10**9 % HOUR_S + 60)
        for number in range(chance.randrange(6)):
            if chance.random() < 0.5:
                touch(1_000 * hour + number)
            else:
                await rig.write("f", b"%d %d" % (hour, number))
                await rig.publish()
        rig.clock.advance(HOUR_S - rig.clock.now_ns() // 10**9 % HOUR_S - 1)
        at = rig.clock.now_ns()
        moments[at] = pasts.of(inode, at)
    before = rows(rig)
    rig.clock.advance(2 * DAY_S)
    await rig.retention.thin()
    assert rows(rig) < before - 10
    for at, was_then in moments.items():
        assert pasts.of(inode, at) == was_then
