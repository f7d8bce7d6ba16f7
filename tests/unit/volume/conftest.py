"""Two replicas of one volume, without sessions."""

import pytest

from tests.simulation.replica_rig import ReplicaRig, pull


@pytest.fixture
def one() -> ReplicaRig:
    return ReplicaRig("one", seed=1)


@pytest.fixture
def other(one: ReplicaRig) -> ReplicaRig:
    """A second one, which has met `one`."""
    other = ReplicaRig("other", seed=2)
    for rig in (one, other):
        rig.sign()
    pull(one, other)
    pull(other, one)
    return other
