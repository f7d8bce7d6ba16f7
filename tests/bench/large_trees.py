"""How long a volume of many entries takes to be usable after a start, and what its daemon holds in memory.

    sh packaging/dev bench large_trees [--entries 1000000]

The entries are made by the tree itself in a home of its own (names, sizes, times and content roots are real,
no chunk is there), then the real daemon is started on it, after clean ends and after SIGKILL. *Usable*:
`dittofs mount` has returned, the root is listed and a file is found.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import trio

from dittofs.blocking import run_in_thread
from dittofs.clock import SystemClock, system_entropy
from dittofs.config import Paths, Settings
from dittofs.ids import ROOT
from dittofs.node import Node
from dittofs.tree.record import Kind
from tests.bench._machine import describe, resident_bytes
from tests.bench._report import table
from tests.bench.exchange_figures import create

FILES_EACH: Final = 99  # of a directory: 100 entries with itself
MOUNT_S: Final = 300.0
END_S: Final = 60.0


def dittofs(home: Path, *arguments: str | Path) -> str:
    """Run the command on a home."""
    done = subprocess.run(
        [Path(sys.executable).with_name("dittofs"), *map(str, arguments)],
        env=environment(home),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=MOUNT_S,
    )
    if done.returncode:
        raise SystemExit(f"dittofs {' '.join(map(str, arguments))}: {done.stdout}{done.stderr}")
    return done.stdout


def environment(home: Path) -> Mapping[str, str]:
    return {**os.environ, "DITTOFS_HOME": str(home), "TZ": "UTC"}


async def fill(home: Path, name: str, entries: int) -> None:
    """So many entries below the root, in directories of 100."""
    async with trio.open_nursery() as nursery:
        paths = Paths.find(environment(home))
        node = Node(
            paths,
            Settings.read(paths.settings),
            clock=SystemClock(),
            entropy=system_entropy,
            run_blocking=run_in_thread,
            nursery=nursery,
        )
        node.start()
        volume = (await node.open(name, trusts_root=False)).volume
        begun = time.monotonic()
        for number in range(entries // (FILES_EACH + 1)):
            if number % 1_000 == 0:
                (above,) = create(volume.replica, ROOT, b"part%d" % (number // 1_000), 1, Kind.DIRECTORY)
            (directory,) = create(volume.replica, above, b"directory%d" % number, 1, Kind.DIRECTORY)
            create(volume.replica, directory, b"file", FILES_EACH, Kind.FILE)
            if number % 100 == 0:
                await volume.background_sync()
        print(f"  {entries:,} entries in {time.monotonic() - begun:.0f} s", file=sys.stderr)
        await node.close()
        nursery.cancel_scope.cancel()


def daemon_pid(home: Path) -> int:
    status: Any = json.loads(dittofs(home, "status", "--json"))
    return int(status["pid"])


def end(pid: int, how: signal.Signals) -> None:
    descriptor = os.pidfd_open(pid)
    os.kill(pid, how)
    deadline = time.monotonic() + END_S
    while Path(f"/proc/{pid}/stat").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.close(descriptor)


def usable_after_s(home: Path, root: Path, entries: int) -> float:
    """From the command to the first listing and the first file found."""
    begun = time.monotonic()
    dittofs(home, "mount", root)
    list(root.iterdir())
    last = entries // (FILES_EACH + 1) - 1
    (root / f"part{last // 1_000}-0" / f"directory{last}-0" / "file-7").stat()
    return time.monotonic() - begun


def measured(home: Path, root: Path, entries: int, ended: signal.Signals) -> list[str]:
    """Three starts, each after the daemon's end of that kind."""
    took: list[float] = []
    for _ in range(3):
        end(daemon_pid(home), ended)
        took.append(usable_after_s(home, root, entries))
    resident = resident_bytes(daemon_pid(home))
    begun = time.monotonic()
    count = sum(len(list(one.iterdir())) for one in (root / "part0-0").iterdir())
    listed = time.monotonic() - begun
    return [
        f"{sorted(took)[1]:.2f}",
        f"{max(took):.2f}",
        f"{resident >> 20}",
        f"{listed / count * 1e6:.0f}",
    ]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench large_trees", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--entries", type=int, default=1_000_000)
    entries: int = parser.parse_args(argv).entries
    machine = describe()
    rows: list[list[str]] = []
    with tempfile.TemporaryDirectory() as folder:
        home, root = Path(folder) / "home", Path(folder) / "Large"
        home.mkdir()
        (home / "config.toml").write_text("[network]\nmdns = false\n")
        dittofs(home, "mount", root)
        dittofs(home, "unmount", root)
        dittofs(home, "daemon", "--stop")
        trio.run(fill, home, "Large", entries)
        dittofs(home, "mount", root)
        try:
            for how, ended in (("a clean end", signal.SIGTERM), ("SIGKILL", signal.SIGKILL)):
                rows.append([how, *measured(home, root, entries, ended)])
        finally:
            dittofs(home, "daemon", "--stop")
            subprocess.run(["fusermount3", "-uz", root], check=False, capture_output=True)
    print(f"{machine}; {entries:,} entries\n")
    head = ["started after", "usable s (median, ≤ 1)", "s (most)", "resident MiB", "listing, µs a name"]
    print(table(head, rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
