"""What the journal found to be wrong with its own bytes."""

from dataclasses import dataclass

from dittofs.errors import Damaged


class IndexDamaged(Damaged):
    """The persisted index cannot be trusted; nothing else is affected.

    Clear it and rebuild it from the shards.
    """


@dataclass(frozen=True, slots=True)
class Damage:
    """One damaged thing: `what` names it, `detail` says what is wrong and what became of it."""

    what: str
    detail: str
