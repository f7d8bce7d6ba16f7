"""The tree's figures: memory per entry, local and remote operations, load times, encoded bytes.

    python -m tests.bench.tree_figures [--entries 100000] [--json]

Without a journal and fsync: the index is in memory, and its rows are counted apart, because in a volume they
lie in SQLite. Times are of the processor, medians; memory is that of a fresh process which loads every
document. "To reach" is what the design asks for.
"""

import argparse
import gc
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from dittofs.ids import ROOT, InodeId, Stamp, inode_id
from dittofs.tree.record import SHARDS, Kind, NewVersion
from dittofs.tree.shard import FIRST_EPOCH, Shard
from dittofs.tree.tree import Tree
from tests.property.dict_store import DictStore

FILES_PER_DIRECTORY = 50
SAMPLES = 400
CLIENTS = (0x123456789ABC, 0x0FEDCBA98765)
START_NS = 1_795_000_000_000_000_000


class Source:
    """Shard documents as bytes."""

    def __init__(self) -> None:
        self.snapshots: dict[int, bytes] = {}

    def load(self, shard: int) -> tuple[tuple[int, bytes], bytes | None, Sequence[bytes]]:
        return FIRST_EPOCH, self.snapshots.get(shard), ()


class Bench:
    """A tree of so many entries, and a second replica of it that follows."""

    def __init__(self, entries: int) -> None:
        self.random = random.Random(entries)
        self.now = START_NS
        self.source = Source()
        self.store = DictStore()
        self.tree = self._tree(self.store, self.source, CLIENTS[0])
        self.files: list[tuple[InodeId, bytes, InodeId]] = []
        self.directories: list[InodeId] = [ROOT]
        self._fill(entries)

    def _tree(self, store: DictStore, source: Source, client_id: int) -> Tree:
        return Tree(
            store,
            source,
            client_id=client_id,
            own_slots=lambda slot: bool(slot),
            device_label=str,
            now_ns=self._now,
            greatest=Stamp(0),
        )

    def _now(self) -> int:
        self.now += 1_000_000
        return self.now

    def inode(self) -> InodeId:
        return inode_id(self.random.randbytes(12))

    def create(self, parent: InodeId, name: bytes, kind: Kind) -> InodeId:
        inode = self.inode()
        group = self.tree.group()
        stamp = self.tree.tick()
        version = None
        if kind is Kind.FILE:
            size = self.random.randrange(1 << 20)
            version = NewVersion(
                b"\1" + self.random.randbytes(32), size, stamp - 3_000_000, self.random.randbytes(32)
            )
        group.create(
            parent,
            name,
            kind,
            inode=inode,
            mode=0o644,
            owner=None,
            birth=stamp - 20_000_000,
            mtime=None,
            version=version,
            xattrs={},
            stamp=stamp,
        )
        self.last = group.finish()
        return inode

    def _fill(self, entries: int) -> None:
        made = 0
        while made < entries:
            parent = self.random.choice(self.directories[-200:])
            directory = self.create(parent, b"directory-%d" % made, Kind.DIRECTORY)
            self.directories.append(directory)
            made += 1
            for count in range(min(FILES_PER_DIRECTORY, entries - made)):
                name = b"some-file-%d.txt" % count
                self.files.append((directory, name, self.create(directory, name, Kind.FILE)))
                made += 1

    def snapshot(self) -> Source:
        """The documents as they are, for another replica."""
        source = Source()
        for number in self.tree.loaded_shards():
            source.snapshots[number] = self.tree.snapshot(number)[1]
        return source


def measure(act: Callable[[int], object], samples: int = SAMPLES) -> float:
    """Median microseconds of a call."""
    times = []
    for count in range(samples):
        begun = time.thread_time_ns()
        act(count)
        times.append(time.thread_time_ns() - begun)
    return statistics.median(times) / 1_000


def rss_bytes() -> int:
    gc.collect()
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * 4096


