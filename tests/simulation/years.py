"""Years of one device's use, with compaction, retention and garbage rounds: what is kept, and what it takes.

    python -m tests.simulation.years --operations 1000000 --years 10

A user makes, rewrites, lengthens, renames and removes files of some kilobytes, evenly over the time. Once a
day the volume looks after itself as it does in the background and thins its history, once a week it collects
garbage. At each tenth the documents, the journal, the packs and the process are measured. In the end every
file holds what was written last.
"""

import argparse
import os
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import trio
from trio.testing import MockClock

from dittofs.local_disk import LocalDisk
from dittofs.replication.collector import Collector
from dittofs.replication.retirement import Retirement
from dittofs.tree.record import DOCUMENTS
from dittofs.volume.retained import Retained
from tests.bench._machine import describe, resident_bytes
from tests.bench._report import table
from tests.unit.replication.pair import Side, sides

DAY_S: Final = 86_400.0
YEAR_S: Final = 365 * DAY_S
KEPT: Final = 1_000
"""Files there are at a time, about."""
DIRECTORIES: Final = 20
SAMPLES: Final = 10
HEAD: Final = ["years", "operations", "files", "removed", "state KiB", "journal KiB", "history rows"]
HEAD_TOO: Final = ["named KiB", "packs KiB", "resident MiB"]


@dataclass(frozen=True, slots=True)
class Sample:
    """What there is at one time, in bytes where it is not a count."""

    years: float
    operations: int
    files: int
    removed: int
    state: int
    journal: int
    history: int
    named: int
    """Of the contents that files have now."""
    packs: int
    resident: int

    def row(self) -> list[str]:
        sizes = [f"{self.state >> 10:,}", f"{self.journal >> 10:,}", f"{self.history:,}"]
        more = [f"{self.named >> 10:,}", f"{self.packs >> 10:,}", f"{self.resident >> 20}"]
        return [
            f"{self.years:.1f}",
            f"{self.operations:,}",
            f"{self.files:,}",
            f"{self.removed:,}",
            *sizes,
            *more,
        ]


@dataclass
class Life:
    """One user and the device."""

    side: Side
    folder: Path
    chance: random.Random
    files: dict[str, bytes] = field(default_factory=dict)
    made: int = 0
    removed: int = 0

    def __post_init__(self) -> None:
        self.volume = self.side.rig.volume
        self.replica = self.volume.replica
        self.collector = Collector(
            self.side.peers, Retained(self.volume.state), Retirement(self.side.peers), grace_s=0.0
        )

    async def live(self, operations: int, years: float) -> list[Sample]:
        """So many operations over so long."""
        for number in range(DIRECTORIES):
            self.side.rig.mkdir(f"d{number}")
        pause_s = years * YEAR_S / operations
        samples: list[Sample] = []
        since_day = since_week = 0.0
        begun = time.monotonic()
        for done in range(1, operations + 1):
            await self._operate()
            self.side.rig.clock.advance(pause_s)
            since_day += pause_s
            since_week += pause_s
            if since_day >= DAY_S:
                since_day = 0.0
                await self.side.rig.publish()
                await self.volume.background_sync()
                await self.side.rig.retention.thin()
            if since_week >= 7 * DAY_S:
                since_week = 0.0
                await self.collector.collect()
            if done % max(1, operations // SAMPLES) == 0:
                await self.side.rig.publish()
                await self.volume.background_sync()
                samples.append(self._sample(years * done / operations, done))
                took = time.monotonic() - begun
                print(f"  {took:.0f} s:", *samples[-1].row(), file=sys.stderr)
        for path, data in self.files.items():
            assert self.side.rig.read(path) == data, path
        return samples

    async def _operate(self) -> None:
        rig, chance = self.side.rig, self.chance
        what = chance.random()
        if not self.files or what < 0.2 * (2 - min(2.0, len(self.files) / KEPT)):
            self.made += 1
            path = f"d{chance.randrange(DIRECTORIES)}/file{self.made}"
            await self._write(path, chance.randbytes(chance.randrange(8_000)))
            return
        path = chance.choice(list(self.files)) if len(self.files) < 50 else self._some()
        if what < 0.65:
            await self._write(path, chance.randbytes(chance.randrange(8_000)))
        elif what < 0.75:
            await self._write(path, self.files[path][:8_000] + chance.randbytes(100))
        elif what < 0.85:
            self.made += 1
            target = f"d{chance.randrange(DIRECTORIES)}/file{self.made}"
            await rig.rename(path, target)
            self.files[target] = self.files.pop(path)
        elif len(self.files) > KEPT // 2:
            await rig.unlink(path)
            del self.files[path]
            self.removed += 1

    def _some(self) -> str:
        """Any file; drawn without a list of all."""
        while True:
            number = self.chance.randrange(max(0, self.made - 20 * KEPT), self.made) + 1
            for directory in range(DIRECTORIES):
                if (path := f"d{directory}/file{number}") in self.files:
                    return path

    async def _write(self, path: str, data: bytes) -> None:
        await self.side.rig.write(path, data)
        self.files[path] = data
        if self.chance.random() < 0.5:
            await self.side.rig.publish()

    def _sample(self, years: float, done: int) -> Sample:
        sizes = {str(path.relative_to(self.folder)): path.stat().st_size for path in self.folder.rglob("*")}
        return Sample(
            years,
            done,
            len(self.files),
            self.removed,
            sum(len(self.replica.tree.snapshot(number)[1]) for number in range(DOCUMENTS)),
            sum(size for path, size in sizes.items() if path.startswith("journal")),
            sum(1 for _ in self.replica.journal.history.since(0)),
            sum(map(len, self.files.values())),
            sum(size for path, size in sizes.items() if path.startswith("chunks")),
            resident_bytes(os.getpid()),
        )


async def run(folder: Path, operations: int, years: float, seed: int) -> list[Sample]:
    """One life, with its disk below a directory. AssertionError if a file does not hold what it should."""
    async with sides(seed=seed, disk=lambda: LocalDisk(str(folder))) as (side,):
        return await Life(side, folder, random.Random(seed)).live(operations, years)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--operations", type=int, default=1_000_000)
    parser.add_argument("--years", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where the disk is; a temporary directory if not given")
    asked = parser.parse_args(argv)
    machine = describe()
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        samples = trio.run(
            run,
            Path(folder),
            asked.operations,
            asked.years,
            asked.seed,
            clock=MockClock(autojump_threshold=0),
        )
    print(f"{machine}; {asked.operations:,} operations in {asked.years:g} years, seed {asked.seed}\n")
    print(table([*HEAD, *HEAD_TOO], [sample.row() for sample in samples]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
