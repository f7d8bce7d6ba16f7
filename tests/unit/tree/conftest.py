import pytest

from tests.property.tree_replicas import Replica, World


@pytest.fixture
def one() -> Replica:
    return Replica(World(), "one")
