"""Numbers of copies that paths have: inherited downwards, carried along by renames, kept to by all."""

from collections.abc import Sequence

import pytest
import trio
from trio.testing import MockClock

from dittofs.identity.records import Role
from dittofs.ids import ROOT, InodeId
from dittofs.replication import copies, ruling
from dittofs.replication.custody import Item
from dittofs.replication.policy import Policy, rule_setting, ruled_inode
from dittofs.replication.ruling import RulesFull, Ruling
from dittofs.volume.browsing import Browsing
from tests.unit.replication.evictions import Evictor
from tests.unit.replication.pair import Side, connect, sides, until

LARGE = bytes(range(256)) * 2000


def inode(side: Side, path: str) -> InodeId:
    return Browsing(side.rig.volume).find([name.encode() for name in path.split("/")]).id


def ruled(side: Side, path: str, policy: str | None) -> None:
    Ruling(side.peers).bind(inode(side, path), None if policy is None else Policy.parse(policy))


def default(side: Side, policy: str) -> None:
    Ruling(side.peers).set_all(Policy.parse(policy))


def holding(side: Side, path: str) -> str:
    return str(side.peers.copies.of([inode(side, path)]))


async def counted(*some: Side) -> None:
    await until(lambda: len({side.rig.volume.replica.root_digest() for side in some}) == 1)
    await until(lambda: not any(side.peers.custody.is_counting for side in some))


async def test_what_is_below_a_directory_has_its_number_and_the_nearest_one_wins(
    autojump_clock: MockClock,
) -> None:
    async with sides(Role.WRITER) as (a, _):
        for path in ("top", "top/middle", "top/middle/low"):
            a.rig.mkdir(path)
        for path in ("file", "top/file", "top/middle/low/file", "top/middle/own"):
            await a.write(path, path.encode())
        ruled(a, "top", "all")
        ruled(a, "top/middle", "on-demand")
        ruled(a, "top/middle/own", "5")
        paths = ("file", "top", "top/file", "top/middle/low", "top/middle/low/file", "top/middle/own")
        assert [holding(a, path) for path in paths] == ["2", "all", "all", "on-demand", "on-demand", "5"]
        assert a.peers.copies.nearest(inode(a, "top/middle/low/file")) == inode(a, "top/middle")
        assert a.peers.copies.nearest(inode(a, "file")) is None
        ruled(a, "top/middle", None)
        assert holding(a, "top/middle/low/file") == "all"


async def test_a_rule_goes_along_with_a_rename_and_what_is_moved_has_the_number_of_its_new_place(
    autojump_clock: MockClock,
) -> None:
    async with sides(Role.WRITER) as (a, b), trio.open_nursery() as nursery:
        default(a, "on-demand")
        a.rig.mkdir("kept")
        a.rig.mkdir("kept not")
        a.rig.mkdir("kept not/deep")
        await a.write("kept not/deep/file", LARGE)
        await a.write("kept not/other", LARGE[::-1])
        ruled(a, "kept", "all")
        connect(nursery, a, b)
        await counted(a, b)
        await trio.sleep(60)
        assert a.peers.custody.tally().only_here == 2
        await a.rig.rename("kept not/other", "kept/other")
        await until(lambda: a.peers.custody.tally().only_here == 1)
        assert b.rig.read("kept/other") == LARGE[::-1]
        await a.rig.rename("kept not/deep", "kept/deep")
        await until(lambda: a.peers.custody.tally().only_here == 0)
        assert b.rig.read("kept/deep/file") == LARGE
        await a.rig.rename("kept", "renamed")
        await counted(a, b)
        assert [holding(side, "renamed/deep/file") for side in (a, b)] == ["all", "all"]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("to", ["kept", "plain", "merged"])
async def test_what_is_looked_at_for_a_directory_that_moves_is_what_is_below_it(
    autojump_clock: MockClock, to: str
) -> None:
    async with sides(Role.WRITER) as (a, b), trio.open_nursery() as nursery:
        default(a, "on-demand")
        for path in ("kept", "plain", "moved", "moved/deep", "many"):
            a.rig.mkdir(path)
        for number in range(30):
            await a.write(f"many/{number}", b"%d" % number * 100)
        await a.write("moved/deep/file", LARGE)
        await a.write("moved/other", LARGE[::-1])
        await a.write("many/own", LARGE[1:])
        ruled(a, "kept", "all")
        ruled(a, "many/own", "3")
        if to == "merged":
            b.rig.mkdir("kept")
            b.rig.mkdir("kept/moved")
        connect(nursery, a, b)
        await counted(a, b)
        await until(lambda: a.peers.custody.tally().only_here == 32, 60)
        looked: list[InodeId] = []
        examine = a.peers.custody._examine

        async def noting(items: Sequence[Item], *, is_live: bool) -> None:
            looked.extend(inode for inode, _, _ in items)
            await examine(items, is_live=is_live)

        a.peers.custody._examine = noting  # type: ignore[method-assign] # it watches, and then calls it
        below = {inode(a, path) for path in ("moved/deep/file", "moved/other")}
        if to == "merged":
            await a.rig.rename("kept/moved", "plain/moved")
            await a.rig.rename("moved", "kept/moved")
        else:
            await a.rig.rename("moved", f"{to}/moved")
        await counted(a, b)
        if to == "plain":
            assert not looked, "the same holds there"
        elif to == "kept":
            assert set(looked) == below
        await until(lambda: a.peers.custody.tally().only_here == (32 if to == "plain" else 30), 60)
        assert below <= set(looked) or to == "plain"
        nursery.cancel_scope.cancel()


