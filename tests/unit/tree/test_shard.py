"""A shard: reading, writing, taking in updates, garbage and compaction."""

import time
import tracemalloc
from collections.abc import Mapping

import pytest
from blake3 import blake3

from dittofs.errors import FormatError
from dittofs.ids import Slot
from dittofs.tree.shard import FIRST_EPOCH, GARBAGE_ITEMS_MIN, Epoch, Shard
from dittofs.tree.update import (
    LIVE,
    RECORD_BYTES_MAX,
    STATE,
    DecodedUpdate,
    Deletion,
    Write,
    decode,
    encode_state_vector,
)
from tests.unit.tree.documents import content, document

ALICE, BOB = 0x010203040506, 0x0A0B0C0D0E0F
A, B = "AQIDBAUG", "CgsMDQ4P"
FILE, OTHER, LINK = "AAECAwQFBgcICQoL", "_____AAAAAAAAAAA", "AAECAwQFBgcICQoL.link"


def fresh(client_id: int) -> Shard:
    return Shard.load(FIRST_EPOCH, None, (), client_id)


def carry(update: bytes, receiver: Shard) -> dict[str, bytes | None]:
    return receiver.apply(decode(update, receiver.known))


def exchange(giver: Shard, receiver: Shard) -> dict[str, bytes | None]:
    difference = giver.diff(receiver.state_vector())
    return receiver.apply(decode(difference, receiver.known, limits=STATE))


def newest(_record: str, slots: Mapping[Slot, bytes]) -> bytes | None:
    return max(slots.values())


def test_what_one_writes_the_other_reads() -> None:
    alice, bob = fresh(ALICE), fresh(BOB)
    update = alice.write({f"{FILE}:{A}": b"one"}, ())
    assert carry(update, bob) == {f"{FILE}:{A}": b"one"}
    assert bob.get_slots(FILE) == alice.get_slots(FILE) == {A: b"one"}
    assert bob.entries() == alice.entries() == {f"{FILE}:{A}": b"one"}
    assert bob.state_vector() == alice.state_vector() == encode_state_vector({ALICE: 1})


def test_taking_over_a_record_leaves_one_slot() -> None:
    alice, bob = fresh(ALICE), fresh(BOB)
    carry(alice.write({f"{FILE}:{A}": b"one"}, ()), bob)
    changes = carry(bob.write({f"{FILE}:{B}": b"two"}, [f"{FILE}:{A}"]), alice)
    assert changes == {f"{FILE}:{B}": b"two", f"{FILE}:{A}": None}
    assert alice.get_slots(FILE) == {B: b"two"}
    assert list(alice.records()) == [FILE]


def test_concurrent_writers_are_both_kept() -> None:
    alice, bob = fresh(ALICE), fresh(BOB)
    first = alice.write({f"{FILE}:{A}": b"alice"}, ())
    second = bob.write({f"{FILE}:{B}": b"bob"}, ())
    carry(first, bob)
    carry(second, alice)
    assert alice.get_slots(FILE) == bob.get_slots(FILE) == {A: b"alice", B: b"bob"}


def test_a_write_outlives_the_removal_of_the_value_it_replaces() -> None:
    alice, bob = fresh(ALICE), fresh(BOB)
    carry(alice.write({f"{FILE}:{A}": b"1"}, ()), bob)
    removal = bob.write({f"{OTHER}:{B}": b""}, [f"{FILE}:{A}"])
    rewrite = alice.write({f"{FILE}:{A}": b"2"}, ())
    assert carry(removal, alice) == {f"{OTHER}:{B}": b""}
    assert carry(rewrite, bob) == {f"{FILE}:{A}": b"2"}
    assert alice.entries() == bob.entries()


def test_a_removed_key_can_be_written_again() -> None:
    alice, bob = fresh(ALICE), fresh(BOB)
    carry(alice.write({f"{FILE}:{A}": b"1"}, ()), bob)
    carry(bob.write({f"{FILE}:{B}": b"2"}, [f"{FILE}:{A}"]), alice)
    assert carry(alice.write({f"{FILE}:{A}": b"3"}, [f"{FILE}:{B}"]), bob) == {
        f"{FILE}:{A}": b"3",
        f"{FILE}:{B}": None,
    }


def test_an_update_applied_twice_changes_nothing_the_second_time() -> None:
    alice, bob = fresh(ALICE), fresh(BOB)
    update = alice.write({f"{FILE}:{A}": b"1"}, ())
    carry(update, bob)
    assert carry(update, bob) == {}
    assert bob.entries() == alice.entries()


