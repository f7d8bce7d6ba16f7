"""A volume read without a mount."""

import os

from dittofs.volume.browsing import PART_BYTES, Browsing
from tests.simulation.rig import Rig


async def test_a_file_published_while_it_is_read_is_read_to_its_end(rig: Rig) -> None:
    data = os.urandom(3 * PART_BYTES)
    await rig.write("a", data)
    _, parts = Browsing(rig.volume).read([b"a"], 0, -1)
    found = next(parts)
    await rig.publish()
    await rig.volume.files.sync()
    assert found + b"".join(parts) == data
    assert rig.disk.listdir("staging") == []
