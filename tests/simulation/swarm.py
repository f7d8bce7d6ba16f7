"""Several whole devices in one run of trio, with the time, disks and network that a seed gives them.

Users work on all of them while processes die, machines lose power, links break and clocks jump. In the end
everybody meets, and what was promised is checked. Same seed, same run.

    python -m tests.simulation.swarm --count 100 --seed 1 [--replicas 3] [--fault NAME]
"""

import argparse
import dataclasses
import itertools
import logging
import os
import random
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import structlog
import trio
import trio._core._run as scheduler
import trio.testing
from blake3 import blake3

from dittofs.replication.policy import Policy
from dittofs.shared_volume import keys_of
from tests.simulation.device import Family, SwarmDevice
from tests.simulation.disk import SimulatedDisk
from tests.simulation.ledger import Ledger
from tests.simulation.network import Network, Weather
from tests.simulation.programs import Programs
from tests.simulation.swarm_checks import (
    Groups,
    check_alike,
    check_custody,
    check_kept,
    check_readable,
    watch_acknowledgements,
    watch_holds,
    watch_publications,
)
from tests.simulation.swarm_faults import FAULTS, planted

MEET_S: Final = 600.0
"""What everybody may take to have the same, once the network is whole."""
WORK_S: Final = 300.0
LOSS_S: Final = 7.0
"""What a power cut may cost: the time between two syncs, and a little."""
EXPECTED: Final = (
    "staged content was never durable",
    "staged content cannot be read",
    "the index is damaged and made anew",
    "the index is whole again",
)
"""Warnings that power cuts explain."""
EXPECTED_OF_BACKUPS: Final = (
    "another copy of this device has written too",
    "this device's state was rolled back",
)


@dataclass(frozen=True, slots=True)
class Script:
    """What happens in one run. `of` draws one from a seed; a shorter one may show the same."""

    seed: int
    replicas: int = 3
    steps: int = 25
    """Operations of the users of each device."""
    events: int = 12
    """Misfortunes."""
    topology: str = "full"
    misfortunes: tuple[str, ...] = ()
    late: int = 0
    """So many devices join in the middle."""
    readers: int = 0
    copies: str = "2"

    @classmethod
    def of(cls, seed: int, replicas: int | None = None) -> "Script":
        chance = random.Random(seed)
        count = replicas or chance.choice((2, 3, 3, 3, 4))
        kinds = sorted(MISFORTUNES)
        misfortunes = tuple(sorted(chance.sample(kinds, chance.randint(2, len(kinds)))))
        return cls(
            seed,
            count,
            steps=chance.choice((15, 25, 40)),
            events=chance.choice((0, 6, 12, 20)),
            topology=chance.choice(("row", "ring", "star", "full", "full")),
            misfortunes=misfortunes,
            late=chance.choice((0, 0, 1)) if count > 2 else 0,
            # What a reader joins into a fresh epoch nobody takes from it: it would never be in step.
            readers=chance.choice((0, 1)) if count > 3 and "compact" not in misfortunes else 0,
            copies=chance.choice(("all", "on-demand", "2", "2")),
        )