def test_a_record_and_its_links_are_written_in_one_update() -> None:
    alice, bob = fresh(ALICE), fresh(BOB)
    update = alice.write({f"{FILE}:{A}": b"file", f"{LINK}:{A}": b"link"}, ())
    assert carry(update, bob) == {f"{FILE}:{A}": b"file", f"{LINK}:{A}": b"link"}
    assert bob.get_slots(FILE) == {A: b"file"}
    assert bob.get_slots(LINK) == {A: b"link"}


def test_the_snapshot_and_the_updates_after_it_restore_the_shard() -> None:
    alice = fresh(ALICE)
    for step in range(5):
        alice.write({f"{FILE}:{A}": bytes([step])}, ())
    snapshot = alice.snapshot()
    updates = [alice.write({f"{OTHER}:{A}": bytes([step])}, ()) for step in range(3)]
    restored = Shard.load(Epoch(7, b"x"), snapshot, updates, BOB)
    assert restored.entries() == alice.entries()
    assert restored.state_vector() == alice.state_vector()
    assert (restored.epoch, restored.slot) == (Epoch(7, b"x"), B)
    carry(restored.write({f"{FILE}:{B}": b"on"}, [f"{FILE}:{A}"]), alice)
    assert alice.get_slots(FILE) == {B: b"on"}


def test_a_difference_holds_only_what_is_missing() -> None:
    alice, bob = fresh(ALICE), fresh(BOB)
    carry(alice.write({f"{FILE}:{A}": bytes(5_000)}, ()), bob)
    alice.write({f"{OTHER}:{A}": b"new"}, ())
    assert len(alice.diff(bob.state_vector())) < 100
    assert exchange(alice, bob) == {f"{OTHER}:{A}": b"new"}
    assert exchange(alice, bob) == {}


def test_a_difference_that_cuts_a_run_of_replaced_values_is_taken_in() -> None:
    alice, bob = fresh(ALICE), fresh(BOB)
    for step in range(10):
        update = alice.write({f"{FILE}:{A}": bytes([step])}, ())
        if step < 4:
            carry(update, bob)
    assert exchange(alice, bob) == {f"{FILE}:{A}": b"\x09"}
    assert content(bob._doc) == bob.entries()


def test_a_difference_against_an_older_state_than_the_receivers_is_taken_in() -> None:
    alice, bob = fresh(ALICE), fresh(BOB)
    for step in range(10):
        update = alice.write({f"{FILE}:{A}": bytes([step])}, ())
        if step < 6:
            carry(update, bob)
    difference = alice.diff(encode_state_vector({ALICE: 2}))
    assert bob.apply(decode(difference, bob.known, limits=STATE)) == {f"{FILE}:{A}": b"\x09"}
    assert content(bob._doc) == bob.entries()


def test_a_difference_for_a_malformed_vector_is_refused() -> None:
    with pytest.raises(FormatError):
        fresh(ALICE).diff(b"\x01\x05")


def test_a_preview_changes_nothing() -> None:
    alice, bob = fresh(ALICE), fresh(BOB)
    update = decode(alice.write({f"{FILE}:{A}": b"1"}, ()), None)
    assert bob.preview([update]).changes == {f"{FILE}:{A}": b"1"}
    assert bob.entries() == {}
    assert bob.apply(update) == {f"{FILE}:{A}": b"1"}


def test_a_gap_is_refused_and_changes_nothing() -> None:
    alice, bob = fresh(ALICE), fresh(BOB)
    alice.write({f"{FILE}:{A}": b"1"}, ())
    later = decode(alice.write({f"{OTHER}:{A}": b"2"}, ()), None)
    with pytest.raises(FormatError, match="gap"):
        bob.apply(later)
    assert bob.entries() == content(bob._doc) == {}
    assert bob.state_vector() == b"\x00"


def test_a_state_in_which_a_reused_client_wrote_another_key_is_refused() -> None:
    alice, bob = fresh(ALICE), fresh(BOB)
    carry(alice.write({f"{OTHER}:{A}": b"1"}, ()), bob)
    saved = alice.snapshot()
    carry(alice.write({f"{FILE}:{A}": b"lost"}, ()), bob)
    again = Shard.load(FIRST_EPOCH, saved, (), ALICE)
    again.write({f"{LINK}:{A}": b"new"}, ())
    again.write({f"{LINK}:{A}": b"newer"}, ())
    with pytest.raises(FormatError, match="last operation"):
        bob.apply(decode(again.snapshot(), bob.known, limits=STATE))
    assert bob.entries() == {f"{OTHER}:{A}": b"1", f"{FILE}:{A}": b"lost"}


