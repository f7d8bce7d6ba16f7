"""From the close of a 4 KiB file until others may be told of it: durable, content and name.

    python -m tests.bench.publish_figures [--trials 200] [--folder DIR]

Carried by the journal and by a sync of the pack first, in turns, with the thread hops of a daemon.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

import trio

from dittofs.blocking import run_in_thread
from dittofs.local_disk import LocalDisk
from dittofs.volume import carried
from tests.bench._report import table
from tests.simulation.rig import Rig

WAYS = {"carried": carried.FILES_MAX, "synced": 0}


async def trial(rig: Rig, name: str, files_max: int) -> tuple[float, float]:
    """Seconds, and those of the processor."""
    await rig.write(name, os.urandom(4096))
    begun, spent = time.monotonic(), time.process_time()
    with patch.object(carried, "FILES_MAX", files_max):
        await rig.volume.publisher.publish_point()
    await run_in_thread(rig.volume.replica.journal.sync)
    return time.monotonic() - begun, time.process_time() - spent


async def figures(folder: Path, trials: int) -> dict[str, list[tuple[float, float]]]:
    rig = Rig(LocalDisk(str(folder / "store")))
    rig.volume.replica.run_blocking = run_in_thread
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    for number in range(trials):
        for way, files_max in WAYS.items():
            found[way].append(await trial(rig, f"{way}{number}", files_max))
        if number % 20 == 0:
            await rig.volume.publisher.carried.settle()
    rig.abandon()
    return found


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--folder", help="where the store is made: on the disk to measure")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        found = trio.run(figures, Path(folder), arguments.trials)
    rows = []
    for way, times in found.items():
        walls = [f"{wall * 1e3:.1f}" for wall in statistics.quantiles([wall for wall, _ in times], n=10)]
        spent = statistics.median(cpu for _, cpu in times)
        rows.append([way, walls[0], walls[4], walls[8], f"{spent * 1e3:.2f}"])
    print(f"load {os.getloadavg()[0]:.1f}\n")
    print(table(["way", "p10 ms", "p50 ms", "p90 ms", "processor, p50 ms"], rows))


if __name__ == "__main__":
    main()
