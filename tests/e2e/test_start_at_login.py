"""What a service manager runs at login, as the unit says it."""

import os
import shlex
import subprocess
from pathlib import Path

from tests.e2e.network import eventually
from tests.e2e.node import Node, await_end, dittofs_command, mounts_below

UNIT = Path(__file__).parents[2] / "packaging/systemd/dittofs.service"


def commands(key: str) -> list[list[str]]:
    lines = UNIT.read_text().splitlines()
    return [shlex.split(line.split("=", 1)[1].lstrip("-")) for line in lines if line.startswith(f"{key}=")]


def test_the_unit_takes_over_from_a_daemon_and_mounts_again_what_was_mounted(mounted: Node) -> None:
    (mounted.root / "letter.txt").write_text("Dear reader\n")
    path = f"{Path(dittofs_command()[0]).parent}:{os.environ['PATH']}"
    environment = {**mounted.environment, "PATH": path}
    before = mounted.daemon_pid()
    for command in commands("ExecStartPre"):
        subprocess.run(command, env=environment, check=True, timeout=60, capture_output=True)
    await_end(before)
    assert not mounts_below(mounted.root)
    (command,) = commands("ExecStart")
    daemon = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL)
    try:
        eventually(lambda: bool(mounts_below(mounted.root)), 30)
        assert (mounted.root / "letter.txt").read_text() == "Dear reader\n"
        assert mounted.daemon_pid() == daemon.pid, "the service manager sees the daemon itself"
    finally:
        daemon.terminate()
        assert daemon.wait(timeout=60) == 0
    assert not mounts_below(mounted.root)
