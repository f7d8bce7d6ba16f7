"""Random histories of several replicas of a tree, from a seed: everything that users and networks do to it.

A history is local operations, live deliveries (some lost, doubled or late), partitions, state-vector rounds,
crashes that lose what was not synced, reloads. Along the way and at the end: the index equals the oracle, all
replicas agree, no content is gone that nobody removed, an edit of a conflict entry swaps no names.

    python -m tests.property.histories --count 5000 --seed 1
"""

import argparse
import random
import sys
import time

from dittofs.errors import FormatError, FSError
from tests.property.history_users import PROFILES, Writer
from tests.property.tree_replicas import Replica, World, assert_same, check_against_oracle, observe

SKEW_NS = 7_000_000_000


class History:
    """One run. `run` raises AssertionError where a promise is broken; `trace` says how it came to that."""

    def __init__(self, seed: int, *, replicas: int = 3, steps: int = 40) -> None:
        self.random = random.Random(seed)
        self.steps = steps
        self.profile = PROFILES[seed % len(PROFILES)]
        self.world = World()
        self.writers = [
            Writer(Replica(self.world, f"r{i}", skew_ns=i * SKEW_NS * (seed % 3 == 0)))
            for i in range(replicas)
        ]
        self.written: set[bytes] = set()
        self.removed: set[bytes] = set()
        """Contents that somebody who saw them removed or replaced."""
        self.lost: set[bytes] = set()
        """Contents that were not synced when their writer crashed."""
        self.trace: list[str] = []

    def run(self) -> None:
        checks = self.random.random()
        for _ in range(6):
            self._operate(self.writers[0])
        for other in self.writers[1:]:
            self._round(self.writers[0], other)
        is_parted = False
        for _ in range(self.steps):
            if self.random.random() < 0.1:
                is_parted = not is_parted
                if not is_parted:
                    for writer in self.writers:
                        self._round(writer, self.random.choice(self.writers))
            writer = self.random.choice(self.writers)
            if is_parted:
                writer.inbox.clear()
            self._step(writer, is_parted)
            if self.random.random() < 0.2 * checks:
                check_against_oracle(writer.replica)
        self._settle()

    def _step(self, writer: Writer, is_parted: bool) -> None:
        choice = self.random.random()
        share = self.profile.operation_share
        if choice < share or (is_parted and choice < 0.92):
            self._operate(writer)
        elif choice < share + (0.92 - share) * 0.7:
            self._deliver(writer)
        elif choice < 0.92:
            self._round(writer, self.random.choice(self.writers))
        elif choice < 0.95:
            writer.replica.sync()
            writer.unsynced.clear()
        elif choice < 0.97:
            writer.replica.tree.unload()
        else:
            self._crash(writer)

    # -- the network

    def _deliver(self, writer: Writer) -> None:
        """The next message, or a late one, or an old one again; what does not fit is refused."""
        if not writer.inbox:
            return
        fate = self.random.random()
        if fate < 0.1:
            writer.inbox.pop(0)
            return
        at = self.random.randrange(len(writer.inbox)) if fate < 0.2 else 0
        updates = writer.inbox.pop(at)
        if fate > 0.9 and writer.old:
            updates = self.random.choice(writer.old)
        writer.old.append(updates)
        try:
            writer.replica.receive(updates)
            self.trace.append(f"{self._who(writer)} receives {len(updates)}")
        except FormatError:
            self.trace.append(f"{self._who(writer)} refuses {len(updates)}")

    def _round(self, writer: Writer, other: Writer) -> None:
        if writer is other:
            return
        self.trace.append(f"{self._who(writer)} -> {self._who(other)}")
        updates = writer.replica.diff_for(other.replica)
        if updates:
            # Peers have what was synced: a writer syncs before it sends (commit order).
            writer.replica.sync()
            writer.unsynced.clear()
            other.replica.receive(updates)

    def _crash(self, writer: Writer) -> None:
        self.trace.append(f"{self._who(writer)} crashes")
        writer.replica.crash()
        writer.opened.clear()
        writer.inbox.clear()
        self.lost.update(writer.unsynced)
        writer.unsynced.clear()

    def _settle(self) -> None:
        """Everybody gets everything: equal trees, equal to the oracle, however the index came about."""
        replicas = [writer.replica for writer in self.writers]
        for _ in range(2):
            for a in self.writers:
                for b in self.writers:
                    self._round(a, b)
        records = replicas[0].records()
        for replica in replicas[1:]:
            assert replica.records() == records
        expected = check_against_oracle(replicas[0])
        for replica in replicas[1:]:
            assert_same(observe(replica.tree), expected)
        one = self.random.choice(replicas)
        one.tree.unload()
        assert_same(observe(one.tree), expected)
        one.tree.rebuild_index()
        assert_same(observe(one.tree), expected)
        visible = {version.root for version in expected.contents.values()}
        gone = self.written - visible - self.removed - self.lost
        assert not gone, f"nobody removed {sorted(gone)}"

    # -- what users do

    def _operate(self, writer: Writer) -> None:
        operation = self.random.choice(self.profile.operations)
        before = len(self.trace)
        self.trace.append(f"{self._who(writer)} {operation.__name__.strip('_')}")
        try:
            operation(self, writer)
        except FSError as error:
            self.trace[before] += f" ({error})"
            return
        sent = writer.replica.take_sent()
        if sent:
            for other in self.writers:
                if other is not writer and self.random.random() < 0.7:
                    # Commit order: durable, then sent.
                    writer.replica.sync()
                    writer.unsynced.clear()
                    other.inbox.append(sent)

    def _who(self, writer: Writer) -> str:
        return f"{writer.replica.label}@{writer.replica.slot}"


def run(seed: int, **options: int) -> None:
    """One history. What breaks carries the seed and the trace."""
    history = History(seed, **options)
    try:
        history.run()
    except Exception as error:
        error.add_note(f"history of seed {seed}:\n" + "\n".join(history.trace))
        raise


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--replicas", type=int, default=3)
    parser.add_argument("--steps", type=int, default=40)
    arguments = parser.parse_args()
    begun = time.monotonic()
    for seed in range(arguments.seed, arguments.seed + arguments.count):
        run(seed, replicas=arguments.replicas, steps=arguments.steps)
    print(f"{arguments.count} histories in {time.monotonic() - begun:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
