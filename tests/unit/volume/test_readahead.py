"""What is fetched ahead: nothing before a long sequential read, and never more than an eighth of it."""

import random
from itertools import pairwise

import pytest

from dittofs.volume.readahead import (
    SEQUENTIAL_BYTES_MIN,
    SHARE,
    SLACK_BYTES,
    WINDOW_BYTES_MAX,
    ReadAhead,
)

K = 1 << 10
STEP = 128 * K


@pytest.mark.parametrize(
    ("reads", "wanted"),
    [
        ([(0, 256 * K)], None),
        ([(0, 256 * K), (256 * K, 255 * K)], None),
        ([(0, 256 * K), (256 * K, 256 * K)], (512 * K, 576 * K)),
        ([(0, 1024 * K)], (1024 * K, 1152 * K)),
        ([(0, 256 * K), (10_000 * K, 256 * K)], None),  # two glances
        ([(10_000 * K, 512 * K)], (10_512 * K, 10_576 * K)),  # from the middle on
        ([(0, 256 * K), (384 * K, 128 * K), (256 * K, 128 * K), (512 * K, 256 * K)], (768 * K, 848 * K)),
        ([(0, 512 * K), (0, 512 * K), (0, 512 * K)], (512 * K, 576 * K)),  # the same again is no progress
        ([(0, 1 << 30)], ((1 << 30), (1 << 30) + WINDOW_BYTES_MAX)),
        ([(900 * K, 100 * K), (800 * K, 100 * K), (700 * K, 100 * K)], None),  # backwards
    ],
)
def test_the_policy(reads: list[tuple[int, int]], wanted: tuple[int, int] | None) -> None:
    ahead = ReadAhead()
    for offset, length in reads:
        found = ahead.note(offset, length)
    assert found == wanted


def test_what_was_asked_for_is_not_asked_for_again() -> None:
    ahead = ReadAhead()
    asked: list[tuple[int, int]] = []
    for offset in range(0, 8 << 20, STEP):
        span = ahead.note(offset, STEP)
        if span is not None:
            asked.append(span)
            ahead.asked(span[1])
    assert all(one[1] <= other[0] for one, other in pairwise(asked))


@pytest.mark.parametrize("seed", range(20))
def test_what_is_fetched_and_not_read_is_at_most_an_eighth_of_what_was_read(seed: int) -> None:
    chance = random.Random(seed)
    ahead = ReadAhead()
    read, asked, position = set[int](), set[int](), 0
    for _ in range(300):
        if chance.random() < 0.05:
            position = chance.randrange(1 << 30) // STEP * STEP
        span = ahead.note(position, STEP)
        read.add(position // STEP)
        if span is not None:
            asked |= set(range(-(-span[0] // STEP), span[1] // STEP))
            ahead.asked(span[1])
        position += STEP
    assert len(asked - read) * SHARE <= len(read)


def test_a_jump_begins_anew() -> None:
    ahead = ReadAhead()
    assert ahead.note(0, 4 * SEQUENTIAL_BYTES_MIN)
    assert ahead.note(4 * SEQUENTIAL_BYTES_MIN + SLACK_BYTES + 1, 4 * K) is None