def operations(bench: Bench) -> dict[str, tuple[float, float]]:
    """Local and remote median microseconds by operation."""
    follower_store = DictStore()
    follower_store.restore(bench.store.tables())
    follower = bench._tree(follower_store, bench.snapshot(), CLIENTS[1])
    for number in range(SHARDS):
        follower.snapshot(number)  # loads it: the first change of a shard is not what is measured
    remote: dict[str, list[float]] = {}
    names = bench.random.sample(
        bench.files, 5 * SAMPLES if len(bench.files) >= 5 * SAMPLES else len(bench.files)
    )
    taken = iter(names * (1 + 5 * SAMPLES // max(1, len(names))))

    def follow(what: str) -> None:
        begun = time.thread_time_ns()
        delivery = follower.exchange.judge.group(bench.last.updates)
        follower.exchange.take(delivery, b"", is_round=False)
        remote.setdefault(what, []).append((time.thread_time_ns() - begun) / 1_000)

    def local(what: str, act: Callable[[int], object]) -> float:
        times = []
        for count in range(SAMPLES):
            begun = time.thread_time_ns()
            act(count)
            times.append((time.thread_time_ns() - begun) / 1_000)
            follow(what)
        return statistics.median(times)

    def write(_: int) -> None:
        inode = next(taken)[2]
        version = bench.tree.versions(inode)[0]
        group = bench.tree.group()
        stamp = bench.tree.tick()
        new = NewVersion(b"\1" + bench.random.randbytes(32), 5, stamp, bench.random.randbytes(32))
        group.write(inode, new, replaces=[version.dot], stamp=stamp)
        bench.last = group.finish()

    def rename(count: int) -> None:
        directory, name, inode = next(taken)
        entry = bench.tree.lookup(directory, name)
        while entry is None or entry.inode != inode:
            directory, name, inode = next(taken)
            entry = bench.tree.lookup(directory, name)
        group = bench.tree.group()
        group.rename(
            directory, entry, directory, b"renamed-%d-" % count + name, over=None, stamp=bench.tree.tick()
        )
        bench.last = group.finish()

    def move(count: int) -> None:
        directory = bench.directories[1 + count % (len(bench.directories) - 1)]
        ((parent, entry), *_) = bench.tree.names(directory)
        group = bench.tree.group()
        group.rename(parent, entry, ROOT, b"moved-%d" % count, over=None, stamp=bench.tree.tick())
        bench.last = group.finish()

    def unlink(_: int) -> None:
        directory, name, _inode = next(taken)
        entry = bench.tree.lookup(directory, name)
        while entry is None:
            directory, name, _inode = next(taken)
            entry = bench.tree.lookup(directory, name)
        group = bench.tree.group()
        group.unlink(directory, entry, stamp=bench.tree.tick())
        bench.last = group.finish()

    acts: dict[str, Callable[[int], object]] = {
        "create": lambda count: bench.create(
            bench.random.choice(bench.directories), b"new-%d" % count, Kind.FILE
        ),
        "write": write,
        "rename": rename,
        "move of a directory": move,
        "unlink": unlink,
    }
    return {what: (local(what, act), statistics.median(remote[what])) for what, act in acts.items()}


def reads(bench: Bench) -> dict[str, float]:
    some = bench.random.sample(bench.files, min(SAMPLES, len(bench.files)))
    tree = bench.tree

    def at(count: int) -> tuple[InodeId, bytes, InodeId]:
        return some[count % len(some)]

    tree._rows.forget()
    cold = measure(lambda count: tree.stat((at(count)[2], None)), len(some))
    warm = measure(lambda count: tree.stat((at(count)[2], None)), len(some))
    tree._rows.forget()
    cold_lookup = measure(lambda count: tree.lookup(*at(count)[:2]), len(some))
    warm_lookup = measure(lambda count: tree.lookup(*at(count)[:2]), len(some))
    return {"stat, cold": cold, "stat, warm": warm, "lookup, cold": cold_lookup, "lookup, warm": warm_lookup}


def large_directory(bench: Bench, entries: int) -> dict[str, float]:
    """In one directory of so many entries."""
    directory = bench.create(ROOT, b"large", Kind.DIRECTORY)
    for count in range(entries):
        bench.create(directory, b"entry-%d" % count, Kind.FILE)

    def unlink(count: int) -> None:
        entry = bench.tree.lookup(directory, b"entry-%d" % (count * 7))
        assert entry is not None
        group = bench.tree.group()
        group.unlink(directory, entry, stamp=bench.tree.tick())
        group.finish()

    return {
        "create": measure(lambda count: bench.create(directory, b"fresh-%d" % count, Kind.FILE)),
        "lookup": measure(lambda count: bench.tree.lookup(directory, b"entry-%d" % (count * 11))),
        "unlink": measure(unlink),
    }


def figures(entries: int) -> list[tuple[str, str, str]]:
    """(what, measured, to reach)."""
    small = operations(Bench(1_000))
    bench = Bench(entries)
    source = bench.snapshot()
    tables = bench.store.tables().values()
    rows = sum(len(key) + len(value) for table in tables for key, value in table.items())
    encoded = sum(len(snapshot) for snapshot in source.snapshots.values())
    out = [
        ("encoded state per entry", f"{encoded / entries:.0f} B", "220 B"),
        ("index rows per entry", f"{rows / entries:.0f} B", ""),
    ]
    with tempfile.TemporaryDirectory() as folder:
        stored = Path(folder) / "snapshots"
        stored.write_bytes(msgspec.msgpack.encode(source.snapshots))
        command = [sys.executable, "-m", "tests.bench.tree_figures", "--load", str(stored)]
        loaded = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    out.append(("load all documents", f"{loaded['seconds']:.2f} s", "1 s for 100,000"))
    out.append(("memory per entry, documents", f"{loaded['bytes'] / entries:.0f} B", "1,100 B"))
    reading = reads(bench)
    for what, value in reading.items():
        out.append((what, f"{value:.1f} µs", "20 µs" if "warm" in what else ""))
    for what, (local, remote) in operations(bench).items():
        out.append((f"{what}, local", f"{local:.0f} µs", "200 µs"))
        out.append(
            (
                f"{what}, remote",
                f"{remote:.0f} µs, {remote / small[what][1]:.1f} times that at 1,000",
                "150 µs, 5 times",
            )
        )
    for what, median in large_directory(bench, entries // 2).items():
        out.append((f"{what} in a directory of {entries // 2:,}", f"{median:.0f} µs", "200 µs"))
    return out


def load(stored: Path) -> dict[str, float]:
    """In a fresh process: how long it takes to load these documents, and what they then take."""
    snapshots = msgspec.msgpack.decode(stored.read_bytes(), type=dict[int, bytes])
    empty = rss_bytes()
    begun = time.process_time()
    shards = [Shard.load(FIRST_EPOCH, raw, (), CLIENTS[1]) for raw in snapshots.values()]
    seconds = time.process_time() - begun
    return {"seconds": seconds, "bytes": rss_bytes() - empty, "shards": len(shards)}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--load", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.load is not None:
        print(json.dumps(load(arguments.load)))
        return 0
    rows = figures(arguments.entries)
    if arguments.json:
        print(json.dumps({"entries": arguments.entries, "figures": rows}, ensure_ascii=False))
        return 0
    print(f"{arguments.entries:,} entries, index in memory, no fsync\n")
    print("| what | measured | to reach |\n|---|---|---|")
    for row in rows:
        print("| " + " | ".join(row) + " |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
