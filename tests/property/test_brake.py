"""Histories of replicas that hold nearly everything others remove.

The index is what the documents say but for what is held, whatever happens; and once everything has been
accepted or refused all agree.

`python -m tests.property.test_brake --count 2000 --seed 1` runs as many as one likes.
"""

import argparse
import sys
import time

import pytest

from dittofs.errors import FSError
from dittofs.tree.brake import Limits
from dittofs.tree.holds import decoded
from dittofs.tree.view import View, view
from dittofs.volume.replica import Replica
from tests.property.exchange_histories import History, Node
from tests.property.exchange_scripts import Script
from tests.property.held_records import with_holds
from tests.property.tree_replicas import assert_same, observe
from tests.simulation.failed_seeds import BRAKED
from tests.simulation.replica_rig import ReplicaRig
from tests.simulation.rig import SimulatedClock

LIMITS = Limits(files_min=1, share=0.05)
HISTORIES = 90
BATCHES = 6
DECIDING_ROUNDS = 12


class BrakedRig(ReplicaRig):
    """A replica that holds what it may, however little it is."""

    def open(self) -> Replica:
        replica = super().open()
        replica.tree.brake.limits = LIMITS
        return replica


class BrakedHistory(History):
    """A history in which devices also accept and refuse what they hold, or change it."""

    def _rig(self, number: int) -> ReplicaRig:
        return BrakedRig(
            f"device {number}",
            seed=self.seed * 16 + number,
            clock=SimulatedClock(1_795_000_000.0 + number),
            boot=f"machine-{number}",
        )

    def _step(self, node: Node) -> None:
        super()._step(node)
        if node in self.nodes and self.random.random() < 0.1:
            self._decide(node, part=True)
        if self.random.random() < 0.2:
            self._oracle(self.random.choice(self.nodes))

    def _operate(self, node: Node) -> None:
        holds = node.replica.tree.brake.holds
        held = {inode: holds.get(inode) for inode in holds.all}
        super()._operate(node)
        for inode, hold in held.items():
            if inode not in holds and hold is not None:  # taken back: what it hid is in the history
                self.removed |= {version.root for version in decoded(hold.known)[""].versions}

    def _decide(self, node: Node, *, part: bool) -> None:
        holds = node.replica.tree.brake.holds
        inodes = sorted(holds.all)
        if part:
            inodes = self.random.sample(inodes, (len(inodes) + 1) // 2)
        if not inodes:
            return
        if self.random.random() < 0.5:
            self.trace.append(f"{self._who(node)} accepts {len(inodes)}")
            node.replica.replica.show_held(inodes)
            return
        self.trace.append(f"{self._who(node)} refuses {len(inodes)}")
        for inode in inodes:
            hold = holds.get(inode)
            assert hold is not None
            record = decoded(hold.known)[""]
            self.removed |= {version.root for version in record.versions}
            node.replica.changes.clear()
            node.replica.do(lambda group, _, inode=inode: group.take_back(inode))  # type: ignore[misc]
            updates = [update for change in node.replica.changes for update in change.updates]
            for other in self.nodes:
                if updates and other is not node and self.random.random() < 0.7:
                    other.inbox.append(updates)

    def _settle(self) -> None:
        for _ in range(DECIDING_ROUNDS):
            for node in self.nodes:
                node.away = 0
                self._oracle(node)
            for a in self.nodes:
                for b in self.nodes:
                    if a is not b:
                        self._round(a, b)
            if not any(node.replica.tree.brake.holds for node in self.nodes):
                break
            for node in self.nodes:
                self._oracle(node)
                self._decide(node, part=False)
        for node in self.nodes:
            node.replica.replica.show_held(sorted(node.replica.tree.brake.holds.all))
            node.replica.tree.brake.limits = Limits(is_on=False)
        self.dead.clear()  # who refuses brings back what was gone
        super()._settle()
        for node in self.nodes:
            node.replica.tree.brake.limits = LIMITS

    def _oracle(self, node: Node) -> View:
        shown = node.replica.tree.brake.holds.shown()
        expected = view(with_holds(node.replica.records(), shown), node.replica.label_of)
        assert_same(observe(node.replica.tree), expected)
        return expected


def run(seed: int, *, replicas: int = 3, steps: int = 80) -> BrakedHistory:
    history = BrakedHistory(Script(seed, replicas, steps, False, None))
    try:
        history.run()
    except (Exception, FSError) as error:
        error.add_note(f"braked history of seed {seed}:\n" + "\n".join(history.trace))
        raise
    return history


def run_seed(seed: int) -> BrakedHistory:
    return run(seed, replicas=2 + seed % 3)


@pytest.mark.parametrize("batch", range(BATCHES))
def test_replicas_that_hold_what_others_remove_show_it_as_it_was_and_agree_in_the_end(batch: int) -> None:
    decided = 0
    for seed in range(batch, HISTORIES, BATCHES):
        trace = run_seed(seed).trace
        decided += sum(" accepts " in line or " refuses " in line for line in trace)
    assert decided > HISTORIES // BATCHES // 2


@pytest.mark.parametrize("seed", sorted(BRAKED))
def test_a_braked_history_that_failed_once_passes(seed: int) -> None:
    run_seed(seed)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.property.test_brake")
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    begun = time.monotonic()
    for seed in range(chosen.seed, chosen.seed + chosen.count):
        run_seed(seed)
    print(f"{chosen.count} histories in {time.monotonic() - begun:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
