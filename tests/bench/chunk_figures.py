"""Figures of the chunk store: `python -m tests.bench.chunk_figures [directory]`.

One thread, best of three. The store lies in a temporary directory (or in the one named), so what is
written goes to the system's cache unless a line says otherwise. "CPU" counts the time of a core, so
that a busy machine does not spoil it; the other figures are wall time.
"""

import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from dittofs.chunks.chunker import Chunking, Cutter
from dittofs.chunks.content import ContentReader, store_content
from dittofs.chunks.index import RECENT_ENTRIES_MAX, PackIndex
from dittofs.chunks.index_run import Location
from dittofs.chunks.seal import ChunkKind, Sealer
from dittofs.chunks.source import Extent
from dittofs.chunks.store import ChunkStore
from dittofs.ids import ChunkId
from dittofs.local_disk import LocalDisk
from tests.unit.chunks.stores import KEYS, MemorySource

DATA = ChunkKind.DATA
MIB = 1 << 20
ROUNDS = 3


def seconds(
    work: Callable[[], object], rounds: int = ROUNDS, clock: Callable[[], float] = time.perf_counter
) -> float:
    """The best of some runs."""
    best = float("inf")
    for _ in range(rounds):
        start = clock()
        work()
        best = min(best, clock() - start)
    return best


def say(what: str, figure: float, unit: str) -> None:
    print(f"{what:58} {figure:10.1f} {unit}", flush=True)


