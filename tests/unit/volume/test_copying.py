"""copy_file_range: a copy inside the volume is a copy of the manifest."""

import errno
import os
import random
from typing import Any

import pytest

from dittofs.errors import FSError
from dittofs.volume.files import Handle
from tests.simulation.rig import Rig, settled

DATA = random.Random(3).randbytes(900_000)


async def copy(rig: Rig, source: Handle, target: Handle, length: int = len(DATA), offset: int = 0) -> Any:
    return await settled(rig.volume.copying.copy_range(source.inode, offset, target.inode, offset, length))


async def prepared(rig: Rig) -> tuple[Handle, Handle]:
    await rig.write("a", DATA)
    await rig.publish()
    return rig.open_file("a"), rig.open_file("b", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)


async def test_a_whole_copy_stores_no_chunk_of_data_and_is_a_file_of_its_own(rig: Rig) -> None:
    source, target = await prepared(rig)
    before = {chunk for _, chunk in rig.volume.replica.chunks.ids()}
    assert await copy(rig, source, target, 1 << 40) == len(DATA)
    assert rig.read("b") == DATA
    rig.close_file(target)
    rig.volume.files.release(source)
    await rig.publish()
    added = {chunk for _, chunk in rig.volume.replica.chunks.ids()} - before
    assert len(added) <= 1  # its node of the history
    await rig.write("a", b"other")
    await rig.publish()
    assert rig.read("b") == DATA


async def test_a_copy_survives_the_death_of_the_process_and_takes_further_writes(rig: Rig) -> None:
    source, target = await prepared(rig)
    await copy(rig, source, target)
    await rig.write_at(target, 5, b"changed")
    rig.close_file(target)
    rig.abandon()
    rig.open()
    expected = DATA[:5] + b"changed" + DATA[12:]
    assert rig.read("b") == expected
    await rig.publish()
    assert rig.read("b") == expected
    assert rig.read("a") == DATA


async def test_a_copy_over_a_published_file_is_its_next_version(rig: Rig) -> None:
    await rig.write("b", b"first")
    source, target = await prepared(rig)
    number = rig.stat("b").number
    assert await copy(rig, source, target) == len(DATA)
    rig.close_file(target)
    await rig.publish()
    assert rig.read("b") == DATA
    assert rig.stat("b").number == number
    versions = rig.volume.replica.tree.versions(rig.walk("b").id)
    assert len(versions) == 1


async def test_a_copy_into_a_file_whose_empty_version_is_on_its_way_is_kept(rig: Rig) -> None:
    await rig.write("a", DATA)
    await rig.publish()
    rig.close_file(rig.open_file("b", os.O_WRONLY | os.O_CREAT))
    source, target = rig.open_file("a"), rig.open_file("b", os.O_WRONLY)
    frozen = rig.volume.publisher._freeze()
    await copy(rig, source, target)
    await rig.volume.publisher._store(frozen)
    rig.volume.publisher._commit(frozen)
    rig.close_file(target)
    await rig.publish()
    assert rig.read("b") == DATA


async def test_an_unpublished_source_is_published_first(rig: Rig) -> None:
    await rig.write("a", DATA)
    source, target = rig.open_file("a"), rig.open_file("b", os.O_WRONLY | os.O_CREAT)
    answer = rig.volume.copying.copy_range(source.inode, 0, target.inode, 0, len(DATA))
    assert not isinstance(answer, int)
    answer.close()
    await rig.publish()
    assert await copy(rig, source, target) == len(DATA)
    assert rig.read("b") == DATA


async def test_what_is_no_whole_copy_is_left_to_the_caller(rig: Rig) -> None:
    source, target = await prepared(rig)
    for length, offset in ((len(DATA) - 1, 0), (len(DATA), 10)):
        with pytest.raises(FSError) as caught:
            await copy(rig, source, target, length, offset)
        assert caught.value.errno == errno.EOPNOTSUPP
    await rig.write_at(target, 0, b"not empty")
    with pytest.raises(FSError):
        await copy(rig, source, target)
    assert rig.read("b") == b"not empty"


async def test_a_copy_renamed_over_another_file_keeps_its_bytes(rig: Rig) -> None:
    await rig.write("c", b"old")
    source, target = await prepared(rig)
    await copy(rig, source, target)
    rig.close_file(target)
    await rig.rename("b", "c")
    assert rig.read("c") == DATA
    await rig.publish()
    assert rig.read("c") == DATA
