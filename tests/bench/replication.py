"""DittoFS beside rsync and Syncthing: two devices, one cable, stores in memory, all in one run.

    sh packaging/dev bench replication [--scale 1.0] [--only WORDS] [--write] [--json FILE]

Two network namespaces with a veth pair. Scenarios are interleaved: each is run by every program before
the next begins. Needs root.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import quantiles
from typing import Final

from tests.bench import _changes as changes
from tests.bench._changes import Clocks, Material
from tests.bench._machine import cpu_s, describe, resident_bytes
from tests.bench._pairs import (
    MIB,
    STATUS_LOOK_S,
    Cable,
    DittoPair,
    Pair,
    RsyncPair,
    SyncthingPair,
    await_true,
    cable,
    noise,
    peak_bytes,
    reset_peak,
)
from tests.bench._peers import missing_reason
from tests.bench._report import NOT_RUN, number, table

GROUND_BYTES: Final = 20 << 30
LARGE_BYTES: Final = 1 << 30
FILES: Final = 10_000
TRIALS: Final = 100
CHANGES: Final = 1_000
IDLE_S: Final = 30.0
DOCUMENT: Final = Path(__file__).parents[2] / "docs/performance.md"
SECTION: Final = "## Two devices"
NOTES: Final = """\
Both clocks begin when the last program on A is done. *Visible*: name, size and time are right on B and a
first piece was read; *materialised*: all bytes lie on B. CPU seconds are those of both sides while it was
written and until then, clients included; wire bytes are the veth counters, both ways. Peak: the larger of
A's and B's resident memory. Syncthing is Debian's, which is built without assembly (its SHA-256 is several
times slower than it could be), and was told over its API what to scan as soon as it was written; *as
shipped* it waits for its own watcher. Durability compared: stores are in memory, and no program calls
fsync. DittoFS shows a change on B once A's chunks and journal were synced; Syncthing fsyncs each file
before it renames it into place; rsync syncs nothing."""


@dataclass(frozen=True, slots=True)
class Row:
    """One scenario on one program."""

    scenario: str
    program: str
    clocks: Clocks
    cpu_s: float
    wire_bytes: int
    peak_bytes: int


@dataclass(frozen=True, slots=True)
class Must:
    """What the design asks for, in seconds and bytes."""

    visible_s: float | None = None
    materialised_s: float | None = None
    wire_bytes: float | None = None
    cpu_s: float | None = None


MUST: Final = {
    "1 GiB file": Must(1.5, 4.5, None, 7),
    "edit 1 MiB in place": Must(0.4, None, 1.9e6),
    "edit 1 MiB, rewritten": Must(None, 4, 1.9e6),
    "insert 10 bytes at the start": Must(None, 4, 1.0e6),
    "10,000 small files": Must(1.5, 4),
    "4 KiB, a fresh file": Must(0.008),
    "4 KiB, a file rewritten": Must(0.008),
    "rename a directory of 10,000": Must(0.2, None, 64e3),
    "delete 10,000": Must(2, None, 0.5e6),
    "restart of B, 10,000 files": Must(1.5),
    "1,000 changes on each side, apart": Must(3),
}
Scenario = Callable[[Pair, Material], Clocks]
FIRST: Final = "10,000 small files"


class Run:
    """The programs under test, and what was measured."""

    def __init__(self, ends: Cable, material: Material) -> None:
        self.ends = ends
        self.material = material
        self.rows: list[Row] = []
        self.lines: list[tuple[str, str, str]] = []
        """What has no clocks: (what, figures, must)."""

    def measure(self, name: str, pair: Pair, scenario: Scenario) -> None:
        """One scenario on one program, from quiet to quiet."""
        if isinstance(pair, DittoPair):
            await_true(pair.is_confirmed, "DittoFS is quiet", look_s=STATUS_LOOK_S)
        reset_peak(pair.pids())
        wire_bytes, begun_cpu_s = self.ends.wire_bytes(), pair.cpu_s()
        clocks = scenario(pair, self.material)
        spent_s = pair.cpu_s() - begun_cpu_s
        peak = max(map(peak_bytes, pair.pids()), default=0)
        row = Row(name, pair.name, clocks, spent_s, self.ends.wire_bytes() - wire_bytes, peak)
        self.rows.append(row)
        print(
            f"  {name:34} {pair.name:9} visible {clocks.visible_s:8.3f} s  materialised "
            f"{clocks.materialised_s:8.3f} s  (written {clocks.wrote_s:6.2f} s)  cpu {row.cpu_s:6.2f} s  "
            f"wire {row.wire_bytes / 1e6:9.3f} MB  peak {peak / MIB:6.0f} MiB",
            file=sys.stderr,
        )

    def note(self, what: str, figures: str, must: str) -> None:
        self.lines.append((what, figures, must))
        print(f"  {what}: {figures} (must: {must})", file=sys.stderr)

    def table(self) -> str:
        head = ["scenario", "program", "visible s", "must", "materialised s", "must", "DittoFS / it"]
        head += ["CPU s", "must", "wire MB", "must", "peak MiB", "writing took s"]
        return table(head, [self._row(row) for row in self.rows])

    def _row(self, row: Row) -> list[str]:
        is_ours = row.program == DittoPair.name
        must = MUST.get(row.scenario, Must()) if is_ours else Must()
        ours = [one for one in self.rows if one.scenario == row.scenario and one.program == DittoPair.name]
        times = [one.clocks.materialised_s for one in ours]
        against = "" if is_ours or not times else f"{times[0] / row.clocks.materialised_s:.2f}"
        return [
            row.scenario if is_ours or not ours else "",
            row.program,
            number(row.clocks.visible_s),
            _kept(row.clocks.visible_s, must.visible_s),
            number(row.clocks.materialised_s),
            _kept(row.clocks.materialised_s, must.materialised_s),
            against,
            number(row.cpu_s),
            _kept(row.cpu_s, must.cpu_s),
            number(row.wire_bytes / 1e6),
            _kept(row.wire_bytes / 1e6, None if must.wire_bytes is None else must.wire_bytes / 1e6),
            f"{row.peak_bytes / MIB:.0f}" if row.peak_bytes else NOT_RUN,
            number(row.clocks.wrote_s),
        ]

    def single_table(self) -> str:
        rows = []
        for row in self.rows:
            trials = row.clocks.trials_s
            if trials:
                cut = quantiles(trials, n=20)
                rows.append(
                    [
                        row.scenario,
                        row.program,
                        f"{row.clocks.visible_s * 1e3:.1f}",
                        f"{cut[18] * 1e3:.1f}",
                        str(len(trials)),
                    ]
                )
        return table(["change", "program", "p50 ms (≤ 8)", "p95 ms (≤ 20)", "trials"], rows)


def _kept(value: float, limit: float | None) -> str:
    if limit is None:
        return ""
    return f"≤ {limit:g}" if value <= limit else f"**≤ {limit:g}**"


def small_scenarios(run: Run, pairs: Sequence[Pair], only: str) -> None:
    """Everything but the large file, in the order in which they build on each other."""
    trials = run.material.trials
    singles: list[tuple[str, Scenario]] = [
        ("4 KiB, a fresh file", lambda pair, _: changes.single_changes(pair, trials, is_new=True)),
        ("4 KiB, a file rewritten", lambda pair, _: changes.single_changes(pair, trials, is_new=False)),
    ]
    for name, scenario in singles:
        for pair in pairs:
            if only in name:
                run.measure(name, pair, scenario)
    for pair in pairs:
        if isinstance(pair, SyncthingPair) and only in "as shipped":
            run.measure("4 KiB, as shipped", pair, changes.as_shipped)
    steps: list[tuple[str, Scenario]] = [
        (FIRST, changes.many_files),
        ("restart of B, 10,000 files", changes.restart),
        (
            "1,000 changes on each side, apart",
            lambda pair, material: changes.apart(pair, material, run.ends.pull, run.ends.plug),
        ),
        ("rename a directory of 10,000", changes.rename_directory),
        ("delete 10,000", changes.delete_many),
    ]
    for name, scenario in steps:
        if not (only in name or (name == FIRST and only in "rename delete restart idle memory")):
            continue
        for pair in pairs:
            if isinstance(pair, RsyncPair) and scenario in (changes.restart, steps[2][1]):
                continue  # it has no state, and knows one direction
            run.measure(name, pair, scenario)
        if scenario is changes.restart and only in "idle memory":
            count_idle(run, pairs)


def count_idle(run: Run, pairs: Sequence[Pair]) -> None:
    """Memory with 10,000 files after a restart, and processor time when nothing happens."""
    lasting = [pair for pair in pairs if pair.pids()]
    before = {pair.name: [cpu_s(pid) for pid in pair.pids()] for pair in lasting}
    time.sleep(IDLE_S)
    for pair in lasting:
        spent = [cpu_s(pid) - was for pid, was in zip(pair.pids(), before[pair.name], strict=True)]
        shares = ", ".join(f"{one / IDLE_S * 100:.2f} %" for one in spent)
        run.note(f"{pair.name}: idle CPU of A, B (10 ms ticks, {IDLE_S:g} s)", shares, "0.2 %")
        sizes = ", ".join(f"{resident_bytes(pid) / MIB:.0f}" for pid in pair.pids())
        run.note(f"{pair.name}: resident MiB of A, B (just restarted), 10,000 files", sizes, "75")


def large_scenarios(run: Run, pairs: Sequence[Pair], only: str) -> None:
    steps: list[tuple[str, Scenario]] = [
        ("1 GiB file", changes.large_file),
        ("edit 1 MiB in place", changes.edit_in_place),
        ("edit 1 MiB, rewritten", changes.edit_rewritten),
        ("insert 10 bytes at the start", changes.insert_at_start),
    ]
    for name, scenario in steps:
        if not (only in name or name == "1 GiB file"):
            continue
        for pair in pairs:
            run.measure(name, pair, scenario)
    for pair in pairs:
        if isinstance(pair, DittoPair) and only in "first read":
            await_true(pair.is_confirmed, "DittoFS is quiet", look_s=STATUS_LOOK_S)
            took_s, moved = changes.read_elsewhere(pair, run.material, run.ends.wire_bytes)
            figures = f"{took_s * 1e3:.1f} ms, {moved / 1e6:.2f} MB"
            run.note(
                "DittoFS: first read of 1 MiB inside a remote file, median of 20", figures, "25 ms, 1.5 MB"
            )


def two_at_once() -> float:
    """How much more two busy processes get done than one: 2 on two cores that nobody else uses."""
    command = [sys.executable, "-c", "x = 0\nfor i in range(10**7): x += i"]
    begun = time.perf_counter()
    subprocess.run(command, check=True)
    alone_s = time.perf_counter() - begun
    both = [subprocess.Popen(command) for _ in range(2)]
    begun = time.perf_counter()
    for process in both:
        process.wait()
    return 2 * alone_s / (time.perf_counter() - begun)


@contextmanager
def ground() -> Iterator[Path]:
    """A file system in memory, taken away afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="dittofs-bench-"))
    options = f"size={GROUND_BYTES},mode=755"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "dittofs-bench", str(directory)], check=True)
    try:
        yield directory
    finally:
        subprocess.run(["umount", str(directory)], check=True)
        directory.rmdir()


