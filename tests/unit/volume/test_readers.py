"""A device that may read a volume and not change it."""

import pytest

from dittofs.errors import ReadOnlyVolume
from tests.simulation.disk import SimulatedDisk
from tests.simulation.rig import Rig


async def test_a_device_that_may_not_write_opens_its_volume_again_and_changes_nothing() -> None:
    rig = Rig(SimulatedDisk(), label="reader")
    await rig.write("f", b"from when it was a writer")
    rig.abandon()
    volume = rig.open()
    volume.replica.refused = "this device may read the volume, and not change it"
    volume.recover()
    assert rig.read("f") == b"from when it was a writer"
    with pytest.raises(ReadOnlyVolume):
        rig.mkdir("d")
    with pytest.raises(ReadOnlyVolume), volume.replica.change() as change:
        change.group.set_setting("copies", b"2")
    rig.abandon()
