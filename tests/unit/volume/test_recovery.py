"""What is found after the process died in the middle of things."""

import os

import pytest

from tests.simulation.rig import Rig

SIZES = [100, 200_000, 700_000]


def beside(rig: Rig, name: str) -> str:
    """The one recovered file."""
    (found,) = [one for one in rig.listing("") if one != name]
    assert " (recovered, laptop, " in found
    return found


@pytest.mark.parametrize("size", SIZES)
async def test_a_closed_version_is_kept_though_the_next_was_being_written(rig: Rig, size: int) -> None:
    await rig.write("a", b"1" * size)
    await rig.publish()
    await rig.write("a", b"2" * size)
    handle = rig.open_file("a", os.O_WRONLY | os.O_TRUNC)
    await rig.write_at(handle, 0, b"3" * (size // 2))
    rig.volume.save()
    rig.abandon()
    for _ in range(2):
        rig.open()
        assert rig.read("a") == b"2" * size
        assert rig.read(beside(rig, "a")) == b"3" * (size // 2)
        await rig.volume.files.sync()
        rig.abandon()
    rig.open()
    await rig.publish()
    assert rig.read("a") == b"2" * size
    assert rig.read(beside(rig, "a")) == b"3" * (size // 2)
    await rig.close()
    rig.open()
    assert rig.read("a") == b"2" * size
    assert rig.read(beside(rig, "a")) == b"3" * (size // 2)
    assert not rig.disk.listdir("staging")


@pytest.mark.parametrize("size", SIZES)
async def test_a_file_that_was_never_published_is_kept_as_it_was_closed(rig: Rig, size: int) -> None:
    await rig.write("a", b"1" * size)
    handle = rig.open_file("a", os.O_WRONLY)
    await rig.write_at(handle, 10, b"changed")
    await rig.write_at(handle, size + 10, b"far")
    rig.volume.save()
    rig.abandon()
    rig.open()
    assert rig.read("a") == b"1" * size
    expected = b"1" * 10 + b"changed" + b"1" * (size - 17) + b"\0" * 10 + b"far"
    assert rig.read(beside(rig, "a")) == expected
    await rig.publish()
    assert rig.read("a") == b"1" * size
    assert rig.read(beside(rig, "a")) == expected


async def test_what_was_cut_off_in_between_does_not_come_back_beside(rig: Rig) -> None:
    await rig.write("a", b"published" * 1000)
    await rig.publish()
    handle = rig.open_file("a", os.O_WRONLY)
    await rig.write_at(handle, 4000, b"closed")
    rig.close_file(handle)
    handle = rig.open_file("a", os.O_WRONLY)
    rig.volume.files.truncate(handle.inode, 100)
    rig.volume.files.truncate(handle.inode, 5000)
    rig.volume.save()
    rig.abandon()
    rig.open()
    whole = bytearray(b"published" * 1000)
    whole[4000:4006] = b"closed"
    assert rig.read("a") == whole
    assert rig.read(beside(rig, "a")) == whole[:100] + b"\0" * 4900


async def test_a_file_that_was_closed_empty_stays_though_it_was_being_written(rig: Rig) -> None:
    rig.close_file(rig.open_file("a", os.O_WRONLY | os.O_CREAT))
    handle = rig.open_file("a", os.O_WRONLY)
    await rig.write_at(handle, 0, b"part")
    rig.volume.save()
    rig.abandon()
    rig.open()
    assert rig.read("a") == b""
    assert rig.read(beside(rig, "a")) == b"part"
    await rig.publish()
    assert rig.read("a") == b""
