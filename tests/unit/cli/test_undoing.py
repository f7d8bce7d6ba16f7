"""`undo` and `brake` against a small service; whole: tests/e2e/test_undo_between.py."""

import time

import pytest

from dittofs.control.protocol import MemberStatus
from dittofs.control.undoing import HeldBatch, UndoStep
from tests.unit.cli.conftest import Shell
from tests.unit.control.small_service import SmallService

NAS = MemberStatus("nas", "cd" * 32, "writer")
HOUR_NS = 3_600_000_000_000


def held(**changes: int) -> HeldBatch:
    now = time.time_ns()
    counts = {"removed": 200, "rewritten": 3, "directories": 11, "bytes": 41_000_000, **changes}
    return HeldBatch(
        "Shared",
        "nas",
        counts["removed"],
        counts["rewritten"],
        counts["directories"],
        counts["bytes"],
        now - HOUR_NS,
        now - HOUR_NS,
        ("tree/a", "tree/b"),
    )


def test_what_is_held_is_in_the_status_which_exits_with_5(shell: Shell, service: SmallService) -> None:
    service.held = [held()]
    assert shell.run("status") == 5
    line = next(line for line in shell.out.splitlines() if "BRAKE" in line)
    assert "nas removed 200 files and 11 directories and rewrote 3 files (41 MB)" in line
    assert line.endswith("dittofs brake")


def test_what_is_held_is_listed_with_both_ways_out(shell: Shell, service: SmallService) -> None:
    assert shell.run("brake") == 0
    assert shell.out == "Nothing is held.\n"
    service.held = [held()]
    assert shell.run("brake", "-v") == 5
    first, *paths, last = shell.out.splitlines()
    assert "nas removed 200 files and 11 directories and rewrote 3 files (41 MB), 1 h ago" in first
    assert [path.strip() for path in paths] == ["tree/a", "tree/b"]
    assert "dittofs brake reject Shared" in last
    assert "dittofs brake accept Shared" in last


def test_deciding_says_how_much_it_is_about_and_a_dry_run_decides_nothing(
    shell: Shell, service: SmallService
) -> None:
    service.held = [held()]
    assert shell.run("brake", "reject", "--dry-run") == 5
    assert "203 files, 41 MB would come back on all devices. Nothing was changed" in shell.out
    assert service.held
    assert shell.run("brake", "reject", "Shared") == 0
    assert "203 files, 41 MB as before, for all devices" in shell.out
    assert not service.held
    service.held = [held()]
    assert shell.run("brake", "accept", "--json") == 0
    assert shell.json()["batches"][0]["removed"] == 200


def test_an_undo_is_told_by_kind_with_files_and_bytes(shell: Shell, service: SmallService) -> None:
    service.others = [NAS]
    service.steps = [
        UndoStep("back", "tree", is_directory=True),
        UndoStep("back", "tree/a", size=1_000_000),
        UndoStep("content", "tree/b", size=2_000_000, missing=500_000),
        UndoStep("trash", "made", size=10),
    ]
    assert shell.run("undo", "--device", "nas", "--since", "1h", "--dry-run") == 0
    assert service.undo_asked[-1].dry_run
    text = shell.out
    assert "tree/b   gets its content of before   2 MB, 500 kB of it not on this device" in text
    assert "1 file and 1 directory, 1 MB brought back" in text
    assert "1 file, 10 bytes in the trash" in text
    assert text.splitlines()[-1] == "Nothing was changed. Do it:  dittofs undo --device nas --since 1h"
    assert shell.run("undo", "--device", "nas", "--since", "1h", "Shared:tree") == 0
    assert (service.undo_asked[-1].path, service.undo_asked[-1].dry_run) == ("tree", False)


def test_what_is_left_is_named_with_the_reason_and_exits_with_5(shell: Shell, service: SmallService) -> None:
    service.steps = [UndoStep("left", "a", size=7, missing=7, reason="its content is on no device")]
    assert shell.run("undo", "--device", "nas", "--since", "2026-11-21T14:00") == 5
    assert "a   is left as it is   7 bytes" in shell.out
    assert "its content is on no device" in shell.out
    assert "no other device is connected" in shell.err
    assert shell.run("undo", "--device", "nas", "--since", "2026-11-21T14:00", "--dry-run") == 5


def test_what_is_left_comes_first_and_is_named_however_much_was_done(
    shell: Shell, service: SmallService
) -> None:
    done = [UndoStep("back", f"back/{number}") for number in range(50)]
    left = [UndoStep("left", f"left/{number}", reason="it is being written") for number in range(20)]
    service.steps = [*done, *left]
    assert shell.run("undo", "--device", "nas", "--since", "1h") == 5
    lines = shell.out.splitlines()
    assert [line.split()[0] for line in lines[:20]] == sorted(step.path for step in left)
    assert "... and 42 others: -v names them all" in lines
    assert shell.run("undo", "--device", "nas", "--since", "1h", "--json") == 5
    assert [one["kind"] for one in shell.json()["steps"][:20]] == ["left"] * 20


def test_an_undo_that_left_everything_does_not_say_that_it_undid(shell: Shell, service: SmallService) -> None:
    service.steps = [UndoStep("left", "a", reason="another device has changed it since")]
    assert shell.run("undo", "--device", "nas", "--since", "1h") == 5
    assert "Undid nothing of what nas did:" in shell.out
    assert "Undid what" not in shell.out
    assert "Done" not in shell.out


def test_an_undo_that_has_nothing_to_do_says_so(shell: Shell, service: SmallService) -> None:
    assert shell.run("undo", "--device", "nas", "--since", "1h", "--json") == 0
    assert shell.json()["steps"] == []
    assert shell.run("undo", "--device", "nas", "--since", "1h") == 0
    assert shell.out.startswith("Nothing to undo")
    assert service.held == []


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--device", "nas", "--since", "whenever"), 2),
        (("--device", "nas", "--since", "1h", "--until", "2h"), 2),
        (("--device", "nas"), 2),
        (("--device", "nobody", "--since", "1h"), 1),
    ],
)
def test_what_cannot_be_meant_is_refused(
    shell: Shell, service: SmallService, words: tuple[str, ...], code: int
) -> None:
    assert shell.run("undo", *words) == code
    assert not service.undo_asked
