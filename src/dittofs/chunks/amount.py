"""How much of a store something is."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Amount:
    """So many chunks, and their bytes in packs."""

    chunks: int = 0
    bytes: int = 0
