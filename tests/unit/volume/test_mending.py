"""A document of the tree whose stored form is damaged: whole again without a loss, or awaited and said."""

from contextlib import suppress

import pytest

from dittofs.errors import Behind, ReadOnlyVolume
from dittofs.journal.damage import IndexDamaged
from dittofs.tree.brake import Limits
from dittofs.tree.record import DOCUMENTS, META_SHARD
from dittofs.volume.mending import DocumentMended
from tests.simulation.replica_rig import ReplicaRig, pull

pytestmark = pytest.mark.logs_warning("a document", "the index")
NUMBER = 7


def meet(*rigs: ReplicaRig) -> None:
    for _ in range(3):
        for a in rigs:
            for b in rigs:
                if a is not b:
                    with suppress(Behind):  # a session begins another round
                        pull(a, b)
    assert len({rig.replica.root_digest() for rig in rigs}) == 1
    assert all(rig.show() == rigs[0].show() for rig in rigs)
    assert all(rig.settings() == rigs[0].settings() for rig in rigs)


def fill(rig: ReplicaRig) -> None:
    """Files in one document, whose snapshot has something after it in the log."""
    for count in range(5):
        rig.make(f"f{count}", b"first", inode=rig.inode_in(NUMBER))
    epoch, blob = rig.tree.snapshot(NUMBER)
    with rig.replica.journal.transaction():
        rig.replica.journal.put_snapshot(NUMBER, epoch, blob)
    rig.make("later", b"only in the log", inode=rig.inode_in(NUMBER))
    rig.write("f0", b"second")
    rig.unlink("f1")


def spoil(rig: ReplicaRig, number: int = NUMBER, table: str = "snapshot", *, restart: bool = True) -> None:
    """Behind the back of whoever has it open."""
    column = "blob" if table == "snapshot" else '"update"'
    with rig.replica.journal.transaction():
        rig.replica.journal._database.statements.run(
            "test", f"UPDATE {table} SET {column}=zeroblob(length({column})) WHERE shard={number}"
        )
    rig.tree.unload()
    if restart:
        rig.restart()


@pytest.mark.parametrize("table", ["snapshot", "log"])
@pytest.mark.parametrize("restart", [True, False])
def test_a_damaged_document_is_made_anew_from_the_index_and_nothing_is_lost(
    one: ReplicaRig, other: ReplicaRig, table: str, restart: bool
) -> None:
    fill(one)
    shown, records = one.show(), one.records()
    spoil(one, table=table, restart=restart)
    one.write("f2", b"third")
    assert one.show() == {**shown, "f2": b"third"}
    assert one.tree.compare(NUMBER).differing == ()
    assert {key: one.records()[key] for key in records if "f2" not in key}.keys() == records.keys()
    assert not one.replica.documents.awaited
    (damage,) = one.replica.journal.damage
    assert damage.shard == NUMBER
    other.make("f9", b"of the other", inode=other.inode_in(NUMBER))
    meet(one, other)
    assert other.show() == {**shown, "f2": b"third", "f9": b"of the other"}
    one.restart()
    assert one.show() == other.show()


def test_what_others_ask_for_and_give_meets_a_damaged_document_and_mends_it(
    one: ReplicaRig, other: ReplicaRig
) -> None:
    fill(one)
    spoil(one, restart=False)
    meet(other, one)  # the other asks first
    fill_again = other.make("new", b"x", inode=other.inode_in(NUMBER))
    spoil(one, restart=False)
    assert fill_again.updates
    meet(one, other)
    assert one.show()["new"] == b"x"


def test_damaged_settings_are_made_anew_from_the_index(one: ReplicaRig, other: ReplicaRig) -> None:
    one.set("copies", b"3")
    epoch, blob = one.tree.snapshot(META_SHARD)
    with one.replica.journal.transaction():
        one.replica.journal.put_snapshot(META_SHARD, epoch, blob)
    spoil(one, META_SHARD)
    one.set("policy", b"x")
    meet(one, other)
    assert other.settings() == {"copies": b"3", "policy": b"x"}


def test_what_only_the_damaged_device_knew_reaches_the_others(one: ReplicaRig, other: ReplicaRig) -> None:
    fill(one)
    meet(one, other)
    one.write("f3", b"nobody heard of this")
    spoil(one)
    meet(one, other)
    assert other.show()["f3"] == b"nobody heard of this"


