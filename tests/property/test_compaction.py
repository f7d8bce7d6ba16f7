"""Compaction needs no agreement: equal content gives equal bytes, an older epoch joins a newer one."""

from collections.abc import Mapping

from hypothesis import given, settings
from hypothesis import strategies as st

from dittofs.ids import Slot
from dittofs.tree.shard import Shard
from dittofs.tree.update import STATE, decode
from tests.property.replicas import CLIENTS, Replicas, Step, check, steps


def union(_record: str, slots: Mapping[Slot, bytes]) -> bytes | None:
    """A join like that of records: commutative, associative, idempotent."""
    return bytes(sorted(set(b"".join(slots.values()))))


def joined(shard: Shard) -> dict[str, bytes | None]:
    return {record: union(record, shard.get_slots(record)) for record in sorted(shard.records())}


@given(steps, st.integers(2, 4))
@settings(deadline=None)
def test_replicas_of_equal_content_compact_to_equal_bytes(history: list[Step], count: int) -> None:
    replicas = Replicas.of(count)
    replicas.run(history)
    replicas.settle()
    compacts = [
        shard.compacted(union, client_id=client)
        for shard, client in zip(replicas.shards, CLIENTS, strict=False)
    ]
    for compact, shard in zip(compacts, replicas.shards, strict=True):
        check(compact)
        assert joined(compact) == joined(shard)
        assert compact.garbage().dead == 0
        assert compact.snapshot() == compacts[0].snapshot()
        assert compact.epoch == compacts[0].epoch


@given(steps, steps)
@settings(deadline=None)
def test_the_bytes_do_not_depend_on_how_the_content_came_about(one: list[Step], two: list[Step]) -> None:
    left, right = Replicas.of(2), Replicas.of(3)
    left.run(one)
    right.run(two)
    first, second = left.shards[0], right.shards[0]
    first.write({f"x:{first.slot}": b"1"}, list(first.entries()))
    second.write({f"x:{second.slot}": b"2"}, list(second.entries()))
    other = Shard.load(second.epoch, second.snapshot(), (), CLIENTS[3])
    other.write({f"x:{other.slot}": b"1"}, [f"x:{second.slot}"])
    compacts = [first.compacted(union, client_id=7), other.compacted(union, client_id=8)]
    assert compacts[0].entries() == {"x:g": b"1"}
    assert compacts[0].snapshot() == compacts[1].snapshot()
    assert compacts[0].epoch == compacts[1].epoch


@given(steps, steps, steps, st.integers(2, 4))
@settings(deadline=None)
def test_a_replica_that_stayed_behind_joins_its_content_into_the_newer_epoch(
    common: list[Step], ahead: list[Step], behind: list[Step], count: int
) -> None:
    replicas = Replicas.of(count)
    replicas.run(common)
    replicas.settle()
    leader, late = replicas.shards[0], replicas.shards[1]
    Replicas([leader]).run(ahead)
    Replicas([late]).run(behind)
    expected = dict(joined(leader))
    for record, value in joined(late).items():
        expected[record] = union(record, {Slot("a"): value or b"", Slot("b"): expected.get(record) or b""})

    compact = leader.compacted(union, client_id=CLIENTS[2])
    adopted = Shard.load(compact.epoch, compact.snapshot(), (), CLIENTS[3])
    for record, value in joined(late).items():
        slots = adopted.get_slots(record)
        together = union(record, {**slots, adopted.slot: value or b""})
        if (together is not None and together != union(record, slots)) or not slots:
            update = adopted.write({f"{record}:{adopted.slot}": together or b""}, [f"{record}:g"])
            compact.apply(decode(update, compact.known))
    for shard in (adopted, compact):
        check(shard)
        assert joined(shard) == expected
    again = [adopted.compacted(union, client_id=2), compact.compacted(union, client_id=3)]
    assert again[0].snapshot() == again[1].snapshot()
    assert again[0].epoch == again[1].epoch
    assert again[0].epoch.number == 2


@given(steps, steps)
@settings(deadline=None)
def test_a_compacted_shard_goes_on_like_any_other(before: list[Step], after: list[Step]) -> None:
    replicas = Replicas.of(2)
    replicas.run(before)
    replicas.settle()
    compact = replicas.shards[0].compacted(union, client_id=9)
    following = Replicas.of(3, compact.epoch, compact.snapshot())
    following.run(after)
    following.settle()
    for shard in following.shards:
        assert shard.entries() == following.shards[0].entries()
        decode(shard.snapshot(), None, limits=STATE)
