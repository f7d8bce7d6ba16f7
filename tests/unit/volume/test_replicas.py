"""Replicas of one volume that hear of each other: groups, rounds, digests, what is refused."""

import pytest
from blake3 import blake3

from dittofs.errors import Behind, FormatError
from dittofs.tree.entry import Change
from dittofs.tree.record import DOCUMENTS, shard_of
from dittofs.tree.shard import FIRST_EPOCH, Epoch
from dittofs.tree.states import Difference
from dittofs.volume.replica import LOGGED_BYTES_MAX
from tests.simulation.replica_rig import ReplicaRig, parts_for, pull

VIA = b"v" * 32


def test_a_group_is_shown_logged_and_in_the_history_of_whoever_receives_it(
    one: ReplicaRig, other: ReplicaRig
) -> None:
    change = one.make("f", b"x")
    heard: list[Change] = []
    other.replica.listeners.append(heard.append)
    assert other.replica.receive(change.updates, VIA)
    assert other.show() == {"f": b"x"}
    assert [(one.via, one.is_round, one.updates) for one in heard] == [(VIA, False, list(change.updates))]
    assert [row.kind for row in other.replica.journal.history.before()] == ["content", "create"]
    other.restart()
    assert other.show() == {"f": b"x"}
    assert other.replica.root_digest() == one.replica.root_digest()


def test_what_is_known_is_passed_over_without_a_trace(one: ReplicaRig, other: ReplicaRig) -> None:
    first, second = one.make("f", b"x"), one.make("g", b"y")
    assert other.replica.receive(first.updates, VIA)
    heard: list[Change] = []
    other.replica.listeners.append(heard.append)
    assert not other.replica.receive(first.updates, VIA)
    assert heard == []
    assert other.replica.receive([*first.updates, *second.updates], VIA)
    assert [change.updates for change in heard] == [list(second.updates)]


def test_several_updates_of_one_document_in_a_group_continue_each_other(
    one: ReplicaRig, other: ReplicaRig
) -> None:
    inode = one.inode()
    updates = [
        *one.make("f", b"x", inode=inode).updates,
        *one.write("f", b"y").updates,
        *one.write("f", b"z").updates,
    ]
    assert len({number for number, _, _ in updates}) == 1
    assert other.replica.receive(updates, VIA)
    assert other.show() == {"f": b"z"}


def test_a_gap_is_behind_and_changes_nothing_until_a_round_mends_it(
    one: ReplicaRig, other: ReplicaRig
) -> None:
    inode = one.inode()
    one.make("f", b"x", inode=inode)
    later = one.write("f", b"y")
    before = other.dump()
    with pytest.raises(Behind):
        other.replica.receive(later.updates, VIA)
    assert other.dump() == before
    assert pull(other, one)
    assert other.show() == {"f": b"y"}
    assert not other.replica.receive(later.updates, VIA)


def test_another_epoch_is_behind(one: ReplicaRig, other: ReplicaRig) -> None:
    ((number, _, update),) = one.make("f", b"x").updates
    with pytest.raises(Behind):
        other.replica.receive([(number, Epoch(1, bytes(32)), update)], VIA)
    with pytest.raises(Behind):
        other.replica.receive_round([Difference(number, Epoch(1, bytes(32)), update, False)], VIA)
    assert other.show() == {}


def test_one_bad_update_spoils_its_group_and_nothing_else(one: ReplicaRig, other: ReplicaRig) -> None:
    good, spoilt = one.make("f", b"x"), one.make("g", b"y")
    ((number, epoch, update),) = spoilt.updates
    before = other.dump()
    loaded = other.replica.tree.loaded_shards()
    for bad in (update[:-1], update.replace(b"\xc4\x01g", b"\xc4\x01/"), b"", bytes(100)):
        with pytest.raises(FormatError) as caught:
            other.replica.receive([*good.updates, (number, epoch, bad)], VIA)
        assert not isinstance(caught.value, Behind)
    assert other.dump() == before
    assert other.replica.read_only is None
    assert set(loaded) <= set(other.replica.tree.loaded_shards()), "nothing was unloaded"
    assert other.replica.receive([*good.updates, *spoilt.updates], VIA)


def test_a_record_cannot_be_deleted_without_another_value(one: ReplicaRig, other: ReplicaRig) -> None:
    change = one.make("f", b"x")
    other.replica.receive(change.updates, VIA)
    ((number, epoch, _),) = change.updates
    thief = one.shard_as(number, 77)
    update = thief.write({f"{one.inode_in(number)}:{thief.slot}": one.record()}, list(thief.entries()))
    with pytest.raises(FormatError, match="leaves nothing"):
        other.replica.receive([(number, epoch, update)], VIA)
    assert other.show() == {"f": b"x"}


def test_nobody_adds_to_what_compaction_wrote(other: ReplicaRig, one: ReplicaRig) -> None:
    ((number, epoch, _),) = one.make("f", b"x").updates
    genesis = one.shard_as(number, 1, empty=True)
    update = genesis.write({f"{one.inode_in(number)}:g": one.record()}, ())
    with pytest.raises(FormatError, match="compaction"):
        other.replica.receive([(number, epoch, update)], VIA)


