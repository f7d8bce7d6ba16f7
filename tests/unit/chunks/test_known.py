"""What is known of a content is forgotten wherever it may have changed, and nowhere else."""

import random

from dittofs.chunks.known import KnownChunks
from dittofs.ids import ChunkId

Stretch = tuple[int, int, ChunkId]


def known_of(stretches: list[Stretch]) -> KnownChunks:
    known = KnownChunks()
    for stretch in stretches:
        known.add(*stretch)
    return known


def hundreds(count: int, gap: int = 0) -> list[Stretch]:
    return [(number * (100 + gap), 100, ChunkId(bytes([number]) * 32)) for number in range(count)]


def test_what_changes_takes_along_the_chunk_that_ends_in_front_of_it() -> None:
    known = known_of(hundreds(6))
    assert known.forget(201, 300) == 100
    assert [offset for offset, _, _ in known] == [0, 100, 300, 400, 500]
    assert known.forget(500, 501) == 200, "the chunk before saw the byte that changed"
    assert [offset for offset, _, _ in known] == [0, 100, 300]
    assert not known.forget(401, 10_000)


def test_only_whole_chunks_of_a_stretch_are_told() -> None:
    known = known_of(hundreds(4))
    assert [offset for offset, _, _ in known.within(50, 399)] == [100, 200]
    assert not list(known.within(1, 99))
    assert list(known.within(0, 400)) == hundreds(4)


def test_any_changes_leave_what_a_plain_list_would_keep() -> None:
    chance = random.Random(7)
    for _ in range(300):
        plain = hundreds(chance.randrange(12), chance.choice([0, 7]))
        known = known_of(plain)
        for _ in range(5):
            start = chance.randrange(1_300)
            end = start + chance.randrange(1, 300)
            known.forget(start, end)
            plain = [one for one in plain if one[0] >= end or one[0] + one[1] < start]
            assert list(known) == plain
        low, high = sorted(chance.sample(range(1_300), 2))
        assert list(known.within(low, high)) == [
            one for one in plain if one[0] >= low and one[0] + one[1] <= high
        ]
        kept = known.filtered(lambda chunk: chunk[0] % 2 == 0)
        assert list(kept) == [one for one in plain if one[2][0] % 2 == 0]
