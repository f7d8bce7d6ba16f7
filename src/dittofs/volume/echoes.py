"""What other devices did, as calls that programs here could have made: for those that watch a directory."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from dittofs.ids import InodeId, Number, number_of
from dittofs.tree.entry import Effect
from dittofs.tree.record import Kind
from dittofs.volume.events import PastName, made_of, name_of, whole_of
from dittofs.volume.inodes import Inode
from dittofs.volume.state import State


class Deed(Enum):
    """In the order in which the deeds of one change are told, so that every name is free when it is taken."""

    REMOVE = 1
    MOVE = 2
    MAKE = 3
    WRITE = 4
    TOUCH = 5


@dataclass(frozen=True, slots=True)
class Place:
    """A name in a directory, by the directory's number and by its path below the root, with a slash."""

    directory: Number
    above: bytes
    name: bytes


@dataclass(frozen=True, slots=True)
class Echo:
    """One thing that happened to a name."""

    deed: Deed
    place: Place
    kind: Kind
    number: Number
    """Of what the name shows, or showed."""
    source: Place | None = None
    """Of a MOVE: the name before."""


_DEEDS: Final = {
    "content": Deed.WRITE,
    "mode": Deed.TOUCH,
    "owner": Deed.TOUCH,
    "mtime": Deed.TOUCH,
    "xattr": Deed.TOUCH,
}


class Reading:
    """What happened by one change in directories, and to files, with a number in `watched`; each thing once.

    The tree has changed, now or a moment ago. Conflict entries are not told of.
    """

    def __init__(self, state: State, watched: frozenset[int]) -> None:
        self._reader = _Reader(state, watched)
        self._found: dict[Echo, None] = {}

    def take(self, effects: Iterable[Effect]) -> None:
        """Read some of the change."""
        for effect in effects:
            self._found.update(dict.fromkeys(self._reader.echoes(effect)))

    def told(self) -> list[Echo]:
        """All of it, in the order in which it can be told."""
        taken = {echo.place for echo in self._found if echo.deed is Deed.MOVE}
        told = [one for one in self._found if not (one.deed is Deed.REMOVE and one.place in taken)]
        return sorted(told, key=_turn)


def _turn(echo: Echo) -> tuple[int, int]:
    """What is below goes before what is above it, and comes after it."""
    depth = echo.place.above.count(b"/")
    return echo.deed.value, -depth if echo.deed is Deed.REMOVE else depth


class _Reader:
    """The effects of one change, read with the tree that it left."""

    def __init__(self, state: State, watched: frozenset[int]) -> None:
        self._state = state
        self._watched = watched
        self._directories: dict[InodeId, Place | None] = {}
        inodes = [state.inodes.get(Number(number)) for number in watched]
        self._are_directories_watched = any(one is None or one.kind is Kind.DIRECTORY for one in inodes)

    def echoes(self, effect: Effect) -> Iterator[Echo]:
        match effect.kind:
            case "create":
                kind, name = made_of(effect.after)
                yield from self._renamed(effect.inode, kind, None, name)
            case "remove":
                past = whole_of(effect.before)
                for one in past.names.values():
                    yield from self._renamed(effect.inode, past.kind, one, None)
            case "name":
                shown = self._state.replica.tree.stat((effect.inode, None))
                if shown is not None:
                    before, after = name_of(effect.before), name_of(effect.after)
                    yield from self._renamed(effect.inode, shown.kind, before, after)
            case other if other in _DEEDS:
                yield from self._changed(effect.inode, _DEEDS[other])

    def _renamed(
        self, inode: InodeId, kind: Kind, before: PastName | None, after: PastName | None
    ) -> Iterator[Echo]:
        old = self._place(before)
        new = self._place(after)
        number = self._number(inode)
        if old is not None and new is not None:
            yield Echo(Deed.MOVE, new, kind, number, old)
        elif old is not None:
            yield Echo(Deed.REMOVE, old, kind, number)
        elif new is not None:
            yield Echo(Deed.MAKE, new, kind, number)

    def _changed(self, inode: InodeId, deed: Deed) -> Iterator[Echo]:
        tree, known = self._state.replica.tree, self._state.inodes.of_id(inode)
        is_watched = any(one.number in self._watched for one in known)
        if not (is_watched or self._are_directories_watched) or any(one.writers for one in known):
            return  # who writes goes on with the version he opened
        found = [
            self._place_in(above, entry.name, is_needed=is_watched)
            for above, entry in tree.names(inode)
            if entry.dot is None
        ]
        places = [place for place in found if place is not None]
        shown = tree.stat((inode, None)) if places else None
        if shown is not None:
            deed = Deed.TOUCH if shown.kind is not Kind.FILE else deed
            yield from (Echo(deed, place, shown.kind, shown.number) for place in places)

    def _number(self, inode: InodeId) -> Number:
        shown = self._state.replica.tree.stat((inode, None))
        return number_of(inode) if shown is None else shown.number

    def _place(self, name: PastName | None) -> Place | None:
        if name is None or not name.is_plain:
            return None
        return self._place_in(name.parent, name.name)

    def _place_in(self, directory: InodeId, name: bytes, *, is_needed: bool = False) -> Place | None:
        """None: nobody watches it."""
        if directory not in self._directories:
            self._directories[directory] = self._directory(directory)
        found = self._directories[directory]
        if found is None or (found.directory not in self._watched and not is_needed):
            return None
        return replace(found, name=name)

    def _directory(self, directory: InodeId) -> Place | None:
        state = self._state
        members = {directory, *state.replica.tree.members(directory)}
        known: list[Inode] = [one for member in members for one in state.inodes.of_id(member)]
        for inode in known:
            if inode.lookups and inode.detached is None:
                return Place(inode.number, state.path(inode.id), b"")
        return None
