"""The file systems a workload runs on: a plain directory, three peers, and DittoFS.

Each keeps what it stores below one directory, so that all of them stand on the same backing store.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from dittofs.control.options import FRONT_END_DEFAULT
from tests.bench._machine import cpu_s, drop_caches, is_mounted
from tests.e2e.node import Node

MOUNT_S: Final = 30.0
SETTLE_S: Final = 120.0
POLL_S: Final = 0.02
RCLONE_WRITE_BACK: Final = "1s"  # the default of 5 s would only move its work into the next measurement


class Subject(Protocol):
    """One file system under test."""

    name: str
    root: Path
    """The directory the workloads use."""

    def start(self) -> None:
        """Make it usable, empty."""

    def make_cold(self) -> None:
        """End and start its process, and empty the kernel's caches: only what is stored is left."""

    def settle(self) -> None:
        """Return when it has ended what it does after the program was answered."""

    def cpu_s(self) -> float:
        """Processor seconds its process has used since `start` or `make_cold`."""

    def stop(self) -> None:
        """End it and remove what it stored."""


def await_true(condition: Callable[[], bool], what: str, patience_s: float) -> None:
    """Return once `condition` holds. TimeoutError after `patience_s`."""
    deadline = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} after {patience_s} s")
        time.sleep(POLL_S)


class Native:
    """The backing store itself."""

    name = "native"

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.root = directory / "files"

    def start(self) -> None:
        self.root.mkdir(parents=True)

    def make_cold(self) -> None:
        drop_caches()

    def settle(self) -> None:
        return

    def cpu_s(self) -> float:
        return 0.0

    def stop(self) -> None:
        shutil.rmtree(self._directory)


class Peer:
    """A program that stays in the foreground while it holds a mount."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self._directory = directory
        self.root = directory / "mount"
        self.source = directory / "files"
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        """The command line for the next start."""
        return ["bindfs", "-f", str(self.source), str(self.root)]

    def start(self) -> None:
        self.root.mkdir(parents=True)
        self.source.mkdir()
        self._mount()

    def _mount(self) -> None:
        self._process = subprocess.Popen(
            self.command(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        await_true(lambda: is_mounted(self.root), f"{self.name} has not mounted", MOUNT_S)

    def _unmount(self) -> None:
        assert self._process is not None
        unmount = ["umount"] if os.geteuid() == 0 else ["fusermount3", "-u"]
        subprocess.run([*unmount, str(self.root)], check=True, timeout=MOUNT_S)
        self._process.wait(MOUNT_S)
        self._process = None

    def make_cold(self) -> None:
        self._unmount()
        drop_caches()
        self._mount()

    def settle(self) -> None:
        return

    def cpu_s(self) -> float:
        assert self._process is not None
        return cpu_s(self._process.pid)

    def stop(self) -> None:
        if self._process is not None:
            self._unmount()
        shutil.rmtree(self._directory)


class Rclone(Peer):
    """rclone mount of a local directory with its full cache."""

    _port = 0

    def command(self) -> list[str]:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        return [
            *("rclone", "mount", f":local:{self.source}", str(self.root)),
            *("--config", "/dev/null", "--vfs-cache-mode", "full", "--vfs-write-back", RCLONE_WRITE_BACK),
            *(
                "--cache-dir",
                str(self._directory / "cache"),
                "--dir-cache-time",
                "1h",
                "--poll-interval",
                "0",
            ),
            *("--rc", "--rc-no-auth", "--rc-addr", f"127.0.0.1:{self._port}"),
        ]

    def settle(self) -> None:
        await_true(lambda: self._uploads() == 0, "rclone has not written back", SETTLE_S)

    def _uploads(self) -> int:
        request = urllib.request.Request(f"http://127.0.0.1:{self._port}/vfs/stats", method="POST")
        with urllib.request.urlopen(request, timeout=SETTLE_S) as answer:
            cache = json.load(answer)["diskCache"]
        return int(cache["uploadsInProgress"]) + int(cache["uploadsQueued"])


class Gocryptfs(Peer):
    """gocryptfs as it comes: each file encrypted in blocks of 4 KiB, and its name."""

    @property
    def _password(self) -> Path:
        return self._directory / "password"

    def command(self) -> list[str]:
        return ["gocryptfs", "-fg", "-q", "-passfile", str(self._password), str(self.source), str(self.root)]

    def start(self) -> None:
        self.root.mkdir(parents=True)
        self.source.mkdir()
        self._password.write_text("bench\n")
        make = ["gocryptfs", "-init", "-q", "-scryptn", "10", "-passfile", str(self._password)]
        subprocess.run([*make, str(self.source)], check=True, timeout=MOUNT_S, stdin=subprocess.DEVNULL)
        self._mount()


class Ditto:
    """DittoFS with everything on: journal, chunks, hashes, encryption. Settled means published."""

    def __init__(self, directory: Path, front_end: str = FRONT_END_DEFAULT, name: str = "DittoFS") -> None:
        self.name = name
        self.node = Node(directory, front_end)
        self.root = self.node.root
        self.pid = 0
        """The daemon's."""

    def start(self) -> None:
        self.mount()

    def mount(self) -> float:
        """Mount; seconds of the command, the start of the daemon included."""
        taken_s = self.node.mount()
        self.pid = self.node.daemon_pid()
        return taken_s

    def make_cold(self) -> None:
        self.node.unmount()
        self.node.end_daemon()
        drop_caches()
        self.mount()

    def settle(self) -> None:
        await_true(lambda: self.unpublished() == 0, "DittoFS has not published", SETTLE_S)

    def unpublished(self) -> int:
        """Files whose content has not entered the tree."""
        found = re.search(r"^unpublished\s+(\d+)", (self.root / ".dittofs/status").read_text(), re.M)
        assert found is not None
        return int(found[1])

    def cpu_s(self) -> float:
        return cpu_s(self.pid)

    def crash(self) -> float:
        """SIGKILL the daemon and mount again; seconds of the `mount` command."""
        self.node.kill_daemon()
        return self.mount()

    def stop(self) -> None:
        self.node.close()
        shutil.rmtree(self.node.directory)
