"""Patterns in gitignore syntax, compiled; and which of them nobody's rules may hold.

They come from other devices too, and are matched on the event loop by an engine that goes back and tries
again: its work grows with the length of the path to the power of the stars.
"""

import re
import warnings
from collections.abc import Iterable
from typing import Final

import pathspec

STARS_MAX: Final = 3
"""In one pattern, `**` for one: 30 ms for the longest name that could be."""
DEPTHS_MAX: Final = 2
"""Of those that are `**`."""


def check(pattern: str) -> None:
    """ValueError for what is no pattern, or could take seconds to match."""
    stars = [len(found) for found in re.findall(r"\*+", pattern.replace("\\*", ""))]
    if len(stars) > STARS_MAX:
        raise ValueError(f"more than {STARS_MAX} stars take too long to match")
    if sum(length > 1 for length in stars) > DEPTHS_MAX:
        raise ValueError(f"more than {DEPTHS_MAX} times ** takes too long to match")
    compiled([pattern])


def compiled(lines: Iterable[str]) -> pathspec.GitIgnoreSpec:
    """All of them as one. ValueError."""
    with warnings.catch_warnings():
        # `[[]` is a class in gitignore; in a regular expression it may come to mean something else some day.
        warnings.simplefilter("ignore", FutureWarning)
        return pathspec.GitIgnoreSpec.from_lines(lines)
