"""One DittoFS node for tests: its own DITTOFS_HOME, the real command, real mounts, a real daemon.

The daemon is ended by the pid that `dittofs status --json` reports, never by name. Waiting is only
ever for another process, on a pidfd or inside a command, and always has a deadline.
"""

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from dittofs.control.options import FRONT_END_DEFAULT

COMMAND_S: Final = 60.0
MOUNT_S: Final = 30.0
END_S: Final = 30.0
ACCOUNT_S: Final = 10.0
ACCOUNT_LINES: Final = 60
ERROR_MARKS: Final = ("level='error'", "level='critical'", "Traceback")
MOUNTS: Final = Path("/proc/self/mountinfo")


def dittofs_command() -> list[str]:
    """The command of the environment that runs the tests."""
    return [str(Path(sys.executable).with_name("dittofs"))]


def mounts_below(directory: Path) -> list[Path]:
    """Mount points at or below `directory`, the last mounted first."""
    found = []
    for line in MOUNTS.read_bytes().splitlines():
        escaped = line.split(b" ")[4]
        path = Path(os.fsdecode(re.sub(rb"\\([0-7]{3})", lambda octal: bytes([int(octal[1], 8)]), escaped)))
        if path == directory or directory in path.parents:
            found.append(path)
    return found[::-1]


def read_ahead_kib(root: Path) -> int:
    """How far the kernel reads ahead in what is opened now on the mount at `root`."""
    device = root.stat().st_dev
    return int(Path(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb").read_text())


def await_end(pid: int, patience_s: float = END_S) -> None:
    """Return when the process is gone. AssertionError if it lives on."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        ending = select.poll()  # takes any descriptor, where select(2) ends at 1,023
        ending.register(descriptor, select.POLLIN)
        assert ending.poll(patience_s * 1000), f"process {pid} still runs after {patience_s} s"
    finally:
        os.close(descriptor)


class Node:
    """A device of its own. `close` ends everything it started and fails if a mount is left."""

    def __init__(self, directory: Path, front_end: str = FRONT_END_DEFAULT) -> None:
        self.directory = directory
        self.front_end = front_end
        self.home = directory / "home"
        self.root = directory / "mount"
        self.options: tuple[str, ...] = ()
        self.expects_errors = False
        """The test damages something: errors in the daemon's log are no failure."""
        directory.mkdir(parents=True, exist_ok=True)

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "DITTOFS_HOME": str(self.home), "LC_ALL": "C.UTF-8", "TZ": "UTC"}

    def run(
        self,
        *arguments: str | Path,
        check: bool = True,
        timeout_s: float = COMMAND_S,
        prefix: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run `dittofs ARGUMENTS`. Unless `check` is off, an exit status other than 0 is a failure."""
        done = subprocess.run(
            [*prefix, *dittofs_command(), *map(str, arguments)],
            env={**self.environment, **(environment or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
        if check and done.returncode:
            raise AssertionError(
                f"dittofs {' '.join(map(str, arguments))}: exit {done.returncode}\n{done.stdout}{done.stderr}"
            )
        return done

    def json(self, *arguments: str | Path) -> Any:
        """The one JSON value a command prints with `--json`."""
        return json.loads(self.run(*arguments, "--json").stdout)

    def mount(self, path: Path | None = None, *arguments: str) -> float:
        """Mount (by default `root` with the options given last) and return the seconds it took."""
        begin = time.monotonic()
        chosen = ("--frontend", self.front_end)
        self.run("mount", path or self.root, *chosen, *(arguments or self.options), timeout_s=MOUNT_S)
        return time.monotonic() - begin

    def unmount(self, path: Path | None = None) -> None:
        self.run("unmount", path or self.root)

    def status(self) -> Any:
        """The report; also when something needs attention, which has an exit status of its own."""
        done = self.run("status", "--json", check=False)
        assert done.returncode in (0, 3, 4, 5), done.stdout + done.stderr
        return json.loads(done.stdout)

    def daemon_pid(self) -> int:
        """The daemon's process id, as it says itself."""
        return int(self.status()["pid"])

    def end_daemon(self) -> None:
        """Ask the daemon to stop as a service manager would, and wait for it."""
        pid = self.daemon_pid()
        os.kill(pid, signal.SIGTERM)
        await_end(pid)

    def kill_daemon(self, pid: int | None = None) -> None:
        """SIGKILL: nothing can be saved any more. With a pid already known, at once."""
        pid = pid or self.daemon_pid()
        os.kill(pid, signal.SIGKILL)
        await_end(pid)

    def restart(self) -> None:
        """Unmount, end the daemon, mount again."""
        self.unmount()
        self.end_daemon()
        self.mount()

    def crash(self) -> float:
        """SIGKILL the daemon and mount again over what it left. Returns the seconds the mount took."""
        self.kill_daemon()
        return self.mount()

    def close(self) -> None:
        """End the daemon and clear away mounts; a mount that only force removes is a failure."""
        problems = []
        try:
            if self.home.exists():
                done = self.run("unmount", "--all", check=False)
                if done.returncode and "daemon" not in done.stderr:
                    problems.append(f"unmount --all: {done.stdout}{done.stderr}")
                self._end_daemon_if_any()
        except (AssertionError, subprocess.TimeoutExpired) as error:
            problems.append(str(error))
        left = mounts_below(self.directory)
        for path in left:
            subprocess.run(["umount", "-l", str(path)], check=False, timeout=COMMAND_S)
        if left:
            problems.append(f"mounts left: {left}")
        problems += [] if self.expects_errors else self.logged_errors()
        assert not problems, "\n".join(problems)

    def logged_errors(self) -> list[str]:
        """Lines of the daemon's log that tell of an error, with what follows them."""
        log = self.home / "state/daemon.log"
        text = log.read_text(errors="replace") if log.exists() else ""
        place = min((text.find(word) for word in ERROR_MARKS if word in text), default=-1)
        return [] if place < 0 else [f"{log}:\n{text[max(0, place - 300) : place + 3000]}"]

    def account(self) -> str:
        """What a node looks like when a test has failed: its report, and the end of its daemon's log."""
        try:
            report = self.run("status", "-v", check=False, timeout_s=ACCOUNT_S)
        except subprocess.TimeoutExpired:
            told = f"no answer within {ACCOUNT_S:g} s"
        else:
            told = report.stdout + report.stderr
        log = self.home / "state/daemon.log"
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        return "\n".join([told, *lines[-ACCOUNT_LINES:]])

    def _end_daemon_if_any(self) -> None:
        done = self.run("status", "--json", check=False)
        try:
            pid = int(json.loads(done.stdout).get("pid", 0))
        except (ValueError, AttributeError):
            return
        if pid:
            os.kill(pid, signal.SIGTERM)
            await_end(pid)
