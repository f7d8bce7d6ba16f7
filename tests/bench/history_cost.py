"""What the history of an edited file costs, and what having a version back costs.

    python -m tests.bench.history_cost [MiB] [EDITS]

A file of 64 MiB is edited at 100 places, 4 KiB each, one after the other, each closed. Prints the bytes
that the store grew by against those of the changed chunks, and what restoring versions wrote.
"""

import random
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import trio

from dittofs.chunks.content import ContentReader
from dittofs.history.restoring import Restoring
from dittofs.history.versions import Versions
from dittofs.local_disk import LocalDisk
from tests.simulation.rig import Rig

EDIT_BYTES = 4096
PART = 1 << 20
READ_WRITE = 2


def stored(root: Path) -> int:
    return sum(path.stat().st_size for path in (root / "chunks").rglob("*") if path.is_file())


def chunks_of(rig: Rig, roots: Iterable[tuple[bytes, int]]) -> dict[bytes, int]:
    """Every data chunk of some contents, with its length."""
    found: dict[bytes, int] = {}
    for root, size in roots:
        for part in ContentReader(rig.volume.replica.chunks, root, size).presence():
            if part.chunk is not None:
                found[part.chunk] = part.length
    return found


async def measure(directory: Path, size: int, edits: int) -> tuple[int, int, int, float]:
    """Bytes the edits cost, bytes of the chunks they changed, bytes that restoring all wrote; its seconds."""
    chance = random.Random(8)
    rig = Rig(LocalDisk(str(directory)))
    try:
        handle = rig.open_file("big", READ_WRITE | 0o100)
        for offset in range(0, size, PART):
            await rig.write_at(handle, offset, chance.randbytes(min(PART, size - offset)))
        rig.close_file(handle)
        await rig.publish()
        inode = rig.walk("big").id
        first = [one.content for one in rig.volume.replica.tree.versions(inode)]
        before = stored(directory)
        for _ in range(edits):
            handle = rig.open_file("big", READ_WRITE)
            await rig.write_at(handle, chance.randrange(size - EDIT_BYTES), chance.randbytes(EDIT_BYTES))
            rig.close_file(handle)
            await rig.publish()
            rig.clock.advance(1)
        cost = stored(directory) - before
        versions = Versions(rig.volume.replica).of(inode)
        assert len(versions) == edits + 1
        known = chunks_of(rig, first)
        every = chunks_of(rig, [(one.root, one.size) for one in versions])
        changed = sum(length for chunk, length in every.items() if chunk not in known)
        before, begun = stored(directory), time.perf_counter()
        for version in versions[1:]:
            done = await Restoring(rig.volume).content(inode, version)
            assert (done.what, done.missing_bytes) == ("version", 0)
        return cost, changed, stored(directory) - before, time.perf_counter() - begun
    finally:
        rig.abandon()


def main() -> None:
    mib = int(sys.argv[1]) if len(sys.argv) > 1 else 64
    edits = int(sys.argv[2]) if len(sys.argv) > 2 else 100
    with tempfile.TemporaryDirectory() as directory:
        cost, changed, restoring, seconds = trio.run(measure, Path(directory), mib << 20, edits)
    print(f"{edits} edits of {EDIT_BYTES} bytes in a file of {mib} MiB")
    print(f"changed chunks          {changed / 1e6:10.2f} MB")
    print(f"the store grew by       {cost / 1e6:10.2f} MB   ({cost / changed:.3f} times)")
    print(f"restoring each version  {restoring / edits:10.0f} bytes   {seconds / edits * 1e3:.2f} ms")


if __name__ == "__main__":
    main()