def started(names: Sequence[str], ends: Cable, directory: Path, stack: ExitStack) -> list[Pair]:
    makers: dict[str, Callable[[], Pair]] = {
        "DittoFS": lambda: DittoPair(ends),
        "rsync": lambda: RsyncPair(ends, directory / "rsync"),
        "Syncthing": lambda: SyncthingPair(ends, directory / "syncthing"),
    }
    pairs = []
    for name in names:
        pair = makers[name]()
        pair.start()
        stack.callback(pair.stop)
        pairs.append(pair)
    return pairs


def available(names: Sequence[str]) -> list[str]:
    """The programs that can be run here; the others are named."""
    found = []
    for name in names:
        reason = None if name == "DittoFS" else missing_reason(name.lower())
        if reason is None:
            found.append(name)
        else:
            print(f"NOT RUN: {name} ({reason})")
    return found


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench replication", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0, help="share of the files and bytes (1.0)")
    parser.add_argument("--programs", default="DittoFS,rsync,Syncthing")
    parser.add_argument("--groups", default="small,large", help="small,large or one of them")
    parser.add_argument("--only", default="", help="scenarios with this in their names, and what they need")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/performance.md")
    parser.add_argument("--json", type=Path, help="write every figure to this file")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    asked = arguments(argv)
    if os.geteuid():
        print("NOT RUN: network namespaces need root")
        return 77
    machine = f"{describe()}, where two busy processes did {two_at_once():.1f} times the work of one"
    names = available(asked.programs.split(","))
    files = max(100, int(FILES * asked.scale) // 100 * 100)
    large = noise("large", max(4 * MIB, int(LARGE_BYTES * asked.scale) // MIB * MIB))
    material = Material(files, large, max(5, int(TRIALS * asked.scale)), max(10, int(CHANGES * asked.scale)))
    rows: list[Row] = []
    lines: list[tuple[str, str, str]] = []
    singles = ""
    for group in asked.groups.split(","):
        with ground() as directory, cable(directory / "ends") as ends, ExitStack() as stack:
            run = Run(ends, material)
            pairs = started(names, ends, directory, stack)
            (small_scenarios if group == "small" else large_scenarios)(run, pairs, asked.only)
            rows += run.rows
            lines += run.lines
    run.rows, run.lines = rows, lines
    singles = run.single_table()
    text = "\n".join(
        (
            f"`sh packaging/dev bench replication`: {machine}, {os.getloadavg()[0]:.1f} after; one round, "
            f"scale {asked.scale:g}. **Bold** limits are missed.",
            "",
            NOTES,
            "",
            run.table(),
            "",
            singles,
            "",
            table(["what", "measured", "must"], [list(line) for line in lines]),
        )
    )
    print(text)
    if asked.write:
        write_section(text)
    if asked.json is not None:
        asked.json.write_text(
            json.dumps([asdict(row) for row in rows] + [list(one) for one in lines], indent=1)
        )
    return 0


def write_section(text: str) -> None:
    """Replace the section of the document, or add it at the end; what stands below its mark stays."""
    document = DOCUMENT.read_text()
    before, _, rest = document.partition(f"{SECTION}\n")
    _, mark, after = rest.partition("\n### ")
    if not mark:
        _, mark, after = rest.partition("\n## ")
    DOCUMENT.write_text(f"{before.rstrip()}\n\n{SECTION}\n\n{text}\n{mark}{after}")


if __name__ == "__main__":
    sys.exit(main())
