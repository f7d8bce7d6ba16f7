"""Random histories of whole replicas, journals and all, that exchange groups and rounds, from a seed.

What networks and time do to them: groups lost, doubled, late; partitions and replicas that are long away;
rounds made against what was true some time ago; compaction anywhere at any time; restarts; copies of a
device that both go on writing as one. In the end all agree, the index equals the oracle however it came
about, nothing is gone that nobody removed, and nothing that was gone everywhere is back.

Every step draws what it does from the seed and its own number, so that a history with steps left out is the
same history otherwise: of one that fails, the steps that it takes to fail are found and shown.

    python -m tests.property.exchange_histories --count 1000 --seed 1 [--replicas 3] [--steps 40] [--forks]
    python -m tests.property.exchange_histories --mixed --count 20000 --seed 1 --keep-going
"""

import argparse
import logging
import random
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import structlog

from dittofs.errors import Behind, Contradiction, Forked, FSError
from dittofs.ids import ROOT
from dittofs.replication.round import wanted
from dittofs.tree.epochs import is_beyond
from dittofs.tree.record import Kind
from dittofs.tree.shard import FIRST_EPOCH
from dittofs.tree.states import Difference, DocumentState
from dittofs.tree.view import View, view
from dittofs.volume.replica import Replica
from tests.property.exchange_scripts import FIRST, Script
from tests.property.history_users import PROFILES, Opened, move_into
from tests.property.tree_replicas import Update, World, assert_same, observe
from tests.simulation.replica_rig import ReplicaRig, parts_for, pull, told
from tests.simulation.rig import SimulatedClock
from tests.simulation.shrinking import shrunken

LABEL = "device"
SKEW_S = 7.0
COMMON = b"same"
DAY_S = 86_400.0
JOIN_MAX = 2


@dataclass
class Node:
    """A replica, its users, and what is on its way to it."""

    replica: ReplicaRig
    opened: list[Opened] = field(default_factory=list)
    unsynced: list[bytes] = field(default_factory=list)
    inbox: list[list[Update]] = field(default_factory=list)
    old: list[list[Update]] = field(default_factory=list)
    rounds: list["LongRound"] = field(default_factory=list)
    """Rounds that were made and have not arrived."""
    away: int = 0
    """So many steps it hears of nobody."""


@dataclass
class LongRound:
    """The parts of a round, and what the giver then thinks that the other has."""

    giver: Replica
    parts: list[Difference]
    known: list[DocumentState]

    def go_on(self) -> None:
        """What has come to the giver since is given in further parts of the same round."""
        states = self.giver.states()
        for number, state in enumerate(states):
            if state != self.known[number]:
                part = self.giver.difference(number, self.known[number])
                if part is not None:
                    self.parts.append(part)
        self.known = list(states)


