"""Policies of transfer compared over simulated links: which chunk next, over which link, asked again or not.

    sh packaging/dev bench transfer_policies [--seeds 3]

The scheduler and the have-sets are those of the program; the links are simulated: a sender's way out carries
one chunk after the other, its receivers in turn, and a link of its own rate and round trip carries it on. One
that loses packets stands still now and then. No real time passes: a seed gives the same figures anywhere.
"""

import argparse
import heapq
import itertools
import statistics
import zlib
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Final

from dittofs.identity.keys import DeviceId
from dittofs.ids import ChunkId
from dittofs.replication.have_sets import HaveSets, encode_bits
from dittofs.replication.scheduler import CHUNK_BYTES, Capacity, choose, is_worth_it, rested
from dittofs.replication.swarm import TELL_S
from tests.bench._report import table

CHUNKS: Final = 1024
LEAF_CHUNKS: Final = 320
LATE_LOOK_S: Final = 0.25
OVER_S: Final = 3600.0

Choose = Callable[[Sequence[Capacity[str]], int, float], Capacity[str] | None]
Order = type[HaveSets]


# -- which chunk


class InOrder(HaveSets):
    """From the beginning of the file on."""

    def next_for(
        self,
        device: DeviceId,
        *,
        others: Collection[DeviceId],  # noqa: ARG002 - it looks at no other
        unsaid: Collection[DeviceId],  # noqa: ARG002 - all have said what they have
        is_last_resort: bool = False,  # noqa: ARG002
    ) -> Iterator[ChunkId]:
        for leaf in self._leaves.values():
            yield from _listed(leaf.chunks, leaf.wanted & leaf.of.get(device, 0))


class AtRandom(HaveSets):
    """In an order of each device's own."""

    def next_for(
        self,
        device: DeviceId,
        *,
        others: Collection[DeviceId],  # noqa: ARG002 - it looks at no other
        unsaid: Collection[DeviceId],  # noqa: ARG002 - all have said what they have
        is_last_resort: bool = False,  # noqa: ARG002
    ) -> Iterator[ChunkId]:
        yield from self.mixed(
            (leaf.chunks, leaf.wanted & leaf.of.get(device, 0)) for leaf in self._leaves.values()
        )

    def mixed(self, some: Iterable[tuple[Sequence[ChunkId | None], int]]) -> list[ChunkId]:
        """Of all leaves together."""
        found = [chunk for chunks, bits in some for chunk in _listed(chunks, bits)]
        return sorted(found, key=lambda chunk: zlib.crc32(self._device + chunk))


class RarestFirst(AtRandom):
    """What the fewest have, and of these at random."""

    def next_for(
        self,
        device: DeviceId,
        *,
        others: Collection[DeviceId],
        unsaid: Collection[DeviceId],  # noqa: ARG002 - all have said what they have
        is_last_resort: bool = False,  # noqa: ARG002
    ) -> Iterator[ChunkId]:
        for count in range(len(others) + 1):
            some = []
            for leaf in self._leaves.values():
                had = [leaf.every, *[0] * len(others)]  # by none, by one other, ...
                for one in others:
                    bits = leaf.of.get(one, 0)
                    for more in range(len(others), 0, -1):
                        moved = had[more - 1] & bits
                        had[more] |= moved
                        had[more - 1] &= ~moved
                some.append((leaf.chunks, had[count] & leaf.wanted & leaf.of.get(device, 0)))
            yield from self.mixed(some)


def _listed(chunks: Sequence[ChunkId | None], bits: int) -> Iterator[ChunkId]:
    for place, chunk in enumerate(chunks):
        if chunk is not None and bits >> place & 1:
            yield chunk


# -- over which link


def soonest(links: Sequence[Capacity[str]], left_bytes: int, now: float) -> Capacity[str] | None:
    """Where one more chunk would come first, to the end."""
    del left_bytes
    return choose(rested(links, now), is_bulk=True)


def soonest_if_worth_it(links: Sequence[Capacity[str]], left_bytes: int, now: float) -> Capacity[str] | None:
    """The program's, of links to one device."""
    left = list(rested(links, now))
    while (found := choose(left, is_bulk=True)) is not None:
        if is_worth_it(found, [one for one in links if one is not found], left_bytes):
            return found
        left.remove(found)
    return None


