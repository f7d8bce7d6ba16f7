"""Packs: a flipped bit or a cut costs what it hits and nothing else."""

import pytest

from dittofs.chunks.pack import (
    FRAME_HEADER_BYTES,
    PACK_HEADER_BYTES,
    Frame,
    Gap,
    check_pack_header,
    frame_header,
    pack_header,
    pack_name,
    pack_number,
    parse_frame_header,
    scan,
)
from dittofs.errors import FormatError
from dittofs.ids import ChunkId, VolumeId
from tests.unit.chunks.stores import KEYS, noise

CHUNKS = [(ChunkId(noise(n, 32)), noise(100 + n, 60 + 13 * n)) for n in range(6)]
HEADER = pack_header(1, KEYS.volume_id)
FRAMES = [frame_header(chunk, sealed) + sealed for chunk, sealed in CHUNKS]
PACK = HEADER + b"".join(FRAMES)
STARTS = [PACK_HEADER_BYTES + sum(map(len, FRAMES[:n])) for n in range(len(FRAMES))]


def scanned(pack: bytes, start: int = PACK_HEADER_BYTES) -> list[Frame | Gap]:
    items: list[Frame | Gap] = []
    for item in scan(lambda offset, size: pack[offset : offset + size], start, len(pack)):
        kept = item if isinstance(item, Gap) else Frame(item.offset, item.length, item.chunk, item.sealed)
        items.append(kept)
    return items


def frames_of(items: list[Frame | Gap]) -> dict[ChunkId, bytes]:
    return {item.chunk: bytes(item.sealed) for item in items if isinstance(item, Frame)}


def covers(items: list[Frame | Gap], start: int, end: int) -> bool:
    at = start
    for item in items:
        if item.offset != at:
            return False
        at += item.length
    return at == end


def test_headers_are_the_published_ones() -> None:
    assert HEADER.hex() == "446974746f50636b0100000000000001000102030405060708090a0b0c0d0e0f52fbfe8cda0e4fad"
    assert frame_header(ChunkId(bytes(32)), b"s" * 60).hex() == (
        "447446720000003c00000000000000000000000000000000000000000000"
        "00000000000000000000698037cc606d217bc1a681d486174f63"
    )
    assert (len(HEADER), len(frame_header(*CHUNKS[0]))) == (PACK_HEADER_BYTES, FRAME_HEADER_BYTES)


def test_a_sound_pack_is_its_frames() -> None:
    items = scanned(PACK)
    assert frames_of(items) == dict(CHUNKS)
    assert [item.offset for item in items] == STARTS
    assert not [item for item in items if isinstance(item, Gap)]


def test_every_flipped_bit_costs_one_frame_and_is_reported() -> None:
    for bit in range(PACK_HEADER_BYTES * 8, len(PACK) * 8):
        broken = bytearray(PACK)
        broken[bit >> 3] ^= 1 << (bit & 7)
        hit = max(n for n, start in enumerate(STARTS) if start <= bit >> 3)
        items = scanned(bytes(broken))
        assert frames_of(items) == dict(CHUNKS[:hit] + CHUNKS[hit + 1 :]), bit
        gaps = [item for item in items if isinstance(item, Gap)]
        assert [(gap.offset, gap.length) for gap in gaps] == [(STARTS[hit], len(FRAMES[hit]))]
        assert covers(items, PACK_HEADER_BYTES, len(PACK))
        if bit >> 3 >= STARTS[hit] + FRAME_HEADER_BYTES:
            assert gaps[0].chunk == CHUNKS[hit][0]
        assert gaps[0].torn == (hit == len(CHUNKS) - 1)


def test_a_pack_cut_anywhere_keeps_its_whole_frames() -> None:
    for size in range(PACK_HEADER_BYTES, len(PACK)):
        items = scanned(PACK[:size])
        whole = sum(start + len(frame) <= size for start, frame in zip(STARTS, FRAMES, strict=True))
        assert frames_of(items) == dict(CHUNKS[:whole])
        assert covers(items, PACK_HEADER_BYTES, size)
        tail = [item for item in items if isinstance(item, Gap)]
        assert [gap.torn for gap in tail] == ([True] if size not in [*STARTS, len(PACK)] else [])


def test_bytes_lost_or_added_in_the_middle_cost_only_what_they_touch() -> None:
    for cut in (1, 57, 400):
        items = scanned(PACK[: STARTS[2] + 10] + PACK[STARTS[2] + 10 + cut :])
        assert set(frames_of(items)) >= {chunk for chunk, _ in CHUNKS[:2] + CHUNKS[5:]}
    items = scanned(PACK[: STARTS[2]] + b"DtFr" * 9 + PACK[STARTS[2] :])
    assert frames_of(items) == dict(CHUNKS)


def test_a_scan_holds_little_of_a_large_pack() -> None:
    frame = frame_header(ChunkId(bytes(32)), noise(1, 1 << 20)) + noise(1, 1 << 20)
    largest = 0

    def read(offset: int, size: int) -> bytes:
        nonlocal largest
        largest = max(largest, size)
        first, skip = divmod(offset, len(frame))
        return (frame * (2 + size // len(frame)))[skip : skip + size] if first < 64 else b""

    assert sum(isinstance(item, Frame) for item in scan(read, 0, 64 * len(frame))) == 64
    assert largest <= 8 << 20


def test_a_pack_of_another_number_volume_or_version_is_refused_by_name() -> None:
    check_pack_header(PACK, 1, KEYS.volume_id)
    for header, why in (
        (b"", "not a pack"),
        (b"Something else" + bytes(40), "not a pack"),
        (HEADER[:20] + b"!" + HEADER[21:], "damaged"),
        (pack_header(2, KEYS.volume_id), "pack 2"),
        (pack_header(1, VolumeId(b"x" * 32)), "another volume"),
    ):
        with pytest.raises(FormatError, match=why):
            check_pack_header(header, 1, KEYS.volume_id)


def test_only_pack_names_are_packs() -> None:
    assert pack_number(pack_name(0x1F)) == 0x1F
    for name in (
        "index",
        "0000001.pack",
        "0000000g.pack",
        "00000000.pack",
        "00000001.run",
        "x.pack",
        "+0000001.pack",
    ):
        assert pack_number(name) is None


def test_a_short_header_is_no_header() -> None:
    assert parse_frame_header(FRAMES[0][: FRAME_HEADER_BYTES - 1]) is None
