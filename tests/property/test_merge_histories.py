"""Two devices that add lines, meet, part and merge at random: no line is lost, and it comes to an end."""

import random
from pathlib import Path

import pytest
import trio

from dittofs.local_disk import LocalDisk
from dittofs.merging.merge import Merging
from dittofs.merging.task import OTHERS_S, Merger
from tests.simulation.pair import Pair
from tests.simulation.rig import Rig

STEPS = 30
ROUNDS_MAX = 12  # of merging, once nobody writes any more


class History:
    """One file on two devices, and what was written to it."""

    def __init__(self, pair: Pair, seed: int) -> None:
        self.pair = pair
        self.random = random.Random(seed)
        self.added: set[bytes] = set()
        self.mergers = {rig: Merger(rig.volume, Merging(rig.volume)) for rig in (pair.a, pair.b)}

    async def step(self) -> None:
        rig = self.random.choice((self.pair.a, self.pair.b))
        match self.random.choice(("add", "add", "add", "save", "meet", "meet", "merge", "publish")):
            case "add" | "save" as how:
                await self.add(rig, by_rename=how == "save")
            case "meet":
                await self.pair.settle()
            case "merge":
                await self.mergers[rig].step(trio.current_time() + OTHERS_S + 1)
            case "publish":
                await rig.publish()

    async def add(self, rig: Rig, *, by_rename: bool) -> None:
        """A line is put somewhere into what the file, or one of its conflict entries, shows."""
        rig.clock.advance(self.random.random())
        name = self.random.choice([one for one in rig.listing("") if one.startswith("f")])
        lines = (await rig.fetch(name)).splitlines(keepends=True)
        line = b"line %d\n" % len(self.added)
        self.added.add(line)
        lines.insert(self.random.randint(0, len(lines)), line)
        if by_rename:
            await rig.write("temporary", b"".join(lines))
            await rig.publish()
            await rig.rename("temporary", name)
        else:
            await rig.write(name, b"".join(lines))

    async def end(self) -> None:
        for _ in range(ROUNDS_MAX):
            await self.pair.settle()
            before = [self.versions(rig) for rig in (self.pair.a, self.pair.b)]
            for merger in self.mergers.values():
                await merger.step(trio.current_time() + OTHERS_S + 1)
            await self.pair.settle()
            if before == [self.versions(rig) for rig in (self.pair.a, self.pair.b)]:
                return
        raise AssertionError("merging does not come to an end")

    def versions(self, rig: Rig) -> set[object]:
        tree = rig.volume.replica.tree
        return {one.dot for inode in tree.inodes("") for one in tree.versions(inode)}


@pytest.mark.parametrize("seed", range(10))
async def test_no_line_is_lost_however_versions_are_merged(tmp_path: Path, seed: int) -> None:
    pair = Pair(LocalDisk(str(tmp_path / "a")), LocalDisk(str(tmp_path / "b")))
    try:
        await pair.a.write("f", b"".join(b"base %d\n" % number for number in range(8)))
        await pair.settle()
        history = History(pair, seed)
        for _ in range(STEPS):
            await history.step()
        await history.end()
        shown = [
            {name: await rig.fetch(name) for name in rig.listing("") if name.startswith("f")}
            for rig in (pair.a, pair.b)
        ]
        assert shown[0] == shown[1]
        found = {line for content in shown[0].values() for line in content.splitlines(keepends=True)}
        assert history.added <= found, sorted(history.added - found)
    finally:
        pair.abandon()