async def test_a_files_number_stays_with_a_save_and_goes_with_the_file_that_is_renamed_away(
    autojump_clock: MockClock,
) -> None:
    async with sides(Role.WRITER) as (a, _):
        await a.write("thesis", b"first")
        ruled(a, "thesis", "all")
        await a.write("thesis.new", b"second")
        await a.rig.rename("thesis.new", "thesis")
        await a.rig.publish()
        assert a.rig.read("thesis") == b"second"
        assert holding(a, "thesis") == "all"
        await a.rig.rename("thesis", "thesis~")
        await a.write("thesis", b"third")
        assert [holding(a, path) for path in ("thesis~", "thesis")] == ["all", "2"]


async def test_only_what_the_rule_is_about_is_sent_and_the_rest_is_counted_as_meant(
    autojump_clock: MockClock,
) -> None:
    async with sides(Role.WRITER, Role.WRITER) as (a, b, c), trio.open_nursery() as nursery:
        a.rig.mkdir("films")
        a.rig.mkdir("thesis")
        ruled(a, "films", "on-demand")
        ruled(a, "thesis", "all")
        for number, path in enumerate(("films/one", "thesis/one", "plain")):
            await a.write(path, bytes([number]) * 300_000)
        for one, other in ((a, b), (b, c), (a, c)):
            connect(nursery, one, other)
        await counted(a, b, c)
        await until(lambda: not a.peers.custody.tally().unsent, 120)
        tally = a.peers.custody.tally()
        assert (tally.only_here, tally.on_demand, tally.on_demand_bytes) == (1, 1, 300_000)
        for side in (b, c):
            assert side.rig.read("thesis/one") == bytes([1]) * 300_000
        await trio.sleep(60)
        assert a.peers.custody.tally().on_demand == 1, "nobody took what nobody asked for"
        ruled(a, "films", "3")
        await until(lambda: not a.peers.custody.is_counting and not a.peers.custody.tally().unsent, 120)
        assert a.peers.custody.tally().only_here == 0
        nursery.cancel_scope.cancel()


async def test_a_file_with_two_names_has_the_stricter_number(autojump_clock: MockClock) -> None:
    async with sides(Role.WRITER) as (a, _):
        a.rig.mkdir("films")
        await a.write("films/one", b"content")
        ruled(a, "films", "on-demand")
        assert holding(a, "films/one") == "on-demand"
        a.rig.link("films/one", "also")
        assert holding(a, "films/one") == "2", "at the other name the number of the volume holds"
        default(a, "on-demand")
        assert holding(a, "films/one") == "on-demand"


async def test_directories_that_are_shown_as_one_have_the_rule_of_either(autojump_clock: MockClock) -> None:
    async with sides(Role.WRITER) as (a, b), trio.open_nursery() as nursery:
        default(a, "on-demand")
        a.rig.mkdir("same")
        b.rig.mkdir("same")
        await a.write("same/of a", LARGE)
        ruled(b, "same", "all")
        connect(nursery, a, b)
        await counted(a, b)
        assert [holding(side, "same/of a") for side in (a, b)] == ["all", "all"]
        await until(lambda: not a.peers.custody.tally().only_here)
        ruled(a, "same", None)
        await counted(a, b)
        assert [holding(side, "same/of a") for side in (a, b)] == ["on-demand", "on-demand"]
        nursery.cancel_scope.cancel()


async def test_the_rule_of_what_is_removed_is_forgotten_by_all(autojump_clock: MockClock) -> None:
    async with sides(Role.WRITER) as (a, b), trio.open_nursery() as nursery:
        nursery.start_soon(Ruling(a.peers).run)
        a.rig.mkdir("films")
        await a.write("one", b"content")
        ruled(a, "films", "all")
        ruled(a, "one", "3")
        connect(nursery, a, b)
        await counted(a, b)
        assert len(b.peers.copies.rules) == 2
        await a.rig.unlink("one")
        await a.rig.rmdir("films")
        await a.rig.publish()
        await until(lambda: not a.peers.copies.rules)
        await counted(a, b)
        assert not b.peers.copies.rules
        assert not [name for name in b.rig.volume.replica.tree.settings() if ruled_inode(name)]
        nursery.cancel_scope.cancel()


