"""What happens in one run of a swarm, as data: who does what, and how long after what he did before.

Every step draws what it does from the seed and its own number. So a script with steps left out is the same
script otherwise, and of one that fails the steps that it takes can be found.
"""

import dataclasses
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tests.simulation.programs import OPERATIONS

WORLD: Final = -1
"""In place of a device: the step is a misfortune."""
MANY: Final = 8
MISFORTUNES: Final = (
    "alone",
    "audit",
    "back up",
    "compact",
    "cut",
    "disk errors",
    "full disk",
    "jump",
    "kill",
    "months",
    "part",
    "policy",
    "power cut",
    "restart",
    "restore",
    "retire",
)
COLLECTING: Final = 0.8
"""Of the runs: devices forget the past and collect garbage, without grace, while all else goes on."""
REMOVING: Final = 0.3
"""Of the runs with three devices or more: an owner removes one that is out of reach."""

EVICTING: Final = 0.4
"""Of the runs: devices let contents go that others have, several at once, while all else goes on."""
LOSSES: Final = (*["evict"] * 6, "kill", "power cut", "lose", "remove")
"""Of the runs about what is let go: several devices at once, and what could take the last copy."""

PROVERS: Final = (*["evict"] * 3, "lose a prover", "kill")
"""Of half of these runs: whoever has just proven something is lost, while who lets it go can know that."""


@dataclass(frozen=True, slots=True)
class Step:
    """One operation of a user, or one misfortune, so long after the one before it on the same list."""

    number: int
    device: int
    after_s: float
    what: str

    def __str__(self) -> str:
        whom = f"device {self.device}: " if self.device != WORLD else ""
        return f"{self.number:4} after {self.after_s:6.3f} s  {whom}{self.what}"


@dataclass(frozen=True, slots=True)
class Script:
    """See the module. `of` draws one from a seed."""

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
    only: tuple[int, ...] | None = None
    """The numbers of the steps that are done; None: all."""

    @classmethod
    def of(cls, seed: int, replicas: int | None = None) -> "Script":
        """Two to four devices mostly, of 50 runs one with 8 to 32."""
        chance = random.Random(f"script {seed}")
        is_big = chance.random() < 0.02
        count = replicas or (
            chance.choice((8, 8, 8, 12, 16, 32)) if is_big else chance.choice((2, 3, 3, 3, 4))
        )
        misfortunes = tuple(sorted(chance.sample(MISFORTUNES, chance.randint(2, len(MISFORTUNES)))))
        if random.Random(f"collecting {seed}").random() < COLLECTING:
            misfortunes = (*misfortunes, "collect", "collect")
        if random.Random(f"removing {seed}").random() < REMOVING and count > 2:
            misfortunes = (*misfortunes, "remove")
        is_evicting = random.Random(f"evicting {seed}").random() < EVICTING
        if is_evicting and "remove" not in misfortunes:  # what a removed device had proven counts no more
            misfortunes = (*misfortunes, "evict", "evict", "evict")
        steps, events = chance.choice((15, 25, 40)), chance.choice((0, 6, 12, 20))
        topology = chance.choice(("row", "ring", "star", "full", "full"))
        late = chance.choice((0, 0, 1)) if count > 2 else 0
        if count >= MANY:
            steps, late = 64 // count + 2, chance.choice((1, 2, 3))
            topology = chance.choice(("row", "ring", "star"))
        # What a reader joins into a fresh epoch nobody takes from it: it would never be in step.
        readers = chance.choice((0, 1)) if count > 3 and "compact" not in misfortunes else 0
        copies = chance.choice(("all", "on-demand", "2", "2"))
        return cls(seed, count, steps, events, topology, misfortunes, late, readers, copies)

    @classmethod
    def of_losses(cls, seed: int, replicas: int | None = None) -> "Script":
        """Devices that let contents go, while processes die, disks are lost and one is removed."""
        chance = random.Random(f"losses {seed}")
        count = replicas or chance.choice((3, 4, 4))
        topology, copies = chance.choice(("ring", "full", "full")), chance.choice(("on-demand", "2", "2"))
        misfortunes = LOSSES if random.Random(f"provers {seed}").random() < 0.5 else PROVERS
        return cls(seed, count, 25, 24, topology, misfortunes, copies=copies)

    def plan(self) -> tuple[list[list[Step]], list[Step]]:
        """All steps: those of the users of each device, and the misfortunes."""
        number = 0
        users: list[list[Step]] = []
        for device in range(self.replicas):
            chance = random.Random(f"users {self.seed} {device}")
            users.append([])
            for _ in range(self.steps):
                what = chance.choice(OPERATIONS).__name__
                users[-1].append(Step(number, device, chance.expovariate(2.0), what))
                number += 1
        chance = random.Random(f"misfortunes {self.seed}")
        world: list[Step] = []
        for _ in range(self.late):
            world.append(Step(number, WORLD, chance.uniform(1.0, 5.0), "join"))
            number += 1
        for _ in range(self.events if self.misfortunes else 0):
            world.append(Step(number, WORLD, chance.expovariate(0.8), chance.choice(self.misfortunes)))
            number += 1
        return users, world

    def numbers(self) -> list[int]:
        """Of the steps that are done. Who joins late does so in any case."""
        users, world = self.plan()
        every = [step for steps in (*users, world) for step in steps if step.what != "join"]
        return [step.number for step in every if self.has(step)]

    def has(self, step: Step) -> bool:
        """Whether the step is done."""
        return self.only is None or step.what == "join" or step.number in self.only

    def chance(self, step: Step) -> random.Random:
        """What the step draws from."""
        return random.Random(f"{self.seed} {step.number}")

    def part(self, numbers: Sequence[int]) -> "Script":
        """The same with these steps only."""
        return dataclasses.replace(self, only=tuple(numbers))

    def __str__(self) -> str:
        """The script as one reads it: what is done, in the order of the numbers."""
        users, world = self.plan()
        head = f"seed {self.seed}: {self.replicas} devices, {self.late} of them late, {self.topology}"
        head += f", copies {self.copies}"
        steps = [str(step) for some in (*users, world) for step in some if self.has(step)]
        return "\n".join([head, *steps])
