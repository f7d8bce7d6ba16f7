"""Whatever bytes come from a disk or a peer: a value, or one clear error."""

import contextlib
import random

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from dittofs.chunks.chunker import Chunking
from dittofs.chunks.content import ContentReader
from dittofs.chunks.index_run import (
    IndexDamaged,
    Location,
    Run,
    decode_current,
    encode_current,
    encode_entry,
    write_run,
)
from dittofs.chunks.manifest import decode_node, encode_node, parse_root
from dittofs.chunks.pack import Frame, check_pack_header, frame_header, pack_header, parse_frame_header, scan
from dittofs.chunks.seal import ChunkKind, Sealer
from dittofs.chunks.version import VersionNode, decode_version, encode_version
from dittofs.errors import Damaged, DittoError, FormatError
from dittofs.ids import ChunkId, Slot
from tests.simulation.disk import SimulatedDisk
from tests.unit.chunks.stores import KEYS, open_store

SEALER = Sealer(KEYS, random.Random(0).randbytes)
PLAIN = b"plain text, plain text, plain text, " * 20
CHUNK = SEALER.identify(ChunkKind.DATA, PLAIN)
SEALED = SEALER.seal(ChunkKind.DATA, CHUNK, PLAIN)
NODE = encode_node(Chunking.FIXED, 0, [(100, CHUNK), (1 << 40, None), (7, ChunkId(b"i" * 32))])
VERSION = encode_version(VersionNode(b"\x01" + CHUNK, len(PLAIN), 5, Slot("AbCdEfGh"), (ChunkId(b"p" * 32),)))
CURRENT = encode_current([3, 1], {1: 500, 2: 40}, [2])
PACK = pack_header(1, KEYS.volume_id) + 3 * (frame_header(CHUNK, SEALED) + SEALED)


def mutated(original: bytes) -> st.SearchStrategy[bytes]:
    """Any bytes, and the original with bytes changed, left out or added: deeper than noise gets."""

    def change(edits: list[tuple[int, int, bytes]]) -> bytes:
        data = original
        for at, drop, new in edits:
            at %= len(data) + 1
            data = data[:at] + new + data[at + drop :]
        return data

    edit = st.tuples(st.integers(0, 1 << 16), st.integers(0, 9), st.binary(max_size=9))
    return st.binary(max_size=300) | st.lists(edit, max_size=4).map(change)


@settings(max_examples=400, deadline=None)
@given(mutated(SEALED), st.sampled_from(ChunkKind))
def test_a_sealed_chunk_is_its_plaintext_or_an_error(sealed: bytes, kind: ChunkKind) -> None:
    try:
        assert SEALER.open(kind, CHUNK, sealed) == PLAIN
        assert sealed == SEALED
    except (Damaged, FormatError):
        assert (sealed, kind) != (SEALED, ChunkKind.DATA)


@settings(max_examples=400, deadline=None)
@given(mutated(SEALED[22:]), st.booleans())
def test_what_a_member_seals_is_its_plaintext_or_an_error(inner: bytes, is_header_kept: bool) -> None:
    """The insides are authentic and hostile."""
    header = SEALED[:22]
    opened = AESGCM(SEALER._key(KEYS.current, CHUNK)).decrypt(
        header[10:], SEALED[22:], header + KEYS.volume_id + CHUNK
    )
    inside = opened[:9] + inner if is_header_kept else inner
    sealed = header + AESGCM(SEALER._key(KEYS.current, CHUNK)).encrypt(
        header[10:], inside, header + KEYS.volume_id + CHUNK
    )
    with contextlib.suppress(Damaged, FormatError):
        assert SEALER.open(ChunkKind.DATA, CHUNK, sealed) == PLAIN


@settings(max_examples=400, deadline=None)
@given(mutated(NODE))
def test_a_manifest_node_is_what_it_encodes_or_an_error(data: bytes) -> None:
    with contextlib.suppress(FormatError):
        node = decode_node(data)
        entries = [(length, node.id_of(n)) for n, length in enumerate(node.lengths)]
        assert encode_node(node.chunking, node.level, entries) == data


@settings(max_examples=400, deadline=None)
@given(mutated(VERSION))
def test_a_version_is_what_it_encodes_or_an_error(data: bytes) -> None:
    with contextlib.suppress(FormatError):
        node = decode_version(data)
        assert decode_version(encode_version(node)) == node


@settings(max_examples=300, deadline=None)
@given(mutated(PACK))
def test_a_scan_covers_any_bytes_and_gives_sound_frames_only(data: bytes) -> None:
    with contextlib.suppress(FormatError):
        check_pack_header(data, 1, KEYS.volume_id)
    parse_frame_header(data)
    at = 0
    for item in scan(lambda offset, size: data[offset : offset + size], 0, len(data)):
        assert item.offset == at
        assert item.length > 0
        at += item.length
        if isinstance(item, Frame):
            assert bytes(item.sealed) == SEALED
            assert item.chunk == CHUNK
    assert at == len(data)


@settings(max_examples=300, deadline=None)
@given(mutated(CURRENT))
def test_the_list_of_runs_is_what_was_written_or_damaged(data: bytes) -> None:
    try:
        assert decode_current(data) == ([3, 1], {1: 500, 2: 40}, frozenset({2}))
        assert data == CURRENT
    except IndexDamaged:
        assert data != CURRENT


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 1 << 30), st.data())
def test_a_run_finds_what_is_in_it_or_is_damaged(seed: int, data: st.DataObject) -> None:
    rng = random.Random(seed)
    entries = {
        ChunkId(rng.randbytes(32)): Location(1, 40 * n, 100, 1)
        for n in range(rng.choice([1, 89, 90, 91, 300]))
    }
    disk = SimulatedDisk()
    file = disk.open("x.run", create=True)
    write_run(file, sorted(encode_entry(*entry) for entry in entries.items()), len(entries))
    at = data.draw(st.integers(0, file.size() - 1))
    absent = ChunkId(rng.randbytes(32))
    for _ in range(2):
        with contextlib.suppress(IndexDamaged):
            run = Run(disk.open("x.run"), "x.run")
            assert run.find(absent) is None
            for chunk, location in entries.items():
                try:
                    assert run.find(chunk) == location
                except IndexDamaged:
                    continue
        disk.damage("x.run", at, 1 << (at % 8))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=40), st.integers(-5, 1 << 64))
def test_any_root_of_any_size_is_read_or_an_error(root: bytes, size: int) -> None:
    with contextlib.suppress(FormatError):
        parse_root(root, size)
    with contextlib.suppress(DittoError):
        ContentReader(open_store(SimulatedDisk()), root, size).read(0, 10)
