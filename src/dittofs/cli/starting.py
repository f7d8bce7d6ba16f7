"""Starting the daemon when a command needs it."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from dittofs.config import Paths
from dittofs.control.client import Client
from dittofs.control.faults import Refusal
from dittofs.control.protocol import EXIT_ALREADY_RUNNING
from dittofs.errors import ConfigError
from dittofs.local_disk import require_writable

READY_S: Final = 60.0
PAUSE_MIN_S: Final = 0.01
PAUSE_MAX_S: Final = 0.1
LOG_LINES_SHOWN: Final = 3
LOG_BYTES_READ_MAX: Final = 64 << 10


def daemon_command() -> list[str]:
    """The daemon of the same installation as this command."""
    return [sys.executable, "-m", "mountd"]


def is_answering(client: Client) -> bool:
    """Whether a daemon answers. Refuses what is neither yes nor no: another user's, a hanging one."""
    try:
        client.health()
    except Refusal as refusal:
        if refusal.code == "no_daemon":
            return False
        raise
    return True


def ensure_daemon(paths: Paths, command: Sequence[str] | None = None, patience_s: float = READY_S) -> bool:
    """Return when a daemon answers; True if this call started it.

    Any number of commands may do so at once: all but one of the daemons end at once, because the
    lock is taken, and every command waits for the one that stays. Refuses, with the daemon's own
    last words, if it cannot run.
    """
    client = Client(paths.socket)
    if is_answering(client):
        return False
    log = paths.state / "daemon.log"
    began = _size(log)
    daemon = _start(paths, log, command or daemon_command())
    try:
        _await_answer(client, daemon, log, began, patience_s)
        if client.health().pid == daemon.pid:
            return True
        # Another command was first. Left to itself, ours might find the lock free again later.
        with suppress(subprocess.TimeoutExpired):
            daemon.wait(patience_s)
        return False
    finally:
        daemon.poll()
        daemon.returncode = daemon.returncode or 0  # it outlives this command: nobody waits for it


def _await_answer(
    client: Client, daemon: subprocess.Popen[bytes], log: Path, began: int, patience_s: float
) -> None:
    deadline = time.monotonic() + patience_s
    pause_s = PAUSE_MIN_S
    while not is_answering(client):
        status = daemon.poll()
        if status not in (None, EXIT_ALREADY_RUNNING):
            raise _cannot_run(log, began, status or 0)
        if time.monotonic() > deadline:
            raise Refusal(
                "failed",
                f"the daemon does not answer after {patience_s:g} s; it may still be recovering",
                f"tail {log}",
            )
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, PAUSE_MAX_S)


def _start(paths: Paths, log: Path, command: Sequence[str]) -> subprocess.Popen[bytes]:
    environment = dict(os.environ)
    if "DITTOFS_HOME" in environment:
        environment["DITTOFS_HOME"] = str(Path(environment["DITTOFS_HOME"]).absolute())
    require_writable(paths.state)
    try:
        paths.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(f"{log} cannot be written: {error.strerror}") from error
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            cwd="/",
            env=environment,
            start_new_session=True,  # it outlives this terminal
        )
    except OSError as error:
        raise Refusal("failed", f"the daemon cannot be started: {error.strerror}") from error
    finally:
        os.close(descriptor)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _cannot_run(log: Path, began: int, status: int) -> Refusal:
    """What the daemon printed, without the lines of its log."""
    try:
        with log.open("rb") as file:
            file.seek(max(began, _size(log) - LOG_BYTES_READ_MAX))
            lines = file.read(LOG_BYTES_READ_MAX).decode(errors="replace").splitlines()
    except OSError:
        lines = []
    said = [line for line in lines if line.strip() and not line.startswith("timestamp=")][-LOG_LINES_SHOWN:]
    text = " ".join(said) or f"it ended with status {status}"
    return Refusal("failed", f"the daemon cannot run: {text}", f"tail {log}   or   dittofs doctor")
