"""Cuts: the same everywhere, bounded, and local to a change."""

import pytest

from dittofs.chunks.chunker import CHUNK_BYTES_MAX, CHUNK_BYTES_MIN, FIXED_BYTES, Chunking, Cutter
from tests.unit.chunks.stores import KEYS, noise

DATA = noise(7, 8 << 20)


def whole(
    data: bytes, chunking: Chunking = Chunking.CONTENT_DEFINED, secret: bytes = KEYS.secret
) -> list[int]:
    return Cutter(chunking, secret).cut(data, offset=0, final=True)


def in_steps(data: bytes, step: int, chunking: Chunking = Chunking.CONTENT_DEFINED) -> list[int]:
    cutter = Cutter(chunking, KEYS.secret)
    ends: list[int] = []
    held = b""
    start = 0
    for at in range(0, len(data), step):
        held += data[at : at + step]
        found = cutter.cut(held, offset=start, final=at + step >= len(data))
        ends += [start + end for end in found]
        if found:
            held = held[found[-1] :]
            start += found[-1]
    return ends


def test_the_cuts_are_the_published_ones() -> None:
    """Known answer: another cutter or seed would share no chunk with what is stored."""
    assert whole(DATA)[:8] == [40625, 136938, 176905, 252512, 377176, 402824, 426315, 494646]


def test_chunks_keep_their_bounds_and_cover_everything() -> None:
    ends = whole(DATA)
    lengths = [end - start for start, end in zip([0, *ends], ends, strict=False)]
    assert ends[-1] == len(DATA)
    assert max(lengths) <= CHUNK_BYTES_MAX
    assert min(lengths[:-1]) >= CHUNK_BYTES_MIN
    assert 50_000 < len(DATA) / len(lengths) < 100_000


@pytest.mark.parametrize("chunking", Chunking)
@pytest.mark.parametrize("step", [4096, 50_001, 300_000, 1 << 20])
def test_cutting_in_steps_gives_the_cuts_of_the_whole(chunking: Chunking, step: int) -> None:
    data = DATA[: 2 << 20]
    assert in_steps(data, step, chunking) == whole(data, chunking)


def test_an_insertion_moves_few_cuts() -> None:
    at = 3 << 20
    before, after = set(whole(DATA)), set(whole(DATA[:at] + b"inserted" + DATA[at:]))
    kept = {end for end in before if end <= at} & after | {
        end for end in before if end > at and end + 8 in after
    }
    assert len(before - kept) <= 6


def test_another_volume_cuts_elsewhere() -> None:
    ours, theirs = set(whole(DATA)), set(whole(DATA, secret=bytes(32)))
    assert len(ours & theirs) <= 2


def test_equal_bytes_are_cut_at_the_greatest_length() -> None:
    assert whole(bytes(1 << 20)) == [CHUNK_BYTES_MAX * n for n in range(1, 5)]


def test_fixed_cuts_fall_on_multiples_of_the_file() -> None:
    cutter = Cutter(Chunking.FIXED, KEYS.secret)
    ends = cutter.cut(bytes(200_000), offset=FIXED_BYTES - 1000, final=True)
    assert ends == [1000, 66_536, 132_072, 197_608, 200_000]
    assert cutter.cut(bytes(200_000), offset=FIXED_BYTES - 1000, final=False) == ends[:-1]
    assert cutter.cut(b"", offset=0, final=True) == []


def test_a_cut_is_certain_before_more_bytes_come() -> None:
    """What `cut` returns without `final` is never taken back, whatever follows."""
    cutter = Cutter(Chunking.CONTENT_DEFINED, KEYS.secret)
    ends = whole(DATA[: 1 << 20])
    for end in ends[:5]:
        for extra in range(4):
            certain = cutter.cut(DATA[: end + extra], offset=0, final=False)
            assert certain == [e for e in ends if e <= end + extra][: len(certain)]
            assert len(certain) >= len([e for e in ends if e + 2 <= end + extra])