class Swarm:
    """One run."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.chance = random.Random(script.seed)
        self.trace: list[str] = []
        self.family = Family.made(script.readers)
        self.ledger = Ledger(keys_of(self.family.secrets))
        self.network = Network(random.Random(script.seed + 1), Weather())
        known = script.replicas - script.late
        self.devices = [
            SwarmDevice(
                number, self.family, self.network, self.ledger, seed=script.seed * 64 + number, known=known
            )
            for number in range(script.replicas)
        ]
        self.groups = Groups()
        self.looks = random.Random(script.seed + 2)
        for device in self.devices:
            device.on_open = self._watch
        self.programs = [Programs(device, self.note) for device in self.devices]
        for programs in self.programs:
            programs.others = lambda: self.devices
            programs.steps_left = script.steps
        self.backups: list[tuple[int, float, SimulatedDisk]] = []
        self.restored: set[int] = set()
        self.is_meeting = False
        self._is_over = False
        self._joined = known

    def note(self, what: str) -> None:
        self.trace.append(f"{trio.current_time():9.4f} {what}")

    def digest(self) -> str:
        """Of everything that happened, and what every disk was told to do."""
        disks = [device.disk.digest() for device in self.devices]
        return blake3("\n".join([*self.trace, *disks]).encode()).hexdigest()

    # -- the run

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            for number in range(self._joined):
                nursery.start_soon(self._life, number)
            nursery.start_soon(self._connect)
            nursery.start_soon(self._misfortune, nursery)
            if self.script.copies != "2":
                await trio.sleep(0.1)
                self.devices[0].shared.set_copies(Policy.parse(self.script.copies))
            await self._work()
            await self._meet(nursery)
            nursery.cancel_scope.cancel()

    async def _life(self, number: int) -> None:
        """A device: one process after the other."""
        device = self.devices[number]
        while True:
            self.note(f"{number} starts")
            device.known = max(device.known, self._joined)
            await device.live(self.programs[number].run)
            self.note(f"{number} has ended")
            if self._is_over:
                return
            if not self.is_meeting:
                await trio.sleep(device.chance.choice((0.1, 1.0, 10.0)))

    async def _work(self) -> None:
        with trio.move_on_after(WORK_S):
            await _until(lambda: not any(one.steps_left for one in self.programs[: self._joined]))
        await _until(lambda: self._joined == len(self.devices))

    def _watch(self, device: SwarmDevice) -> None:
        self.groups.follow(device)
        watch_acknowledgements(device, self.looks)
        watch_holds(device, self.looks)
        watch_publications(device, self.looks)

    # -- who talks with whom

    def _edges(self) -> Iterator[tuple[SwarmDevice, SwarmDevice]]:
        up = self.devices[: self._joined]
        count = len(up)
        topology = "full" if self.is_meeting else self.script.topology
        for a, b in itertools.combinations(range(count), 2):
            is_there = {
                "row": b == a + 1,
                "ring": b == a + 1 or (a, b) == (0, count - 1),
                "star": a == 0,
                "full": True,
            }[topology]
            if is_there:
                yield up[a], up[b]

    async def _connect(self) -> None:
        """Dial who is not connected, now and then twice, or from both sides."""
        chance = self.chance
        while True:
            await trio.sleep(chance.uniform(0.05, 1.0))
            for pair in self._edges():
                for a, b in (pair, pair[::-1]):
                    if not (a.is_up and b.is_up) or b.number in a.dialling or chance.random() < 0.3:
                        continue
                    if not a.is_connected(b) or (not self.is_meeting and chance.random() < 0.01):
                        a.dial(b)

    # -- misfortunes

    async def _misfortune(self, nursery: trio.Nursery) -> None:
        chance = self.chance
        for number in range(self._joined, len(self.devices)):
            await trio.sleep(chance.uniform(1.0, 5.0))
            self._join(number, nursery)
        for _ in range(self.script.events):
            await trio.sleep(chance.expovariate(0.8))
            if self.is_meeting:
                return
            if self.script.misfortunes:
                kind = chance.choice(self.script.misfortunes)
                device = chance.choice(self.devices[: self._joined])
                self.note(f"{kind} {device.number}")
                MISFORTUNES[kind](self, device, nursery)

    def _join(self, number: int, nursery: trio.Nursery) -> None:
        """An owner grants the next device its role; it has the records as pairing gives them."""
        owner = self.devices[0]
        if owner.is_up and not owner.is_dead:
            owner.shared.members.add(self.family.records[number])
        self._joined = number + 1
        owner.known = max(owner.known, self._joined)
        self.note(f"{number} joins")
        nursery.start_soon(self._life, number)

    def _kill(self, device: SwarmDevice, _nursery: trio.Nursery) -> None:
        if device.is_up:
            device.die_after(self.chance.choice((0, 3, 30)), is_power_cut=False)

    def _power_cut(self, device: SwarmDevice, nursery: trio.Nursery) -> None:
        if device.is_up:
            device.die_after(self.chance.choice((0, 3, 30)), is_power_cut=True)
            nursery.start_soon(self._doubt, device)

    async def _doubt(self, device: SwarmDevice) -> None:
        await _until(lambda: not device.is_up or device.is_dead, 0.01)
        if device.is_power_cut:
            self.ledger.doubt(device.number, trio.current_time() - LOSS_S, self._seen(device))

    def _seen(self, device: SwarmDevice) -> set[str]:
        """Contents that other devices know of."""
        seen: set[str] = set()
        for other in self.devices:
            if other is not device and other.is_up and not other.is_dead:
                self.ledger.gather(other.volume.replica.chunks)
                seen |= self.ledger.history(other.volume.replica)
        return seen

    def _restart(self, device: SwarmDevice, nursery: trio.Nursery) -> None:
        if device.is_up and not device.is_dead:
            nursery.start_soon(device.leave)

    def _back_up(self, device: SwarmDevice, _nursery: trio.Nursery) -> None:
        if device.is_up and not device.is_dead:
            self.backups.append((device.number, trio.current_time(), device.disk.fork()))

    def _restore(self, device: SwarmDevice, nursery: trio.Nursery) -> None:
        """Put back what was copied of the running device some time ago."""
        copies = [one for one in self.backups if one[0] == device.number]
        if not copies or not device.is_up or device.is_dead:
            return
        _, when, disk = copies[0]
        seen = self._seen(device)
        device.go_back(disk)
        self.restored.add(device.number)
        self.ledger.doubt(device.number, when, seen)
        self.note(f"{device.number} is as it was at {when:.2f}")
        del nursery

    def _part(self, device: SwarmDevice, nursery: trio.Nursery) -> None:
        other = self.chance.choice(self.devices)
        if other is not device:
            heal = self.network.part(device.device.id, other.device.id)
            nursery.start_soon(self._later, self.chance.choice((2.0, 10.0, 40.0)), heal)

    def _alone(self, device: SwarmDevice, nursery: trio.Nursery) -> None:
        for other in self.devices:
            if other is not device:
                heal = self.network.part(device.device.id, other.device.id)
                nursery.start_soon(self._later, 20.0, heal)

    async def _later(self, seconds: float, act: Callable[[], None]) -> None:
        await trio.sleep(seconds)
        if not self.is_meeting:
            act()

    def _cut(self, _device: SwarmDevice, _nursery: trio.Nursery) -> None:
        self.network.cut_some()

    def _jump(self, device: SwarmDevice, _nursery: trio.Nursery) -> None:
        device.clock.skew_s += self.chance.choice((-3600.0, -5.0, 5.0, 3600.0, 40_000.0))

    def _compact(self, device: SwarmDevice, _nursery: trio.Nursery) -> None:
        if device.is_up and not device.is_dead:
            device.compact()

    def _audit(self, device: SwarmDevice, _nursery: trio.Nursery) -> None:
        if device.is_up and not device.is_dead:
            # One that is as it was before has not said so while it is down.
            others = [one for one in self.devices if one.is_up or one.number not in self.restored]
            check_custody(device, others, self.chance)

    def _policy(self, device: SwarmDevice, _nursery: trio.Nursery) -> None:
        if device.is_up and not device.is_dead and device.volume.replica.not_allowed is None:
            device.shared.set_copies(Policy.parse(self.chance.choice(("all", "on-demand", "2"))))

    # -- the end

    async def _meet(self, nursery: trio.Nursery) -> None:
        """The network is whole, everybody is there: all come to the same within MEET_S."""
        self.is_meeting = True
        self.network.heal_all()
        self.note("all meet")
        for device in self.devices:
            device.calm()
        with trio.move_on_after(MEET_S):
            await _until(lambda: all(device.is_up for device in self.devices))
            for one in self.programs:
                await one.finish()
            await _until(self._is_settled, 1.0)
        self.note(f"all have met: {self._unsettled()}")
        assert self._is_settled(), f"devices do not come to the same: {self._unsettled()}"
        check_alike(self.devices)
        check_kept(self.devices, self.ledger)
        for device in self.devices:
            check_custody(device, self.devices, self.chance)
            await check_readable(device, self.ledger)
        self._is_over = True
        for device in self.devices:
            await device.leave()
        del nursery

    def _is_settled(self) -> bool:
        return not self._unsettled()

    def _unsettled(self) -> str:
        digests = {device.volume.replica.root_digest() for device in self.devices}
        reasons = ["states differ"] if len(digests) > 1 else []
        for device in self.devices:
            publisher = device.volume.publisher
            if not publisher.is_idle:
                reasons.append(f"{device.number} publishes ({publisher.problem})")
            if publisher.waiting or publisher.stuck:
                reasons.append(f"{device.number} waits ({publisher.waiting}, {publisher.stuck})")
            if device.peers.custody.is_counting:
                reasons.append(f"{device.number} counts")
            for other in self.devices:
                if other is not device and not device.is_connected(other):
                    reasons.append(f"{device.number} has no session with {other.number}")
        return ", ".join(reasons)


async def _until(condition: Callable[[], bool], look_s: float = 0.5) -> None:
    """Return when `condition` holds. The time is the run's."""
    while not condition():  # noqa: ASYNC110 - it looks at many things
        await trio.sleep(look_s)