def test_digests_tell_which_documents_differ_without_loading_any(one: ReplicaRig, other: ReplicaRig) -> None:
    assert one.replica.root_digest() == other.replica.root_digest()
    change = one.make("f", b"x")
    other.restart()
    one.restart()
    changed = {number for number, _, _ in change.updates}
    assert one.replica.root_digest() != other.replica.root_digest()
    pairs = zip(one.replica.digests(), other.replica.digests(), strict=True)
    assert {number for number, (a, b) in enumerate(pairs) if a != b} == changed
    assert len(one.replica.states()) == DOCUMENTS
    assert all(len(digest) == 8 for digest in one.replica.digests())
    assert one.replica.tree.loaded_shards() == []


def test_digests_are_these_bytes(one: ReplicaRig) -> None:
    assert (
        one.replica.digests()[7]
        == blake3(b"dittofs/1 state\0" + bytes([0, 7]) + bytes(9) + b"\0").digest()[:8]
    )


def test_states_outlive_a_restart_and_an_index_made_anew(one: ReplicaRig) -> None:
    for count in range(20):
        one.make(f"f{count}", b"x")
    one.set("copies", b"2")
    states, root = one.replica.states(), one.replica.root_digest()
    one.restart()
    assert (one.replica.states(), one.replica.root_digest()) == (states, root)
    one.replica.renew_index()
    assert (one.replica.states(), one.replica.root_digest()) == (states, root)
    assert one.settings() == {"copies": b"2"}


def test_an_index_of_an_earlier_format_is_made_anew(one: ReplicaRig) -> None:
    one.make("f", b"x")
    root = one.replica.root_digest()
    with one.replica.journal.transaction():
        for key, _ in list(one.replica.journal.scan("state", b"")):
            one.replica.journal.delete("state", key)
        one.replica.journal.put_meta("index format", b"1")
    one.restart()
    assert one.replica.root_digest() == root


def test_a_difference_is_what_they_lack(one: ReplicaRig, other: ReplicaRig) -> None:
    ((number, _, _),) = one.make("f", b"x").updates
    theirs = other.replica.states()[number]
    difference = one.replica.difference(number, theirs)
    assert difference is not None
    assert (difference.document, difference.epoch, difference.is_whole) == (number, FIRST_EPOCH, False)
    assert other.replica.difference(number, one.replica.states()[number]) is None
    assert one.replica.difference(number, one.replica.states()[number]) is None
    with pytest.raises(FormatError):
        one.replica.difference(number, theirs._replace(vector=b"\1"))
    assert one.replica.receive_round([], VIA) is False
    assert other.replica.receive_round([difference], VIA) is True
    assert other.replica.receive_round([difference], VIA) is False


def test_a_round_is_one_step_and_says_so(one: ReplicaRig, other: ReplicaRig) -> None:
    for count in range(20):
        one.make(f"f{count}", b"x")
    heard: list[Change] = []
    other.replica.listeners.append(heard.append)
    assert pull(other, one)
    assert [change.is_round for change in heard] == [True]
    assert len(heard[0].names) == 20
    assert other.show() == one.show()
    assert other.replica.digests() == one.replica.digests()


def test_of_a_long_part_of_a_round_the_document_is_kept_whole(one: ReplicaRig, other: ReplicaRig) -> None:
    inode = one.inode()
    number = shard_of(inode)
    journal = other.replica.journal
    one.make("f", b"x", inode=inode)
    assert pull(other, one)
    assert journal.log_bytes(number) > 0, "a short part is logged"
    for count in range(20):
        one.make(f"g{count}", bytes(400), inode=one.inode_in(number))
    assert max(len(part.update) for part in parts_for(other, one)) > LOGGED_BYTES_MAX
    assert pull(other, one)
    assert journal.log_bytes(number) == 0
    late = one.write("f", b"late")
    assert other.replica.receive(late.updates, VIA)
    assert journal.log_bytes(number) == len(late.updates[0][2])
    shown, digest = other.show(), other.replica.root_digest()
    assert digest == one.replica.root_digest()
    other.restart()
    assert other.show() == shown == one.show()
    assert other.replica.root_digest() == digest


def test_a_round_made_against_what_we_were_passes_over_what_came_meanwhile(
    one: ReplicaRig, other: ReplicaRig
) -> None:
    inode = one.inode()
    changes = [one.make("f", b"x", inode=inode), one.write("f", b"y")]
    parts = parts_for(other, one)
    for change in changes:
        other.replica.receive(change.updates, VIA)
    mine = other.write("f", b"z")
    assert not other.replica.receive_round(parts, VIA)
    assert other.show() == {"f": b"z"}
    assert one.replica.receive(mine.updates, VIA)
    assert one.show() == {"f": b"z"}


def test_the_latest_setting_wins_everywhere(one: ReplicaRig, other: ReplicaRig) -> None:
    one.set("copies", b"2")
    other.clock.advance(10)
    other.set("copies", b"3")
    one.set("volume/label", b"home")
    pull(one, other)
    pull(other, one)
    assert one.settings() == {"copies": b"3", "volume/label": b"home"}
    assert other.settings() == one.settings()
    one.set("copies", b"1")  # later, whatever this clock says
    pull(other, one)
    assert other.settings()["copies"] == b"1"
    one.set("copies", None)
    pull(other, one)
    assert other.settings() == {"volume/label": b"home"}


def test_the_clock_goes_on_from_its_own_stamps_and_not_from_anothers_future(
    one: ReplicaRig, other: ReplicaRig
) -> None:
    one.clock.advance(30 * 86_400)
    other.replica.receive(one.make("f", b"x").updates, VIA)
    other.make("g", b"y")
    greatest = other.replica.tree.clock.greatest
    other.restart()
    assert other.replica.tree.clock.greatest == greatest
    assert other.replica.tree.tick() < other.clock.now_ns() + 3_700 * 10**9
