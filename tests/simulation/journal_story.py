"""A seeded run of journal transactions and what a journal must hold after the first n of them."""

import random
from dataclasses import dataclass, field

from dittofs.disk import Disk
from dittofs.ids import InodeId, Slot, Stamp
from dittofs.journal.chain import FIRST_EPOCH, EpochPair
from dittofs.journal.journal import Journal

PATH = "volume/journal.db"
MACHINE = "machine"
SHARDS = 3


@dataclass(frozen=True, slots=True)
class Effect:
    stamp: Stamp
    slot: Slot
    inode: InodeId
    kind: str
    before: bytes
    after: bytes
    source: InodeId | None = None
    target: InodeId | None = None


@dataclass(frozen=True)
class Shown:
    """Everything a journal says, in a form that compares."""

    last: int
    shards: tuple[tuple[EpochPair, bytes | None, tuple[bytes, ...]], ...]
    index: tuple[tuple[bytes, bytes], ...]
    local: tuple[tuple[bytes, bytes], ...]
    history: tuple[tuple[int, str, bytes], ...]


@dataclass
class Story:
    """`step(journal)` makes transaction number `begun`; `expected[n]` is what n transactions leave."""

    seed: int
    begun: int = 0
    committed: int = 0
    synced: int = 0
    expected: list[Shown] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.expected:
            self.expected.append(Shown(0, ((FIRST_EPOCH, None, ()),) * SHARDS, (), (), ()))

    def step(self, journal: Journal) -> None:
        """One transaction: a group over all shards, history, index and local rows, sometimes a snapshot."""
        number = self.committed + 1
        chance = random.Random(f"{self.seed} {number}")
        shown = self.expected[-1]
        shards, index, local = list(shown.shards), dict(shown.index), dict(shown.local)
        updates = []
        for shard in range(SHARDS):
            epoch, snapshot, after = shards[shard]
            update = chance.randbytes(chance.choice((20, 200, 3000)))
            updates.append((shard, epoch, update))
            shards[shard] = epoch, snapshot, (*after, update)
        effect = Effect(
            Stamp(number), Slot("AAAAAAAA"), InodeId("A" * 16), "write", b"", number.to_bytes(2, "big")
        )
        for _ in range(3):
            index[chance.randbytes(2)] = chance.randbytes(chance.choice((10, 500)))
        gone = chance.choice(sorted(index))
        del index[gone]
        local[number.to_bytes(2, "big")] = chance.randbytes(30)
        compacted = chance.randrange(SHARDS) if number % 5 == 0 else None
        if compacted is not None:
            epoch = (number, chance.randbytes(32))
            blob = chance.choice((chance.randbytes(500), bytes(6000)))
            shards[compacted] = epoch, blob, ()
        self.expected = self.expected[:number]
        self.expected.append(
            Shown(
                number,
                tuple(shards),
                tuple(sorted(index.items())),
                tuple(sorted(local.items())),
                (*shown.history, (number, effect.kind, effect.after)),
            )
        )
        self.begun = number
        try:
            with journal.transaction():
                journal.append(journal.next_group, updates, b"via")
                journal.append_history([effect], number)
                for key, value in index.items():
                    if dict(shown.index).get(key) != value:
                        journal.put("names", key, value)
                journal.delete("names", gone)
                journal.put_local("staging", number.to_bytes(2, "big"), local[number.to_bytes(2, "big")])
                journal.put_meta("last", number.to_bytes(2, "big"))
                if compacted is not None:
                    new_epoch, blob_, _ = shards[compacted]
                    assert blob_ is not None
                    journal.put_snapshot(compacted, new_epoch, blob_)
        except BaseException:
            self.expected.pop()
            self.begun = self.committed
            raise
        self.committed = number

    def sync(self, journal: Journal) -> None:
        committed = self.committed
        journal.sync()
        self.synced = committed


def open_journal(disk: Disk) -> Journal:
    disk.make_directory("volume")
    return Journal.open(disk, PATH)


def show(journal: Journal) -> Shown:
    """Read everything."""
    shards = []
    for shard in range(SHARDS):
        epoch, snapshot, updates = journal.load(shard)
        assert journal.log_bytes(shard) == sum(map(len, updates))
        shards.append((epoch, snapshot, tuple(updates)))
    index = tuple(journal.scan("names", b""))
    assert all(journal.get("names", key) == value for key, value in index)
    history = [(row.stamp, row.kind, row.after) for row in journal.history.since(0)]
    last = int.from_bytes(journal.get_meta("last") or b"", "big")
    return Shown(last, tuple(shards), index, tuple(journal.scan_local("staging", b"")), tuple(history))
