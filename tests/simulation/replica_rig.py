"""One replica without a volume around it: tree and journal on a simulated disk, changed by path."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from dittofs.blocking import run_inline
from dittofs.ids import ROOT, InodeId, Slot, Stamp, inode_id
from dittofs.replication.round import differing, pack_digests, wanted
from dittofs.tree import encoding, shapes
from dittofs.tree.entry import Change, Entry
from dittofs.tree.group import Group
from dittofs.tree.join import join_all
from dittofs.tree.record import DOCUMENTS, META_SHARD, Kind, NewVersion, Place, Record, shard_of
from dittofs.tree.shard import FIRST_EPOCH, Epoch, Shard
from dittofs.tree.states import Difference, DocumentState
from dittofs.tree.tree import Tree
from dittofs.volume.opening import open_replica
from dittofs.volume.replica import Replica
from tests.simulation.disk import SimulatedDisk
from tests.simulation.rig import KEYS, SeededEntropy, SimulatedClock


class ReplicaRig:
    """A replica and shorthand for what users do to it. Devices of equal `boot` may share a past."""

    def __init__(
        self,
        label: str,
        *,
        seed: int,
        disk: SimulatedDisk | None = None,
        clock: SimulatedClock | None = None,
        boot: str = "",
    ) -> None:
        self.label = label
        self.boot = boot or label
        self.disk = disk or SimulatedDisk()
        self.clock = clock or SimulatedClock()
        self.entropy = SeededEntropy(seed)
        self.changes: list[Change] = []
        """What happened since somebody last looked."""
        self.replica = self.open()

    def open(self) -> Replica:
        self.replica = open_replica(
            self.disk,
            KEYS,
            clock=self.clock,
            entropy=self.entropy,
            run_blocking=run_inline,
            label=self.label,
            machine=self.boot,
        )
        self.replica.listeners.append(self.changes.append)
        return self.replica

    def close(self) -> None:
        """End cleanly."""
        self.replica.chunks.close()
        self.replica.journal.close(self.replica.tree.tick())

    def restart(self) -> None:
        """Die, and come back as another writer."""
        self.replica.chunks.close()
        self.replica.journal.abandon()
        self.open()

    @property
    def tree(self) -> Tree:
        return self.replica.tree

    @property
    def slot(self) -> Slot:
        return self.replica.slot

    # -- changes

    def sign(self) -> None:
        """Make a writer's first change, which says what its device is called."""
        self.do(lambda _group, _stamp: None)

    @contextmanager
    def group(self) -> Iterator[Group]:
        """A group of tree operations: whole, or undone."""
        with self.replica.change() as transaction:
            yield transaction.group

    def compact(self, number: int) -> bool:
        """Begin a fresh epoch of a document, due or not."""
        replica = self.replica
        with replica.journalled():
            taken = self.tree.exchange.compact(number)
            assert taken is not None
            replica._append(taken)
        replica._tell(taken.change)
        return True

    def inode(self) -> InodeId:
        return inode_id(self.entropy(12))

    def do(self, act: Callable[[Group, Stamp], object]) -> Change:
        """One group."""
        before = len(self.changes)
        with self.replica.change() as transaction:
            act(transaction.group, self.replica.tree.tick())
        return self.changes[before]

    def make(self, path: str, content: bytes, *, inode: InodeId | None = None) -> Change:
        return self._make(path, Kind.FILE, content, inode or self.inode())

    def mkdir(self, path: str) -> Change:
        return self._make(path, Kind.DIRECTORY, None, self.inode())

    def _make(self, path: str, kind: Kind, content: bytes | None, inode: InodeId) -> Change:
        parent, name = self.place(path)

        def act(group: Group, stamp: Stamp) -> None:
            group.create(
                parent,
                name,
                kind,
                inode=inode,
                mode=0o644,
                owner=None,
                birth=stamp,
                mtime=None,
                version=None if content is None else NewVersion(content, len(content), stamp, b""),
                xattrs={},
                stamp=stamp,
            )

        return self.do(act)

    def write(self, path: str, content: bytes) -> Change:
        entry = self.entry(path)
        version = self.replica.tree.version(entry.ref)
        assert version is not None
        new = NewVersion(content, len(content), 0, b"")
        rank = version.rank if entry.dot is not None else None
        return self.do(
            lambda group, stamp: group.write(entry.inode, new, replaces=[version.dot], stamp=stamp, rank=rank)
        )

    def unlink(self, path: str) -> Change:
        entry, (parent, _) = self.entry(path), self.place(path)
        return self.do(lambda group, stamp: group.unlink(parent, entry, stamp=stamp))

    def rename(self, path: str, to: str) -> Change:
        entry, (parent, _) = self.entry(path), self.place(path)
        new_parent, name = self.place(to)
        over = self.find(to)
        return self.do(
            lambda group, stamp: group.rename(parent, entry, new_parent, name, over=over, stamp=stamp)
        )

    def set(self, name: str, value: bytes | None) -> Change:
        return self.do(lambda group, _: group.set_setting(name, value))

    # -- looking

    def place(self, path: str) -> tuple[InodeId, bytes]:
        above, _, name = path.rpartition("/")
        return (self.entry(above).inode if above else ROOT), name.encode()

    def entry(self, path: str) -> Entry:
        found = self.find(path)
        assert found is not None, (path, self.show())
        return found

    def find(self, path: str) -> Entry | None:
        at = ROOT
        found: Entry | None = None
        for part in path.encode().split(b"/"):
            found = self.replica.tree.lookup(at, part)
            if found is None:
                return None
            at = found.inode
        return found

    def show(self) -> dict[str, bytes]:
        """Path -> content; `/` of a directory."""
        out: dict[str, bytes] = {}
        ahead = [(ROOT, "")]
        while ahead:
            directory, path = ahead.pop()
            for entry in self.replica.tree.listing(directory):
                called = path + entry.name.decode()
                version = self.replica.tree.version(entry.ref)
                out[called] = b"/" if version is None else version.root
                if entry.kind is Kind.DIRECTORY:
                    ahead.append((entry.inode, called + "/"))
        return dict(sorted(out.items()))

    def settings(self) -> dict[str, bytes]:
        """The settings of the volume, but for what writers and forks leave there."""
        found = self.tree.settings().items()
        return {name: value for name, value in found if not name.startswith(("writer/", "fork/"))}

    def dump(self) -> dict[str, object]:
        """Everything that is stored."""
        tables = ("record", "claim", "directory", "number", "state", "setting", "total")
        found: dict[str, object] = {table: list(self.replica.journal.scan(table, b"")) for table in tables}
        found["log"] = [self.replica.journal.load(number) for number in range(DOCUMENTS)]
        return found

    def label_of(self, slot: Slot) -> str:
        """What the device of a writer is called here."""
        return self.replica.writers.label(slot)

    def records(self) -> dict[str, Record]:
        """The joined records, from what the journal holds."""
        found: dict[str, Record] = {}
        for number, state in enumerate(self.replica.states()):
            if number != META_SHARD and state != (FIRST_EPOCH, b"\0"):
                shard = self.shard_as(number, 2)
                for key in shard.records():
                    found[key] = join_all(map(encoding.decode, shard.get_slots(key).values()))
        return found

    # -- what a forger has

    def shard_as(self, number: int, client_id: int, *, empty: bool = False) -> Shard:
        """A copy of a document that writes as somebody else."""
        epoch, snapshot, updates = self.replica.journal.load(number)
        if empty:
            return Shard(FIRST_EPOCH, client_id)
        return Shard.load(Epoch(*epoch), snapshot, updates, client_id)

    def inode_in(self, number: int) -> InodeId:
        """A fresh inode id in a shard."""
        while True:
            made = self.inode()
            if shard_of(made) == number:
                return made

    def record(self) -> bytes:
        """A well-formed record of nobody."""
        slot = shapes.unpack_id(b"forger")
        record = Record(Kind.DIRECTORY, {slot: 1})  # type: ignore[dict-item]
        record.place = Place(Stamp(1), slot, 1, ROOT, b"forged", None)  # type: ignore[arg-type]
        return encoding.encode(record)


def told(receiver: ReplicaRig, giver: ReplicaRig) -> list[tuple[int, DocumentState]]:
    """What the giver of a round says of itself: its states where the digests differ, as in a session."""
    if receiver.replica.root_digest() == giver.replica.root_digest():
        return []
    numbers = differing(receiver.replica.digests(), pack_digests(giver.replica.digests()))
    states = giver.replica.states()
    return [(number, states[number]) for number in numbers]


def parts_for(receiver: ReplicaRig, giver: ReplicaRig) -> Sequence[Difference]:
    """What a round brings to `receiver`."""
    numbers = wanted(receiver.tree, told(receiver, giver))
    ours = receiver.replica.states() if numbers else ()
    found = (giver.replica.difference(number, ours[number]) for number in numbers)
    return [part for part in found if part is not None]


def pull(receiver: ReplicaRig, giver: ReplicaRig) -> bool:
    """A round, as a session runs it: the giver's states tell of a fork first."""
    if receiver.replica.is_fork(told(receiver, giver)):
        receiver.replica.heal_fork()
    parts = parts_for(receiver, giver)
    return bool(parts) and receiver.replica.receive_round(parts, giver.label.encode().ljust(32, b"\0"))
