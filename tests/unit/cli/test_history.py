"""log, restore, trash, snapshot and checkout, against a small service."""

import json
from pathlib import Path

import pytest

from dittofs.cli.log import event_line
from dittofs.control.history import LogEvent, TrashItem
from tests.unit.cli.conftest import Shell
from tests.unit.control.small_service import SmallService

WRITTEN = LogEvent(
    "a\x1b.txt", "file", "written", 1, 1, "nas", version="2026-11-21T14:02:07Z", id="2d25995f", size=5
)


def test_log_names_device_version_and_id_and_says_how_to_have_one_back(
    shell: Shell, service: SmallService
) -> None:
    service.past = [WRITTEN, LogEvent("b", "file", "moved", 1, 1, "laptop", was="a")]
    assert shell.run("log", "Shared:") == 0
    first, second, last = shell.out.splitlines()
    assert "nas" in first
    assert r"2026-11-21T14:02:07Z  2d25995f  a\x1b.txt  written (5 bytes)" in first
    assert second.endswith("b  moved here from a")
    assert last.startswith("Have one back:  dittofs restore ")
    assert shell.run("log", "Shared:", "--device", "nas", "--json") == 0
    assert [json.loads(line)["id"] for line in shell.out.splitlines()] == ["2d25995f"]
    service.past = []
    assert shell.run("log", "Shared:x") == 0
    assert "Nothing is known to have happened" in shell.out


def test_restore_wants_a_version_and_says_where_what_was_there_is(
    shell: Shell, service: SmallService, tmp_path: Path
) -> None:
    service.files = {b"a": b"12345"}
    assert shell.run("restore", "Shared:a") == 2
    assert "dittofs log Shared:a" in shell.err
    assert shell.run("restore", "Shared:a@3h") == 0
    assert shell.out.splitlines()[-1] == "What was there before is in the history:  dittofs log Shared:a"
    assert shell.run("restore", "Shared:a@3h", "--dry-run") == 0
    assert shell.out.splitlines()[-1] == "1 file would be restored, 5 bytes."
    output = tmp_path / "old"
    assert shell.run("restore", "Shared:a@3h", "-o", str(output)) == 0
    assert output.read_bytes() == b"12345"
    assert shell.run("restore", "Shared:a@3h", "-o", str(output)) == 1
    assert shell.run("restore", "Shared:b@3h") == 1


def test_emptying_the_trash_says_how_much_goes_and_wants_a_yes(shell: Shell, service: SmallService) -> None:
    service.removed = [TrashItem("a", "file", 1, "nas", size=2_000_000)]
    assert shell.run("trash") == 0
    assert "2 MB   removed" in shell.out
    assert shell.run("trash", "empty", "--dry-run") == 0
    assert shell.out == "1 removed file, 2 MB would be forgotten.\n"
    assert shell.run("trash", "empty") == 2
    assert service.removed
    assert shell.run("trash", "empty", "--yes") == 0
    assert not service.removed
    assert shell.run("trash", "empty") == 0
    assert "There is nothing in the trash." in shell.out


def test_snapshots_are_made_listed_and_deleted(shell: Shell, service: SmallService) -> None:
    assert shell.run("snapshot", "create") == 2
    assert shell.err.endswith("\ndittofs snapshot create before-the-move\n")
    assert shell.run("snapshot", "create", "one") == 0
    assert "Created snapshot one of Shared" in shell.out
    assert shell.run("snapshot", "list", "--json") == 0
    assert [one["name"] for one in json.loads(shell.out)["snapshots"]] == ["one"]
    assert shell.run("snapshot", "list") == 0
    assert "UNREADABLE     old/0123456789ab   what its setting holds is no snapshot" in shell.out
    assert shell.run("snapshot", "delete", "one") == 0
    assert not service.snapshots_kept
    assert shell.run("snapshot", "delete", "one") == 1


def test_checkout_names_what_could_not_be_written(
    shell: Shell, service: SmallService, tmp_path: Path
) -> None:
    service.files = {b"a": b"12345"}
    assert shell.run("checkout", "one", str(tmp_path / "out")) == 0
    assert shell.out.startswith("Wrote 1 file, 5 bytes as of one to ")
    assert shell.run("checkout", "odd", str(tmp_path / "out")) == 1
    assert "not written: x: a special file" in shell.err


def test_a_limit_is_a_number_from_0(shell: Shell) -> None:
    for command in ("log", "trash"):
        for word in ("-1", "x", "1.5"):
            assert shell.run(command, "--limit", word) == 2
            assert f"{word!r} is no number from 0 (0: all)" in shell.err


@pytest.mark.parametrize(
    ("target", "mend"), [("Shared:a", "log Shared:a"), ("Shared:a@", "log Shared:a"), ("@", "log")]
)
@pytest.mark.usefixtures("service")
def test_the_log_of_the_path_is_named_where_no_version_is(shell: Shell, target: str, mend: str) -> None:
    assert shell.run("restore", target) == 2
    assert shell.err.endswith(f"Which there are:  dittofs {mend}\n")


def test_a_byte_that_is_no_text_is_shown_as_it_is_in_lists() -> None:
    moved = LogEvent("a\ufffd", "file", "moved", 1, 1, "laptop", b"a\xff", was="b\ufffd", was_raw=b"b\xfe")
    assert "a\\xff  moved here from b\\xfe" in event_line(moved, 2)
