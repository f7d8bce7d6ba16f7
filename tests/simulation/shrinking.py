"""Finds which part of a failing script is enough to fail (delta debugging)."""

from collections.abc import Callable, Sequence
from typing import TypeVar

Step = TypeVar("Step")
TRIES_MAX = 400


def shrunken(
    steps: Sequence[Step], fails: Callable[[Sequence[Step]], bool], *, tries: int = TRIES_MAX
) -> list[Step]:
    """A part of `steps`, in their order, that fails too; no single step can be left out of it.

    After so many `tries` what has been found until then is returned. `steps` itself is taken to fail.
    """
    kept = list(steps)
    size = len(kept) // 2
    while size and tries > 0:
        has_shrunk = False
        at = 0
        while at < len(kept) and tries > 0:
            without = kept[:at] + kept[at + size :]
            tries -= 1
            if fails(without):
                kept, has_shrunk = without, True
            else:
                at += size
        if size > 1 or not has_shrunk:
            size //= 2
    return kept