class History:
    """One run. `run` raises AssertionError where a promise is broken; `trace` says how it came to that."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.seed = seed = script.seed
        self.random = random.Random(f"{seed}")
        self.forks = script.forks
        self.profile = PROFILES[seed % len(PROFILES)]
        self.world = World()
        self.nodes = [Node(self._rig(number)) for number in range(script.replicas)]
        self.written: set[bytes] = set()
        self.removed: set[bytes] = set()
        self.dead: set[bytes] = set()
        """Contents that were once written and then to be seen nowhere, with nothing on its way."""
        self.unnoticed: set[bytes] = set()
        """Written or saved elsewhere by one of two copies before anybody could tell them apart."""
        self.joined = self.gone = 0
        self.trace: list[str] = []

    def _rig(self, number: int) -> ReplicaRig:
        skew = number * SKEW_S * (self.seed % 3 == 0)
        return ReplicaRig(
            LABEL,
            seed=self.seed * 16 + number,
            clock=SimulatedClock(1_795_000_000.0 + skew),
            boot=f"machine-{number}",
        )

    def run(self) -> None:
        fork_at = self.random.randrange(FIRST, FIRST + self.script.steps) if self.forks else -1
        has_begun = False
        for number in self.script.numbers():
            self.random = random.Random(f"{self.seed} {number}")
            if number < FIRST:
                self._operate(self.nodes[0])
                continue
            if not has_begun:
                has_begun = True
                self._begin()
            if number == fork_at:
                self._copy(self.random.choice(self.nodes))
            self._step(self.random.choice(self.nodes))
            if self.random.random() < 0.03:
                self._settle()
        self._settle()
        self._check_all()

    def _begin(self) -> None:
        """Everybody has what the first one made."""
        for other in self.nodes[1:]:
            self._pull(other, self.nodes[0])

    def _step(self, node: Node) -> None:
        node.away -= 1
        choice = self.random.random()
        if choice < 0.5:
            self._operate(node)
        elif choice < 0.68:
            self._deliver(node)
        elif choice < 0.8:
            self._pull(node, self.random.choice(self.nodes))
        elif choice < 0.84:
            self._begin_round(node, self.random.choice(self.nodes))
        elif choice < 0.87:
            self._end_round(node)
        elif choice < 0.93:
            self._compact(node)
        elif choice < 0.95:
            node.replica.tree.unload()
        elif choice < 0.97:
            self._restart(node)
        elif choice < 0.975:
            node.replica.replica.renew_index()
            self.trace.append(f"{self._who(node)} makes its index anew")
        elif choice < 0.99:
            self._cross(node, self.random.choice(self.nodes))
        elif choice < 0.995:
            node.away = self.random.choice((10, 100))
            self.trace.append(f"{self._who(node)} is away")
        else:
            self._come_or_go(node)

    # -- the network

    def _deliver(self, node: Node) -> None:
        """The next group, or a late one, or an old one again."""
        if not node.inbox or node.away > 0:
            return
        fate = self.random.random()
        if fate < 0.1:
            node.inbox.pop(0)
            return
        at = self.random.randrange(len(node.inbox)) if fate < 0.2 else 0
        updates = node.inbox.pop(at)
        if fate > 0.9 and node.old:
            updates = self.random.choice(node.old)
        node.old.append(updates)
        try:
            is_new = node.replica.replica.receive(updates, b"v" * 32)
            self.trace.append(f"{self._who(node)} receives {len(updates)}{'' if is_new else ' known'}")
        except (Behind, Contradiction) as error:
            assert self.forks or not isinstance(error, (Forked, Contradiction))
            self.trace.append(f"{self._who(node)} is behind: {error}")

    def _pull(self, node: Node, giver: Node) -> None:
        if node is not giver and node.away <= 0 and giver.away <= 0:
            self.trace.append(f"{self._who(node)} pulls from {self._who(giver)}")
            self._round(node, giver)

    def _round(self, node: Node, giver: Node) -> None:
        try:
            pull(node.replica, giver.replica)
            left_out = wanted(node.replica.tree, told(node.replica, giver.replica))
            assert not left_out, f"a round left {left_out} out"
            # Of copies that have written equally much nobody can tell what differs.
            assert self.forks or not self._is_beyond(node, giver), "a round left something out"
        except Behind as error:
            assert self.forks or not isinstance(error, Forked)
            self.trace.append(f"{self._who(node)} is behind: {error}")
        except Contradiction as error:
            assert self.forks
            self.trace.append(f"{self._who(node)} leaves: {error}")

    def _is_beyond(self, node: Node, giver: Node) -> bool:
        """Whether the giver of a round still knows more of a document that it has in a lower epoch."""
        ours = node.replica.replica.states()
        lower = [n for n, theirs in told(node.replica, giver.replica) if theirs.epoch < ours[n].epoch]
        return any(
            is_beyond(node.replica.shard_as(number, 2), giver.replica.shard_as(number, 2), number)
            for number in lower
        )

    def _begin_round(self, node: Node, giver: Node) -> None:
        if node is not giver and node.away <= 0 and giver.away <= 0:
            parts = list(parts_for(node.replica, giver.replica))
            theirs, ours = giver.replica.replica.states(), node.replica.replica.states()
            given = {part.document for part in parts}
            known = [theirs[number] if number in given else state for number, state in enumerate(ours)]
            node.rounds.append(LongRound(giver.replica.replica, parts, known))

    def _end_round(self, node: Node) -> None:
        """A round that took long: both have moved on. It may be lost."""
        if node.rounds and self.random.random() < 0.8:
            found = node.rounds.pop(0)
            if self.random.random() < 0.5 and any(
                one.replica.replica is found.giver and one.away <= 0 for one in self.nodes
            ):
                found.go_on()
                self.trace.append(f"{self._who(node)} is given the rest of a round")
            try:
                node.replica.replica.receive_round(found.parts, b"v" * 32)
                self.trace.append(f"{self._who(node)} takes an old round")
            except (Behind, Contradiction) as error:
                assert self.forks or not isinstance(error, (Forked, Contradiction))
                self.trace.append(f"{self._who(node)} is behind its round: {error}")

    # -- what happens to devices

    def _compact(self, node: Node) -> None:
        states = node.replica.replica.states()
        numbers = [number for number, state in enumerate(states) if state != (FIRST_EPOCH, b"\0")]
        for number in self.random.sample(numbers, min(len(numbers), 3)):
            node.replica.compact(number)
            self.trace.append(f"{self._who(node)} compacts {number}")

    def _restart(self, node: Node) -> None:
        if self._is_shared(node):
            return  # a fork is found while somebody still writes as that writer
        node.opened.clear()
        if self.random.random() < 0.5:
            node.replica.close()
            node.replica.open()
            self.trace.append(f"{self._who(node)} ends and begins")
        else:
            node.replica.restart()
            self.trace.append(f"{self._who(node)} dies and begins")
        node.rounds.clear()  # links do not outlive a process

    def _is_shared(self, node: Node) -> bool:
        return sum(other.replica.slot == node.replica.slot for other in self.nodes) > 1

    def _copy(self, node: Node) -> None:
        """A device that ended cleanly is copied, and both copies go on as the same writer."""
        self.trace.append(f"{self._who(node)} is copied")
        node.replica.close()
        disk = node.replica.disk.fork()
        node.replica.open()
        number = len(self.nodes)
        copy = ReplicaRig(
            LABEL,
            seed=self.seed * 16 + number,
            disk=disk,
            clock=SimulatedClock(1_795_000_100.0),
            boot=node.replica.boot,
        )
        assert copy.slot == node.replica.slot
        self.nodes.append(Node(copy))

    def _come_or_go(self, node: Node) -> None:
        """Months pass for everybody, a device joins, or one goes for good after giving away what it has."""
        choice = self.random.randrange(3)
        if choice == 0:
            days = self.random.randint(30, 400)
            for one in self.nodes:
                one.replica.clock.advance(days * DAY_S)
            self.trace.append(f"{days} days pass")
        elif choice == 1 and self.joined < JOIN_MAX:
            self.joined += 1
            self.nodes.append(Node(self._rig(len(self.nodes) + self.gone)))
            self.nodes[-1].replica.clock.advance(node.replica.clock.monotonic())
            self.trace.append(f"{self._who(self.nodes[-1])} joins")
            self._pull(self.nodes[-1], node)
        elif choice == 2 and len(self.nodes) > 2 and not self.forks:
            other = self.random.choice([one for one in self.nodes if one is not node])
            node.away = other.away = 0
            self._pull(other, node)
            self._pull(node, other)
            if node.replica.replica.root_digest() == other.replica.replica.root_digest():
                self.trace.append(f"{self._who(node)} is retired")
                self.nodes.remove(node)
                self.gone += 1
                node.replica.close()

    # -- what must hold

    def _settle(self) -> None:
        """Everybody gets everything, whatever is still on its way."""
        for node in self.nodes:
            node.away = 0
        for copy in [node for node in self.nodes if self._is_shared(node)][-1:]:
            # While both have made the same number of changes in every document, nobody can tell.
            for count in range(3):
                copy.replica.mkdir(f"of the copy {self.world.fresh()} {count}")
        for _ in range(4 + 8 * self.forks):
            for a in self.nodes:
                for b in self.nodes:
                    if a is not b:
                        self._round(a, b)
            if len({node.replica.replica.root_digest() for node in self.nodes}) == 1:
                break
        self.trace.append("all meet")
        roots = {node.replica.replica.root_digest() for node in self.nodes}
        assert len(roots) == 1, "replicas do not come to the same"
        expected = self._oracle(self.nodes[0])
        visible = {version.root for version in expected.contents.values()}
        gone = self.written - visible - self.removed - self.unnoticed
        assert not gone, f"nobody removed {sorted(gone)}"
        if not self.forks:
            back = {root for root in visible & self.dead if not root.startswith(COMMON)}
            assert not back, f"{sorted(back)} were gone everywhere"
        if not any(node.rounds or node.inbox for node in self.nodes):
            self.dead |= self.written - visible
        for node in self.nodes[1:]:
            assert_same(observe(node.replica.tree), expected)

    def _check_all(self) -> None:
        records = self.nodes[0].replica.records()
        expected = self._oracle(self.nodes[0])
        for node in self.nodes:
            assert node.replica.records() == records
            node.replica.tree.unload()
            assert_same(observe(node.replica.tree), expected)
        node = self.random.choice(self.nodes)
        states = node.replica.replica.states()
        node.replica.replica.renew_index()
        assert node.replica.replica.states() == states
        assert_same(observe(node.replica.tree), expected)

    def _oracle(self, node: Node) -> View:
        expected = view(node.replica.records(), node.replica.label_of)
        assert_same(observe(node.replica.tree), expected)
        return expected

    # -- what users do

    def _cross(self, a: Node, b: Node) -> None:
        """Two users move two directories into each other, and do not know of each other."""
        beside = sorted(one.inode for one in a.replica.tree.listing(ROOT) if one.kind is Kind.DIRECTORY)
        beside = [one for one in beside if any(e.inode == one for e in b.replica.tree.listing(ROOT))]
        if a is not b and len(beside) > 1:
            x, y = self.random.sample(beside, 2)
            self._act(a, partial(move_into, what=x, to=y))
            self._act(b, partial(move_into, what=y, to=x))

    def _operate(self, node: Node) -> None:
        self._act(node, self.random.choice(self.profile.operations))

    def _act(self, node: Node, operation: Callable[["History", Node], None]) -> None:
        before = len(self.trace)
        self.trace.append(f"{self._who(node)} {getattr(operation, '__name__', 'crosses')}")
        node.replica.changes.clear()
        made = self._made(node) if self._is_shared(node) else set()
        try:
            operation(self, node)
        except FSError as error:
            self.trace[before] += f" ({error})"
            return
        if self._is_shared(node):
            self.unnoticed |= self._made(node) - made
        updates = [update for change in node.replica.changes for update in change.updates]
        for other in self.nodes:
            if updates and other is not node and self.random.random() < 0.7:
                other.inbox.append(updates)

    def _made(self, node: Node) -> set[bytes]:
        """The contents that a device shows as its own writer's."""
        shown = observe(node.replica.tree).contents.values()
        return {version.root for version in shown if version.dot[0] == node.replica.slot}

    def _who(self, node: Node) -> str:
        return f"{self.nodes.index(node)}@{node.replica.slot}"


