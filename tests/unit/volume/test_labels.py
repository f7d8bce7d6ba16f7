"""What conflict entries are called: by the device that wrote them, as soon as that is known."""

from dittofs.tree.record import META_SHARD
from tests.simulation.replica_rig import ReplicaRig

VIA = b"v" * 32


def test_a_conflict_entry_is_called_after_its_device_once_the_label_of_that_has_come() -> None:
    one, other = ReplicaRig("one", seed=1), ReplicaRig("other", seed=2)
    first = other.make("f", b"y").updates
    later = [*one.mkdir("d").updates, *one.make("f", b"x").updates]
    assert any(number == META_SHARD for number, _, _ in later), "a writer's first change says its label"
    assert other.replica.receive([part for part in later if part[0] != META_SHARD], VIA)
    assert one.replica.receive(first, VIA)
    before = set(other.show())
    assert other.replica.receive([part for part in later if part[0] == META_SHARD], VIA)
    assert set(other.show()) == set(one.show()), (before, other.show())