def text(size: int) -> bytes:
    """Program text, which compresses."""
    found = b"".join(path.read_bytes() for path in sorted(Path(os.__file__).parent.glob("*.py")))
    return (found * (1 + size // len(found)))[:size]


def sealing() -> None:
    sealer = Sealer(KEYS, os.urandom)
    for name, data in (("noise", os.urandom(64 * MIB)), ("text", text(16 * MIB))):
        view = memoryview(data)

        def work(data: bytes = data, view: memoryview = view) -> None:
            start = 0
            for end in Cutter(Chunking.CONTENT_DEFINED, KEYS.secret).cut(data, offset=0, final=True):
                plain = view[start:end]
                sealer.seal(DATA, sealer.identify(DATA, plain), plain)
                start = end

        say(f"cut + hash + seal, {name}", len(data) / 1e6 / seconds(work), "MB/s")
        say("  a core, CPU", len(data) / 1e6 / seconds(work, clock=time.thread_time), "MB/s")


def storing(directory: Path) -> None:
    for size, count, batch in ((65_536, 1000, 16), (4096, 5000, 1), (150, 5000, 1)):
        store_of(directory / f"put-{size}", size, count, batch)


def store_of(directory: Path, size: int, count: int, batch: int) -> None:
    rounds = [[(DATA, os.urandom(size)) for _ in range(count)] for _ in range(2 * ROUNDS)]
    store = open_store(directory)

    def put() -> None:
        plains = rounds.pop()
        for at in range(0, count, batch):
            store.put(plains[at : at + batch])

    say(f"put {size} B, {batch} a call", seconds(put) / count * 1e6, "µs/chunk")
    say("  CPU", seconds(put, clock=time.thread_time) / count * 1e6, "µs/chunk")
    say("  sync of that", seconds(store.sync, 1) * 1e3, "ms")
    ids = [chunk for _, chunk in store.ids()][:1000]
    store.close()
    store = open_store(directory)

    def get(some: list[ChunkId]) -> None:
        for chunk in some:
            store.get(DATA, chunk)

    say(f"get {size} B, warm in the system's cache", seconds(lambda: get(ids), 1) / len(ids) * 1e6, "µs")
    store.close()
    store = open_store(directory)
    say("  CPU", seconds(lambda: get(ids), 1, time.thread_time) / len(ids) * 1e6, "µs")
    say("  again, from our own cache", seconds(lambda: get(ids[-20:])) / 20 * 1e6, "µs")
    store.close()


def contents(directory: Path) -> None:
    store = open_store(directory / "content")
    data = os.urandom(512 * MIB)
    source = MemorySource(data)
    root = b""

    def write() -> None:
        nonlocal root
        root = store_content(store, source, b"", 0, chunking=Chunking.CONTENT_DEFINED)

    say("store a content of 512 MiB, with packs", len(data) / 1e6 / seconds(write, 1), "MB/s")
    reader = ContentReader(store, root, len(data))

    def read() -> None:
        for offset in range(0, len(data), 128 << 10):
            reader.read(offset, 128 << 10)

    say("read it in requests of 128 KiB", len(data) / 1e6 / seconds(read, 1), "MB/s")
    at = len(data) // 3
    extents = [(0, at, Extent.BASE), (at, 4096, Extent.DATA), (at + 4096, len(data) - at - 4096, Extent.BASE)]
    edited = data[:at] + os.urandom(4096) + data[at + 4096 :]

    def edit() -> None:
        source = MemorySource(edited, extents)
        store_content(store, source, root, len(data), chunking=Chunking.CONTENT_DEFINED)

    say("store a 4 KiB edit of it", seconds(edit) * 1e3, "ms")
    store.close()


def index_of_a_million(directory: Path) -> None:
    disk = LocalDisk(str(directory))
    index = PackIndex.create(disk, "index")
    before = resident_mib()
    total = 1_000_000
    start = time.perf_counter()
    slowest = 0.0
    for n in range(total):
        index.add(ChunkId(os.urandom(32)), Location(1 + n // 1700, 40 + n % 1700 * 70_000, 70_000, 1))
        if index.recent_count >= RECENT_ENTRIES_MAX:
            began = time.perf_counter()
            index.leave(dict.fromkeys(range(1, 700), 1 << 30))
            index.save({1: 1})
            slowest = max(slowest, time.perf_counter() - began)
    say(
        "index: add, runs and merges with their syncs, 1M",
        (time.perf_counter() - start) / total * 1e6,
        "µs/chunk",
    )
    say("  slowest merge", slowest, "s")
    index.leave(dict.fromkeys(range(1, 700), 1 << 30))
    index.save({1: 1})
    index.close()
    opened: list[PackIndex] = []
    say("  open", seconds(lambda: opened.append(PackIndex.open(disk, "index"))) * 1e3, "ms")
    index = opened[0]
    some = [chunk for n, (chunk, _) in enumerate(index.entries()) if n % 100 == 0]
    say(
        "  find what is there", seconds(lambda: [index.find(chunk) for chunk in some]) / len(some) * 1e6, "µs"
    )
    absent = [ChunkId(os.urandom(32)) for _ in range(10_000)]
    say(
        "  find what is not there", seconds(lambda: [index.find(chunk) for chunk in absent]) / 1e4 * 1e6, "µs"
    )
    say("  on the disk", index.size_bytes / 1e6, "MB")
    say("  memory added to the process while making it", resident_mib() - before, "MiB")


def idle_memory(directory: Path) -> None:
    """In a process of its own: what an idle store with that index adds to an interpreter."""
    code = (
        "import resource,sys,os;"
        "from tests.bench.chunk_figures import resident_mib;"
        "from dittofs.chunks.index import PackIndex;"
        "from dittofs.local_disk import LocalDisk;"
        "a=resident_mib(); i=PackIndex.open(LocalDisk(sys.argv[1]),'index');"
        "[i.find(os.urandom(32)) for _ in range(1000)]; print(a, resident_mib()-a)"
    )
    sys.stdout.flush()
    output = os.popen(f'{sys.executable} -c "{code}" {directory}').read().split()
    say("idle process with all modules of this room", float(output[0]), "MiB")
    say("  and the index of a million chunks", float(output[1]), "MiB")


def resident_mib() -> float:
    """What the process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / MIB


def open_store(directory: Path) -> ChunkStore:
    return ChunkStore.open(LocalDisk(str(directory)), "chunks", KEYS, entropy=os.urandom)


def main() -> None:
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as name:
        directory = Path(name)
        sealing()
        storing(directory)
        contents(directory)
        index_of_a_million(directory / "million")
        idle_memory(directory / "million")


if __name__ == "__main__":
    main()
