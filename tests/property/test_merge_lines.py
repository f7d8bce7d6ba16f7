"""Merging text: what any three contents give."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dittofs.merging.lines import TEXT_BYTES_MAX, is_text, merge

LINES = st.lists(st.sampled_from([b"", b"{", b"}", b"one", b"two", b"three", b"four\r", b"f\xc3\xbcnf"]))
TEXTS = st.builds(lambda lines, end: b"\n".join(lines) + end, LINES, st.sampled_from([b"", b"\n"]))


@st.composite
def sides(draw: st.DrawFn) -> tuple[bytes, bytes, bytes]:
    """A base and two edits of it: lines put in, taken out and changed, most of them of one side alone."""
    base = [b"line %d\n" % number for number in range(draw(st.integers(0, 30)))]
    edited = []
    for name in (b"one", b"other"):
        lines = list(base)
        for number in range(draw(st.integers(0, 4))):
            place = draw(st.integers(0, len(lines)))
            length = draw(st.integers(0, 2))
            added = [b"%s %d\n" % (name, number)] * draw(st.integers(0, 2))
            lines[place : place + length] = added
        edited.append(b"".join(lines))
    return b"".join(base), edited[0], edited[1]


@given(TEXTS, TEXTS)
def test_a_side_that_changed_nothing_leaves_the_other_as_it_is(base: bytes, side: bytes) -> None:
    assert merge(base, side, base) == side
    assert merge(base, base, side) == side


@given(TEXTS, TEXTS)
def test_what_both_sides_did_alike_is_done_once(base: bytes, side: bytes) -> None:
    assert merge(base, side, side) == side


@settings(max_examples=300)
@given(st.one_of(sides(), st.tuples(TEXTS, TEXTS, TEXTS)))
def test_the_order_of_the_sides_says_nothing(three: tuple[bytes, bytes, bytes]) -> None:
    base, one, other = three
    assert merge(base, one, other) == merge(base, other, one)


@settings(max_examples=300)
@given(st.one_of(sides(), st.tuples(TEXTS, TEXTS, TEXTS)))
def test_no_line_that_either_side_added_is_lost_and_none_is_made_up(
    three: tuple[bytes, bytes, bytes],
) -> None:
    base, one, other = (Counter(content.split(b"\n")) for content in three)
    merged = merge(*three)
    if merged is None:
        return
    found = Counter(merged.split(b"\n"))
    for line in (one | other).keys() - base.keys():
        assert found[line] >= max(one[line], other[line]), line
        assert found[line] <= one[line] + other[line], line
    assert found.keys() <= (base | one | other).keys()


@given(sides())
def test_a_line_that_both_left_alone_stays_and_one_that_is_gone_on_one_side_stays_gone(
    three: tuple[bytes, bytes, bytes],
) -> None:
    base, one, other = (set(content.splitlines()) for content in three)
    merged = merge(*three)
    if merged is not None:
        found = set(merged.splitlines())
        assert base & one & other <= found
        assert not (base - (one & other)) & found


BASE = b"a\nb\nc\nd\ne\n"


@pytest.mark.parametrize(
    ("one", "other", "merged"),
    [
        (b"A\nb\nc\nd\ne\n", b"a\nb\nc\nd\nE\n", b"A\nb\nc\nd\nE\n"),
        (b"a\nb\nc\nd\ne\nf\n", b"z\na\nb\nc\nd\ne\n", b"z\na\nb\nc\nd\ne\nf\n"),
        (b"a\nc\nd\ne\n", b"a\nb\nc\nd\n", b"a\nc\nd\n"),
        (b"a\nB\nc\nd\ne\n", b"a\nX\nc\nd\ne\n", None),
        (b"a\nB\nc\nd\ne\n", b"a\nb\nC\nd\ne\n", None),
        (b"a\nc\nd\ne\n", b"a\nB\nc\nd\ne\n", None),
        (b"a\nb\nx\nc\nd\ne\n", b"a\nb\ny\nc\nd\ne\n", None),
        (b"", b"a\nb\nc\nd\nE\n", None),
    ],
    ids=["ends", "both ends", "removals", "one line", "neighbours", "removed", "one place", "emptied"],
)
def test_changes_of_different_places_are_joined_and_of_one_place_are_not(
    one: bytes, other: bytes, merged: bytes | None
) -> None:
    assert merge(BASE, one, other) == merged


def test_a_missing_last_newline_is_kept_and_never_glues_two_lines_together() -> None:
    assert merge(b"a\nb\nc", b"A\nb\nc", b"a\nb\nC") == b"A\nb\nC"
    assert merge(b"a\nb\nc", b"A\nb\nc", b"a\nb\nc\n") == b"A\nb\nc\n"
    assert merge(b"a\nb\nc", b"a\nb\nc\nd", b"a\nb\nc\ne") is None


def test_line_ends_are_part_of_a_line() -> None:
    assert merge(b"a\r\nb\r\nc\r\n", b"A\r\nb\r\nc\r\n", b"a\r\nb\r\nC\r\n") == b"A\r\nb\r\nC\r\n"
    assert merge(b"a\nb\nc\n", b"a\r\nb\r\nc\r\n", b"a\nb\nC\n") is None


def test_only_text_of_one_encoding_is_text() -> None:
    assert is_text([b"", b"plain\n", "grün\n".encode()])
    assert is_text([b"plain\n", "grün\n".encode("latin-1"), "blau ä\n".encode("latin-1")])
    assert not is_text([b"plain\n", "grün\n".encode(), "grün\n".encode("latin-1")])
    assert not is_text(["grün\n".encode("utf-16")])
    assert not is_text([b"x" * (TEXT_BYTES_MAX + 1)])


def test_a_large_text_without_a_line_of_its_own_is_not_worked_on_for_ever() -> None:
    base, one = b"x\n" * 50_000, b"y\n" + b"x\n" * 49_990 + b"z\n"
    assert merge(base, one, base) == one
    other = b"w\n" * 10 + b"x\n" * 49_980
    assert merge(base, one, other) == merge(base, other, one)
