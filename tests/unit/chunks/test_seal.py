"""Ids and seals: what is opened is what was sealed, or there is one clear error."""

import struct
import tracemalloc

import pytest
import zstandard
from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from dittofs.chunks.seal import (
    PLAIN_BYTES_MAX,
    ChunkKind,
    GenerationMissing,
    Sealer,
    VolumeKeys,
    derive,
)
from dittofs.errors import Damaged, FormatError
from dittofs.ids import ChunkId, VolumeId
from tests.unit.chunks.stores import GENERATION, KEYS, noise

PLAIN = b"The quick brown fox jumps over the lazy dog. " * 100


def sealer(keys: VolumeKeys = KEYS, nonce: bytes = b"n" * 12) -> Sealer:
    return Sealer(keys, lambda count: nonce[:count])


def seal_by_hand(inner: bytes, chunk: ChunkId, *, kind: int = 1, version: int = 1) -> bytes:
    """Seal any inner bytes as a holder of the keys could."""
    header = bytes([version, kind]) + GENERATION + b"m" * 12
    key = blake3(chunk, key=derive("chunk", KEYS.generations[GENERATION])).digest()
    return header + AESGCM(key).encrypt(b"m" * 12, inner, header + KEYS.volume_id + chunk)


def inner(codec: int, raw: int, body: bytes, padding: bytes = b"") -> bytes:
    return struct.pack(">BII", codec, raw, len(body)) + body + padding


def test_ids_and_seals_are_the_published_ones() -> None:
    """Known answers: a change of any of these makes every stored chunk unreadable."""
    box = sealer()
    ids = {kind: box.identify(kind, b"known answer").hex() for kind in ChunkKind}
    assert ids == {
        ChunkKind.DATA: "389f52bb14751f5b87453bd24da169de6a54b17aeb45cf56fb762d488608a789",
        ChunkKind.MANIFEST: "0a8f85c0997fd0bae618e2e6933127f2c10cf44f631ed6ffd1910cc4629df4bc",
        ChunkKind.VERSION: "1beeddd07257dc917e44a14b21c88e85b41f61b0ab45dc0ee28389ffb8d697c6",
    }
    chunk = box.identify(ChunkKind.DATA, b"known answer")
    assert box.seal(ChunkKind.DATA, chunk, b"known answer").hex() == (
        "010167656e2d303030316e6e6e6e6e6e6e6e6e6e6e6ee67c7caa1fa585f710f1d30ce2c28b839402d8506fe9b1"
        "f1ebe9326910e3d1bde6765a2eab"
    )


@pytest.mark.parametrize("plain", [b"", b"x", PLAIN, noise(1, 300_000), bytes(PLAIN_BYTES_MAX)])
@pytest.mark.parametrize("kind", ChunkKind)
def test_what_was_sealed_is_opened(kind: ChunkKind, plain: bytes) -> None:
    box = sealer()
    chunk = box.identify(kind, plain)
    assert box.open(kind, chunk, box.seal(kind, chunk, plain)) == plain


