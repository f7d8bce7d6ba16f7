"""What rewriting the same files over and over leaves behind, on two replicas.

    sh packaging/dev bench rewrites [--rewrites 1000000] [--files 1000]

Two replicas in one process take turns in writing; each change goes to the other one as a live group, and
compaction is done as the volume does it. *State* is what all documents take as snapshots, *live* what they
take without garbage. Memory is that of both replicas; microseconds are medians of the processor's time.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from dittofs.ids import ROOT, InodeId
from dittofs.tree.entry import Change
from dittofs.tree.epochs import compacted
from dittofs.tree.record import DOCUMENTS, Kind, NewVersion
from dittofs.tree.shard import Shard
from dittofs.tree.states import Behind
from dittofs.volume.replica import Replica
from tests.bench._machine import describe, resident_bytes
from tests.bench._report import table
from tests.bench.exchange_figures import VIA, create, opened

SAMPLES: Final = 10
SHORTEN_EVERY: Final = 1_000


def rewrite(replica: Replica, inode: InodeId) -> None:
    """Another content, replacing what is shown."""
    with replica.change() as transaction:
        stamp = replica.tree.tick()
        version = NewVersion(b"\1" + replica.entropy(32), 5_000, stamp, replica.entropy(32))
        replaces = tuple(one.dot for one in replica.tree.versions(inode))
        transaction.group.write(inode, version, replaces=replaces, stamp=stamp, rank=None)


class Pair:
    """Two replicas; what one changes the other hears of."""

    def __init__(self, folder: Path) -> None:
        self.replicas = [opened(folder, "one"), opened(folder, "other")]
        self._heard: list[list[Change]] = [[], []]
        for replica, heard in zip(self.replicas, self._heard, strict=True):
            replica.listeners.append(heard.append)
        self.rounds = 0

    def exchange(self) -> None:
        """Give each what the other did; what cannot be given as a group is pulled."""
        while any(self._heard):
            for number, replica in enumerate(self.replicas):
                other = self.replicas[1 - number]
                changes, self._heard[number][:] = list(self._heard[number]), []
                for change in changes:
                    if change.via == VIA and not change.is_round:
                        continue
                    try:
                        if change.is_round:
                            raise Behind("a round")
                        other.receive(change.updates, VIA)
                    except Behind:
                        self._pull(replica, other)

    def _pull(self, source: Replica, target: Replica) -> None:
        found = map(source.difference, range(DOCUMENTS), target.states())
        parts = [part for part in found if part is not None]
        if parts:
            self.rounds += 1
            target.receive_round(parts, VIA)

    def keep_up(self) -> None:
        """What the volume does in the background."""
        for replica in self.replicas:
            for number in range(DOCUMENTS):
                if not replica.compact_if_due(number):
                    replica.shorten_log(number)
        self.exchange()


def sizes(replica: Replica) -> tuple[int, int]:
    """Bytes of all documents as they are, and without garbage."""
    state = live = 0
    for number in range(DOCUMENTS):
        epoch, blob = replica.tree.snapshot(number)
        shard = Shard.load(epoch, blob, (), replica.tree.client_id)
        state += len(blob)
        live += len((compacted(shard, number) or shard).snapshot())
    return state, live


def run(rewrites: int, files: int, folder: Path) -> list[list[str]]:
    pair = Pair(folder)
    inodes = create(pair.replicas[0], ROOT, b"file", files, Kind.FILE)
    pair.exchange()
    rows: list[list[str]] = []
    local: list[float] = []
    remote: list[float] = []
    for done in range(1, rewrites + 1):
        writer = pair.replicas[done // files % 2]
        begun = time.thread_time()
        rewrite(writer, inodes[done % files])
        written = time.thread_time()
        pair.exchange()
        local.append(written - begun)
        remote.append(time.thread_time() - written)
        if done % SHORTEN_EVERY == 0:
            pair.keep_up()
        if done % max(1, rewrites // SAMPLES) == 0:
            state, live = sizes(pair.replicas[0])
            rows.append(
                [
                    f"{done:,}",
                    f"{state / live:.2f}",
                    f"{state >> 10}",
                    f"{resident_bytes(os.getpid()) >> 20}",
                    f"{statistics.median(local) * 1e6:.0f}",
                    f"{statistics.median(remote) * 1e6:.0f}",
                ]
            )
            local.clear()
            remote.clear()
            print("  ", *rows[-1], file=sys.stderr)
    assert pair.replicas[0].root_digest() == pair.replicas[1].root_digest(), "both have the same"
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench rewrites", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rewrites", type=int, default=1_000_000)
    parser.add_argument("--files", type=int, default=1_000)
    asked = parser.parse_args(argv)
    machine = describe()
    with tempfile.TemporaryDirectory() as folder:
        rows = run(asked.rewrites, asked.files, Path(folder))
    print(f"{machine}; {asked.rewrites:,} rewrites of {asked.files:,} files\n")
    head = ["rewrites", "state / live (≤ 2)", "state KiB", "resident MiB", "write µs", "hear of it µs"]
    print(table(head, rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
