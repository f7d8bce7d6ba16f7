"""What one replica of a tree says of a path, and what it refuses."""

from collections.abc import Callable

import pytest

from dittofs.errors import FSError
from dittofs.ids import ROOT
from dittofs.tree.tree import Attributes
from tests.property.tree_replicas import Replica


def stat(replica: Replica, path: str) -> Attributes:
    ref = (ROOT, None) if path == "" else replica.entry(path).ref
    attributes = replica.tree.stat(ref)
    assert attributes is not None
    return attributes


def refused(number: int, act: Callable[[], object]) -> None:
    with pytest.raises(FSError) as caught:
        act()
    assert caught.value.errno == number
