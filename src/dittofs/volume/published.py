"""The version that an edit starts from."""

from dataclasses import dataclass

from dittofs.ids import Stamp
from dittofs.tree.record import Dot


@dataclass(frozen=True, slots=True)
class Published:
    """The version a content starts from: what was shown when its writer opened the file."""

    root: bytes
    size: int
    replaces: tuple[Dot, ...]
    rank: Stamp | None = None
    """The rank to inherit: set for an edit of a conflict entry."""
    point_over: tuple[bytes, ...] | None = None
    """Set if this is no version of the history but a publication point of a file that its writer has had
    open since: the version nodes of what it replaced. Forgotten with the process, so that nothing is taken
    for a point that was not.
    """


UNBORN = Published(b"", 0, ())
"""Where a file begins that has no version."""