MISFORTUNES: Final[dict[str, Callable[[Swarm, SwarmDevice, trio.Nursery], None]]] = {
    "kill": Swarm._kill,
    "power cut": Swarm._power_cut,
    "restart": Swarm._restart,
    "back up": Swarm._back_up,
    "restore": Swarm._restore,
    "part": Swarm._part,
    "alone": Swarm._alone,
    "cut": Swarm._cut,
    "jump": Swarm._jump,
    "compact": Swarm._compact,
    "audit": Swarm._audit,
    "policy": Swarm._policy,
}


# -- running


class Warnings(logging.Handler):
    """Keeps what is logged at warning level or above."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())

    def unexpected(self, expected: Sequence[str]) -> list[str]:
        return [text for text in self.messages if not any(event in text for event in expected)]


@contextmanager
def _reproducible(seed: int) -> Iterator[None]:
    """Let trio run what is ready in an order that the seed gives."""
    before = scheduler._ALLOW_DETERMINISTIC_SCHEDULING
    scheduler._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]
    state = scheduler._r.getstate()
    scheduler._r.seed(seed)
    try:
        yield
    finally:
        scheduler._ALLOW_DETERMINISTIC_SCHEDULING = before  # type: ignore[misc]
        scheduler._r.setstate(state)


def run(script: Script) -> Swarm:
    """One run. AssertionError, or what broke, with the trace as a note."""
    swarm = Swarm(script)
    warnings = Warnings()
    logging.getLogger().addHandler(warnings)
    try:
        with _reproducible(script.seed):
            trio.run(swarm.run, clock=trio.testing.MockClock(autojump_threshold=0))
        expected = (*EXPECTED, *EXPECTED_OF_BACKUPS) if swarm.restored else EXPECTED
        unexpected = warnings.unexpected(expected)
        assert not unexpected, f"unexpected warnings: {unexpected}"
    except BaseException as error:
        error.add_note(f"{script}\n" + "\n".join([*swarm.trace, *warnings.messages]))
        raise
    finally:
        logging.getLogger().removeHandler(warnings)
        swarm.ledger.close()
    return swarm


def suited(script: Script, fault: str | None) -> Script:
    """The script with what it takes to meet a fault."""
    misfortunes = FAULTS[fault][2] if fault is not None else ()
    if not misfortunes:
        return script
    return dataclasses.replace(script, events=20, steps=40, misfortunes=misfortunes, readers=0)


def finds(fault: str, *, first: int) -> int | None:
    """How many seeds it takes to find a planted fault; None: not within those it is allowed."""
    for number in range(FAULTS[fault][1]):
        try:
            with planted(fault):
                run(suited(Script.of(first + number), fault))
        except Exception:  # noqa: BLE001 - whatever breaks shows the fault
            return number + 1
    return None


def shortened(script: Script) -> Script:
    """A script of the same seed with fewer steps and misfortunes that fails too."""
    for steps, events in itertools.product((3, 6, 10, 15, 25), (0, 3, 6, 12)):
        if steps <= script.steps and events <= script.events:
            shorter = dataclasses.replace(script, steps=steps, events=events)
            try:
                run(shorter)
            except Exception:  # noqa: BLE001 - that is what is looked for
                return shorter
    return script


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.swarm")
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--replicas", type=int)
    parser.add_argument("--fault", choices=sorted(FAULTS))
    parser.add_argument("--keep-going", action="store_true", help="tell of all seeds that fail")
    chosen = parser.parse_args(arguments)
    if os.environ.get("PYTHONHASHSEED") != "0":  # the order of sets is part of a run
        os.execve(
            sys.executable,
            [sys.executable, "-m", "tests.simulation.swarm", *(arguments or sys.argv[1:])],
            {**os.environ, "PYTHONHASHSEED": "0"},
        )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["event"]),
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    logging.lastResort = None
    begun, failed = time.monotonic(), 0
    for seed in range(chosen.seed, chosen.seed + chosen.count):
        script = suited(Script.of(seed, chosen.replicas), chosen.fault)
        try:
            with planted(chosen.fault):
                run(script)
        except Exception as error:  # noqa: BLE001 - it is told, and the next seed runs
            failed += 1
            if not chosen.keep_going:
                leaf = _first(error)
                print("\n".join(getattr(error, "__notes__", [])))
                traceback.print_exception(leaf)
                print(f"seed {seed} fails; a shorter script that does: {shortened(script)}")
                return 1
            print(f"seed {seed}: {_first(error)!r:.300}", flush=True)
    took = time.monotonic() - begun
    print(f"{chosen.count} runs, {failed} failed, {took:.0f} s")
    return bool(failed)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _leaves(one)
    elif not isinstance(error, trio.Cancelled):
        yield error


def _first(error: BaseException) -> BaseException:
    """The innermost of grouped errors that says most."""
    return min(_leaves(error), key=lambda one: not isinstance(one, AssertionError), default=error)


if __name__ == "__main__":
    sys.exit(main())