@pytest.mark.parametrize(
    "writes",
    [
        (Write(ALICE, 2, 1, -1, f"{FILE}:{A}", b"x"),),  # the key has a head already
        (Write(ALICE, 2, 1, 0, None, b"x"),),  # replaced already
        (Write(ALICE, 2, 1, 1, f"{OTHER}:{A}", b"x"),),  # the head of another key
        (Write(ALICE, 1, 5, 0, f"{OTHER}:{A}", None),),  # a run that begins in another key
        (Write(ALICE, 2, 1, -1, f"{OTHER}:{A}", b"x"), Write(ALICE, 3, 1, -1, f"{OTHER}:{A}", b"y")),
        (Write(ALICE, 2, 1, 1, None, b"x"), Write(ALICE, 3, 1, 1, None, b"y")),
    ],
)
def test_an_operation_that_would_leave_the_outcome_to_the_library_is_refused(
    writes: tuple[Write, ...],
) -> None:
    shard = fresh(ALICE)
    shard.write({f"{FILE}:{A}": b"0"}, ())
    shard.write({f"{FILE}:{A}": b"1"}, ())
    with pytest.raises(FormatError):
        shard.preview([DecodedUpdate(b"", writes, (), {ALICE: (2, 4)})])


def test_after_a_failure_of_the_library_the_shard_is_refused_and_can_be_loaded_again() -> None:
    shard = fresh(ALICE)
    shard.write({f"{FILE}:{A}": b"kept"}, ())
    snapshot = shard.snapshot()
    clock_overflow = bytes.fromhex("0102 05 ffffffff0f 0005000500")
    seen = DecodedUpdate(clock_overflow, (Write(BOB, 0, 1, -1, f"{FILE}:{B}", b"x"),), (), {BOB: (0, 1)})
    with pytest.raises(FormatError, match="library failed"):
        shard.apply(seen)
    for call in (shard.snapshot, shard.entries, lambda: shard.write({f"{FILE}:{A}": b"2"}, ())):
        with pytest.raises(FormatError, match="not usable"):
            call()
    assert Shard.load(FIRST_EPOCH, snapshot, (), ALICE).entries() == {f"{FILE}:{A}": b"kept"}


@pytest.mark.parametrize(
    ("sets", "deletes"),
    [
        ({}, [f"{FILE}:{A}"]),  # a deletion alone
        ({f"{FILE}:{B}": b""}, []),  # in another's slot
        ({f"{FILE[1:]}:{A}": b""}, []),
        ({FILE: b""}, []),
        ({f"{FILE}:{A}": bytes(RECORD_BYTES_MAX + 1)}, []),
        ({f"{FILE}:{A}": b"2"}, [f"{FILE}:{A}"]),
        ({f"k{index}:{A}": b"" for index in range(LIVE.operations + 1)}, []),
        ({f"k{index}:{A}": bytes(RECORD_BYTES_MAX) for index in range(16)}, []),
    ],
)
def test_a_write_that_peers_would_refuse_is_refused_here_and_changes_nothing(
    sets: dict[str, bytes], deletes: list[str]
) -> None:
    shard = fresh(ALICE)
    shard.write({f"{FILE}:{A}": b"1"}, ())
    before = shard.snapshot()
    with pytest.raises(ValueError, match=r"transaction|key|record"):
        shard.write(sets, deletes)
    assert shard.snapshot() == before


def test_the_largest_writes_are_accepted_by_peers() -> None:
    alice, bob = fresh(ALICE), fresh(BOB)
    keys = [f"{'k' * 190}{index}:{A}" for index in range(LIVE.operations)]
    carry(alice.write(dict.fromkeys(keys, bytes(700)), ()), bob)
    carry(alice.write(dict.fromkeys(keys, bytes(700)), ()), bob)
    carry(bob.write({f"{FILE}:{B}": b""}, keys[1:]), alice)
    assert bob.entries() == alice.entries()


def test_keys_that_hold_nothing_are_passed_over_when_deleted() -> None:
    shard = fresh(ALICE)
    shard.write({f"{FILE}:{A}": b"1"}, [f"{OTHER}:{B}", f"{FILE}:{B}", f"{FILE}:g"])
    shard.write({f"{OTHER}:{A}": b"1"}, [f"{FILE}:{A}", f"{FILE}:{A}"])
    shard.write({f"{OTHER}:{A}": b"2"}, [f"{FILE}:{A}"])
    assert shard.entries() == {f"{OTHER}:{A}": b"2"} == content(shard._doc)


def test_rewriting_a_value_does_not_grow_what_is_kept_of_it() -> None:
    alice, bob = fresh(ALICE), fresh(BOB)
    for step in range(200):
        carry(alice.write({f"{FILE}:{A}": bytes([step])}, ()), bob)
    tracemalloc.start()
    for step in range(2_000):
        carry(alice.write({f"{FILE}:{A}": bytes([step % 256])}, ()), bob)
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 20_000


