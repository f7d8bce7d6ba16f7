"""What it costs to hear of others: groups, a first round, digests; with a journal on this machine's disk.

    python -m tests.bench.exchange_figures [--entries 100000]

Processor time of the event loop's thread; nothing is synced.
"""

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from dittofs.blocking import run_inline
from dittofs.ids import ROOT, InodeId, inode_id
from dittofs.local_disk import LocalDisk
from dittofs.tree.entry import Change
from dittofs.tree.record import DOCUMENTS, Kind, NewVersion
from dittofs.tree.states import Difference
from dittofs.volume.opening import open_replica
from dittofs.volume.replica import Replica
from tests.simulation.rig import KEYS, SeededEntropy, SimulatedClock

VIA = b"v" * 32
FILES_PER_GROUP = 50
SAMPLES = 400


def opened(folder: Path, name: str) -> Replica:
    (folder / name).mkdir()
    return open_replica(
        LocalDisk(str(folder / name)),
        KEYS,
        clock=SimulatedClock(),
        entropy=SeededEntropy(len(name)),
        run_blocking=run_inline,
        label=name,
        machine=name,
    )


def create(replica: Replica, parent: InodeId, name: bytes, count: int, kind: Kind) -> list[InodeId]:
    """So many entries of a directory, in one group."""
    made = [inode_id(replica.entropy(12)) for _ in range(count)]
    with replica.change() as transaction:
        for number, inode in enumerate(made):
            stamp = replica.tree.tick()
            version = NewVersion(b"\1" + replica.entropy(32), 5_000, stamp, replica.entropy(32))
            transaction.group.create(
                parent,
                b"%b-%d" % (name, number),
                kind,
                inode=inode,
                mode=0o644,
                owner=None,
                birth=stamp,
                mtime=None,
                version=version if kind is Kind.FILE else None,
                xattrs={},
                stamp=stamp,
            )
    return made


def spent(act: Callable[[], object]) -> float:
    begun = time.thread_time()
    act()
    return time.thread_time() - begun


def figures(entries: int, folder: Path) -> list[tuple[str, str]]:
    one, other, sliced = opened(folder, "one"), opened(folder, "other"), opened(folder, "sliced")
    directories = create(one, ROOT, b"directory", max(1, entries // FILES_PER_GROUP), Kind.DIRECTORY)
    for directory in directories:
        create(one, directory, b"file", FILES_PER_GROUP - 1, Kind.FILE)
    out: list[tuple[str, str]] = []
    parts: list[Difference] = []

    def take_differences() -> None:
        found = map(one.difference, range(DOCUMENTS), other.states())
        parts.extend(part for part in found if part is not None)

    out.append(("difference of everything, per entry", f"{spent(take_differences) / entries * 1e6:.0f} µs"))
    size = sum(len(part.update) for part in parts)
    out.append(("bytes of a first round, per entry", f"{size / entries:.0f} B"))
    held = max(spent(lambda part=part: sliced.receive_round([part], VIA)) for part in parts)  # type: ignore[misc]
    out.append(("first round part by part: loop held at most", f"{held * 1e3:.0f} ms"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    took = spent(lambda: other.receive_round(parts, VIA))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    out.append(("first round as one step, per entry", f"{took / entries * 1e6:.0f} µs"))
    out.append(("first round as one step, memory at its height", f"{grown >> 10} MiB"))
    changes: list[Change] = []
    one.listeners.append(changes.append)
    local = []
    for count in range(SAMPLES):
        parent = directories[count * 7 % len(directories)]
        local.append(spent(lambda p=parent, c=count: create(one, p, b"new-%d" % c, 1, Kind.FILE)))  # type: ignore[misc]
    remote = [spent(lambda c=change: other.receive(c.updates, VIA)) for change in changes]  # type: ignore[misc]
    known = [spent(lambda c=change: other.receive(c.updates, VIA)) for change in changes]  # type: ignore[misc]
    out.append(("create, local", typical(local)))
    out.append(("create, remote", typical(remote)))
    out.append(("create, known already", typical(known)))
    groups = max(1, entries // 5_000)
    changes.clear()
    for count in range(groups):
        create(one, directories[count], b"many", 500, Kind.FILE)
    times = [spent(lambda c=change: other.receive(c.updates, VIA)) for change in changes]  # type: ignore[misc]
    whole = sum(times)
    out.append(("create, remote, in groups of 500", f"{whole / (groups * 500) * 1e6:.0f} µs"))
    out.append(("root digest after a change", f"{root_digest_us(one, directories[0]):.0f} µs"))
    return out


def typical(times_s: Sequence[float]) -> str:
    """The median, and the mean: a hundredth of the transactions writes the rows of the others."""
    return f"{statistics.median(times_s) * 1e6:.0f} µs, {statistics.mean(times_s) * 1e6:.0f} on average"


def root_digest_us(replica: Replica, parent: InodeId) -> float:
    create(replica, parent, b"last", 1, Kind.FILE)
    return spent(replica.root_digest) * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--entries", type=int, default=100_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = figures(arguments.entries, Path(folder))
    print(f"{arguments.entries:,} entries\n\n| what | measured |\n|---|---|")
    for what, measured in rows:
        print(f"| {what} | {measured} |")


if __name__ == "__main__":
    main()
