"""O_TMPFILE: files that are made without a name."""

import os

import pytest

from dittofs.errors import FSError
from dittofs.volume.attributes import Wanted
from dittofs.volume.files import Handle
from dittofs.volume.state import Caller
from tests.simulation.rig import Rig


def unnamed(rig: Rig, mode: int = 0o600) -> Handle:
    inode = rig.volume.linking.make_unnamed(rig.volume.root, mode, Caller(1000, 1000))
    return rig.volume.files.open(inode, os.O_RDWR)


async def test_an_unnamed_file_is_read_and_written_and_leaves_nothing(rig: Rig) -> None:
    handle = unnamed(rig)
    assert rig.volume.state.stat(handle.inode).nlink == 0
    await rig.write_at(handle, 0, b"x" * 500_000)
    assert rig.volume.files.read(handle.inode, 0, 1 << 20) == b"x" * 500_000
    rig.volume.files.flush(handle.inode)
    rig.volume.files.release(handle)
    assert rig.volume.state.inodes.get(handle.inode.number) is None
    await rig.volume.files.sync()
    assert not rig.disk.listdir("staging")
    assert rig.listing("") == []


async def test_an_unnamed_file_that_gets_a_name_keeps_what_it_was_given(rig: Rig) -> None:
    handle = unnamed(rig)
    await rig.write_at(handle, 0, b"content")
    rig.volume.attributes.set(handle.inode, Wanted(mode=0o640))
    number = handle.inode.number
    rig.volume.linking.link(handle.inode, rig.volume.root, b"named")
    await rig.write_at(handle, 7, b", and more")
    rig.close_file(handle)
    for _ in range(2):
        stat = rig.stat("named")
        assert (stat.number, stat.mode, stat.nlink) == (number, 0o640, 1)
        assert rig.read("named") == b"content, and more"
        rig.abandon()
        rig.open()
        await rig.publish()


async def test_an_empty_unnamed_file_gets_a_name(rig: Rig) -> None:
    handle = unnamed(rig)
    rig.volume.linking.link(handle.inode, rig.volume.root, b"named")
    rig.close_file(handle)
    await rig.publish()
    assert rig.read("named") == b""
    with pytest.raises(FSError):
        rig.volume.linking.link(rig.walk("named"), rig.volume.root, b"named")