def run(
    seed: int,
    *,
    replicas: int = 3,
    steps: int = 40,
    forks: bool = False,
    only: tuple[int, ...] | None = None,
) -> History:
    """One history of these measures."""
    return run_script(Script(seed, replicas, steps, forks, only))


def run_script(script: Script) -> History:
    """One history. What breaks carries the script and the trace."""
    history = History(script)
    try:
        history.run()
    except Exception as error:
        error.add_note(f"{script}:\n" + "\n".join(history.trace))
        raise
    return history


def shortened(script: Script) -> Script:
    """The same with the fewest steps found that still break something."""

    def fails(numbers: Sequence[int]) -> bool:
        try:
            run_script(replace(script, only=tuple(numbers)))
        except Exception:  # noqa: BLE001 - that is what is looked for
            return True
        return False

    return replace(script, only=tuple(shrunken(list(script.numbers()), fails)))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.property.exchange_histories")
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mixed", action="store_true", help="let each seed say how many replicas and steps")
    parser.add_argument("--replicas", type=int, default=3)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--forks", action="store_true")
    parser.add_argument(
        "--only", type=_numbers, help="the numbers of the steps to do, as a failure shows them"
    )
    parser.add_argument("--keep-going", action="store_true", help="tell of all seeds that fail")
    chosen = parser.parse_args(arguments)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    begun, failed = time.monotonic(), []
    for count, seed in enumerate(range(chosen.seed, chosen.seed + chosen.count), 1):
        plain = Script(seed, chosen.replicas, chosen.steps, chosen.forks)
        script = replace(Script.mixed(seed) if chosen.mixed else plain, only=chosen.only)
        try:
            run_script(script)
        except Exception as error:  # noqa: BLE001 - it is told, and the next seed runs
            failed.append(seed)
            print(f"seed {seed}: {error!r:.300}\n{script}", flush=True)
            if not chosen.keep_going:
                tell(error, script)
                return 1
        if count % 1000 == 0:
            print(f"{count} histories, {len(failed)} failed, {time.monotonic() - begun:.0f} s", flush=True)
    print(f"{chosen.count} histories, failed: {failed or 'none'}, {time.monotonic() - begun:.0f} s")
    return bool(failed)


def tell(error: Exception, script: Script) -> None:
    """Print what broke, as short as it can be had."""
    shorter = shortened(script)
    try:
        run_script(shorter)
    except Exception as short:  # noqa: BLE001 - it fails, as found
        error = short
    traceback.print_exception(error)
    steps = ",".join(map(str, shorter.only or ()))
    options = f"--replicas {shorter.replicas} --steps {shorter.steps}" + " --forks" * shorter.forks
    command = f"--seed {shorter.seed} --count 1 {options} --only {steps}"
    print(f"again: python -m tests.property.exchange_histories {command}")


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(one) for one in text.split(",") if one)


if __name__ == "__main__":
    sys.exit(main())
