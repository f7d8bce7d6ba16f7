"""Version nodes: known bytes, and nothing else is taken for one."""

import msgspec
import pytest

from dittofs.chunks.content import load_version_node, store_version_node
from dittofs.chunks.manifest import chunk_root
from dittofs.chunks.version import PREVIOUS_MAX, VersionNode, decode_version, encode_version
from dittofs.errors import ChunkMissing, FormatError
from dittofs.ids import ChunkId, Slot
from tests.simulation.disk import SimulatedDisk
from tests.unit.chunks.stores import open_store

ROOT = chunk_root(ChunkId(b"r" * 32))
NODE = VersionNode(ROOT, 1234, 1_700_000_000_123_456_789, Slot("AbCdEfGh"), (ChunkId(b"p" * 32),))


def test_a_version_is_the_published_bytes() -> None:
    assert encode_version(NODE).hex() == (
        "9601c42101" + "72" * 32 + "cd04d2cf17979cfe3d85cd15a8416243644566476891c420" + "70" * 32
    )
    assert decode_version(encode_version(NODE)) == NODE


def test_a_stored_version_is_loaded() -> None:
    store = open_store(SimulatedDisk())
    node = store_version_node(store, ROOT, 10, -5, Slot("g"), [b"a" * 32, b"b" * 32])
    assert load_version_node(store, node) == VersionNode(
        ROOT, 10, -5, Slot("g"), (ChunkId(b"a" * 32), ChunkId(b"b" * 32))
    )
    with pytest.raises(ChunkMissing):
        load_version_node(store, b"x" * 32)


def test_no_more_than_64_previous_versions_are_kept() -> None:
    store = open_store(SimulatedDisk())
    previous = [bytes([n]) * 32 for n in range(100)]
    node = store_version_node(store, ROOT, 10, 0, Slot("g"), previous)
    assert load_version_node(store, node).previous == tuple(previous[:PREVIOUS_MAX])


@pytest.mark.parametrize(
    "fields",
    [
        [2, ROOT, 10, 0, "g", []],
        [1, ROOT, -1, 0, "g", []],
        [1, b"", 10, 0, "g", []],
        [1, ROOT, 10, 0, "g", [b"short"]],
        [1, ROOT, 10, 0, "g", [b"x" * 32] * (PREVIOUS_MAX + 1)],
        [1, ROOT, 10, 0, "longer than a slot", []],
        [1, ROOT, 10, 0, "ä", []],
        [1, ROOT, 10, 0, "g"],
        [1, "text", 10, 0, "g", []],
        {"version": 1},
        "text",
    ],
)
def test_what_is_no_version_is_refused(fields: object) -> None:
    with pytest.raises(FormatError):
        decode_version(msgspec.msgpack.encode(fields))
