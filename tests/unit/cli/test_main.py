"""The verbs, their help, and how a command ends."""

import argparse
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from dittofs.cli import main as cli
from dittofs.cli.main import VERBS, overview
from tests.unit.cli.conftest import Shell
from tests.unit.control.small_service import SmallService

NAMES = [verb.name for verb in VERBS]
MODULES = [cli.module_of(name) for name in NAMES]


def test_the_overview_groups_every_verb_by_role(shell: Shell) -> None:
    assert shell.run("--help") == 0
    for verb in VERBS:
        assert f"  {verb.name} " in shell.out
        assert f"\n{verb.role}\n" in shell.out
    assert "exit codes: 0 fine" in shell.out
    assert shell.run() == 2


@pytest.mark.parametrize("name", NAMES)
def test_every_help_teaches_with_an_example_and_offers_json(shell: Shell, name: str) -> None:
    assert shell.run(name, "--help") == 0
    assert f"dittofs {name}" in shell.out.partition("example:")[2]
    assert "--json" in shell.out
    assert shell.err == ""


@pytest.mark.parametrize(
    "words",
    [
        ["nonsense"],
        ["list", "--nonsense"],
        ["mount"],
        ["get", "-o", "x"],
        ["add"],
        ["unmount"],
        ["unmount", "--all", "x"],
    ],
)
def test_what_makes_no_sense_exits_with_2_and_says_so_on_stderr(shell: Shell, words: list[str]) -> None:
    assert shell.run(*words) == 2
    assert "dittofs" in shell.err
    assert shell.out == ""


def test_a_mistyped_verb_is_guessed(shell: Shell) -> None:
    shell.run("unmuont")
    assert "did you mean 'unmount'?" in shell.err


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("brake rejct", "reject"),
        ("brake accpt Shared", "accept"),
        ("brake Shred", "Shared"),
        ("devices rejion", "rejoin"),
        ("devices remvoe phone", "remove"),
        ("copies al", "all"),
        ("copies Shared on-demnad", "on-demand"),
        ("conflicts shwo", "show"),
        ("conflicts polcy", "policy"),
        ("conflicts shwo Shared:notes.txt", "show"),
        ("conflicts resolv Shared:notes.txt", "resolve"),
        ("conflicts policy st *.csv both", "set"),
        ("conflicts policy set *.csv botth", "both"),
        ("trash restor Shared:notes.txt", "restore"),
        ("cache gv", "gc"),
        ("snapshot craete before", "create"),
        ("grant phone raeder", "reader"),
        ("share --role raeder", "reader"),
        ("completion bsah", "bash"),
        ("mount Shared --frontend kernl", "kernel"),
    ],
)
def test_a_mistyped_word_of_a_few_is_guessed_and_nothing_is_done(
    shell: Shell, service: SmallService, words: str, meant: str
) -> None:
    assert service.files == {}
    assert shell.run(*words.split()) == 2
    assert f"did you mean {meant!r}?" in shell.err
    assert shell.out == ""


@pytest.mark.parametrize("words", ["brake frob", "devices frob", "copies frob"])
def test_a_word_that_is_no_action_and_no_volume_is_a_slip_and_what_could_stand_there_is_said(
    shell: Shell, service: SmallService, words: str
) -> None:
    assert service.files == {}
    assert shell.run(*words.split()) == 2
    assert "frob is none of " in shell.err
    assert "no volume of this device (it has: Shared)" in shell.err
    assert shell.err.endswith(f"\ndittofs {words.split()[0]} --help\n")


@pytest.mark.parametrize("name", ["status", "list", "check"])
def test_without_a_daemon_the_next_command_is_named(shell: Shell, name: str) -> None:
    assert shell.run(name) == 1
    assert "no daemon is running" in shell.err
    assert "dittofs mount DIR" in shell.err


def test_a_failure_in_json_is_one_object_on_stdout(shell: Shell) -> None:
    assert shell.run("status", "--json") == 1
    assert shell.json() == {
        "type": "failure",
        "error": "no_daemon",
        "message": "no daemon is running; what is stored is not affected",
        "mend": "dittofs mount DIR",
    }


@pytest.mark.parametrize(
    "words",
    [
        ["nonsense"],
        ["mount"],
        ["list", "--nonsense"],
        ["unmount"],
        ["sync", "--timeout", "-1"],
        ["devices", "remove"],
        ["copies", "a", "b", "c"],
        ["demo", "--nodes", "1"],
        ["get", "x", "--file", "y"],
        ["get", "x", "-o", "-"],
    ],
)
def test_a_usage_error_in_json_is_one_object_on_stdout(shell: Shell, words: list[str]) -> None:
    assert shell.run(*words, "--json") == 2
    assert (shell.json()["type"], shell.json()["error"]) == ("failure", "usage")
    assert shell.json()["mend"]