def fastest(links: Sequence[Capacity[str]], left_bytes: int, now: float) -> Capacity[str] | None:
    """One link: that of the greatest rate."""
    del left_bytes, now
    best = max(links, key=lambda one: one.rate)
    return best if best.has_room(is_bulk=True) else None


def in_turn(links: Sequence[Capacity[str]], left_bytes: int, now: float) -> Capacity[str] | None:
    """The one with the fewest requests."""
    del left_bytes, now
    return min(
        (one for one in links if one.has_room(is_bulk=True)), key=lambda one: one.requests, default=None
    )


# -- the world


@dataclass(frozen=True)
class Path:
    """From one device to another."""

    rate: float
    round_trip_s: float
    stall_chance: float = 0.0
    """Of each chunk, that the link stands still for `stall_s` before it."""
    stall_s: float = 0.0


@dataclass(eq=False)
class Flow:
    path: Path
    queue: deque[tuple[ChunkId, Callable[[ChunkId], None]]] = field(default_factory=deque)
    free_at: float = 0.0


class World:
    """Time, and what happens next."""

    def __init__(self, seed: int) -> None:
        self.now = 0.0
        self.random = Random(seed)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()

    def after(self, seconds: float, then: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._count), then))

    def run(self, is_over: Callable[[], bool]) -> None:
        while not is_over() and self._events and self.now < OVER_S:
            self.now, _, then = heapq.heappop(self._events)
            then()


class Sender:
    """A device's way out."""

    def __init__(self, world: World, rate: float) -> None:
        self.chunks_sent = 0
        self._world = world
        self._rate = rate
        self._flows: deque[Flow] = deque()
        self._is_busy = False

    def add(self, path: Path) -> Flow:
        flow = Flow(path)
        self._flows.append(flow)
        return flow

    def send(self) -> None:
        """The next chunk of the flows in turn, if the way is free."""
        if self._is_busy:
            return
        world = self._world
        waiting = [flow for flow in self._flows if flow.queue]
        ready = next((flow for flow in waiting if flow.free_at <= world.now), None)
        if ready is None:
            if waiting:
                self._pause(min(flow.free_at for flow in waiting) - world.now)
            return
        self._flows.remove(ready)
        self._flows.append(ready)
        chunk, arrived = ready.queue.popleft()
        stall_s = ready.path.stall_s if world.random.random() < ready.path.stall_chance else 0.0
        took_s = stall_s + CHUNK_BYTES / min(ready.path.rate, self._rate)
        ready.free_at = world.now + took_s
        self.chunks_sent += 1
        world.after(took_s + ready.path.round_trip_s / 2, lambda: arrived(chunk))
        self._pause(CHUNK_BYTES / self._rate)

    def _pause(self, seconds: float) -> None:
        self._is_busy = True

        def over() -> None:
            self._is_busy = False
            self.send()

        self._world.after(max(seconds, 1e-9), over)


class Receiver:
    """A device that fetches all chunks of a file from others."""

    def __init__(
        self,
        world: World,
        device: DeviceId,
        leaves: Sequence[tuple[ChunkId, Sequence[ChunkId]]],
        *,
        order: Order = HaveSets,
        pick: Choose = soonest,
    ) -> None:
        self.world = world
        self.sets = order(device)
        self.left = {chunk for _, chunks in leaves for chunk in chunks}
        for leaf, chunks in leaves:
            self.sets.follow(leaf, chunks, self.left)
        for chunk in self.left:
            self.sets.want(chunk)
        self.unasked = len(self.left)
        self.done_at = 0.0
        self.links: dict[str, tuple[Capacity[str], DeviceId, Sender, Flow]] = {}
        self._pick = pick

    def link(self, name: str, device: DeviceId, sender: Sender, path: Path) -> None:
        capacity = Capacity(name, round_trip_s=path.round_trip_s)
        self.links[name] = capacity, device, sender, sender.add(path)

    def ask(self) -> None:
        """As the program does: the link first, then the chunk."""
        able = [capacity for capacity, _, _, _ in self.links.values()]
        devices = {device for _, device, _, _ in self.links.values()}
        plans: dict[DeviceId, Iterator[ChunkId]] = {}
        while able and (found := self._pick(able, self.unasked * CHUNK_BYTES, self.world.now)) is not None:
            _, device, sender, flow = self.links[found.peer]
            if device not in plans:
                plans[device] = self.sets.next_for(device, others=devices - {device}, unsaid=())
            chunk = next(plans[device], None)
            if chunk is None:
                able = [one for one in able if self.links[one.peer][1] != device]
                continue
            self.sets.drop(chunk)
            self.unasked -= 1
            found.asked(self.world.now)
            self._request(found, sender, flow, chunk)

    def _request(self, capacity: Capacity[str], sender: Sender, flow: Flow, chunk: ChunkId) -> None:
        def arrived(came: ChunkId) -> None:
            capacity.answered()
            capacity.came(self.world.now)
            self.left.discard(came)
            self.sets.came(came)
            self.done_at = self.done_at or (0.0 if self.left else self.world.now)
            self.ask()

        def at_sender() -> None:
            flow.queue.append((chunk, arrived))
            sender.send()

        self.world.after(flow.path.round_trip_s / 2, at_sender)


