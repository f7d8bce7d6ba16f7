"""What local operations do where others wait for a name, versions stand aside and directories are merged."""

import errno
from collections.abc import Callable

import pytest

from dittofs.ids import number_of
from dittofs.tree.hlc import FOLLOW_NS_MAX
from dittofs.tree.record import shard_of
from tests.property.tree_replicas import (
    Replica,
    check_against_oracle,
    content_of,
    exchange_all,
)
from tests.unit.tree.asking import refused, stat


def test_every_prefix_of_every_group_is_safe(one: Replica) -> None:
    """A peer that has seen the beginning of a group shows every content, or what replaced it."""
    other = Replica(one.world, "other")

    def start() -> None:
        one.make("f", "one")
        one.make("g", "two")
        one.make("h", "three")
        one.link("h", "linked")
        one.mkdir("d")
        one.mkdir("e")
        other.make("f", "waiting")
        other.make("h", "three")

    start()
    exchange_all([one, other])
    acts: list[tuple[str, Callable[[], object], set[str]]] = [
        ("save", lambda: one.rename("g", "f"), {"one"}),
        ("replace", lambda: one.rename("h", "g2") or one.rename("linked", "f"), {"two"}),
        ("rename of a directory over another", lambda: one.rename("d", "e"), set()),
        ("unlink where another waits", lambda: one.unlink("f"), {"three"}),
    ]
    kept = {"one", "two", "three", "waiting"}
    for what, act, removed in acts:
        before = len(one.log)
        mark = other.store.mark
        act()
        updates = one.log[before:]
        for prefix in range(1, len(updates) + 1):
            peer_log = len(other.log)
            other.receive(updates[:prefix])
            check_against_oracle(other)
            shown = set(other.show().values())
            missing = kept - removed - shown
            assert not missing, (what, prefix, missing)
            other.store.back_to(mark)
            del other.log[peer_log:]
            other.tree.unload()
        kept -= removed
        other.receive(updates)


def test_whoever_leaves_a_name_first_gives_the_waiting_one_the_name_it_is_shown_under(one: Replica) -> None:
    other = Replica(one.world, "other")
    one.make("f", "first")
    other.make("f", "waiting")
    exchange_all([one, other])
    (aside,) = (path for path in one.show() if "(conflict, " in path)
    one.unlink("f")
    assert one.show() == {aside: "waiting"}, "the plain name is free, and the other keeps its name"
    exchange_all([one, other])
    assert other.show() == {aside: "waiting"}


def test_a_conflict_entry_can_be_edited_moved_linked_and_resolved(one: Replica) -> None:
    other = Replica(one.world, "other")
    one.make("f", "base")
    exchange_all([one, other])
    one.write("f", "mine")
    other.write("f", "theirs")
    exchange_all([one, other])
    (aside,) = (path for path in one.show() if "(conflict, " in path)
    number = stat(one, aside).number
    assert stat(one, aside).nlink == 1
    assert one.tree.by_number(number) == one.entry(aside).ref
    one.write(aside, "edited")
    assert (one.show(), stat(one, aside).number) == ({"f": "theirs", aside: "edited"}, number)
    one.link(aside, "linked")
    assert one.show() == {"f": "theirs", aside: "edited", "linked": "edited"}
    assert (stat(one, aside).number, stat(one, aside).nlink) == (number, 2)
    check_against_oracle(one)
    other.rename(aside, "moved")
    assert other.show() == {"f": "theirs", "moved": "mine"}
    exchange_all([one, other])
    check_against_oracle(one)
    assert sorted(one.show().values()) == ["edited", "edited", "mine", "theirs"]


def test_a_conflict_entry_moved_onto_its_name_resolves(one: Replica) -> None:
    other = Replica(one.world, "other")
    one.make("f", "base")
    exchange_all([one, other])
    one.write("f", "mine")
    other.write("f", "theirs")
    exchange_all([one, other])
    (aside,) = (path for path in one.show() if "(conflict, " in path)
    number = stat(one, aside).number
    assert one.rename(aside, "f")
    assert one.show() == {"f": "mine"}
    assert stat(one, "f").number == number
    exchange_all([one, other])
    assert other.show() == {"f": "mine"}


