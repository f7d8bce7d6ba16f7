"""Replicas of one shard that write, exchange updates and fall behind: histories for property tests."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from hypothesis import strategies as st
from pycrdt import Map

from dittofs.errors import FormatError
from dittofs.tree.shard import FIRST_EPOCH, Epoch, Shard
from dittofs.tree.update import STATE, decode, decode_state_vector

CLIENTS = (5, 300, 0xABCDEF123456, 0xFFFFFFFFFFFF)
RECORDS = ("A" * 16, "B" * 16, "A" * 16 + ".link", "label/x")

Step = tuple[str, int, int, int]
steps: st.SearchStrategy[list[Step]] = st.lists(
    st.tuples(
        st.sampled_from(("write", "write", "write", "receive", "difference", "stale")),
        st.integers(0, len(CLIENTS) - 1),
        st.integers(0, len(CLIENTS) - 1),
        st.integers(0, (1 << 16) - 1),
    ),
    max_size=40,
)


def library_content(shard: Shard) -> dict[str, bytes]:
    """What pycrdt itself says the document holds."""
    values = shard._doc.get("m", type=Map)
    return {key: bytes(values[key]) for key in values.keys()}  # noqa: SIM118 - it is no dict


@dataclass
class Replicas:
    """Shards of one epoch. `updates`: whatever was ever emitted."""

    shards: Sequence[Shard]
    updates: list[bytes] = field(default_factory=list)
    vectors: list[bytes] = field(default_factory=lambda: [b"\x00"])

    @classmethod
    def of(cls, count: int, epoch: Epoch = FIRST_EPOCH, snapshot: bytes | None = None) -> "Replicas":
        return cls([Shard.load(epoch, snapshot, (), client) for client in CLIENTS[:count]])

    def run(self, history: Sequence[Step]) -> None:
        """Whatever the steps are, each shard stays what the library makes of it."""
        queues: list[list[bytes]] = [[] for _ in self.shards]
        for kind, first, second, choice in history:
            place = first % len(self.shards)
            shard, other = self.shards[place], self.shards[second % len(self.shards)]
            if kind == "write":
                update = write(shard, choice)
                self.updates.append(update)
                self.vectors.append(shard.state_vector())
                for index, queue in enumerate(queues):
                    if index != place:
                        queue.append(update)
            elif kind == "receive":
                for update in queues[place]:
                    try:
                        decoded = decode(update, shard.known)
                    except FormatError:  # one before it has not come yet
                        break
                    check_apply(shard, decoded.raw)
                queues[place] = []
            else:
                vector = shard.state_vector()
                if kind == "stale":
                    vector = self.vectors[choice % len(self.vectors)]
                difference = other.diff(vector)
                self.updates.append(difference)
                try:
                    decode(difference, shard.known, limits=STATE)
                except FormatError:  # the vector was another replica's
                    assert kind == "stale"
                    continue
                check_apply(shard, difference)

    def settle(self) -> None:
        """Everybody learns everything."""
        for _ in range(2):
            for shard in self.shards:
                for other in self.shards:
                    check_apply(shard, other.diff(shard.state_vector()))


def write(shard: Shard, choice: int) -> bytes:
    """A write of one or two records that `choice` picks; it removes none, some or all other values."""
    records = {RECORDS[choice % 4], RECORDS[choice // 4 % 4]}
    value = bytes([choice // 16 % 8]) * (choice // 128 % 4)
    sets = {f"{record}:{shard.slot}": value for record in sorted(records)}
    others = [key for key in shard.entries() if key not in sets]
    removal = choice // 512 % 4
    if removal == 1:
        others = others[:1]
    elif removal >= 2:
        others = [key for key in others if removal == 3 or key.rpartition(":")[0] in records]
    return shard.write(sets, others if removal else ())


def check_apply(shard: Shard, update: bytes) -> None:
    """Apply; the decoder's prediction, the shard's account and the library must agree."""
    decoded = decode(update, shard.known, limits=STATE)
    expected = dict(shard.entries())
    predicted = shard.preview([decoded]).changes
    for key, value in predicted.items():
        if value is None:
            del expected[key]
        else:
            expected[key] = value
    assert shard.apply(decoded) == predicted
    check(shard)
    assert shard.entries() == expected


def check(shard: Shard) -> None:
    assert shard.entries() == library_content(shard)
    assert shard.garbage().live == len(shard.entries())
    assert shard.known == decode_state_vector(shard._doc.get_state())
