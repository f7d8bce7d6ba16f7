"""Two devices with one volume, without a network: updates and chunks are carried by hand."""

from collections.abc import Sequence

import trio

from dittofs.chunks.seal import ChunkKind
from dittofs.chunks.store import AbsentChunk, ChunkStore
from dittofs.disk import Disk
from dittofs.errors import ChunkUnavailable, Damaged
from dittofs.tree.entry import Change
from dittofs.volume.source import Wanted
from tests.simulation.rig import Rig


class OtherStore:
    """A ChunkSource that copies sealed chunks from another device's store, and can be held at each fetch."""

    def __init__(self, theirs: ChunkStore, ours: ChunkStore) -> None:
        self._theirs = theirs
        self._ours = ours
        self.is_held = False
        self.is_gone = False
        """The other device has left: whoever asks is told so."""
        self.is_asked = trio.Event()
        self.may_go = trio.Event()
        self.fetched: list[list[Wanted]] = []
        """What was asked for, call by call."""
        self.prefetched: list[Wanted] = []

    @property
    def data_chunks(self) -> int:
        """How many data chunks were fetched."""
        return sum(kind is ChunkKind.DATA for call in self.fetched for kind, _ in call)

    def hold(self) -> None:
        """The next fetches stop until `let_go`; `is_asked` says that one has come."""
        self.is_held, self.is_asked, self.may_go = True, trio.Event(), trio.Event()

    def let_go(self) -> None:
        self.is_held = False
        self.may_go.set()

    def is_alone(self) -> bool:
        return False

    async def fetch(self, root: bytes, wanted: Sequence[Wanted]) -> None:
        assert root, "of some content"
        self.fetched.append(list(wanted))
        await trio.lowlevel.checkpoint()
        self.is_asked.set()
        if self.is_held:
            await self.may_go.wait()
        if self.is_gone:
            raise ChunkUnavailable("the other device is gone")
        self.copy(wanted)

    def copy(self, wanted: Sequence[Wanted]) -> None:
        for kind, chunk in wanted:
            try:
                assert self._ours.put_sealed([(kind, chunk, self._theirs.sealed(kind, chunk))]) == [None]
            except (AbsentChunk, Damaged) as error:
                raise ChunkUnavailable(str(error)) from error

    def prefetch(self, root: bytes, wanted: Sequence[Wanted]) -> None:
        assert root
        self.prefetched += wanted


class Pair:
    """Devices `a` and `b`. What one changes reaches the other with `carry`; chunks only when fetched."""

    def __init__(self, one: Disk, other: Disk) -> None:
        self.a = Rig(one, seed=1, label="laptop")
        self.b = Rig(other, seed=2, label="phone")
        self._waiting: dict[str, list[Change]] = {"a": [], "b": []}
        self.connect()
        self.a.volume.replica.listeners.append(self._waiting["a"].append)
        self.b.volume.replica.listeners.append(self._waiting["b"].append)

    def connect(self) -> None:
        """Each device is the other's source of chunks."""
        a, b = self.a.volume, self.b.volume
        self.from_a = OtherStore(a.replica.chunks, b.replica.chunks)
        self.from_b = OtherStore(b.replica.chunks, a.replica.chunks)
        a.state.source, b.state.source = self.from_b, self.from_a

    def carry(self) -> None:
        """Both hear of what the other has changed, made at the same time."""
        waiting = {name: list(changes) for name, changes in self._waiting.items()}
        for changes in self._waiting.values():
            changes.clear()
        for change in waiting["a"]:
            receive(self.b, change, b"a" * 32)
        for change in waiting["b"]:
            receive(self.a, change, b"b" * 32)

    async def publish(self) -> None:
        await self.a.publish()
        await self.b.publish()

    async def settle(self) -> None:
        """Publish and carry until both show the same."""
        await self.publish()
        self.carry()

    def abandon(self) -> None:
        self.a.abandon()
        self.b.abandon()


def receive(rig: Rig, change: Change, via: bytes) -> None:
    """What one device changed arrives at another."""
    if change.via or not change.updates:
        return
    rig.volume.replica.receive(change.updates, via)
