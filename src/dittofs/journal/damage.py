"""What the journal found to be wrong with its own bytes."""

from dataclasses import dataclass

from dittofs.errors import Damaged


class ShardDamaged(Damaged):
    """The stored state of one shard cannot be trusted. It stays as it lies until it is set aside."""

    def __init__(self, shard: int, what: str, detail: str, *, is_tail: bool = False) -> None:
        super().__init__(what, detail)
        self.shard = shard
        self.is_tail = is_tail
        """Only rows at the end of its log are lost: what is before them holds."""


class IndexDamaged(Damaged):
    """The persisted index cannot be trusted; nothing else is affected.

    Clear it and rebuild it from the shards.
    """


@dataclass(frozen=True, slots=True)
class Damage:
    """One damaged thing: `what` names it, `detail` says what is wrong and what became of it."""

    what: str
    detail: str
    shard: int | None = None
    """The shard whose stored state it is part of."""
    is_past: bool = False
    """It was set aside earlier."""