def file_of(chunks: int) -> list[tuple[ChunkId, list[ChunkId]]]:
    """The leaves of a manifest."""
    random = Random(chunks)
    ids = [ChunkId(random.randbytes(32)) for _ in range(chunks)]
    starts = range(0, chunks, LEAF_CHUNKS)
    return [(ChunkId(random.randbytes(32)), ids[start : start + LEAF_CHUNKS]) for start in starts]


def device_id(number: int) -> DeviceId:
    return DeviceId(Random(number).randbytes(32))


def swarm(seed: int, order: Order, rates: Sequence[float]) -> tuple[float, float]:
    """A device has a file of 64 MiB, others want it. When the last has it; what the first sent, in files."""
    world, leaves = World(seed), file_of(CHUNKS)
    ids = [device_id(seed * 100 + number) for number in range(len(rates))]
    senders = [Sender(world, rate) for rate in rates]
    receivers = [Receiver(world, one, leaves, order=order) for one in ids[1:]]
    for receiver, own in zip(receivers, ids[1:], strict=True):
        for device, sender in zip(ids, senders, strict=True):
            if device != own:
                receiver.link(device.hex(), device, sender, Path(1e9, 0.002 + 0.004 * world.random.random()))
                has = (1 << LEAF_CHUNKS) - 1 if device == ids[0] else 0
                for leaf, chunks in leaves:
                    bits = encode_bits(has & (1 << len(chunks)) - 1, len(chunks))
                    receiver.sets.told(device, leaf, bits, is_fetching=device != ids[0])

    def tell(teller: Receiver, own: DeviceId) -> None:
        told = {leaf for leaf, _ in teller.sets.news()}
        for leaf in told:
            bits = teller.sets.bits(leaf)
            assert bits is not None
            for other in receivers:
                if other is not teller:
                    other.sets.told(own, leaf, bits, is_fetching=True)
        for other in receivers:
            other.ask()
        world.after(TELL_S, lambda: tell(teller, own))

    for receiver, own in zip(receivers, ids[1:], strict=True):
        receiver.ask()
        world.after(TELL_S * world.random.random(), lambda receiver=receiver, own=own: tell(receiver, own))  # type: ignore[misc]
    world.run(lambda: all(one.done_at for one in receivers))
    return max(one.done_at for one in receivers), senders[0].chunks_sent / CHUNKS


def paths(pick: Choose, chunks: int, ways: Sequence[Path], seed: int) -> float:
    """One device, reached over several links. When a file of so many chunks is there."""
    world, leaves, source = World(seed), file_of(chunks), device_id(0)
    receiver = Receiver(world, device_id(1), leaves, pick=pick)
    for number, path in enumerate(ways):
        receiver.link(str(number), source, Sender(world, path.rate), path)
    for leaf, ids in leaves:
        receiver.sets.told(source, leaf, encode_bits((1 << len(ids)) - 1, len(ids)), is_fetching=False)
    receiver.ask()
    world.run(lambda: bool(receiver.done_at))
    return receiver.done_at


