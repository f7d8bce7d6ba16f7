"""Fresh epochs of replicas: compaction, adoption, copies of one device."""

import pytest

from dittofs.errors import Behind
from dittofs.tree.entry import Change
from dittofs.tree.shard import GARBAGE_ITEMS_MIN
from dittofs.tree.states import Difference
from tests.simulation.replica_rig import ReplicaRig, parts_for, pull

VIA = b"v" * 32


def meet(*rigs: ReplicaRig) -> None:
    """Rounds until all know everything."""
    for _ in range(4):
        for a in rigs:
            for b in rigs:
                if a is not b:
                    try:
                        pull(a, b)
                    except Behind:
                        continue
    assert len({rig.replica.root_digest() for rig in rigs}) == 1
    assert all(rig.show() == rigs[0].show() for rig in rigs)


def documents_of(change: Change) -> set[int]:
    return {number for number, _, _ in change.updates}


def test_garbage_begins_a_fresh_epoch_that_peers_are_told_to_pull(one: ReplicaRig, other: ReplicaRig) -> None:
    (number,) = documents_of(one.make("f", b"x", inode=one.inode_in(7)))
    one.make("g", b"x", inode=one.inode_in(7))
    for count in range(GARBAGE_ITEMS_MIN // 2 - 10):
        one.write("f", b"%d" % count)
        one.write("g", b"%d" % count)
    assert not one.replica.compact_if_due(number)
    for count in range(150):
        one.write("f", b"more %d" % count)
        one.write("g", b"more %d" % count)
    meet(one, other)
    heard: list[Change] = []
    one.replica.listeners.append(heard.append)
    assert one.replica.compact_if_due(number)
    assert [(change.is_round, change.updates) for change in heard] == [(True, ())]
    assert one.replica.states()[number].epoch.number == 1
    assert not one.replica.compact_if_due(number)
    shown = one.show()
    one.restart()
    assert one.show() == shown
    meet(one, other)
    assert other.replica.states()[number].epoch.number == 1


def test_whoever_is_behind_an_epoch_adopts_it_and_keeps_its_own(one: ReplicaRig, other: ReplicaRig) -> None:
    (number,) = documents_of(one.make("f", b"x", inode=one.inode_in(7)))
    meet(one, other)
    other.write("f", b"mine")
    other.make("g", b"other", inode=one.inode_in(7))
    one.write("f", b"theirs")
    one.compact(number)
    parts = parts_for(other, one)
    assert [part.is_whole for part in parts] == [True]
    heard: list[Change] = []
    other.replica.listeners.append(heard.append)
    assert other.replica.receive_round(parts, VIA)
    assert heard[0].is_round
    assert sorted(other.show().values()) == [b"mine", b"other", b"theirs"]
    shown = other.show()
    other.restart()
    assert other.show() == shown
    meet(one, other)
    assert one.show() == shown


@pytest.mark.parametrize("compacts", ["before all", "before the second", "before the third", "never"])
def test_the_parts_of_one_document_in_a_round_continue_each_other(
    one: ReplicaRig, other: ReplicaRig, compacts: str
) -> None:
    (number,) = documents_of(one.make("f", b"x", inode=one.inode_in(7)))
    meet(one, other)
    known = other.replica.states()[number]
    other.write("f", b"mine")
    parts: list[Difference] = []
    for when in ("before all", "before the second", "before the third"):
        if when == compacts:
            one.compact(number)
        one.write("f", when.encode())
        part = one.replica.difference(number, known)
        assert part is not None
        parts.append(part)
        known = one.replica.states()[number]
    assert other.replica.receive_round(parts, VIA)
    assert sorted(other.show().values()) == [b"before the third", b"mine"]
    shown = other.show()
    other.restart()
    assert other.show() == shown
    meet(one, other)
    assert one.show() == shown


def test_equal_content_compacts_to_equal_states(one: ReplicaRig, other: ReplicaRig) -> None:
    (number,) = documents_of(one.make("f", b"x"))
    meet(one, other)
    one.compact(number)
    other.compact(number)
    assert one.replica.root_digest() == other.replica.root_digest()


def test_of_two_epochs_made_apart_the_higher_is_adopted_by_both(one: ReplicaRig, other: ReplicaRig) -> None:
    (number,) = documents_of(one.make("f", b"x"))
    meet(one, other)
    one.write("f", b"one")
    other.write("f", b"other")
    one.compact(number)
    other.compact(number)
    meet(one, other)
    assert sorted(one.show().values()) == [b"one", b"other"]


def test_what_was_removed_stays_removed_however_old_the_replica_that_comes_back(
    one: ReplicaRig, other: ReplicaRig
) -> None:
    (number,) = documents_of(one.make("f", b"x"))
    meet(one, other)
    one.unlink("f")
    for _ in range(3):
        one.compact(number)
    meet(one, other)
    assert one.show() == {}


def test_a_group_of_an_epoch_that_was_left_is_behind_and_not_lost(one: ReplicaRig, other: ReplicaRig) -> None:
    (number,) = documents_of(one.make("f", b"x"))
    meet(one, other)
    other.compact(number)
    change = one.write("f", b"y")
    with pytest.raises(Behind):
        other.replica.receive(change.updates, VIA)
    assert [part.is_whole for part in parts_for(other, one)] == [True], "of the lower epoch"
    assert pull(other, one)
    assert other.show() == {"f": b"y"}
    meet(one, other)
    assert one.show() == {"f": b"y"}


def test_what_is_said_after_a_change_is_not_known_before_it_whoever_compacted(
    one: ReplicaRig, other: ReplicaRig
) -> None:
    """An answer to a round of garbage is such a word: what it covers is swept."""
    (number,) = documents_of(one.make("f", b"x", inode=one.inode_in(7)))
    one.make("g", b"x", inode=one.inode_in(7))
    meet(one, other)
    other.compact(number)
    one.write("f", b"changed")
    one.unlink("g")
    one.make("h", b"made", inode=one.inode_in(7))
    one.set("said/after", b"it")
    assert pull(other, one)
    assert other.settings() == {"said/after": b"it"}
    assert other.show() == one.show() == {"f": b"changed", "h": b"made"}
    assert len({effect.inode for effect in other.changes[-1].effects}) == 3
    shown = other.show()
    other.restart()
    assert other.show() == shown
    meet(one, other)
    assert one.show() == shown


def test_of_an_epoch_that_was_left_only_what_is_not_known_is_asked_for(
    one: ReplicaRig, other: ReplicaRig
) -> None:
    (number,) = documents_of(one.make("f", b"x"))
    meet(one, other)
    other.compact(number)
    assert parts_for(other, one) == []
    one.write("f", b"y")
    assert pull(other, one)
    assert parts_for(other, one) == []
    other.restart()  # it does not remember what of that epoch it knows: it is told once more
    assert [part.document for part in parts_for(other, one)] == [number]
    assert not pull(other, one)
    assert parts_for(other, one) == []


def test_the_rest_of_an_epoch_that_was_left_while_a_round_was_given_is_asked_for_again(
    one: ReplicaRig, other: ReplicaRig
) -> None:
    (number,) = documents_of(one.make("f", b"x"))
    meet(one, other)
    one.write("f", b"y")
    parts = parts_for(other, one)
    other.compact(number)
    with pytest.raises(Behind):
        other.replica.receive_round(parts, VIA)
    assert other.show() == {"f": b"x"}
    assert pull(other, one)
    assert other.show() == {"f": b"y"}


def test_a_reader_takes_nothing_of_a_lower_epoch_that_it_would_have_to_write(
    one: ReplicaRig, other: ReplicaRig
) -> None:
    (number,) = documents_of(one.make("f", b"x"))
    meet(one, other)
    other.compact(number)
    one.write("f", b"y")
    other.replica.refused = "it may only read"
    assert not pull(other, one)
    assert other.show() == {"f": b"x"}
    other.replica.refused = None
    assert pull(other, one)
    assert other.show() == {"f": b"y"}


def copied(rig: ReplicaRig) -> ReplicaRig:
    """The device as it lies on its disk, twice; both go on as the same writer."""
    rig.close()
    copy = ReplicaRig(rig.label, seed=9, disk=rig.disk.fork(), boot=rig.boot)
    rig.open()
    assert rig.slot == copy.slot
    return copy


@pytest.mark.logs_warning("another copy of this device")
@pytest.mark.parametrize("is_through_a_third", [False, True], ids=["directly", "through a third"])
def test_two_copies_of_a_device_join_without_loss(
    one: ReplicaRig, other: ReplicaRig, *, is_through_a_third: bool
) -> None:
    one.make("f", b"common")
    one.make("removed", b"gone")
    one.unlink("removed")
    meet(one, other)
    copy = copied(one)
    one.write("f", b"one")
    one.make("mine", b"m1", inode=one.inode_in(3))
    copy.make("theirs", b"t1", inode=one.inode_in(3))
    copy.make("more", b"t2", inode=one.inode_in(3))
    copy.write("f", b"copy")
    copy.write("f", b"copy again")
    if is_through_a_third:
        pull(other, one)
        pull(other, copy)
        pull(copy, other)
    meet(one, other, copy)
    contents = set(one.show().values())
    assert {b"one", b"copy again", b"m1", b"t1", b"t2"} <= contents
    assert b"gone" not in contents
    assert one.slot != copy.slot
    shown = one.show()
    one.restart()
    assert one.show() == shown


@pytest.mark.logs_warning("another copy of this device")
def test_who_knows_more_of_a_writer_than_it_wrote_shows_a_fork(one: ReplicaRig) -> None:
    one.make("f", b"x")
    copy = copied(one)
    assert not one.replica.is_fork(enumerate(copy.replica.states()))
    change = copy.make("g", b"y")
    assert one.replica.is_fork(enumerate(copy.replica.states()))
    assert not copy.replica.is_fork(enumerate(one.replica.states()))
    slot = one.slot
    with pytest.raises(Behind):
        one.replica.receive(change.updates, VIA)
    assert one.slot != slot
    meet(one, copy)
    assert one.show() == {"f": b"x", "g": b"y"}


def test_a_reader_waits_with_a_fresh_epoch_until_writers_have_put_into_it_what_it_knows(
    one: ReplicaRig, other: ReplicaRig
) -> None:
    reader = ReplicaRig("reader", seed=9)
    reader.replica.refused = "it may only read"
    meet(one, other)
    other.make("heard from the other", b"x")
    pull(reader, other)
    for number in range(256):
        one.compact(number)
    before = reader.replica.states()
    pull(reader, one)
    assert reader.show() == other.show()
    assert not any(change.updates and not change.via for change in reader.changes)
    meet(one, other)
    pull(reader, one)
    assert reader.show() == one.show() == other.show()
    assert reader.replica.root_digest() == one.replica.root_digest()
    assert before != reader.replica.states()
