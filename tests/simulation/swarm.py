"""Several whole devices in one run of trio, with the time, disks and network that a seed gives them.

Users work on all of them while processes die, machines lose power, links break and clocks jump. In the end
everybody meets, and what was promised is checked. Same seed, same run.

    sh packaging/dev simulate --seeds 500 [--seed 1] [--level stack]
"""

import itertools
import logging
import random
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Final

import trio
import trio.testing
from blake3 import blake3

from dittofs.errors import DiskError, DiskFull, ReadOnlyVolume
from dittofs.replication.policy import Policy
from dittofs.shared_volume import keys_of
from dittofs.tree.record import Ref
from tests.simulation.device import Family, SwarmDevice
from tests.simulation.disk import SimulatedDisk
from tests.simulation.ledger import Ledger
from tests.simulation.network import Network, Weather
from tests.simulation.programs import Planned, Programs
from tests.simulation.reproducible import reproducible
from tests.simulation.swarm_checks import (
    Groups,
    check_alike,
    check_custody,
    check_kept,
    check_readable,
    check_recovered,
    watch_acknowledgements,
    watch_holds,
    watch_publications,
)
from tests.simulation.swarm_losses import lose, lose_a_prover, watch_letting_go
from tests.simulation.swarm_misfortunes import CAUSES, attend, until
from tests.simulation.swarm_removal import (
    Removal,
    check_removed,
    forget_what_it_wrote,
    remove,
    take_out_all,
)
from tests.simulation.swarm_script import Script

MEET_S: Final = 600.0
"""What everybody may take to have the same, once the network is whole."""
WORK_S: Final = 300.0
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
EXPECTED_OF_DISKS: Final = (
    "no room left",
    "the disk has failed",
    "an earlier sync",
    "volume turned read-only",
    "the journal cannot be written",
    "a sync failed",
    "a sync of the journal failed",
    "publication failed",
)
"""What warnings say that full disks explain, and those with errors. None of them says that it is a bug."""
EVERY_CAUSE: Final = {**CAUSES, "lose": lose, "lose a prover": lose_a_prover, "remove": remove}
OF_REMOVED: Final = ("kill", "power cut", "restart", "jump")
"""What else may happen to a device that was removed."""