def reads(seed: int, *, hedges: bool, path: Path, count: int = 2000) -> tuple[list[float], int]:
    """Single chunks that two devices have, one after the other. Seconds of each; how many came twice."""
    world = World(seed)
    links = [
        (Capacity(str(number), round_trip_s=path.round_trip_s), Sender(world, path.rate)) for number in (0, 1)
    ]
    senders = {capacity.peer: sender for capacity, sender in links}
    flows = {name: sender.add(path) for name, sender in senders.items()}
    took: list[float] = []

    def read() -> None:
        began, answered, asked = world.now, [False], set[str]()

        def ask() -> None:
            able = [capacity for capacity, _ in links if capacity.peer not in asked]
            found = choose(rested(able, world.now), is_bulk=False)
            if found is None or answered[0]:
                return
            asked.add(found.peer)
            found.asked(world.now)
            sender = senders[found.peer]

            def arrived(_: ChunkId) -> None:
                found.answered()
                found.came(world.now)
                if not answered[0]:
                    answered[0] = True
                    took.append(world.now - began)
                    world.after(0.0, read)

            def late() -> None:
                if not answered[0]:
                    found.was_late(world.now)
                    ask()

            def at_sender() -> None:
                flows[found.peer].queue.append((ChunkId(b"c" * 32), arrived))
                sender.send()

            world.after(path.round_trip_s / 2, at_sender)
            if hedges:
                world.after(found.patience_s() + LATE_LOOK_S / 2, late)

        ask()

    read()
    world.run(lambda: len(took) >= count)
    return took, sum(sender.chunks_sent for _, sender in links) - len(took)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    seeds = range(1, parser.parse_args().seeds + 1)

    def median(of: Callable[[int], float]) -> float:
        return statistics.median(of(seed) for seed in seeds)

    orders: list[tuple[str, Order]] = [
        ("in order", InOrder),
        ("at random", AtRandom),
        ("rarest first", RarestFirst),
        ("shares (the program's)", HaveSets),
    ]
    swarms = {"3 receivers, 25 MB/s each": [25e6] * 4, "one of 3 at 5 MB/s": [25e6, 25e6, 25e6, 5e6]}
    swarms["7 receivers, 25 MB/s each"] = [25e6] * 8
    rows = []
    for name, order in orders:
        cells = []
        for rates in swarms.values():
            found = [swarm(seed, order, rates) for seed in seeds]
            cells.append(f"{statistics.median(one[0] for one in found):.2f} s")
            cells.append(f"{statistics.median(one[1] for one in found):.2f}")
        rows.append([name, *cells])
    heads = list(itertools.chain(*[(name, "first sent, files") for name in swarms]))
    print("64 MiB from one device to others:\n")
    print(table(["which chunk next", *heads], rows))

    picks: list[tuple[str, Choose]] = [
        ("the fastest alone", fastest),
        ("the fewest requests", in_turn),
        ("soonest", soonest),
        ("soonest, the last ones over the best (the program's)", soonest_if_worth_it),
    ]
    gigabit, wireless, slow = Path(110e6, 0.0005), Path(12e6, 0.004), Path(1e6, 0.05)
    ways = {
        "110 MB/s and 12 MB/s": (CHUNKS, [gigabit, wireless]),
        "12 MB/s and 12 MB/s": (CHUNKS, [wireless, wireless]),
        "12 MB/s and 1 MB/s": (512, [wireless, slow]),
    }
    rows = []
    for name, pick in picks:
        rows.append(
            [
                name,
                *[f"{median(partial(paths, pick, count, two)):.2f}" for count, two in ways.values()],
            ]
        )
    print("\nOne device over two links, seconds for 64, 64 and 32 MiB:\n")
    print(table(["over which link", *ways], rows))

    rows = []
    for name, hedges in (("no", False), ("yes (the program's)", True)):
        cells = []
        for path in (Path(12e6, 0.01), Path(12e6, 0.01, 0.01, 5.0)):
            took: list[float] = []
            twice = 0
            for seed in seeds:
                seconds, more = reads(seed, hedges=hedges, path=path)
                took += seconds
                twice += more
            took.sort()
            cells += [f"{statistics.mean(took) * 1e3:.0f}", f"{took[int(0.995 * len(took))] * 1e3:.0f}"]
            cells += [f"{took[-1] * 1e3:.0f}", f"{100 * twice / len(took):.1f} %"]
        rows.append([name, *cells])
    figures = ["mean ms", "p99.5", "worst", "sent twice"]
    print("\nReads of a chunk that two devices have, one after the other:\n")
    print(
        table(["asked again when late", *figures, *[f"1 % stand still 5 s: {one}" for one in figures]], rows)
    )


if __name__ == "__main__":
    main()