def test_removing_a_name_leaves_older_versions_of_the_same_writer_aside(one: Replica) -> None:
    """A tombstone says "up to n": it must not take what its author saw and left alone."""
    one.make("f", "base")
    base = stat(one, "f").version
    assert base is not None
    for content in ("first", "second"):
        with one.group() as group:
            stamp = one.tree.tick()
            group.write(one.entry("f").inode, content_of(content, stamp), replaces=[base.dot], stamp=stamp)
    (aside,) = (path for path in one.show() if "(conflict, " in path)
    number = stat(one, aside).number
    one.unlink("f")
    assert one.show() == {aside: "first"}
    assert stat(one, aside).number == number
    one.make("f", "fresh")
    assert one.show() == {"f": "fresh", aside: "first"}
    check_against_oracle(one)
    one.unlink(aside)
    assert one.show() == {"f": "fresh"}


def test_at_most_32_conflict_entries_stand_beside_a_name_and_rm_r_ends(one: Replica) -> None:
    one.mkdir("d")
    one.make("d/f", "base")
    base = stat(one, "d/f").version
    assert base is not None
    for count in range(40):
        with one.group() as group:
            stamp = one.tree.tick()
            group.write(
                one.entry("d/f").inode, content_of(f"c{count}", stamp), replaces=[base.dot], stamp=stamp
            )
    assert len(one.tree.listing(one.entry("d").inode)) == 33
    check_against_oracle(one)
    for _ in range(10):
        for entry in one.tree.listing(one.entry("d").inode):
            one.unlink(f"d/{entry.name.decode()}")
    one.rmdir("d")
    assert one.show() == {}


def test_a_name_in_use_in_lost_and_found_shows_it_until_it_is_empty(one: Replica) -> None:
    other = Replica(one.world, "other")
    other.mkdir("d")
    other.make("d/f", "x")
    orphan = [update for update in other.log if update[0] != shard_of(other.entry("d").inode)]
    assert len(orphan) == 1
    one.receive(orphan)
    assert one.show() == {"lost+found": "/", "lost+found/f": "x"}
    assert stat(one, "").nlink == 3
    check_against_oracle(one)
    one.receive([update for update in other.log if update not in orphan])
    assert one.show() == {"d": "/", "d/f": "x"}
    check_against_oracle(one)


def test_a_merged_directory_is_one_node_under_all_its_numbers(one: Replica) -> None:
    other = Replica(one.world, "other")
    mine = one.mkdir("d")
    number = stat(one, "d").number
    theirs = other.mkdir("d")
    exchange_all([one, other])
    found = stat(one, "d")
    assert found.members == tuple(sorted((mine, theirs)))
    assert found.number == number == number_of(mine), "the one this device showed first"
    assert stat(other, "d").number == number_of(theirs)
    assert one.tree.by_number(number_of(theirs)) == one.tree.by_number(number) == (found.members[0], None)
    one.chmod("d", 0o700)
    assert stat(one, "d").mode == 0o700
    one.make("d/f", "x")
    refused(errno.ENOTEMPTY, lambda: one.rmdir("d"))
    one.unlink("d/f")
    one.rmdir("d")
    exchange_all([one, other])
    assert other.show() == {}


def test_a_number_that_a_save_took_along_is_not_shown_by_two_files_when_its_first_one_lives_on(
    one: Replica,
) -> None:
    """Twice in a row a file is renamed over another one here and written there, so that both go on.

    The first time `f` wants the number of `t`, which keeps it: `f` shows one of its own in its place. With
    that number `f` is saved over `g`.
    """
    other = Replica(one.world, "other")
    for name in ("t", "f", "g"):
        one.make(name, name)
    exchange_all([one, other])
    number = stat(one, "t").number
    one.rename("t", "f")
    other.write("t", "t lives on")
    exchange_all([one, other])
    assert stat(one, "t").number == number
    in_its_place = stat(one, "f").number
    assert in_its_place != number
    one.rename("f", "g")
    assert stat(one, "g").number == in_its_place, "what is renamed keeps its number"
    other.write("f", "f lives on")
    exchange_all([one, other])
    assert one.show() == {"t": "t lives on", "f": "f lives on", "g": "t"}
    assert stat(one, "f").number == in_its_place, "it was its first"
    for replica in (one, other):
        check_against_oracle(replica)
        assert len({stat(replica, name).number for name in ("t", "f", "g")}) == 3
    one.unlink("f")
    assert stat(one, "g").number == in_its_place, "nobody else shows it"
    check_against_oracle(one)


