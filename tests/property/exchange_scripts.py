"""What a history of whole replicas is made of, as data: `exchange_histories` runs it."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

FIRST = 6
"""Operations of the first replica before anybody else has anything."""


@dataclass(frozen=True, slots=True)
class Script:
    """What one history is made of."""

    seed: int
    replicas: int = 3
    steps: int = 40
    forks: bool = False
    only: tuple[int, ...] | None = None
    """The numbers of the steps that are done; None: all."""

    @classmethod
    def mixed(cls, seed: int) -> "Script":
        """Two to four replicas and 40 steps mostly; some of 150 steps, some with copies, some of many."""
        chance = random.Random(f"mixed {seed}")
        share = chance.random()
        if share < 0.01:
            return cls(seed, chance.choice((8, 8, 8, 12, 16, 32)))
        replicas = chance.choice((2, 3, 3, 4))
        if share < 0.13:
            return cls(seed, min(replicas, 3), forks=True)
        return cls(seed, replicas, steps=150 if share < 0.2 else 40)

    def numbers(self) -> Sequence[int]:
        """The steps in their order."""
        return range(FIRST + self.steps) if self.only is None else self.only
