"""A long file is cut while it is written, and only what is there at its end counts."""

import os

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from dittofs.disk import Disk
from dittofs.ids import ChunkId
from dittofs.volume import ahead
from dittofs.volume.staging import Layer, Nothing
from tests.simulation.rig import Rig

PIECE = 1 << 20
PATIENCE_S = 60.0


@pytest.fixture
def disk(rig: Rig) -> Disk:
    return rig.volume.replica.disk


def layer_of(disk: Disk, size: int) -> Layer:
    layer = Layer(disk, "cut", Nothing(), 0)
    layer.write(0, bytes(size))
    return layer


def ids(count: int) -> list[tuple[int, ChunkId]]:
    return [(100, ChunkId(bytes([number]) * 32)) for number in range(count)]


def test_what_was_cut_counts_until_it_changes(disk: Disk) -> None:
    layer = layer_of(disk, 1000)
    start, end = layer.begin_cut()
    assert (start, end) == (0, 1000)
    layer.end_cut(start, ids(5))
    layer.write(501, b"x")
    assert len(layer.cut_ahead) == 5
    layer.write(500, b"x")  # the byte after the last cut
    assert len(layer.cut_ahead) == 4
    layer.truncate(250)
    assert len(layer.cut_ahead) == 2
    assert not layer.uncut_bytes, "a file that is written over is cut when it is published"


def test_what_changed_while_it_was_cut_does_not_count(disk: Disk) -> None:
    layer = layer_of(disk, 1000)
    start, _ = layer.begin_cut()
    layer.write(250, b"x")
    layer.write(1000, b"appended")
    layer.end_cut(start, ids(9))
    assert len(layer.cut_ahead) == 2


def test_a_cut_whose_beginning_is_gone_does_not_count(disk: Disk) -> None:
    layer = layer_of(disk, 1000)
    layer.end_cut(layer.begin_cut()[0], ids(3))
    start, _ = layer.begin_cut()
    layer.truncate(150)
    layer.write(150, bytes(1000))
    layer.end_cut(start, ids(3))
    assert sum(length for length, _ in layer.cut_ahead) == 100


def test_a_file_with_a_hole_in_front_is_not_cut_ahead(disk: Disk) -> None:
    layer = Layer(disk, "holed", Nothing(), 0)
    layer.write(10, bytes(1000))
    assert not layer.uncut_bytes


async def test_a_long_file_is_cut_while_it_is_open_and_published_whole(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "AHEAD_BYTES", 2 * PIECE)
    data = os.urandom(7 * PIECE)
    handle = rig.open_file("long", os.O_WRONLY | os.O_CREAT)
    publisher = rig.volume.publisher
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(publisher.ahead.run)
            for offset in range(0, len(data), PIECE):
                await rig.write_at(handle, offset, data[offset : offset + PIECE])
                await wait_all_tasks_blocked()
            content = rig.volume.state.content(handle.inode)
            assert content is not None
            while not content.top.cut_ahead:
                await publisher.ahead.settled(content.top)
                await trio.lowlevel.checkpoint()
            rig.close_file(handle)
            await rig.publish()
            nursery.cancel_scope.cancel()
    assert rig.read("long") == data
