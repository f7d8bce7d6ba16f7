"""Samples of interleaved runs, their medians, and the tables of `docs/performance.md`."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

NATIVE: Final = "native"
DITTO: Final = "DittoFS"
NOT_RUN: Final = "-"


@dataclass(frozen=True, slots=True)
class Sample:
    """One timed run of a workload on a file system."""

    backing: str
    workload: str
    subject: str
    wall_s: float
    """Until the program had its last answer."""
    settled_s: float
    """Until nothing was left to do behind the program's back."""
    cpu_s: float
    """Processor time of the file system's process until then; 0 for the native one."""


@dataclass(frozen=True, slots=True)
class Target:
    """Greatest ratio of DittoFS's time to another's that the design asks for. None: it asks nothing."""

    tmpfs: float
    disk: float
    bindfs_tmpfs: float | None = None
    bindfs_disk: float | None = None
    rclone: float | None = None

    def native(self, backing: str) -> float:
        return self.tmpfs if backing == "tmpfs" else self.disk

    def bindfs(self, backing: str) -> float | None:
        return self.bindfs_tmpfs if backing == "tmpfs" else self.bindfs_disk


TARGETS: Final = {
    "create 4 KiB files": Target(14, 2, 2, 1.2, 0.25),
    "ls -lR warm": Target(5, 4, 0.67, 0.67),
    "read 4 KiB files, cold": Target(7, 6, 1, 1, 0.2),
    "rm -rf": Target(5, 1, 0.67, 0.67),
    "untar": Target(6, 1.5, 1, 1, 0.25),
    "git clone": Target(8, 2, 2, 2),
    "git status": Target(2.5, 2, 1, 1),
    "sequential write 1M": Target(2.5, 1, 0.33, 0.33, 1),
    "sequential read, cold": Target(4, 1.3, 1, 1, 0.5),
    "4 KiB random write": Target(3, 1.5, 0.14, 0.14),
    "4 KiB random read, cold": Target(17, 1, 0.77, 0.77),
}


class Samples:
    """All samples of a run."""

    def __init__(self) -> None:
        self.all: list[Sample] = []

    def add(self, sample: Sample) -> None:
        self.all.append(sample)

    def _of(self, backing: str, workload: str, subject: str) -> list[Sample]:
        wanted = (backing, workload, subject)
        return [one for one in self.all if (one.backing, one.workload, one.subject) == wanted]

    def wall_s(self, backing: str, workload: str, subject: str) -> float | None:
        """The median, None if it was not run."""
        found = self._of(backing, workload, subject)
        return median(one.wall_s for one in found) if found else None

    def settled_s(self, backing: str, workload: str, subject: str) -> float | None:
        found = self._of(backing, workload, subject)
        return median(one.settled_s for one in found) if found else None

    def cpu_s(self, backing: str, workload: str, subject: str) -> float | None:
        found = self._of(backing, workload, subject)
        return median(one.cpu_s for one in found) if found else None

    def workloads(self, backing: str) -> list[str]:
        return list(dict.fromkeys(one.workload for one in self.all if one.backing == backing))

    def table(self, backing: str, subjects: Sequence[str]) -> str:
        """Markdown: one row a workload, medians, ratios to native and the targets."""
        peers = [one for one in subjects if one not in (NATIVE, DITTO)]
        head = ["workload", "native s", *(f"{one} / native" for one in peers), "DittoFS / native", "target"]
        head += [f"DittoFS / {one}" for one in peers] + ["DittoFS s", "published s", "CPU s"]
        head += [f"{one} CPU s" for one in peers]
        rows = [self._row(backing, workload, peers) for workload in self.workloads(backing)]
        return table(head, rows)

    def _row(self, backing: str, workload: str, peers: Sequence[str]) -> list[str]:
        native = self.wall_s(backing, workload, NATIVE)
        ditto = self.wall_s(backing, workload, DITTO)
        target = TARGETS[workload]
        limits = {"bindfs": target.bindfs(backing), "rclone": target.rclone}
        row = [workload, number(native)]
        row += [ratio(self.wall_s(backing, workload, peer), native) for peer in peers]
        row += [ratio(ditto, native), against(ditto, native, target.native(backing))]
        for peer in peers:
            wall_s = self.wall_s(backing, workload, peer)
            row.append(f"{ratio(ditto, wall_s)} {against(ditto, wall_s, limits.get(peer))}".strip())
        row += [number(ditto), number(self.settled_s(backing, workload, DITTO))]
        row.append(number(self.cpu_s(backing, workload, DITTO)))
        return row + [number(self.cpu_s(backing, workload, peer)) for peer in peers]


def number(value: float | None) -> str:
    """Three significant figures."""
    if value is None:
        return NOT_RUN
    return f"{value:.3f}" if value < 1 else f"{value:.2f}" if value < 10 else f"{value:.1f}"


def ratio(value: float | None, to: float | None) -> str:
    if value is None or not to:
        return NOT_RUN
    return f"{value / to:.2f}" if value / to < 10 else f"{value / to:.0f}"


def against(value: float | None, to: float | None, limit: float | None) -> str:
    """The limit, marked when it is not kept; empty without a limit."""
    if limit is None or value is None or not to:
        return ""
    return f"(≤ {limit:g})" if value / to <= limit else f"**(≤ {limit:g})**"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table: the first column to the left, the others to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
