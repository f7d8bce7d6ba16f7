"""Manifests: trees that change only where the content did."""

import random

import pytest

from dittofs.chunks import manifest
from dittofs.chunks.chunker import CHUNK_BYTES_MAX, Chunking
from dittofs.chunks.manifest import (
    CONTENT_BYTES_MAX,
    LEVEL_MAX,
    Manifest,
    ManifestWriter,
    chunk_root,
    decode_node,
    encode_node,
    manifest_root,
    parse_root,
)
from dittofs.chunks.seal import ChunkKind
from dittofs.chunks.store import AbsentChunk, ChunkStore
from dittofs.errors import FormatError, FSError
from dittofs.ids import ChunkId
from tests.simulation.disk import SimulatedDisk
from tests.unit.chunks.stores import noise, open_store

Entries = list[tuple[int, ChunkId | None]]
CDC = Chunking.CONTENT_DEFINED


def chunks(count: int, seed: int = 1) -> Entries:
    rng = random.Random(seed)
    return [(rng.randrange(1, CHUNK_BYTES_MAX), ChunkId(rng.randbytes(32))) for _ in range(count)]


def written(store: ChunkStore, entries: Entries) -> ChunkId:
    writer = ManifestWriter(store, CDC)
    for entry in entries:
        writer.add(*entry)
    return writer.finish()


def read_back(store: ChunkStore, root: ChunkId, size: int) -> Entries:
    return [
        (leaf.node.lengths[n], leaf.node.id_of(n))
        for leaf in Manifest(store, root, size).leaves(0, size)
        for n in range(len(leaf.node.lengths))
    ]


def size_of(entries: Entries) -> int:
    return sum(length for length, _ in entries)


def test_a_node_is_the_published_bytes() -> None:
    node = encode_node(Chunking.FIXED, 0, [(65536, ChunkId(b"\xaa" * 32)), (1 << 40, None)])
    assert node.hex() == ("44744d6601020000000200000000000100000000010000000000" + "aa" * 32 + "00" * 32)
    decoded = decode_node(node)
    assert (decoded.chunking, decoded.level, decoded.size) == (Chunking.FIXED, 0, 65536 + (1 << 40))
    assert [decoded.id_of(n) for n in range(2)] == [b"\xaa" * 32, None]


