"""`completion`: what a shell is told at the Tab key."""

import io
import subprocess
import sys
from pathlib import Path

import pytest

from dittofs.cli.completion import SCRIPTS, candidates
from dittofs.control.protocol import MemberStatus
from tests.unit.cli.conftest import Shell
from tests.unit.control.small_service import SmallService


def test_commands_options_and_words_of_codes_are_finished() -> None:
    assert candidates(["jo"]) == ["join "]
    assert "connect " in candidates([""])
    assert candidates(["join", "7-cab"]) == ["7-cabin"]
    assert candidates(["connect", "--ro", "7-cabin-vel"]) == ["7-cabin-velvet"]
    assert candidates(["share", "--da"]) == ["--daemon "]
    assert "--json " in candidates(["import", "--"])


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("user ", ["add ", "leave ", "list ", "remove "]),
        ("group j", ["join "]),
        ("grant p", ["phone "]),
        ("grant phone ", ["reader ", "writer ", "owner ", "inherit "]),
        ("revoke fa", ["family "]),
        ("grant phone reader ", []),
        ("user add a", ["ada "]),
        ("user add ada ", ["laptop ", "'my nas' ", "phone "]),
        ("group leave family ", ["ada "]),
        ("group add ", ["family "]),
        ("ping p", ["phone "]),
        ("ping phone ", []),
        ("devices re", ["rejoin ", "remove ", "rename ", "retire "]),
        ("devices remove ", ["laptop ", "'my nas' ", "phone "]),
        ("devices retire p", ["phone "]),
        ("devices rejoin ", []),
        ("undo --since 3h --device p", ["phone "]),
        ("limit up 2MB/s --device p", ["phone "]),
        ("limit --device p", ["phone "]),
        ("share --user a", ["ada "]),
    ],
)
def test_names_of_devices_users_and_groups_are_finished(
    service: SmallService, typed: str, found: list[str]
) -> None:
    service.others = [MemberStatus("phone", "cd" * 32, "writer"), MemberStatus("my nas", "ef" * 32, "reader")]
    service.mounted_at = b"/somewhere"
    assert candidates(typed.split(" ")) == found


def test_where_no_daemon_runs_no_name_is_finished() -> None:
    assert candidates(["grant", "p"]) == []


def test_where_a_path_or_anything_else_stands_the_shell_is_left_alone() -> None:
    for typed in (["join", "7-cabin-velvet", "x"], ["mount", "x"], ["nonsense", ""], ["join", "x"]):
        assert candidates(typed) == []


def test_what_was_typed_comes_on_stdin(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("join\n7-cabin-\n"))
    assert shell.run("completion", "words") == 0
    assert len(shell.out.splitlines()) == 256
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert shell.run("completion", "words") == 0
    for name in SCRIPTS:
        assert shell.run("completion", name) == 0
        assert "dittofs completion words" in shell.out


def test_bash_finishes_a_code(tmp_path: Path) -> None:
    """The script itself, with the real command."""
    command = Path(sys.executable).parent
    asked = f"""\
PATH={command}:$PATH
{SCRIPTS["bash"]}
COMP_WORDS=(dittofs join 7-cab) COMP_CWORD=2
_dittofs
printf '%s|' "${{COMPREPLY[@]}}"
COMP_WORDS=(dittofs sha) COMP_CWORD=1
_dittofs
printf '%s|' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(["bash", "-c", asked], cwd=tmp_path, capture_output=True, text=True, timeout=30)
    assert (done.stdout, done.stderr) == ("7-cabin|share |", "")
