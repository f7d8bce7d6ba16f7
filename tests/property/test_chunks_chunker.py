"""Cuts of any bytes: they cover them, keep their bounds, and do not depend on how the bytes come."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from dittofs.chunks.chunker import CHUNK_BYTES_MAX, CHUNK_BYTES_MIN, FIXED_BYTES, Chunking, Cutter
from tests.unit.chunks.stores import KEYS

STEPS_MAX = 1_000
"""Of one content: each looks again at what is not cut yet."""


@st.composite
def contents(draw: st.DrawFn) -> bytes:
    """Noise, and stretches of one byte, which cut differently."""
    parts = draw(
        st.lists(st.tuples(st.integers(0, 400_000), st.integers(0, 1 << 30), st.booleans()), max_size=4)
    )
    return b"".join(
        bytes([seed % 256]) * size if is_flat else random.Random(seed).randbytes(size)
        for size, seed, is_flat in parts
    )


@settings(max_examples=80, deadline=None)
@given(contents(), st.sampled_from(Chunking), st.integers(0, 1 << 40))
def test_chunks_joined_are_the_content_and_keep_their_bounds(
    data: bytes, chunking: Chunking, offset: int
) -> None:
    ends = Cutter(chunking, KEYS.secret).cut(data, offset=offset, final=True)
    lengths = [end - start for start, end in zip([0, *ends], ends, strict=False)]
    assert sum(lengths) == len(data)
    assert all(0 < length <= CHUNK_BYTES_MAX for length in lengths)
    if chunking is Chunking.CONTENT_DEFINED:
        assert all(length >= CHUNK_BYTES_MIN for length in lengths[:-1])
    else:
        assert all((offset + end) % FIXED_BYTES == 0 for end in ends[:-1])


@settings(max_examples=80, deadline=None)
@given(contents(), st.sampled_from(Chunking), st.lists(st.integers(1, 500_000), min_size=1))
def test_cuts_do_not_depend_on_how_the_bytes_come(data: bytes, chunking: Chunking, steps: list[int]) -> None:
    cutter = Cutter(chunking, KEYS.secret)
    whole = cutter.cut(data, offset=0, final=True)
    found: list[int] = []
    start = taken = turn = 0
    while taken < len(data):
        step = max(steps[turn % len(steps)], len(data) // STEPS_MAX)
        taken = min(taken + step, len(data))
        turn += 1
        ends = cutter.cut(data[start:taken], offset=start, final=taken == len(data))
        found += [start + end for end in ends]
        start = found[-1] if found else 0
    assert found == whole


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1 << 30), st.integers(0, 2_000_000), st.binary(min_size=1, max_size=100))
def test_an_insertion_moves_only_the_cuts_near_it(seed: int, at: int, new: bytes) -> None:
    data = random.Random(seed).randbytes(2_000_000)
    cutter = Cutter(Chunking.CONTENT_DEFINED, KEYS.secret)
    before = cutter.cut(data, offset=0, final=True)
    after = set(cutter.cut(data[:at] + new + data[at:], offset=0, final=True))
    assert all(end in after for end in before if end < at)
    moved = [end for end in before if end >= at and end + len(new) not in after]
    assert len(moved) <= 12