@pytest.mark.parametrize("count", [1, 63, 64, 300, 5000, 40_000])
def test_what_was_written_is_read_back(count: int) -> None:
    store = open_store(SimulatedDisk())
    entries = chunks(count)
    entries[count // 2] = (1 << 50, None)
    assert read_back(store, written(store, entries), size_of(entries)) == entries


def test_nodes_keep_their_bounds() -> None:
    store = open_store(SimulatedDisk())
    entries = chunks(30_000)
    leaves = list(Manifest(store, written(store, entries), size_of(entries)).leaves(0, size_of(entries)))
    sizes = [len(leaf.node.lengths) for leaf in leaves]
    assert min(sizes[:-1]) >= 64
    assert max(sizes) <= 1024
    assert 200 < sum(sizes) / len(sizes) < 450
    assert [leaf.is_last for leaf in leaves] == [False] * (len(leaves) - 1) + [True]


def test_a_leaf_ends_after_its_64th_entry_at_an_id_that_ends_in_zero_and_at_no_hole() -> None:
    store = open_store(SimulatedDisk())
    plain, ending = ChunkId(b"\x01" * 32), ChunkId(b"\x01" * 31 + b"\0")
    for at, hole, ends in ((62, None, False), (63, None, True), (64, None, True), (70, 65, True)):
        entries: Entries = [(1000, plain)] * 100
        entries[at] = (1000, ending)
        if hole:
            entries[hole] = (1000, None)
        leaves = list(Manifest(store, written(store, entries), 100_000).leaves(0, 100_000))
        assert [len(leaf.node.lengths) for leaf in leaves] == ([at + 1, 99 - at] if ends else [100])


def test_entries_that_never_end_a_node_fill_it() -> None:
    store = open_store(SimulatedDisk())
    same: Entries = [(1000, ChunkId(b"\x01" * 32))] * 5000
    assert read_back(store, written(store, same), 5_000_000) == same
    ending: Entries = [(1000, ChunkId(bytes(31) + b"\0"))] * 3000
    ending = [(1000, ChunkId(b"\x01" * 31 + b"\0"))] * 3000
    assert read_back(store, written(store, ending), 3_000_000) == ending


def test_a_chunk_put_in_front_of_many_rewrites_one_leaf_and_the_way_to_it() -> None:
    rewritten = []
    for seed in range(12):
        store = open_store(SimulatedDisk())
        entries = chunks(16_384, seed)
        written(store, entries)
        before = store.statistics().pack_bytes
        whole = before
        written(store, chunks(1, 999) + entries)
        rewritten.append(store.statistics().pack_bytes - before)
        assert whole > 540_000
    assert sum(rewritten) / len(rewritten) < 20_000
    assert max(rewritten) < 60_000


def test_the_way_to_an_offset_is_one_node_a_level() -> None:
    store = open_store(SimulatedDisk())
    entries = chunks(100_000)
    size = size_of(entries)
    tree = Manifest(store, written(store, entries), size)
    loads: list[ChunkId] = []
    original = store.get

    def counted(kind: ChunkKind, chunk: ChunkId) -> bytes:
        loads.append(chunk)
        return original(kind, chunk)

    store.get = counted  # type: ignore[method-assign]
    tree.leaf_at(size // 3)
    levels = [decode_node(original(ChunkKind.MANIFEST, chunk)).level for chunk in loads]
    assert levels == list(range(levels[0], -1, -1))
    tree.leaf_at(size // 3)
    assert len(loads) == len(levels)


def test_one_hole_holds_the_largest_file() -> None:
    store = open_store(SimulatedDisk())
    root = written(store, [(CONTENT_BYTES_MAX, None)])
    assert store.statistics().pack_bytes < 400
    assert read_back(store, root, CONTENT_BYTES_MAX) == [(CONTENT_BYTES_MAX, None)]


def test_a_tree_that_would_be_too_high_is_a_file_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "NODE_ENTRIES_MAX", 3)
    monkeypatch.setattr(manifest, "NODE_ENTRIES_MIN", 2)
    store = open_store(SimulatedDisk())
    most = chunks(3**LEVEL_MAX * 3)
    most = [(length, ChunkId(b"\x01" * 32)) for length, _ in most]
    assert read_back(store, written(store, most), size_of(most)) == most
    with pytest.raises(FSError, match="File too large"):
        written(store, [*most, most[0]])


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (b"", "not a manifest"),
        (encode_node(CDC, 0, [(5, ChunkId(b"x" * 32))])[:-1], "bytes with"),
        (encode_node(CDC, 0, [(5, ChunkId(b"x" * 32))]) + b"x", "bytes with"),
        (encode_node(CDC, 0, []), "0 entries"),
        (encode_node(CDC, 4, [(5, ChunkId(b"x" * 32))]), "level 4"),
        (encode_node(CDC, 1, [(5, None)]), "above the leaves"),
        (encode_node(CDC, 0, [(0, None)]), "impossible"),
        (encode_node(CDC, 0, [(CONTENT_BYTES_MAX, None), (1, None)]), "impossible"),
        (encode_node(CDC, 0, [(CHUNK_BYTES_MAX + 1, ChunkId(b"x" * 32))]), "chunk of"),
        (b"DtMf\x02" + encode_node(CDC, 0, [(5, None)])[5:], "version 2"),
        (b"DtMf\x01\x09" + encode_node(CDC, 0, [(5, None)])[6:], "chunking 9"),
    ],
)
def test_what_is_no_node_is_refused_by_name(broken: bytes, why: str) -> None:
    with pytest.raises(FormatError, match=why):
        decode_node(broken)


def test_a_tree_whose_parts_do_not_fit_is_refused() -> None:
    store = open_store(SimulatedDisk())
    leaf = written(store, [(1000, ChunkId(b"a" * 32))])
    other = encode_node(Chunking.FIXED, 0, [(1000, ChunkId(b"a" * 32))])
    (fixed,) = store.put([(ChunkKind.MANIFEST, other)])
    for entries, level in (([(999, leaf)], 1), ([(1000, leaf)], 2), ([(1000, fixed)], 1)):
        (root,) = store.put([(ChunkKind.MANIFEST, encode_node(CDC, level, [*entries]))])
        with pytest.raises(FormatError):
            Manifest(store, root, entries[0][0]).leaf_at(0)
    with pytest.raises(FormatError):
        Manifest(store, leaf, 1001).leaf_at(0)


def test_a_node_that_is_not_here_is_named() -> None:
    store = open_store(SimulatedDisk())
    with pytest.raises(AbsentChunk) as caught:
        Manifest(store, ChunkId(b"m" * 32), 100_000).leaf_at(0)
    assert (caught.value.kind, caught.value.chunk) == (ChunkKind.MANIFEST, b"m" * 32)


def test_a_root_names_one_chunk_up_to_64_kib_and_a_manifest_above() -> None:
    chunk = ChunkId(noise(1, 32))
    assert parse_root(b"", 0) is None
    assert parse_root(chunk_root(chunk), 65_536) == (ChunkKind.DATA, chunk)
    assert parse_root(manifest_root(chunk), 65_537) == (ChunkKind.MANIFEST, chunk)
    for root, size in (
        (b"", 1),
        (chunk_root(chunk), 0),
        (chunk_root(chunk), 65_537),
        (manifest_root(chunk), 65_536),
        (manifest_root(chunk), CONTENT_BYTES_MAX + 1),
        (b"\x03" + chunk, 10),
        (chunk_root(chunk)[:-1], 10),
    ):
        with pytest.raises(FormatError):
            parse_root(root, size)