async def test_the_rule_of_what_was_removed_just_before_a_crash_is_forgotten_after_it(
    autojump_clock: MockClock,
) -> None:
    async with sides(Role.WRITER) as (a, b), trio.open_nursery() as nursery:
        for path in ("one", "two", "lives"):
            await a.write(path, path.encode())
            ruled(a, path, "3")
        await a.rig.unlink("one")
        connect(nursery, a, b)
        await counted(a, b)
        await b.rig.unlink("two")  # and whoever removed it never comes back
        await b.rig.publish()
        await counted(a, b)
        assert len(a.peers.copies.rules) == 3
        nursery.start_soon(Ruling(a.peers).run)  # as when it is started again
        await until(lambda: set(a.peers.copies.rules) == {inode(a, "lives")})
        await counted(a, b)
        assert set(b.peers.copies.rules) == {inode(a, "lives")}
        nursery.cancel_scope.cancel()


async def test_no_rule_is_forgotten_that_is_later_than_the_removal_or_of_what_is_not_known_yet(
    autojump_clock: MockClock,
) -> None:
    async with sides(Role.WRITER) as (a, _), trio.open_nursery() as nursery:
        await a.write("back", b"content")
        ruled(a, "back", "3")
        back, unknown = inode(a, "back"), InodeId("A" * 16)
        await a.rig.unlink("back")
        await a.rig.publish()
        with a.rig.volume.replica.change() as change:  # a restoration is on the way, its rule came first
            for one in (back, unknown):
                change.group.set_setting(rule_setting(one), b"all")
        nursery.start_soon(Ruling(a.peers).run)
        await trio.sleep(10)
        assert set(a.peers.copies.rules) == {back, unknown}
        nursery.cancel_scope.cancel()


async def test_more_rules_than_a_volume_has_are_refused_but_not_for_those_without_a_path(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ruling, "RULES_MAX", 2)
    async with sides(Role.WRITER) as (a, _):
        for path in ("one", "two", "three"):
            await a.write(path, path.encode())
        ruled(a, "one", "3")
        ruled(a, "two", "3")
        with pytest.raises(RulesFull):
            ruled(a, "three", "3")
        ruled(a, "two", "4")
        await a.rig.unlink("one")
        await a.rig.publish()
        ruled(a, "three", "3")


@pytest.mark.logs_warning("more paths have a number of copies than are kept to")
async def test_of_more_rules_than_are_kept_to_the_strictest_hold(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "RULES_KEPT_MAX", 3)
    async with sides(Role.WRITER) as (a, b), trio.open_nursery() as nursery:
        rules = {InodeId(f"{number:016d}"): str(number % 7 + 2) for number in range(20)}
        rules[InodeId("Z" * 16)] = "all"
        with a.rig.volume.replica.change() as change:
            for one, policy in rules.items():
                change.group.set_setting(rule_setting(one), policy.encode())
        connect(nursery, a, b)
        await counted(a, b)
        for side in (a, b):
            assert sorted(map(str, side.peers.copies.rules.values())) == ["8", "8", "all"]
        assert a.peers.copies.rules == b.peers.copies.rules
        nursery.cancel_scope.cancel()


async def test_eviction_keeps_to_the_number_of_the_path(autojump_clock: MockClock) -> None:
    async with sides(Role.WRITER) as (a, b), trio.open_nursery() as nursery:
        a.rig.mkdir("films")
        ruled(a, "films", "on-demand")
        connect(nursery, a, b)
        await a.write("films/one", LARGE)
        await a.write("plain", LARGE[::-1])
        await counted(a, b)
        assert b.rig.listing("films") == ["one"]
        assert await b.rig.fetch("films/one") == LARGE
        await until(lambda: not a.peers.custody.tally().only_here, 120)
        evictor = Evictor(a)
        done = await evictor.evict("films/one", "plain")
        assert [one[0] for one in done.gone] == [inode(a, "films/one")]
        ((_, why),) = done.kept
        assert why.startswith("copies = 2: so many others would have to hold it")
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "value", [b"", b"0", b"1", b"-3", b"99999999999999999999", b"\xff" * 40, b"inherit", b"2 "]
)
@pytest.mark.logs_warning("a number of copies cannot be understood")
async def test_a_rule_that_cannot_be_understood_is_none(autojump_clock: MockClock, value: bytes) -> None:
    async with sides(Role.WRITER) as (a, _):
        a.rig.mkdir("films")
        with a.rig.volume.replica.change() as change:
            change.group.set_setting(rule_setting(inode(a, "films")), value)
            change.group.set_setting("copies/" + "ff" * 16, b"all")
            change.group.set_setting("copies/nonsense", b"all")
        assert (a.peers.copies.rules, holding(a, "films")) == ({}, "2")


def test_a_rules_setting_names_its_inode() -> None:
    assert ruled_inode(rule_setting(ROOT)) == ROOT
    assert ruled_inode("copies") is ruled_inode("copies/") is ruled_inode("copies/00") is None
