"""What people read."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dittofs.cli.output import (
    Progress,
    counted,
    duration,
    escaped,
    harmless,
    human_size,
    progress_line,
    when,
)
from dittofs.clock import DAY_NS


@given(st.binary(max_size=60))
def test_no_name_reaches_the_terminal_with_anything_that_acts_on_it(name: bytes) -> None:
    assert all(
        unicodedata.category(one) not in ("Cc", "Cs", "Co", "Cn", "Zl", "Zp")
        and (unicodedata.category(one) != "Cf" or one in "\u200c\u200d")
        for one in escaped(name)
    )


@given(st.binary(max_size=20), st.binary(max_size=20))
def test_two_names_never_look_the_same_for_their_escapes(one: bytes, other: bytes) -> None:
    assert (escaped(one) == escaped(other)) == (one == other)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Grüße 世界 👍".encode(), "Grüße 世界 👍"),
        (b"a\x1b[31mred", r"a\x1b[31mred"),
        (b"two\nlines\t\\", r"two\nlines\t\\"),
        (b"\xff\xfe", r"\xff\xfe"),
        ("evil\u202egpj.exe".encode(), r"evil\u202egpj.exe"),
        ("c1\x9b".encode(), r"c1\u009b"),
        ("tag\U000e0041".encode(), r"tag\U000e0041"),
    ],
)
def test_names_are_shown_for_what_they_are(name: bytes, shown: str) -> None:
    assert escaped(name) == shown


def test_a_sentence_keeps_its_lines_and_loses_what_acts() -> None:
    assert harmless("one\ntwo \x1b[2J C:\\x \udcff") == "one\ntwo \\x1b[2J C:\\x \\xff"


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1000, "1 kB"),
        (1450, "1.4 kB"),
        (41_000_000, "41 MB"),
        (38_200_000_000, "38.2 GB"),
        (99_949, "99.9 kB"),
        (99_960, "100 kB"),
        (999_499, "999 kB"),
        (999_500, "1 MB"),
        (2**63 - 1, "9.2 EB"),
    ],
)
def test_sizes_have_at_most_three_digits(size: int, shown: str) -> None:
    assert human_size(size) == shown


def test_counts_and_durations_read_like_sentences() -> None:
    assert (counted(1, "file"), counted(1204, "file")) == ("1 file", "1,204 files")
    assert counted(2, "directory", "directories") == "2 directories"
    assert [duration(s) for s in (-1, 6.4, 59.4, 60, 3570, 7200, 3 * 86400)] == [
        *("0 s", "6 s", "59 s", "1 min", "1 h", "2 h", "3 days")
    ]


def test_times_are_relative_for_a_month_and_dates_before_and_in_the_future() -> None:
    now = 20_000 * DAY_NS
    assert when(now - 5 * 10**9, now) == "5 s ago"
    assert when(now - 29 * DAY_NS, now) == "29 days ago"
    assert when(now - 400 * DAY_NS, now) == "2023-08-31"
    assert when(now + 400 * DAY_NS, now).startswith("2025-")
    assert when(2**63 - 1, now).startswith("2262-")


def test_progress_tells_bytes_and_the_time_left_on_the_last_item_too() -> None:
    assert progress_line("a", 25_000_000, 100_000_000, 10) == "a   25 MB of 100 MB, 30 s left"
    assert progress_line("a", 100, 100, 10) == "a   100 bytes of 100 bytes, 0 s left"
    assert progress_line("a", 5, 0, 10, "packs") == "a   5 bytes   packs"
    assert progress_line("a", 0, 100, 10) == "a   0 bytes of 100 bytes"


def test_progress_is_silent_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("a") as progress:
        progress.update(1, 2)
    assert capsys.readouterr() == ("", "")
