from collections.abc import Iterator
from pathlib import Path

import pytest

from dittofs.local_disk import LocalDisk
from tests.simulation.rig import Rig


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """A volume on a real disk, without a kernel."""
    rig = Rig(LocalDisk(str(tmp_path / "store")))
    yield rig
    rig.abandon()