def test_a_save_outranks_what_it_replaces_whatever_the_clocks_say(one: Replica) -> None:
    ahead = Replica(one.world, "ahead", skew_ns=3 * FOLLOW_NS_MAX)
    one.make("f", "base")
    exchange_all([one, ahead])
    base = stat(ahead, "f").version
    assert base is not None
    for content in ("aside", "shown"):
        with ahead.group() as group:
            stamp = ahead.tree.tick()
            group.write(ahead.entry("f").inode, content_of(content, stamp), replaces=[base.dot], stamp=stamp)
    exchange_all([one, ahead])
    one.write("f", "saved")
    assert one.show()["f"] == "saved", "and not the older version that stands aside"


def test_a_file_that_came_back_and_is_renamed_does_not_bring_back_what_was_removed(one: Replica) -> None:
    other = Replica(one.world, "other")
    one.make("f", "base")
    exchange_all([one, other])
    one.write("f", "one")
    other.write("f", "two")
    third = Replica(one.world, "third")
    exchange_all([one, third])
    one.unlink("f")
    exchange_all([one, other])
    assert one.show() == {"f": "two"}
    one.rename("f", "g")
    assert one.show() == {"g": "two"}
    exchange_all([one, other, third])
    assert third.show() == {"g": "two"}


def test_what_is_moved_below_a_displaced_directory_stays_where_it_was_moved(one: Replica) -> None:
    other = Replica(one.world, "other")
    for path in ("x", "x/p", "y", "y/q", "y/q/deep"):
        one.mkdir(path)
    exchange_all([one, other])
    one.rename("x", "y/q/x")
    other.rename("y/q", "x/p/q")
    other.rename("y", "x/p/q/y")
    exchange_all([one, other])
    found = "lost+found/q"
    assert f"{found}/x/p" in one.show()
    one.rename(f"{found}/x/p", f"{found}/deep/p")
    assert f"{found}/deep/p" in one.show()
    assert f"{found}/x" in one.show()
    exchange_all([one, other])
    check_against_oracle(other)


def test_conflict_names_of_a_merged_directory_follow_every_member(one: Replica) -> None:
    """`third` knows one member only: its file and that in the other meet in the merged directory."""
    other, third = Replica(one.world, "other"), Replica(one.world, "third")
    one.mkdir("d")
    one.make("d/h", "first")
    other.mkdir("d")
    other.make("d/k", "other")
    exchange_all([other, third])
    exchange_all([one, other])
    assert one.show() == {"d": "/", "d/h": "first", "d/k": "other"}
    third.make("d/h", "second")
    one.receive(third.log[-1:])
    assert sorted(one.show().values()) == ["/", "first", "other", "second"]
    check_against_oracle(one)
    third.unlink("d/h")
    one.receive(third.log[-1:])
    assert one.show() == {"d": "/", "d/h": "first", "d/k": "other"}
    check_against_oracle(one)


def test_conflict_entries_of_one_second_keep_their_numbers_when_others_go(one: Replica) -> None:
    """Whoever removes them one after the other from a listing removes those that were listed."""
    one.make("f", "base")
    base = stat(one, "f").version
    assert base is not None
    for count in range(6):
        with one.group() as group:
            stamp = one.tree.tick()
            group.write(
                one.entry("f").inode, content_of(f"c{count}", stamp), replaces=[base.dot], stamp=stamp
            )
    listed = {path: what for path, what in one.show().items() if "(conflict, " in path}
    assert len(listed) == 5
    for path in sorted(listed):
        assert one.show()[path] == listed.pop(path)
        one.unlink(path)
        assert {p: w for p, w in one.show().items() if p in listed} == listed
        check_against_oracle(one)
    assert one.show() == {"f": "c5"}


