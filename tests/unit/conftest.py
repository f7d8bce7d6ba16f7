from collections.abc import Iterator
from pathlib import Path

import pytest

from dittofs.local_disk import LocalDisk
from tests.simulation.pair import Pair
from tests.simulation.rig import Rig


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """A volume on a real disk, without a kernel."""
    rig = Rig(LocalDisk(str(tmp_path / "store")))
    yield rig
    rig.abandon()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    """A volume on two devices."""
    pair = Pair(LocalDisk(str(tmp_path / "a")), LocalDisk(str(tmp_path / "b")))
    yield pair
    pair.abandon()
