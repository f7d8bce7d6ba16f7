"""Unified diffs of two versions."""

import pytest

from dittofs.merging.unified import unified

BARE = "\\ No newline at end of file"


@pytest.mark.parametrize(
    ("before", "after", "hunk"),
    [
        (b"D\n", b"L\n", ["@@ -1 +1 @@", "-D", "+L"]),
        (b"a\nb\n", b"a\nc\n", ["@@ -1,2 +1,2 @@", " a", "-b", "+c"]),
        (b"", b"L\n", ["@@ -0,0 +1 @@", "+L"]),
        (b"D\n", b"", ["@@ -1 +0,0 @@", "-D"]),
        (b"a\n\n", b"a\n", ["@@ -1,2 +1 @@", " a", "-"]),
        (b"a", b"a\n", ["@@ -1 +1 @@", "-a", BARE, "+a"]),
        (b"a", b"b", ["@@ -1 +1 @@", "-a", BARE, "+b", BARE]),
        (b"a\nz", b"b\nz", ["@@ -1,2 +1,2 @@", "-a", "+b", " z", BARE]),
        (b"a\rb\n", b"a\x0cb\n", ["@@ -1 +1 @@", "-a\rb", "+a\x0cb"]),
        (b"\xe4\n", b"\xf6\n", ["@@ -1 +1 @@", "-\\xe4", "+\\xf6"]),
    ],
)
def test_a_diff_has_the_lines_of_the_files_and_no_other(before: bytes, after: bytes, hunk: list[str]) -> None:
    assert unified("one", "two", before, after).split("\n") == ["--- one", "+++ two", *hunk]


def test_equal_contents_have_no_diff() -> None:
    assert unified("one", "two", b"a\nb", b"a\nb") == ""
