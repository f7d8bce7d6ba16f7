"""Directories that two devices moved below each other: where the victim is shown instead.

Of each cycle of parents the victim is the latest move. It goes back to where it was before if that reaches
the root without touching a cycle, otherwise to lost+found. Pure: a function of the places alone.
"""

from collections.abc import Callable, Iterable

from dittofs.ids import LOST_FOUND, InodeId
from dittofs.tree.record import Place
from dittofs.tree.rules import is_root

PlaceOf = Callable[[InodeId], Place | None]
"""The place of a directory; None if it is the root, lost+found, or not known as a directory."""


def displaced(candidates: Iterable[InodeId], place_of: PlaceOf) -> dict[InodeId, tuple[InodeId, bytes]]:
    """Victim -> (parent, name) where it is shown, for every cycle that a candidate is part of."""
    victims = {
        victim_of(cycle, place_of) for cycle in (_cycle(start, place_of) for start in candidates) if cycle
    }
    shown = {}
    for victim in victims:
        place = place_of(victim)
        assert place is not None
        if place.before is not None and _reaches_root(place.before[0], place_of):
            shown[victim] = place.before
        else:
            shown[victim] = (LOST_FOUND, place.name)
    return shown


def victim_of(cycle: Iterable[InodeId], place_of: PlaceOf) -> InodeId:
    """The directory of the latest move."""

    def order(inode: InodeId) -> tuple[tuple[int, str, int], InodeId]:
        place = place_of(inode)
        assert place is not None
        return (place.order, inode)

    return max(cycle, key=order)


def _cycle(start: InodeId, place_of: PlaceOf) -> list[InodeId]:
    """The cycle that `start` is part of; empty if it is part of none."""
    cycle = [start]
    seen = {start}
    at = start
    while (place := place_of(at)) is not None:
        at = place.parent
        if at == start:
            return cycle
        if at in seen:
            return []
        seen.add(at)
        cycle.append(at)
    return []


def _reaches_root(start: InodeId, place_of: PlaceOf) -> bool:
    seen = set()
    at = start
    while not is_root(at):
        place = place_of(at)
        if place is None or at in seen:
            return False
        seen.add(at)
        at = place.parent
    return True
