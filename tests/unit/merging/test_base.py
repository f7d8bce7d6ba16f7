"""The nearest common version, in histories drawn as words: `c: a b` replaced a and b."""

import pytest

from dittofs.chunks.version import VersionNode
from dittofs.ids import ChunkId, Slot
from dittofs.merging.base import NODES_MAX, common_base


def chunk(name: str) -> ChunkId:
    return ChunkId(name.encode().ljust(32, b"."))


class Past:
    """Version nodes; those of names in `gone` cannot be had."""

    def __init__(self, lines: str, gone: str = "") -> None:
        self.loaded: list[str] = []
        self._gone = {chunk(name) for name in gone.split()}
        self._previous: dict[ChunkId, tuple[ChunkId, ...]] = {}
        for line in lines.split(";"):
            name, _, before = line.strip().partition(":")
            self._previous[chunk(name)] = tuple(map(chunk, before.split()))

    async def load(self, wanted: ChunkId) -> VersionNode | None:
        self.loaded.append(wanted.rstrip(b".").decode())
        if wanted in self._gone:
            return None
        return VersionNode(b"", 0, int.from_bytes(wanted[:4], "big"), Slot("writer"), self._previous[wanted])

    async def base(self, one: str, other: str) -> str | None:
        found = await common_base(self.load, map(chunk, one.split()), map(chunk, other.split()))
        return None if found is None else found.mtime.to_bytes(4, "big").rstrip(b".").decode()


@pytest.mark.parametrize(
    ("past", "one", "other", "base"),
    [
        ("p:; a: p; b: p", "a", "b", "p"),
        ("p:; q: p; a: q; b: q", "a", "b", "q"),
        ("p:; a1: p; a2: a1; a3: a2; b: p", "a3", "b", "p"),
        ("p:; a: p; b: a", "a", "b", "a"),
        ("p:; a: p; b: p; m: a b; c: b", "m", "c", "b"),
        ("p:; a: p; b: p; m: a b; n: a b", "m", "n", None),
        ("a:; b:", "a", "b", None),
        ("p:; q: p; r: q; a: p r; b: r", "a", "b", "r"),
        ("p:; q: p; r: q; s: r; a: p s; b: p s", "a", "b", "s"),
        ("p:; a: p; b: p; c: p", "a b", "c", "p"),
    ],
)
async def test_the_nearest_is_found_or_none(past: str, one: str, other: str, base: str | None) -> None:
    assert await Past(past).base(one, other) == base
    assert await Past(past).base(other, one) == base


async def test_a_node_that_cannot_be_had_leaves_nothing_to_guess() -> None:
    assert await Past("p:; a: p; b: p", gone="a").base("a", "b") is None
    assert await Past("p:; q: p; a: q; b: q", gone="p").base("a", "b") == "q"


async def test_a_long_past_is_not_read_beyond_what_is_common() -> None:
    chain = "; ".join(f"{number}: {number - 1}" for number in range(1, 1000))
    past = Past(f"0:; {chain}; a: 999; b: 999")
    assert await past.base("a", "b") == "999"
    assert len(past.loaded) <= 3


async def test_two_who_wrote_very_much_apart_have_no_base_that_is_looked_for() -> None:
    chains = [f"{name}1: p" for name in "ab"]
    chains += [f"{name}{number}: {name}{number - 1}" for name in "ab" for number in range(2, 400)]
    past = Past("p:; " + "; ".join(chains))
    assert await past.base("a399", "b399") is None
    assert len(past.loaded) <= NODES_MAX + 1
