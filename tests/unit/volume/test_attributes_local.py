"""Extended attributes that stay on this device."""

import errno

import pytest

from dittofs.errors import FSError
from dittofs.volume.attributes import CAPABILITY, Wanted
from tests.simulation.rig import Rig

NAME = b"trusted.x"


async def test_a_local_attribute_is_found_whether_or_not_one_was_asked_for_before(rig: Rig) -> None:
    await rig.write("a", b"x")
    attributes = rig.volume.attributes
    with pytest.raises(FSError) as caught:
        attributes.get_xattr(rig.walk("a"), NAME)
    assert caught.value.errno == errno.ENODATA
    attributes.set_xattr(rig.walk("a"), NAME, b"value")
    assert attributes.get_xattr(rig.walk("a"), NAME) == b"value"
    rig.abandon()
    rig.open()
    assert rig.volume.attributes.get_xattr(rig.walk("a"), NAME) == b"value"


@pytest.mark.parametrize("is_published", [True, False])
async def test_who_may_not_keep_them_takes_set_id_bits_and_capabilities(rig: Rig, is_published: bool) -> None:
    await rig.write("a", b"x")
    if is_published:
        await rig.publish()
    inode, attributes = rig.walk("a"), rig.volume.attributes
    assert not attributes.clear_set_id(inode)
    for change in (lambda: attributes.clear_set_id(inode), lambda: attributes.set(inode, Wanted(uid=7))):
        attributes.set(inode, Wanted(mode=0o6755))
        attributes.set_xattr(inode, CAPABILITY, b"capable")
        assert change()
        assert rig.stat("a").mode == 0o755
        assert CAPABILITY not in attributes.list_xattrs(inode)
    attributes.set(inode, Wanted(mode=0o2644))
    assert not attributes.clear_set_id(inode)  # a mark for mandatory locks
    attributes.set(inode, Wanted(mode=0o4711))
    attributes.set(inode, Wanted(size=0, clears_set_id=True))
    assert rig.stat("a").mode == 0o711