def test_a_device_that_may_only_read_shows_all_and_has_the_document_from_another(
    one: ReplicaRig, other: ReplicaRig
) -> None:
    fill(one)
    meet(one, other)
    other.replica.refused = "it may only read"
    epoch, blob = other.tree.snapshot(NUMBER)
    with other.replica.journal.transaction():
        other.replica.journal.put_snapshot(NUMBER, epoch, blob)
    shown = other.show()
    spoil(other, restart=False)
    one.write("f4", b"changed meanwhile")
    meet(other, one)
    assert other.show() == {**shown, "f4": b"changed meanwhile"}
    assert not other.replica.documents.awaited


def test_without_an_index_nothing_is_changed_until_another_device_gave_the_document(
    one: ReplicaRig, other: ReplicaRig
) -> None:
    fill(one)
    meet(one, other)
    shown, slot = one.show(), one.slot
    with one.replica.journal.transaction():
        one.replica.journal.mark_index(partial=True)
    spoil(one)
    assert NUMBER in one.replica.documents.awaited
    assert "document 7" in str(one.replica.not_allowed)
    with pytest.raises(ReadOnlyVolume):
        one.make("f5", b"x")
    assert one.slot != slot
    before = one.slot
    one.restart()
    assert NUMBER in one.replica.documents.awaited, "it is known after a restart"
    assert one.slot not in {slot, before}
    pull(one, other)
    assert not one.replica.documents.awaited
    assert one.show() == shown == other.show()
    one.make("f5", b"x", inode=one.inode_in(NUMBER))
    meet(one, other)


def test_a_broken_log_without_an_index_keeps_what_is_before_it(one: ReplicaRig) -> None:
    one.sign()
    fill(one)
    with one.replica.journal.transaction():
        one.replica.journal.mark_index(partial=True)
    spoil(one, table="log")
    assert one.show() == {f"f{count}": b"first" for count in range(5)}
    assert "log of shard 7" in one.replica.documents.awaited[NUMBER]
    (lost,) = one.replica.documents.give_up()
    assert "log of shard 7" in lost
    one.write("f1", b"goes on")
    one.restart()
    assert one.show()["f1"] == b"goes on"


def test_of_what_is_held_the_document_has_what_others_did_and_it_is_shown_as_it_was() -> None:
    one, other = ReplicaRig("one", seed=1), ReplicaRig("other", seed=2)
    one.tree.brake.limits = Limits(files_min=3)
    for count in range(12):
        other.make(f"f{count}", b"x", inode=other.inode_in(NUMBER))
    meet(one, other)
    shown = one.show()
    for count in range(12):
        other.unlink(f"f{count}")
    pull(one, other)
    assert one.show() == shown
    records = one.records()
    epoch, blob = one.tree.snapshot(NUMBER)
    with one.replica.journal.transaction():
        one.replica.journal.put_snapshot(NUMBER, epoch, blob)
    spoil(one, restart=False)
    one.make("g", b"y", inode=one.inode_in(NUMBER))
    assert one.show() == {**shown, "g": b"y"}
    assert {key: one.records()[key] for key in records} == records


def test_a_device_that_lost_a_document_while_it_is_open_writes_on_as_another(
    one: ReplicaRig, other: ReplicaRig
) -> None:
    fill(one)
    meet(one, other)
    slot = one.slot
    spoil(one, restart=False)
    with one.replica.journal.transaction():
        one.replica.journal.mark_index(partial=True)
    one.replica.rebuild_index()
    assert NUMBER in one.replica.documents.awaited
    assert one.slot != slot, "nobody knows how much the one before wrote there"
    pull(one, other)
    one.make("f5", b"x", inode=one.inode_in(NUMBER))
    meet(one, other)
    assert other.show()["f5"] == b"x"


def test_an_index_that_stays_damaged_is_made_anew_once_and_named(one: ReplicaRig) -> None:
    tries: list[None] = []

    def meet_damage() -> None:
        tries.append(None)
        raise IndexDamaged("index", "again and again")

    with pytest.raises(IndexDamaged):
        one.replica.mended(meet_damage)
    assert len(tries) == 2


def test_every_document_may_be_mended_on_the_way_of_one_question(one: ReplicaRig) -> None:
    left = [IndexDamaged("index", "once"), *(DocumentMended("a document", "whole") for _ in range(DOCUMENTS))]

    def meet_damage() -> str:
        if left:
            raise left.pop()
        return "answer"

    assert one.replica.mended(meet_damage) == "answer"
