"""What the journal costs: `python -m tests.bench.journal_figures [DIRECTORY]` prints one line per figure.

Give a directory on the disk that matters; without one, a temporary directory is used.
"""

import os
import random
import resource
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dittofs.ids import InodeId, Slot, Stamp
from dittofs.journal.chain import FIRST_EPOCH
from dittofs.journal.journal import Journal
from dittofs.local_disk import LocalDisk

OPERATIONS = 20_000
INDEX_ROWS = 200_000
SHARDS = 256


@dataclass
class Effect:
    stamp: Stamp
    inode: InodeId
    slot: Slot
    kind: str = "write"
    before: bytes = b"b" * 30
    after: bytes = b"a" * 60
    source: InodeId | None = None
    target: InodeId | None = None


def show(what: str, seconds: float, count: int = 1, unit: str = "µs", scale: float = 1e6) -> None:
    print(f"{what:58} {seconds / count * scale:10.2f} {unit}")


def timed(function: Callable[[], object]) -> float:
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def main(directory: str) -> None:
    chance = random.Random(1)
    journal = Journal.open(LocalDisk(directory), "journal.db")
    journal.claim_writer(os.urandom, "bench")
    keys = [chance.randbytes(16) for _ in range(INDEX_ROWS)]

    def fill() -> None:
        for begin in range(0, INDEX_ROWS, 10_000):
            with journal.transaction():
                for key in keys[begin : begin + 10_000]:
                    journal.put("entries", key, key * 6)
            journal.checkpoint()

    show("index put, 10,000 a transaction", timed(fill), INDEX_ROWS)

    def operation(number: int, spread: int) -> None:
        shard = number * 7919 % spread
        inode = InodeId(chance.randbytes(8).hex())
        with journal.transaction():
            journal.append(number, [(shard, FIRST_EPOCH, chance.randbytes(180))], b"")
            journal.append_history([Effect(Stamp(number), inode, Slot("AAAAAAAA"))], number)
            for _ in range(3):
                journal.put("names", chance.randbytes(20), b"v" * 60)

    checkpointing = threading.Thread()
    for spread in (1, SHARDS):
        times: list[float] = []
        begin = time.perf_counter()
        for number in range(OPERATIONS):
            if journal.is_checkpoint_due and not checkpointing.is_alive():
                checkpointing = threading.Thread(target=journal.checkpoint)
                checkpointing.start()
            start = time.perf_counter()
            operation(number, spread)
            times.append(time.perf_counter() - start)
        show(
            f"commit of 1 log + 1 history + 3 index rows, {spread} shards, mean",
            time.perf_counter() - begin,
            OPERATIONS,
        )
        show("  median", statistics.median(times))
        show("  99.9th of 100", sorted(times)[-OPERATIONS // 1000], unit="ms", scale=1e3)
        show("  slowest", max(times), unit="ms", scale=1e3)
    sample = chance.choices(keys, k=OPERATIONS)
    show(
        "index get, cold and warm", timed(lambda: [journal.get("entries", key) for key in sample]), OPERATIONS
    )
    hot = sample[:1000]
    show("index get, warm", timed(lambda: [journal.get("entries", key) for key in hot]), len(hot))
    show("index scan, per row", timed(lambda: sum(1 for _ in journal.scan("entries", b""))), INDEX_ROWS)

    syncs = []
    for number in range(100):
        operation(number, 1)
        syncs.append(timed(journal.sync))
    show("sync after one commit, median", statistics.median(syncs))
    show("checkpoint of what is left", timed(journal.checkpoint), unit="ms", scale=1e3)
    show("load of a shard, per update", timed(lambda: journal.load(0)), len(journal.load(0)[2]))
    blob = b"".join(key * 2 + key for key in keys[:20_000])

    def snapshot() -> None:
        with journal.transaction():
            journal.put_snapshot(0, FIRST_EPOCH, blob)

    show(f"snapshot of {len(blob) >> 10} KiB", timed(snapshot), unit="ms", scale=1e3)
    show("check of everything", timed(lambda: list(journal.check())), unit="ms", scale=1e3)
    show("clean end", timed(journal.close), unit="ms", scale=1e3)
    again: list[Journal] = []
    disk = LocalDisk(directory)
    show(
        "opening after it",
        timed(lambda: again.append(Journal.open(disk, "journal.db"))),
        unit="ms",
        scale=1e3,
    )
    show(
        "claiming the writer", timed(lambda: again[0].claim_writer(os.urandom, "bench")), unit="ms", scale=1e3
    )
    again[0].abandon()
    size = (Path(directory) / "journal.db").stat().st_size
    print(f"{'file':58} {size >> 20:10} MiB")
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"{'peak memory of this process':58} {peak_kib >> 10:10} MiB")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as made:
        main(made)
