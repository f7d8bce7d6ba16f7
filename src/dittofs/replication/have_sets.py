"""Who has which chunks of what is being fetched, and which of them to ask a device for next. Pure.

A have-set tells of one leaf of a manifest which of its chunks a device has: a bit for each. Devices that
fetch the same content share it out: each asks whoever has all of it for chunks of its own share first,
and for the rest those that got them meanwhile: whoever had it first sends it little more than once
(docs/decisions/0108).
"""

import itertools
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from dittofs.identity.keys import DeviceId
from dittofs.ids import ChunkId

_MIX: Final = 0x9E3779B97F4A7C15  # 2^64 / the golden ratio: multiplied by it near numbers lie far apart
_MASK: Final = (1 << 64) - 1

Chunks = Sequence[ChunkId | None]
"""The entries of a leaf, in order; None: a hole."""


@dataclass(slots=True, eq=False)
class _Leaf:
    chunks: Chunks
    every: int = 0
    """The bits of all entries that are chunks; below the same of some."""
    here: int = 0
    wanted: int = 0
    told: int = 0
    """What the others have been told of `here`."""
    of: dict[DeviceId, int] = field(default_factory=dict)
    fetching: set[DeviceId] = field(default_factory=set)
    """Who fetches it too, and wants to be told."""
    shared_with: frozenset[DeviceId] | None = None
    mixed: list[tuple[int, ChunkId]] = field(default_factory=list)
    """Place and chunk, in an order of this device's own."""
    share: int = 0
    """Those that are this device's to ask for first, while `shared_with` fetch it too."""


