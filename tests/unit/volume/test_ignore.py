"""Which names stay on this device."""

import pytest

from dittofs.errors import FormatError
from dittofs.merging.policy import is_pattern
from dittofs.volume.ignore import IgnoreRules


def test_gitignore_syntax_decides_and_a_later_line_wins() -> None:
    rules = IgnoreRules("build/\n*.o\n!keep.o\n/top\n")
    assert rules.matches(b"build", is_directory=True)
    assert not rules.matches(b"build", is_directory=False)
    assert rules.matches(b"x/y.o", is_directory=False)
    assert not rules.matches(b"x/keep.o", is_directory=False)
    assert rules.matches(b"top", is_directory=False)
    assert not rules.matches(b"x/top", is_directory=False)


def test_shared_memory_of_sqlite_stays_local_without_any_rule() -> None:
    rules = IgnoreRules()
    assert rules.matches(b"a/db-shm", is_directory=False)
    assert not rules.matches(b"a/db-wal", is_directory=False)


def test_the_rules_themselves_are_never_ignored() -> None:
    assert not IgnoreRules("*").matches(b".dittoignore", is_directory=False)


def test_a_name_that_is_no_text_can_be_judged() -> None:
    assert IgnoreRules("*.o").matches(b"\xff\xfe.o", is_directory=False)


def test_a_line_that_cannot_be_understood_is_named() -> None:
    with pytest.raises(FormatError, match="line 2"):
        IgnoreRules("ok\n!\n")


@pytest.mark.parametrize("pattern", ["*a" * 12 + "*b", "**/a/**/a/**/b", "*a*a*a*b"])
def test_a_pattern_that_would_take_for_ever_is_refused_and_named(pattern: str) -> None:
    with pytest.raises(FormatError, match="line 2: more than"):
        IgnoreRules(f"fine\n{pattern}")
    assert not is_pattern(pattern)


@pytest.mark.parametrize("pattern", ["*.min.*.js", "**/build/**/*.o", r"a\*b\*c\*d\*", "node_modules/"])
def test_a_pattern_of_use_is_taken(pattern: str) -> None:
    assert IgnoreRules(pattern).matches(b"x", is_directory=False) is False
    assert is_pattern(pattern)