def test_bytes_that_compress_are_stored_compressed_and_others_are_not() -> None:
    box = sealer()
    for plain, low, high in ((PLAIN, 0, len(PLAIN) // 10), (noise(1, 70_000), 70_000, 70_100)):
        chunk = box.identify(ChunkKind.DATA, plain)
        assert low <= len(box.seal(ChunkKind.DATA, chunk, plain)) <= high


def test_a_chunk_sealed_twice_has_two_nonces() -> None:
    nonces = iter([b"a" * 12, b"b" * 12])
    box = Sealer(KEYS, lambda _: next(nonces))
    chunk = box.identify(ChunkKind.DATA, PLAIN)
    first, second = (box.seal(ChunkKind.DATA, chunk, PLAIN) for _ in range(2))
    assert first[10:22] != second[10:22]
    assert first[22:] != second[22:]
    assert box.open(ChunkKind.DATA, chunk, first) == box.open(ChunkKind.DATA, chunk, second)


def test_every_flipped_bit_and_every_cut_is_refused() -> None:
    box = sealer()
    chunk = box.identify(ChunkKind.DATA, b"short")
    sealed = box.seal(ChunkKind.DATA, chunk, b"short")
    for at in range(len(sealed) * 8):
        broken = bytearray(sealed)
        broken[at >> 3] ^= 1 << (at & 7)
        with pytest.raises((Damaged, FormatError)):
            box.open(ChunkKind.DATA, chunk, bytes(broken))
    for size in range(len(sealed)):
        with pytest.raises((Damaged, FormatError)):
            box.open(ChunkKind.DATA, chunk, sealed[:size])


def test_a_chunk_passes_for_no_other_id_kind_or_volume() -> None:
    box = sealer()
    chunk = box.identify(ChunkKind.DATA, PLAIN)
    sealed = box.seal(ChunkKind.DATA, chunk, PLAIN)
    with pytest.raises(Damaged):
        box.open(ChunkKind.DATA, box.identify(ChunkKind.DATA, b"other"), sealed)
    with pytest.raises(FormatError, match="kind 1 where kind 2"):
        box.open(ChunkKind.MANIFEST, chunk, sealed)
    elsewhere = sealer(VolumeKeys(VolumeId(b"o" * 32), KEYS.secret, KEYS.generations, KEYS.current))
    with pytest.raises(Damaged):
        elsewhere.open(ChunkKind.DATA, chunk, sealed)


def test_a_member_cannot_seal_another_content_under_an_id() -> None:
    chunk = sealer().identify(ChunkKind.DATA, PLAIN)
    with pytest.raises(Damaged, match="another id"):
        sealer().open(ChunkKind.DATA, chunk, seal_by_hand(inner(0, 4, b"evil"), chunk))


def test_padding_is_opened_if_it_is_zero_and_refused_otherwise() -> None:
    chunk = sealer().identify(ChunkKind.DATA, b"plain")
    padded = seal_by_hand(inner(0, 5, b"plain", bytes(500)), chunk)
    assert sealer().open(ChunkKind.DATA, chunk, padded) == b"plain"
    with pytest.raises(FormatError, match="padding"):
        sealer().open(ChunkKind.DATA, chunk, seal_by_hand(inner(0, 5, b"plain", b"\0\0x"), chunk))


def test_a_bomb_is_refused_before_it_unfolds() -> None:
    huge = zstandard.ZstdCompressor().compress(bytes(64 << 20))
    chunk = sealer().identify(ChunkKind.DATA, b"")
    for raw in (64 << 20, PLAIN_BYTES_MAX, 1):
        sealed = seal_by_hand(inner(1, raw, huge), chunk)
        tracemalloc.start()
        try:
            with pytest.raises(FormatError):
                sealer().open(ChunkKind.DATA, chunk, sealed)
            assert tracemalloc.get_traced_memory()[1] < 4 << 20
        finally:
            tracemalloc.stop()


def test_malformed_insides_are_refused_by_name() -> None:
    chunk = sealer().identify(ChunkKind.DATA, b"plain")
    for bad, why in (
        (inner(7, 5, b"plain"), "codec"),
        (inner(0, 6, b"plain"), "plain chunk"),
        (struct.pack(">BII", 0, 5, 900) + b"plain", "a chunk of 5 bytes"),
        (inner(1, 5, b"no zstd"), "unpack|compressed"),
        (inner(1, 5, zstandard.compress(b"plain") + b"more"), "unpack|unpacks"),
    ):
        with pytest.raises(FormatError, match=why):
            sealer().open(ChunkKind.DATA, chunk, seal_by_hand(bad, chunk))
    with pytest.raises(FormatError, match="version 2"):
        sealer().open(ChunkKind.DATA, chunk, seal_by_hand(inner(0, 5, b"plain"), chunk, version=2))


def test_old_generations_stay_readable_and_unknown_ones_are_named() -> None:
    chunk = sealer().identify(ChunkKind.DATA, PLAIN)
    sealed = sealer().seal(ChunkKind.DATA, chunk, PLAIN)
    rotated = VolumeKeys(
        KEYS.volume_id, KEYS.secret, {**KEYS.generations, b"gen-0002": b"2" * 32}, b"gen-0002"
    )
    assert sealer(rotated).open(ChunkKind.DATA, chunk, sealed) == PLAIN
    newer = sealer(rotated).seal(ChunkKind.DATA, chunk, PLAIN)
    with pytest.raises(GenerationMissing, match=b"gen-0002".hex()):
        sealer().open(ChunkKind.DATA, chunk, newer)


def test_more_than_a_mebibyte_is_not_sealed() -> None:
    plain = bytes(PLAIN_BYTES_MAX + 1)
    with pytest.raises(FormatError):
        sealer().seal(ChunkKind.DATA, sealer().identify(ChunkKind.DATA, plain), plain)


def test_secrets_do_not_show_in_a_repr() -> None:
    assert KEYS.secret.hex() not in repr(KEYS)
    assert repr(KEYS.secret) not in repr(KEYS)
