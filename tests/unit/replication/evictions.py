"""Devices that let contents go."""

from functools import partial

from dittofs.history.live_content import LiveContents
from dittofs.history.snapshots import snapshot_roots
from dittofs.replication.custody import Item
from dittofs.replication.evicting import Evicting
from dittofs.replication.targets import Evicted
from dittofs.replication.wholeness import whole
from dittofs.volume.pins import Pins
from dittofs.volume.retained import Retained
from dittofs.volume.usage import Usage
from tests.unit.replication.pair import Side


class Evictor:
    """One device that lets contents go when it is told to."""

    def __init__(self, side: Side) -> None:
        self.side = side
        volume = side.rig.volume
        self.pins = Pins(volume.state)
        retained = Retained(volume.state, partial(snapshot_roots, volume.replica))
        self.evicting = Evicting(side.peers, retained, Usage(volume.state, self.pins).why_kept)

    def items(self, *names: str) -> list[Item]:
        """The contents of files; of all, if none is named."""
        tree = self.side.rig.volume.replica.tree
        inodes = {self.side.rig.walk(name).id for name in names}
        every = LiveContents(self.side.rig.volume.replica).content_roots()
        assert tree is not None
        return [item for item in every if not names or item[0] in inodes]

    async def evict(self, *names: str, is_forced: bool = False) -> Evicted:
        return await self.evicting.evict(self.items(*names), is_forced=is_forced)

    def has(self, name: str) -> bool:
        """Whether all of a file is here."""
        chunks = self.side.rig.volume.replica.chunks
        return all(whole(chunks, [(root, size) for _, root, size in self.items(name)]))

    def believes(self, other: Side, name: str) -> bool:
        """Whether this device counts on another one's copy."""
        journal = self.side.rig.volume.replica.journal
        return all(
            journal.get_local("hold", other.device.id + root) is not None for _, root, _ in self.items(name)
        )
