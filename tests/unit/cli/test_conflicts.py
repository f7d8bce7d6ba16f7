"""`conflicts` and `import` against a small service; whole: tests/e2e/test_conflicts.py and test_import.py."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from msgspec.structs import replace

from dittofs.control.conflicts import Conflict, ConflictSide, ConflictsRequest, Difference
from tests.unit.cli.conftest import Shell
from tests.unit.control.small_service import SmallService

SHOWN = ConflictSide("notes.txt", "file", "desktop", False, True, 1, 1, 41, bytes_here=41)
BESIDE = ConflictSide("notes (conflict, laptop).txt", "file", "laptop", True, False, 1, 1, 40)


@pytest.fixture
def conflict(service: SmallService) -> Conflict:
    found = Conflict("notes.txt", (SHOWN, BESIDE), base_ns=1, reason="both changed the same lines")
    service.standing_aside.append(found)
    return found


def test_a_conflict_is_listed_with_its_sides_and_what_to_do_next(shell: Shell, conflict: Conflict) -> None:
    for words in ((), ("list",), ("Shared:notes.txt",), ("list", "Shared:notes.txt")):
        assert shell.run("conflicts", *words) == 4
        assert f"Shared:{conflict.path}\n  shown    desktop, " in shell.out
        assert "  beside   laptop (this device), " in shell.out
        assert "40 bytes   [40 bytes not here]   notes (conflict, laptop).txt\n" in shell.out
        last = shell.out.splitlines()[-1]
        assert last == "Decide:  dittofs conflicts resolve Shared:notes.txt --keep mine|theirs|both"
    assert shell.run("conflicts", "--json") == 4
    assert shell.json()["sides"][0]["device"] == "desktop"


def test_no_conflict_is_fine(shell: Shell, service: SmallService) -> None:
    assert service.standing_aside == []
    assert shell.run("conflicts") == 0
    assert shell.out == "No conflicts.\n"
    assert shell.run("conflicts", "show", "Shared:notes.txt") == 0
    assert shell.run("conflicts", "diff", "Shared:notes.txt") == 0
    assert shell.out == "No conflict there.\n"


def test_what_is_shown_of_one_says_why_it_is_not_merged(shell: Shell, conflict: Conflict) -> None:
    assert shell.run("conflicts", "show", f"Shared:{conflict.path}") == 4
    assert "  Merge of both: no: both changed the same lines\n" in shell.out


def test_differences_are_printed_as_they_come(shell: Shell, conflict: Conflict) -> None:
    assert shell.run("conflicts", "diff", f"Shared:{conflict.path}") == 4
    assert shell.out == "-a\n+b\n"


def test_resolving_says_what_goes_and_that_it_stays_in_the_history(shell: Shell, conflict: Conflict) -> None:
    place = f"Shared:{conflict.path}"
    assert shell.run("conflicts", "resolve", place, "--keep", "theirs", "--dry-run") == 0
    assert "1 version (40 bytes, of laptop) would go, and stay in the history." in shell.out
    assert shell.run("conflicts", "resolve", place, "--keep", "theirs") == 0
    assert (
        "1 version (40 bytes, of laptop) went, and stays in the history.\nNo conflicts left.\n" in shell.out
    )
    assert shell.run("conflicts", "resolve", place, "--keep", "theirs") == 1
    assert "has no conflict; nothing was done" in shell.err


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("resolve",), "resolve takes the path of a conflict"),
        (("show",), "show takes the path of a conflict"),
        (("resolve", "Shared:notes.txt"), "it is not said what to keep"),
        (("resolve", "Shared:notes.txt", "--keep", "mine", "--file", "x"), "--file goes with --keep merged"),
        (("list", "--keep", "mine"), "belong to resolve"),
        (("policy", "set", "*.txt", "loudest"), "policy takes"),
        (("policy", "set", "*.txt"), "policy takes"),
    ],
)
def test_what_is_not_said_whole_is_refused(
    shell: Shell, conflict: Conflict, words: tuple[str, ...], why: str
) -> None:
    assert shell.run("conflicts", *words) == 2
    assert why in shell.err
    assert conflict.sides


def test_the_content_of_a_file_becomes_the_merge(
    shell: Shell, service: SmallService, conflict: Conflict, tmp_path: Path
) -> None:
    merged = tmp_path / "merged"
    merged.write_text("merged by hand")
    service.files[b"notes.txt"] = b"shown"
    done = shell.run("conflicts", "resolve", "Shared:notes.txt", "--keep", "merged", "--file", str(merged))
    assert done == 0
    assert service.files[conflict.path.encode()] == b"merged by hand"
    assert service.standing_aside == []


def test_rules_are_set_shown_and_removed(shell: Shell, service: SmallService) -> None:
    assert shell.run("conflicts", "policy", "set", "*.csv", "both") == 0
    assert shell.out.splitlines()[0].split() == ["*.csv", "both"]
    assert shell.run("conflicts", "policy", "--json") == 0
    assert shell.json()["rules"] == [{"pattern": "*.csv", "policy": "both", "device": ""}]
    assert shell.run("conflicts", "policy", "remove", "*.csv") == 0
    assert service.rules == {}


def test_an_import_says_what_was_done_and_what_is_to_be_decided(
    shell: Shell, service: SmallService, tmp_path: Path
) -> None:
    assert shell.run("import", str(tmp_path), "Shared:photos") == 4
    assert "conflict    differs: differs (conflict, laptop, now)\n" in shell.out
    assert shell.out.splitlines()[-1] == "dittofs conflicts"
    assert shell.run("import", str(tmp_path), "--dry-run") == 4
    assert shell.out.splitlines()[-1] == "Nothing was done. Without --dry-run Shared gets that."
    assert service.files == {}


@pytest.mark.parametrize(
    ("sides", "are_versions", "offered"),
    [
        ((replace(SHOWN, kind="directory"), BESIDE), False, "theirs|both"),
        ((SHOWN, replace(BESIDE, is_mine=False)), True, "shown|beside|both"),
        ((SHOWN, BESIDE, replace(BESIDE, device="phone", is_mine=False)), True, "mine|both"),
        ((BESIDE, replace(BESIDE, device="phone", is_mine=False)), True, "mine|theirs|both"),
    ],
)
def test_only_what_resolve_takes_is_offered(
    shell: Shell, service: SmallService, sides: tuple[ConflictSide, ...], are_versions: bool, offered: str
) -> None:
    service.standing_aside.append(Conflict("notes.txt", sides, are_versions=are_versions))
    assert shell.run("conflicts") == 4
    assert shell.out.splitlines()[-1].endswith(f"Shared:notes.txt --keep {offered}")


def test_a_merge_is_offered_once_it_is_known_to_be_clean(
    shell: Shell, service: SmallService, conflict: Conflict
) -> None:
    service.standing_aside[:] = [replace(conflict, can_merge=True, reason="")]
    assert shell.run("conflicts", "show", "Shared:notes.txt") == 4
    assert shell.out.splitlines()[-1].endswith("--keep mine|theirs|both|merged")


def test_versions_of_equal_text_are_said_to_be_equal(
    shell: Shell, service: SmallService, conflict: Conflict, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def equal(_request: ConflictsRequest) -> AsyncGenerator[Difference, None]:
        yield Difference("one", "other", 3, 3)

    monkeypatch.setattr(service, "differences", equal)
    assert shell.run("conflicts", "diff", f"Shared:{conflict.path}") == 4
    assert shell.out == "--- one\n+++ other\nText: 3 and 3 bytes, they are equal\n"
