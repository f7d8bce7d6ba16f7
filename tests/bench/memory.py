"""Memory of the daemon, and how long people wait for a command and for a mount.

    sh packaging/dev bench memory [--entries 100000] [--json FILE]

Entries are made through the mount. The daemon is restarted before each count, so that nothing that
making them left behind is measured.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Final

from tests.bench._machine import describe, drop_caches, file_system, resident_bytes
from tests.bench._report import table
from tests.bench._subjects import Ditto
from tests.e2e.node import dittofs_command

FEW: Final = 10_000
FILES_A_DIRECTORY: Final = 100
CHANGES: Final = 3000  # of 256 shards, these leave one out in 1 of 500 runs
COMMANDS: Final = 11
MIB: Final = 1 << 20
IDLE_BYTES_TARGET: Final = 60 * MIB
ENTRY_BYTES_TARGET: Final = 1100
UNTOUCHED: Final = "never looked at"
LISTED: Final = "listed (ls -lR)"
CHANGED: Final = "listed, and every document loaded by a change"
LOADED: Final = (LISTED, CHANGED)


class Figures:
    """Rows of the two tables, as they are measured."""

    def __init__(self) -> None:
        self.memory: list[tuple[str, int, int]] = []
        """(state, entries, resident bytes)"""
        self.waits: list[tuple[str, float, float]] = []
        """(what, seconds, target seconds)"""

    def note_memory(self, state: str, entries: int, ditto: Ditto) -> None:
        self.memory.append((state, entries, resident_bytes(ditto.pid)))
        print(f"  {entries:7} entries, {state}: {self.memory[-1][2] / MIB:.1f} MiB", file=sys.stderr)

    def note_wait(self, what: str, taken_s: float, target_s: float) -> None:
        self.waits.append((what, taken_s, target_s))
        print(f"  {what}: {taken_s:.3f} s", file=sys.stderr)

    def memory_table(self) -> str:
        idle = self.memory[0][2]
        rows = []
        for state, entries, size in self.memory:
            target = IDLE_BYTES_TARGET + (entries * ENTRY_BYTES_TARGET if state in LOADED else 0)
            each = f"{(size - idle) / entries:.0f}" if entries else ""
            rows.append(
                [f"{entries:,} entries, {state}", f"{size / MIB:.1f}", each, _kept(size, target, MIB)]
            )
        return table(["daemon", "resident MiB", "bytes an entry over idle", "target MiB"], rows)

    def wait_table(self) -> str:
        rows = [[what, f"{taken:.3f}", _kept(taken, target, 1)] for what, taken, target in self.waits]
        return table(["what", "seconds", "target"], rows)


def _kept(value: float, target: float, unit: float) -> str:
    """The target, marked when it is missed."""
    text = f"≤ {target / unit:g}" if unit == 1 else f"≤ {target / unit:.0f}"
    return text if value <= target else f"**{text}**"


def make_entries(root: Path, start: int, end: int) -> None:
    """Files of 8 bytes, numbered."""
    for index in range(start, end):
        directory = root / str(index // FILES_A_DIRECTORY)
        if index % FILES_A_DIRECTORY == 0:
            directory.mkdir()
        (directory / str(index)).write_bytes(index.to_bytes(8, "big"))


def list_all(root: Path) -> None:
    subprocess.run(["ls", "-lR", str(root)], stdout=subprocess.DEVNULL, check=True)


def change_every_shard(root: Path, entries: int) -> None:
    """A change of mode in files enough that each of the documents has one."""
    for index in range(0, entries, max(1, entries // CHANGES)):
        (root / str(index // FILES_A_DIRECTORY) / str(index)).chmod(0o640)


def command_s(ditto: Ditto, *arguments: str) -> float:
    """Median seconds of a command, from its start to its end."""
    taken = []
    for _ in range(COMMANDS):
        begin = time.perf_counter()
        subprocess.run(
            [*dittofs_command(), *arguments],
            env=ditto.node.environment,
            stdout=subprocess.DEVNULL,
            check=True,
        )
        taken.append(time.perf_counter() - begin)
    return median(taken)


def restart_s(ditto: Ditto) -> float:
    """Unmount, end the daemon, empty the caches; seconds of the mount that follows."""
    ditto.node.unmount()
    ditto.node.end_daemon()
    drop_caches()
    return ditto.mount()


def count_loaded(figures: Figures, ditto: Ditto, entries: int) -> None:
    """Memory with `entries` in the volume: after a restart, listed, and with every document loaded."""
    figures.note_memory(UNTOUCHED, entries, ditto)
    list_all(ditto.root)
    figures.note_memory(LISTED, entries, ditto)
    change_every_shard(ditto.root, entries)
    figures.note_memory(CHANGED, entries, ditto)


def measure(ditto: Ditto, entries: int) -> Figures:
    figures = Figures()
    figures.note_wait("mount of an empty volume", restart_s(ditto), 1.0)
    figures.note_memory("idle", 0, ditto)
    figures.note_wait("dittofs --help", command_s(ditto, "--help"), 0.1)
    figures.note_wait("dittofs status", command_s(ditto, "status"), 0.15)
    made = 0
    for wanted in (FEW, entries):
        begin = time.monotonic()
        make_entries(ditto.root, made, wanted)
        made = wanted
        ditto.settle()
        print(f"  {wanted} entries made in {time.monotonic() - begin:.0f} s", file=sys.stderr)
        figures.note_wait(f"mount after kill -9, {wanted:,} files", ditto.crash(), 5.0)
        figures.note_wait(f"mount of {wanted:,} files, caches cold", restart_s(ditto), 1.0)
        count_loaded(figures, ditto, wanted)
        figures.note_wait(f"dittofs status, {wanted:,} files", command_s(ditto, "status"), 0.15)
    return figures


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench memory", description=__doc__.splitlines()[0])
    parser.add_argument("--entries", type=int, default=100_000, help="the larger count (100000)")
    parser.add_argument("--disk", type=Path, default=Path("/var/tmp"), help="where the store is (/var/tmp)")
    parser.add_argument("--json", type=Path, help="write every figure to this file")
    asked = parser.parse_args(argv)
    machine = describe()
    ground = Path(tempfile.mkdtemp(prefix="dittofs-bench-", dir=asked.disk))
    ditto = Ditto(ground / "node")
    try:
        ditto.start()
        figures = measure(ditto, asked.entries)
    finally:
        ditto.stop()
        ground.rmdir()
    print(f"{machine}; store on {file_system(asked.disk)}; commands: median of {COMMANDS}\n")
    print(figures.memory_table())
    print()
    print(figures.wait_table())
    if asked.json is not None:
        asked.json.write_text(json.dumps({"memory": figures.memory, "waits": figures.waits}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