def test_the_length_of_a_deletion_costs_no_time() -> None:
    alice = fresh(ALICE)
    run = (
        Write(BOB, 0, 1, -1, f"{FILE}:{B}", b""),
        Write(BOB, 1, STATE.clocks - 2, 0, f"{FILE}:{B}", None),
        Write(BOB, STATE.clocks - 1, 1, STATE.clocks - 2, f"{FILE}:{B}", b"last"),
    )
    deletions = tuple(Deletion(BOB, step << 16, 1 << 16) for step in range(STATE.clocks >> 16))
    begun = time.perf_counter()
    preview = alice.preview([DecodedUpdate(b"", run, deletions, {BOB: (0, STATE.clocks)})])
    assert time.perf_counter() - begun < 0.1
    assert preview.changes == {}


def test_many_deletions_of_many_values_cost_no_more_than_their_number() -> None:
    alice = fresh(ALICE)
    count = 20_000
    writes = tuple(Write(BOB, clock, 1, -1, f"k{clock}:{B}", b"") for clock in range(count))
    deletions = tuple(Deletion(BOB, clock, 1) for clock in range(0, count, 2))
    begun = time.perf_counter()
    preview = alice.preview([DecodedUpdate(b"", writes, deletions, {BOB: (0, count)})])
    assert time.perf_counter() - begun < 1
    assert set(preview.changes) == {f"k{clock}:{B}" for clock in range(1, count, 2)}


def test_a_value_rewritten_in_a_row_is_no_garbage() -> None:
    shard = fresh(ALICE)
    for step in range(3 * GARBAGE_ITEMS_MIN):
        shard.write({f"{FILE}:{A}": step.to_bytes(4)}, ())
        assert not shard.garbage().is_excessive


def test_values_rewritten_in_turns_are_garbage() -> None:
    shard = fresh(ALICE)
    for step in range(GARBAGE_ITEMS_MIN // 2 + 5):
        shard.write({f"{FILE}:{A}": step.to_bytes(4)}, ())
        shard.write({f"{OTHER}:{A}": step.to_bytes(4)}, ())
    garbage = shard.garbage()
    assert garbage.is_excessive
    assert garbage.live == 2
    assert garbage.dead <= 2 * (GARBAGE_ITEMS_MIN // 2 + 5)
    assert Shard.load(FIRST_EPOCH, shard.snapshot(), (), BOB).garbage() == garbage
    compact = shard.compacted(newest, client_id=BOB)
    assert compact.garbage() == (2, 0)
    assert len(compact.snapshot()) < len(shard.snapshot()) // 5


def test_compaction_keeps_the_joined_content_in_the_genesis_slot() -> None:
    alice, bob = fresh(ALICE), fresh(BOB)
    alice.write({f"{FILE}:{A}": b"1", f"{OTHER}:{A}": b"dead"}, ())
    bob.write({f"{FILE}:{B}": b"2"}, ())
    exchange(bob, alice)
    compact = alice.compacted(
        lambda record, slots: None if record == OTHER else max(slots.values()), client_id=ALICE
    )
    assert compact.entries() == {f"{FILE}:g": b"2"}
    assert compact.epoch.number == 1
    assert compact.state_vector() == encode_state_vector({1: 1})
    assert alice.get_slots(FILE) == {A: b"1", B: b"2"}
    compact.write({f"{FILE}:{A}": b"3"}, [f"{FILE}:g"])
    assert compact.entries() == {f"{FILE}:{A}": b"3"}


def test_compaction_gives_these_bytes() -> None:
    alice = fresh(ALICE)
    alice.write({f"{OTHER}:{A}": b"2"}, ())
    alice.write({f"{FILE}:{A}": b"1"}, ())
    compact = alice.compacted(newest, client_id=BOB)
    assert compact.snapshot() == (
        b"\x01\x02\x01\x00"
        b"\x28\x01\x01m\x12AAECAwQFBgcICQoL:g\x01t\x011"
        b"\x28\x01\x01m\x12_____AAAAAAAAAAA:g\x01t\x012"
        b"\x00"
    )
    joined = b"\0\0\0\x12AAECAwQFBgcICQoL:g\0\0\0\x011\0\0\0\x12_____AAAAAAAAAAA:g\0\0\0\x012"
    assert compact.epoch == (1, blake3(joined).digest())


def test_a_shard_without_content_compacts_to_an_empty_one() -> None:
    shard = fresh(ALICE)
    shard.write({f"{FILE}:{A}": b"1"}, ())
    compact = shard.compacted(lambda _record, _slots: None, client_id=BOB)
    assert compact.entries() == {}
    assert compact.epoch.number == 1


def test_the_library_reads_a_shard_as_it_is() -> None:
    alice = fresh(ALICE)
    alice.write({f"{FILE}:{A}": b"1", f"{LINK}:{A}": b"2"}, ())
    assert content(document(9, alice.snapshot())) == alice.entries()