class Swarm:
    """One run."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.chance = random.Random(f"swarm {script.seed}")
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
        users, self._world = script.plan()
        for programs, steps in zip(self.programs, users, strict=True):
            programs.others = lambda: self.devices
            programs.plan = [
                Planned(one.number, one.after_s, one.what, script.chance(one) if script.has(one) else None)
                for one in steps
            ]
        self.backups: list[tuple[int, float, SimulatedDisk]] = []
        self.restored: set[int] = set()
        self.retired: set[SwarmDevice] = set()
        self.removed: dict[SwarmDevice, Removal] = {}
        self.doomed: random.Random | None = None
        """Who proves something next loses its disk, as this says."""
        self.is_meeting = False
        self._is_over = False
        self._joined = known
        self.nursery: trio.Nursery

    @property
    def present(self) -> list[SwarmDevice]:
        """All devices but those that went for good, or were removed."""
        return [one for one in self.devices if one not in self.retired and one not in self.removed]

    def note(self, what: str) -> None:
        self.trace.append(f"{trio.current_time():9.4f} {what}")

    def digest(self) -> str:
        """Of everything that happened, and of all that every disk was told to do."""
        disks = [event for device in self.devices for event in device.disk.trace]
        return blake3("\n".join([*self.trace, *disks]).encode()).hexdigest()

    # -- the run

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            self.nursery = nursery
            for number in range(self._joined):
                nursery.start_soon(self._life, number)
            nursery.start_soon(self._connect)
            nursery.start_soon(self._misfortune)
            nursery.start_soon(attend, self)
            if self.script.copies != "2":
                await trio.sleep(0.1)
                with suppress(DiskError, DiskFull, ReadOnlyVolume):
                    self.devices[0].shared.ruling.set_all(Policy.parse(self.script.copies))
            await self._work()
            await self._meet()
            nursery.cancel_scope.cancel()

    async def _life(self, number: int) -> None:
        """A device: one process after the other."""
        device = self.devices[number]
        while True:
            self.note(f"{number} starts")
            device.known = max(device.known, self._joined)
            await device.live(self.programs[number].run)
            self.note(f"{number} has ended")
            if self._is_over or device in self.retired:
                return
            await until(lambda: not device.is_away or self.is_meeting)
            if not self.is_meeting:
                await trio.sleep(device.chance.choice((0.1, 1.0, 10.0)))

    async def _work(self) -> None:
        with trio.move_on_after(WORK_S):
            await until(lambda: all(one.is_over for one in self.programs[: self._joined]))
        await until(lambda: self._joined == len(self.devices))

    def _watch(self, device: SwarmDevice) -> None:
        check_recovered(device, self.programs[device.number], self.ledger)
        self.groups.follow(device)
        watch_acknowledgements(device, self.looks)
        watch_holds(device, self.looks)
        watch_publications(device, self.looks)
        watch_letting_go(self, device)

    # -- who talks with whom

    def _edges(self) -> Iterator[tuple[SwarmDevice, SwarmDevice]]:
        """Who is to have a session with whom. In the end everybody with everybody."""
        up = self.devices[: self._joined]
        count = len(up)
        topology = self.script.topology
        if self.is_meeting:
            up = self.present
            count = len(up)
            topology = "full"
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

    async def _misfortune(self) -> None:
        for step in self._world:
            await trio.sleep(step.after_s)
            if step.what == "join":
                self._join()
                continue
            if self.is_meeting:
                return
            if self.script.has(step):
                chance = self.script.chance(step)
                device = chance.choice(self.devices[: self._joined])
                if device in self.retired or (device in self.removed and step.what not in OF_REMOVED):
                    continue
                self.note(f"{step.what} {device.number}")
                EVERY_CAUSE[step.what](self, device, chance)

    def _join(self) -> None:
        """An owner grants the next device its role; it has the records as pairing gives them."""
        owner, number = self.devices[0], self._joined
        if owner.is_up and not owner.is_dead:
            owner.shared.members.add(self.family.records[number])
        self._joined = number + 1
        owner.known = max(owner.known, self._joined)
        self.note(f"{number} joins")
        self.nursery.start_soon(self._life, number)

    # -- the end

    async def _meet(self) -> None:
        """The network is whole, everybody is there: all come to the same within MEET_S."""
        self.is_meeting = True
        self.network.heal_all(but=[device.device.id for device in self.removed])
        self.note("all meet")
        devices = self.present
        for device in devices:
            device.calm()
        with trio.move_on_after(MEET_S):
            await until(lambda: all(device.is_up for device in devices))
            for one in self.programs:
                if one.device in devices:
                    await one.finish()
            await take_out_all(self)
            await until(self._is_settled, 1.0)
        self.note(f"all have met: {self._unsettled()}")
        assert self._is_settled(), f"devices do not come to the same: {self._unsettled()}"
        check_alike(devices)
        forget_what_it_wrote(self)
        check_kept(devices, self.ledger)
        for device in devices:
            check_custody(device, devices, self.chance)
            await check_readable(device, self.ledger)
        self.network.heal_all()
        await check_removed(self)
        self._is_over = True
        for device in (*devices, *self.removed):
            await device.leave()

    def _lost_bases(self, device: SwarmDevice) -> set[Ref]:
        """Files that wait for chunks which went for good, with a backup put back or a device that left.

        What they hold stays on that device, and no other sees it.
        """
        together = Ledger(self.ledger.keys)
        try:
            for other in self.present:
                together.gather(other.volume.replica.chunks)
            waiting = {ref: device.volume.state.contents.peek(ref) for ref in device.volume.publisher.waiting}
            lost: set[Ref] = set()
            for ref, content in waiting.items():
                if content is not None and not together.has(content.published.root, content.published.size):
                    lost.add(ref)
                    self.ledger.stays_apart(self.programs[device.number].bytes_of(content.top))
            return lost
        finally:
            together.close()

    def _is_settled(self) -> bool:
        return not self._unsettled()

    def _unsettled(self) -> str:
        devices = self.present
        if not all(device.is_up for device in devices):
            return "not all are up"
        digests = {device.volume.replica.root_digest() for device in devices}
        reasons = ["states differ"] if len(digests) > 1 else []
        for device in devices:
            publisher = device.volume.publisher
            if not publisher.is_idle:
                reasons.append(f"{device.number} publishes ({publisher.problem})")
            may_lack = bool(self.restored or self.retired or self.removed)
            lost = self._lost_bases(device) if publisher.waiting and may_lack else set()
            if publisher.waiting.keys() - lost or publisher.stuck:
                reasons.append(f"{device.number} waits ({publisher.waiting}, {publisher.stuck})")
            if device.peers.custody.is_counting:
                reasons.append(f"{device.number} counts")
        for device, other in self._edges():
            if not device.is_connected(other):
                reasons.append(f"{device.number} has no session with {other.number}")
        return ", ".join(reasons)


# -- running


class Warnings(logging.Handler):
    """Keeps what is logged at warning level or above."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())

    def unexpected(self, expected: Sequence[str]) -> list[str]:
        return [
            text
            for text in self.messages
            if "by a bug" in text or "exception=" in text or not any(event in text for event in expected)
        ]


def run(script: Script) -> Swarm:
    """One run. AssertionError, or what broke, with the trace as a note."""
    with reproducible(script.seed):
        return _run(script)


def _run(script: Script) -> Swarm:
    swarm = Swarm(script)
    warnings = Warnings()
    logging.getLogger().addHandler(warnings)
    try:
        trio.run(swarm.run, clock=trio.testing.MockClock(autojump_threshold=0))
        expected = [*EXPECTED, *(EXPECTED_OF_BACKUPS if swarm.restored else ())]
        if {"full disk", "disk errors"} & {*script.misfortunes}:
            expected += EXPECTED_OF_DISKS
        unexpected = warnings.unexpected(expected)
        assert not unexpected, f"unexpected warnings: {unexpected}"
    except BaseException as error:
        error.add_note("\n".join([*swarm.trace, *warnings.messages]))
        raise
    finally:
        logging.getLogger().removeHandler(warnings)
        swarm.ledger.close()
    return swarm