@pytest.mark.parametrize("how", ["unlink", "rename"])
def test_a_name_that_a_conflict_entry_brought_back_stays_when_that_entry_goes(one: Replica, how: str) -> None:
    """`one` removes what it knows; the entry it does not know, ranked below, brings the name back."""
    late = Replica(one.world, "late", skew_ns=-FOLLOW_NS_MAX)
    one.make("f", "base")
    exchange_all([one, late])
    base = stat(one, "f").version
    assert base is not None
    for writer, contents in ((one, ("kept", "removed")), (late, ("late",))):
        for content in contents:
            with writer.group() as group:
                stamp = writer.tree.tick()
                inode = writer.entry("f").inode
                group.write(inode, content_of(content, stamp), replaces=[base.dot], stamp=stamp)
    one.unlink("f")
    assert list(one.show().values()) == ["kept"]
    exchange_all([one, late])
    (aside,) = (path for path in one.show() if "(conflict, " in path)
    assert one.show() == {"f": "kept", aside: "late"}
    if how == "unlink":
        one.unlink(aside)
        assert one.show() == {"f": "kept"}
    else:
        one.rename(aside, "g")
        assert one.show() == {"f": "kept", "g": "late"}
    exchange_all([one, late])
    assert late.show() == one.show()
    check_against_oracle(late)


def test_a_conflict_entry_replaces_the_file_that_its_own_file_is_hidden_behind(one: Replica) -> None:
    other = Replica(one.world, "other")
    one.make("a", "same")
    other.make("a", "base")
    base = stat(other, "a").version
    assert base is not None
    for content in ("aside", "same"):
        with other.group() as group:
            stamp = other.tree.tick()
            group.write(other.entry("a").inode, content_of(content, stamp), replaces=[base.dot], stamp=stamp)
    exchange_all([one, other])
    (aside,) = (path for path in one.show() if "(conflict, " in path)
    assert one.show() == {"a": "same", aside: "aside"}
    one.rename(aside, "a")
    assert one.show() == {"a": "aside"}
    check_against_oracle(one)


def test_conflict_entries_that_follow_a_file_to_its_other_name_take_no_name_that_this_is_shown_under(
    one: Replica,
) -> None:
    other = Replica(one.world, "device")
    one.make("b", "base")
    exchange_all([one, other])
    other.make("a", "other")
    base = stat(one, "b").version
    assert base is not None
    for content in ("aside", "shown"):
        with one.group() as group:
            stamp = one.tree.tick()
            group.write(one.entry("b").inode, content_of(content, stamp), replaces=[base.dot], stamp=stamp)
    one.link("b", "a")
    exchange_all([one, other])
    before = one.show()
    assert sorted(before.values()) == ["aside", "other", "shown", "shown"]
    one.unlink("b")
    after = one.show()
    assert {path: after[path] for path in after if path in before} == {
        path: before[path] for path in before if path in after
    }
    assert sorted(after.values()) == ["aside", "other", "shown"]
    check_against_oracle(one)


@pytest.mark.parametrize("is_reached", [False, True], ids=["another's", "of the same writer"])
def test_what_another_file_has_by_a_save_goes_with_the_last_name_and_its_neighbours_keep_theirs(
    one: Replica, *, is_reached: bool
) -> None:
    names = (f"other {count}" for count in range(1_000))
    other = next(made for made in (Replica(one.world, name) for name in names) if made.slot[0] == one.slot[0])
    one.make("a", "base")
    one.make("b", "replaced")
    exchange_all([one, other])
    base = stat(one, "a").version
    assert base is not None
    (one if is_reached else other).write("a", "saved")
    exchange_all([one, other])
    other.rename("a", "b")
    for content in ("aside", "shown"):
        with one.group() as group:
            stamp = one.tree.tick()
            group.write(one.entry("a").inode, content_of(content, stamp), replaces=[base.dot], stamp=stamp)
    one.link("a", "c")
    exchange_all([one, other])
    before = one.show()
    assert sorted(before.values()) == ["aside", "saved", "saved", "shown"]
    one.unlink("c")
    after = one.show()
    assert sorted(after.values()) == ["aside", "saved"]
    assert {path: before[path] for path in after} == after
    check_against_oracle(one)
