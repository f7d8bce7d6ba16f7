"""Three-way merge of text, line by line. Pure: the same three contents give the same bytes everywhere.

Two sides are joined where they changed different places with an unchanged line between them; anything else
is not clean, and then nothing is merged. A line that either side added is in the result.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

TEXT_BYTES_MAX: Final = 4 << 20
"""Of one side; what is larger is not merged."""
LINES_MAX: Final = 200_000
GAP_CELLS_MAX: Final = 250_000  # 500 lines against 500: of a larger gap without a line of its own, none match


class _Match(NamedTuple):
    """`length` lines of the base that the other side has too."""

    base: int
    other: int
    length: int


def is_text(contents: Sequence[bytes]) -> bool:
    """Whether contents are lines of characters that may stand in one file.

    No NUL byte (UTF-16 has them), not larger than TEXT_BYTES_MAX; those with characters beyond ASCII are all
    UTF-8, or none of them is: a file half in one encoding and half in another nobody can read.
    """
    encodings: set[bool] = set()
    for content in contents:
        if len(content) > TEXT_BYTES_MAX or b"\0" in content:
            return False
        if not content.isascii():
            encodings.add(_is_utf8(content))
    return len(encodings) < 2


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def merge(base: bytes, one: bytes, other: bytes) -> bytes | None:
    """What both made of `base`; None if they touched the same place, or neighbouring lines.

    Lines are compared with their ends, so that a change from LF to CRLF is a change of every line.
    """
    numbers: dict[bytes, int] = {}
    texts = [lines_of(content) for content in (base, one, other)]
    if any(len(lines) > LINES_MAX for lines in texts):
        return None
    ids = [[numbers.setdefault(line, len(numbers)) for line in lines] for lines in texts]
    merged: list[bytes] = []
    for in_base, in_one, in_other in _chunks(*ids):
        before, mine, theirs = (
            numbered[part] for numbered, part in zip(ids, (in_base, in_one, in_other), strict=True)
        )
        if theirs in (before, mine):
            merged += texts[1][in_one]
        elif mine == before:
            merged += texts[2][in_other]
        else:
            return None
    return b"".join(merged)


def lines_of(content: bytes) -> list[bytes]:
    """Lines with their ends; a lone CR ends none."""
    lines = content.split(b"\n")
    last = lines.pop()
    return [*(line + b"\n" for line in lines), *([last] if last else [])]


def _chunks(
    base: Sequence[int], one: Sequence[int], other: Sequence[int]
) -> Iterator[tuple[slice, slice, slice]]:
    """The three texts cut into parts that belong together, in order: unchanged, or changed by somebody."""
    at = (0, 0, 0)
    for start, length, in_one, in_other in _unchanged(matches(base, one), matches(base, other)):
        if at != (start, in_one, in_other):
            yield slice(at[0], start), slice(at[1], in_one), slice(at[2], in_other)
        at = (start + length, in_one + length, in_other + length)
        yield slice(start, at[0]), slice(in_one, at[1]), slice(in_other, at[2])
    yield slice(at[0], len(base)), slice(at[1], len(one)), slice(at[2], len(other))


def _unchanged(one: Sequence[_Match], other: Sequence[_Match]) -> Iterator[tuple[int, int, int, int]]:
    """(in the base, how many, in one, in the other) of lines that all three have."""
    left = right = 0
    while left < len(one) and right < len(other):
        a, b = one[left], other[right]
        start, end = max(a.base, b.base), min(a.base + a.length, b.base + b.length)
        if start < end:
            yield start, end - start, a.other + start - a.base, b.other + start - b.base
        if a.base + a.length < b.base + b.length:
            left += 1
        else:
            right += 1


def matches(base: Sequence[int], other: Sequence[int]) -> list[_Match]:
    """The lines of `base` that are in `other` too, in the order of both.

    Lines that are in each only once are matched first (patience): a brace or an empty line holds nothing
    together. Between them the longest common subsequence, if the gap is not too large for that.
    """
    pairs: list[tuple[int, int]] = []
    waiting = [(0, len(base), 0, len(other))]
    while waiting:
        low, high, start, end = waiting.pop()
        while low < high and start < end and base[low] == other[start]:
            pairs.append((low, start))
            low, start = low + 1, start + 1
        while low < high and start < end and base[high - 1] == other[end - 1]:
            high, end = high - 1, end - 1
            pairs.append((high, end))
        if low == high or start == end:
            continue
        anchors = _anchors(base[low:high], other[start:end])
        if anchors:
            edges = [(-1, -1), *anchors, (high - low, end - start)]
            pairs += [(low + i, start + j) for i, j in anchors]
            waiting += [
                (low + i + 1, low + next_i, start + j + 1, start + next_j)
                for (i, j), (next_i, next_j) in pairwise(edges)
            ]
        elif (high - low) * (end - start) <= GAP_CELLS_MAX:
            pairs += [(low + i, start + j) for i, j in _longest(base[low:high], other[start:end])]
    return _runs(sorted(pairs))


def _anchors(base: Sequence[int], other: Sequence[int]) -> list[tuple[int, int]]:
    """Lines that are once in each, as many as have the same order in both."""
    once = {line for line, count in Counter(base).items() if count == 1}
    once &= {line for line, count in Counter(other).items() if count == 1}
    places = {line: place for place, line in enumerate(other) if line in once}
    candidates = [(place, places[line]) for place, line in enumerate(base) if line in once]
    tops: list[int] = []  # the least end of an ascending run of each length
    ends: list[int] = []
    previous: list[int] = []
    for number, (_, place) in enumerate(candidates):
        length = bisect_left(tops, place)
        after = length + 1
        tops[length:after] = [place]
        ends[length:after] = [number]
        previous.append(ends[length - 1] if length else -1)
    found = []
    number = ends[-1] if ends else -1
    while number >= 0:
        found.append(candidates[number])
        number = previous[number]
    return found[::-1]


def _longest(base: Sequence[int], other: Sequence[int]) -> list[tuple[int, int]]:
    """The longest common subsequence, the first of several."""
    lengths = [[0] * (len(other) + 1)]
    for line in reversed(base):
        below = lengths[-1]
        row = [0] * (len(other) + 1)
        for j in range(len(other) - 1, -1, -1):
            row[j] = below[j + 1] + 1 if line == other[j] else max(below[j], row[j + 1])
        lengths.append(row)
    lengths.reverse()
    found = []
    i = j = 0
    while i < len(base) and j < len(other):
        if base[i] == other[j]:
            found.append((i, j))
            i, j = i + 1, j + 1
        elif lengths[i + 1][j] >= lengths[i][j + 1]:
            i += 1
        else:
            j += 1
    return found


def _runs(pairs: Sequence[tuple[int, int]]) -> list[_Match]:
    """Pairs that follow each other on both sides as one match."""
    runs: list[_Match] = []
    for i, j in pairs:
        last = runs[-1] if runs else None
        if last is not None and (last.base + last.length, last.other + last.length) == (i, j):
            runs[-1] = last._replace(length=last.length + 1)
        else:
            runs.append(_Match(i, j, 1))
    return runs