def test_a_bug_shows_no_traceback_unless_asked(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_arguments: argparse.Namespace) -> int:
        raise ZeroDivisionError("by nought")

    monkeypatch.setattr(importlib.import_module("dittofs.cli.version"), "run", broken)
    assert shell.run("version") == 1
    assert "a bug in this command" in shell.err
    assert "Traceback" not in shell.err
    monkeypatch.setenv(cli.DEBUG, "1")
    with pytest.raises(ZeroDivisionError):
        shell.run("version")


def test_an_interrupt_ends_quietly(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_arguments: argparse.Namespace) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(importlib.import_module("dittofs.cli.version"), "run", interrupted)
    assert shell.run("version") == 130
    assert "Traceback" not in shell.err


def test_a_reader_that_leaves_early_is_no_error_message() -> None:
    code = "import os, sys; os.close(0); from dittofs.cli.main import main; sys.exit(main(['--help']))"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == cli.CLOSED_EARLY


def test_commands_start_without_an_event_loop_and_help_without_the_protocol() -> None:
    code = f"""
import importlib, json, sys
import dittofs.cli.main
dittofs.cli.main.overview()
early = [name for name in ("msgspec", "http.client", "trio", "ssl") if name in sys.modules]
for name in {MODULES!r}:
    importlib.import_module(f"dittofs.cli.{{name}}")
heavy = ("trio", "structlog", "h11", "cryptography", "pycrdt", "apsw")
late = [name for name in heavy if name in sys.modules]
print(json.dumps([early, late]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert json.loads(done.stdout) == [[], []]


def test_every_verb_is_a_module_and_every_module_of_a_command_a_verb() -> None:
    here = Path(cli.__file__).parent
    found = {path.stem for path in here.glob("*.py") if "\ndef define(" in path.read_text()}
    assert found == set(MODULES)
    assert overview().count("\n") < 60  # it fits a window


def test_a_home_that_is_a_file_is_named(shell: Shell, home: Path) -> None:
    home.write_text("")
    assert shell.run("status") == 1
    assert f"{home}/run/control.sock cannot be: a part of it is not a directory" in shell.err
    assert shell.run("doctor") == 5


@pytest.mark.parametrize(
    "words",
    [
        ("snapshot", "create", "z\udcff"),
        ("snapshot", "delete", "z\udcff"),
        ("checkout", "z\udcff", "out"),
        ("restore", "Shared:f@z\udcff"),
        ("undo", "--device", "z\udcff", "--since", "1h"),
        ("log", "--device", "z\udcff"),
        ("brake", "accept", "Shared", "--device", "z\udcff"),
        ("devices", "retire", "z\udcff"),
        ("devices", "remove", "z\udcff"),
        ("conflicts", "resolve", "Shared:f", "--keep", "z\udcff"),
        ("conflicts", "policy", "set", "z\udcff", "both"),
        ("join", "z\udcff", "out"),
        ("unmount", "z\udcff"),
        ("mount", "m", "--name", "z\udcff"),
        ("copies", "Shared", "z\udcff"),
        ("share", "--bind", "z\udcff"),
    ],
)
@pytest.mark.usefixtures("service")
def test_a_word_that_is_no_text_is_told_as_such_and_is_no_bug(shell: Shell, words: tuple[str, ...]) -> None:
    assert shell.run(*words) == 2
    assert "bug" not in shell.err
    assert "z\\xff" in shell.err
    assert "\udcff" not in shell.err + shell.out


@pytest.mark.parametrize(
    "words",
    [
        ("brake", "accept", "--dry-run", "Shared"),
        ("brake", "--dry-run", "accept", "Shared"),
        ("conflicts", "policy", "--volume", "Shared", "set", "*.csv", "both"),
        ("conflicts", "list", "--json", "Shared:"),
        ("devices", "-v", "Shared"),
        ("devices", "retire", "--force", "laptop", "Shared"),
        ("snapshot", "create", "--volume", "Shared", "one"),
        ("snapshot", "--volume", "Shared", "create", "one"),
        ("trash", "list", "--limit", "3", "Shared:"),
        ("trash", "--limit", "3", "list", "Shared:"),
        ("cache", "stats", "--json", "Shared"),
        ("cache", "--json", "stats", "Shared"),
        ("log", "--limit", "3", "Shared:"),
        ("copies", "--json", "Shared", "3"),
    ],
)
@pytest.mark.usefixtures("service")
def test_options_may_stand_between_the_words(shell: Shell, words: tuple[str, ...]) -> None:
    assert shell.run(*words) != 2, shell.err


def test_after_two_dashes_every_word_is_one(shell: Shell, service: SmallService) -> None:
    service.files[b"--dry-run"] = b"x"
    assert shell.run("get", "-o", "-", "--", "--dry-run") == 0
    assert shell.out == "x"


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("word", ["--help", "status", "nonsense"])
def test_a_stream_that_is_closed_leads_to_nowhere(word: str, closed: str) -> None:
    done = subprocess.run(
        ["sh", "-c", f'exec "$0" -m dittofs.cli.main {word} {closed}', sys.executable],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == {"--help": 0, "status": 1, "nonsense": 2}[word]
    assert "Error" not in done.stderr
    assert "bug" not in done.stderr