class HaveSets:
    """Of one replica, for as long as leaves are followed."""

    def __init__(self, device: DeviceId) -> None:
        self._device = device
        self._leaves: dict[ChunkId, _Leaf] = {}
        self._places: dict[ChunkId, list[tuple[_Leaf, int]]] = {}

    def __contains__(self, chunk: ChunkId) -> bool:
        """Whether it is one of a leaf that is followed."""
        return chunk in self._places

    @property
    def leaves(self) -> list[ChunkId]:
        """Those that are followed."""
        return list(self._leaves)

    def follow(self, leaf: ChunkId, chunks: Chunks, absent: Collection[ChunkId]) -> None:
        """A leaf's chunks are about to be fetched. `absent`: those of them that are not here."""
        if leaf in self._leaves:
            return
        made = self._leaves[leaf] = _Leaf(chunks)
        for place, chunk in enumerate(chunks):
            if chunk is not None:
                made.every |= 1 << place
                made.here |= (chunk not in absent) << place
                self._places.setdefault(chunk, []).append((made, 1 << place))

    def unfollow(self, leaf: ChunkId) -> None:
        """It is fetched no more."""
        gone = self._leaves.pop(leaf, None)
        if gone is None:
            return
        for chunk in gone.chunks:
            if chunk is not None and chunk in self._places:
                places = [one for one in self._places[chunk] if one[0] is not gone]
                if places:
                    self._places[chunk] = places
                else:
                    del self._places[chunk]

    # -- what is here

    def want(self, chunk: ChunkId) -> None:
        """It is to be asked for."""
        leaf, bit = self._places[chunk][0]
        leaf.wanted |= bit

    def drop(self, chunk: ChunkId) -> None:
        """It is to be asked for no more: it was, or nobody wants it."""
        for leaf, bit in self._places.get(chunk, ()):
            leaf.wanted &= ~bit

    def came(self, chunk: ChunkId) -> None:
        """It is here."""
        for leaf, bit in self._places.get(chunk, ()):
            leaf.here |= bit
            leaf.wanted &= ~bit

    @property
    def wanted_count(self) -> int:
        """How many are to be asked for."""
        return sum(leaf.wanted.bit_count() for leaf in self._leaves.values())

    def bits(self, leaf: ChunkId) -> bytes | None:
        """What of a leaf is here; None: it is not followed."""
        found = self._leaves.get(leaf)
        return None if found is None else encode_bits(found.here, len(found.chunks))

    def news(self) -> list[tuple[ChunkId, list[DeviceId]]]:
        """The leaves of which more is here than when this was asked last, and who wants to be told."""
        found = []
        for identity, leaf in self._leaves.items():
            if leaf.here != leaf.told:
                leaf.told = leaf.here
                listening = [one for one in leaf.fetching if leaf.of.get(one, 0) != leaf.every]
                if listening:
                    found.append((identity, listening))
        return found

    # -- what others have

    def told(self, device: DeviceId, leaf: ChunkId, bits: bytes, *, is_fetching: bool) -> list[ChunkId]:
        """A device has these of a leaf. Returns which it had not told of before. Of others: nothing."""
        found = self._leaves.get(leaf)
        if found is None:
            return []
        has = int.from_bytes(bits, "little") & found.every
        gained = has & ~found.of.get(device, 0)
        found.of[device] = has
        if is_fetching:
            found.fetching.add(device)
        return [chunk for place in _places(gained) if (chunk := found.chunks[place]) is not None]

    def lacks(self, device: DeviceId, chunk: ChunkId) -> None:
        """A device that was asked for a chunk does not have it, whatever it told."""
        for leaf, bit in self._places.get(chunk, ()):
            leaf.of[device] = leaf.of.get(device, leaf.every) & ~bit

    def forget(self, device: DeviceId) -> None:
        """It is not connected any more."""
        for leaf in self._leaves.values():
            leaf.of.pop(device, None)
            leaf.fetching.discard(device)

    def has(self, device: DeviceId, chunk: ChunkId) -> bool | None:
        """Whether a device has a chunk; None: it has not said so."""
        for leaf, bit in self._places.get(chunk, ()):
            if device in leaf.of:
                return bool(leaf.of[device] & bit)
        return None

    # -- what to ask for

    def next_for(
        self,
        device: DeviceId,
        *,
        others: Collection[DeviceId],
        unsaid: Collection[DeviceId],
        is_last_resort: bool = False,
    ) -> Iterator[ChunkId]:
        """Chunks that are wanted and that a device may have, in the order in which to ask it for them.

        `others`: the other devices that can be asked; `unsaid`: of all those whose silence means that they
        may have everything, while that of the rest is awaited. What none of them has, each may have got
        meanwhile. Of a device that has all of a leaf: this device's share, then those of others, then what
        some of these have got. Of one that has a part: what no other of these has, then the rest.
        `is_last_resort`: only what none of the others has.
        """
        later: tuple[list[tuple[_Leaf, int]], ...] = ([], [])
        for leaf in list(self._leaves.values()):
            if not leaf.wanted:
                continue
            theirs = leaf.of.get(device, leaf.every if device in unsaid else 0)
            elsewhere = 0
            for one in others:
                elsewhere |= leaf.of.get(one, leaf.every if one in unsaid else 0)
            is_settled = all(one in leaf.of or one in unsaid for one in (device, *others))
            can = leaf.wanted & (theirs | (~elsewhere if is_settled else 0))
            if is_last_resort:
                can &= ~elsewhere if is_settled else 0
            if not can:
                continue
            rare = can & ~self._spread(leaf, device)
            own = rare & self._share(leaf) if theirs == leaf.every else rare
            later[0].append((leaf, rare & ~own))
            later[1].append((leaf, can & ~rare))
            yield from _listed(leaf, own)
        for leaf, bits in itertools.chain(*later):
            yield from self._mixed(leaf, bits)

    def _spread(self, leaf: _Leaf, but: DeviceId) -> int:
        """What some device that fetches it too has, beside one."""
        found = 0
        for one in leaf.fetching:
            if one != but:
                found |= leaf.of.get(one, 0)
        return found

    def _share(self, leaf: _Leaf) -> int:
        """Of every chunk the device whose number lies highest with it asks first: all agree on which."""
        sharing = frozenset(one for one in leaf.fetching if leaf.of.get(one, 0) != leaf.every)
        if sharing != leaf.shared_with:
            leaf.shared_with, leaf.share = sharing, 0
            for place in _places(leaf.every):
                chunk = leaf.chunks[place]
                assert chunk is not None
                ours = _weight(self._device, chunk)
                if all(_weight(one, chunk) < ours for one in sharing):
                    leaf.share |= 1 << place
        return leaf.share

    def _mixed(self, leaf: _Leaf, bits: int) -> Iterator[ChunkId]:
        """In an order that each device has for itself, unless nobody else fetches it."""
        if not leaf.fetching:
            yield from _listed(leaf, bits)
        elif bits:
            if not leaf.mixed:
                named = [(place, chunk) for place, chunk in enumerate(leaf.chunks) if chunk is not None]
                leaf.mixed = sorted(named, key=lambda one: _weight(self._device, one[1]))
            for place, chunk in leaf.mixed:
                if bits >> place & 1:
                    yield chunk


def encode_bits(bits: int, count: int) -> bytes:
    """A have-set of `count` entries: the first is the lowest bit of the first byte."""
    return bits.to_bytes((count + 7) // 8, "little")


def _weight(device: DeviceId, chunk: ChunkId) -> int:
    both = int.from_bytes(device[:8], "big") ^ int.from_bytes(chunk[:8], "big")
    return both * _MIX & _MASK


def _places(bits: int) -> Iterator[int]:
    """The places of the set bits, ascending."""
    while bits:
        lowest = bits & -bits
        yield lowest.bit_length() - 1
        bits ^= lowest


def _listed(leaf: _Leaf, bits: int) -> Iterator[ChunkId]:
    for place in _places(bits):
        chunk = leaf.chunks[place]
        assert chunk is not None
        yield chunk
