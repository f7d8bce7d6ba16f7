"""Starting a daemon: real processes."""

import sys
import threading
from pathlib import Path

import pytest

from dittofs.cli.starting import ensure_daemon
from dittofs.config import Paths
from dittofs.control.client import Client
from dittofs.control.faults import Refusal
from tests.unit.cli.conftest import Shell

TOP = Path(__file__).resolve().parents[3]
COMMAND = [sys.executable, "-m", "tests.unit.cli.small_daemon"]


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon runs in `/`: tests must be found from there."""
    monkeypatch.setenv("PYTHONPATH", ":".join([str(TOP), str(TOP / "src")]))


def test_a_daemon_is_started_once_however_many_ask_at_once(home: Path, shell: Shell) -> None:
    started: list[bool] = []

    def ask() -> None:
        started.append(ensure_daemon(Paths.find(), COMMAND, patience_s=30))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    try:
        assert sorted(started) == [False, False, False, True]
        assert not ensure_daemon(Paths.find(), COMMAND)
        assert (home / "state" / "daemon.log").stat().st_mode & 0o777 == 0o600
    finally:
        pid = Client(Paths.find().socket).health().pid
        assert shell.run("daemon", "--stop") == 0
    assert not Path(f"/proc/{pid}/fd/0").exists()
    assert shell.run("daemon", "--stop") == 0
    assert "nothing to stop" in shell.out


LOSER = """
import pathlib, select, socket, sys
answered = None
while answered is None and len(sys.argv) > 1:
    try:
        answered = socket.socket(socket.AF_UNIX).connect(sys.argv[1]) or True
    except OSError:
        select.select([], [], [], 0.01)
select.select([], [], [], 0.2)
pathlib.Path(sys.argv[-1] + ".ended").touch() if answered else None
sys.exit(75)
"""


@pytest.mark.parametrize("is_slow", [False, True])
def test_a_command_whose_daemon_lost_the_race_waits_for_the_winner_and_for_its_own_to_end(
    shell: Shell, is_slow: bool
) -> None:
    paths = Paths.find()
    arguments = [str(paths.socket)] if is_slow else []
    lost: list[bool] = []
    loser = threading.Thread(
        target=lambda: lost.append(ensure_daemon(paths, [sys.executable, "-c", LOSER, *arguments], 30))
    )
    loser.start()
    assert ensure_daemon(paths, COMMAND, patience_s=30)
    loser.join()
    assert lost == [False]
    assert Path(f"{paths.socket}.ended").exists() == is_slow
    assert shell.run("daemon", "--stop") == 0


def test_a_daemon_that_cannot_run_is_quoted_without_its_log(home: Path) -> None:
    (home / "state").mkdir(parents=True)
    (home / "state/daemon.log").write_text("said by one before\n")
    with pytest.raises(Refusal) as caught:
        ensure_daemon(Paths.find(), [*COMMAND, "--broken"])
    assert caught.value.message.endswith("the key file is open to others. Run: chmod 600 device.key")
    assert "a line of the log" not in caught.value.message
    assert "said by one before" not in caught.value.message


def test_a_daemon_that_never_answers_is_given_up_with_the_next_step(home: Path) -> None:
    waits = [
        sys.executable,
        "-c",
        "import sys; sys.stdin.read(); import select; select.select([], [], [], 2)",
    ]
    with pytest.raises(Refusal, match="does not answer after") as caught:
        ensure_daemon(Paths.find(), waits, patience_s=0.2)
    assert str(home / "state" / "daemon.log") in caught.value.mend
