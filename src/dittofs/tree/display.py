"""What programs see, read from the index: directories, entries, attributes. Costs grow with depth at most.

The listing of a directory with conflicts is worked out when somebody asks for a conflicting name, and kept
until that directory changes.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from dittofs.ids import LOST_FOUND, ROOT, InodeId, Slot
from dittofs.tree.entry import Entry
from dittofs.tree.naming import MARK, Aside, Claimant, Shown, name_asides, ordinal_of, show
from dittofs.tree.placement import CONFLICTS, DIRECTORY, Placement
from dittofs.tree.record import Dot, Kind, split_key
from dittofs.tree.rows import Bounded, Held, Rows
from dittofs.tree.rules import LOST_FOUND_NAME, Name, is_root

CONFLICT_MAPS_CACHED_MAX = 64
GROUPS_CACHED_MAX = 4_096


@dataclass(frozen=True, slots=True)
class Conflicts:
    """The names of a directory that show more or other than one claim, worked out."""

    plain: Mapping[bytes, Shown]
    asides: Mapping[bytes, tuple[bytes, Aside]]
    """Shown name -> (the name it stands beside, the thing)."""
    names: Mapping[tuple[InodeId, str, Dot | None], bytes]
    """The reverse, by inode, link and dot."""


class Display:
    """Answers questions about the visible tree."""

    def __init__(
        self,
        rows: Rows,
        placement: Placement,
        device_label: Callable[[Slot], str],
    ) -> None:
        self._rows = rows
        self._placement = placement
        self._label = device_label
        self._conflicts: Bounded[tuple[InodeId, ...], Conflicts] = Bounded(CONFLICT_MAPS_CACHED_MAX)
        self._groups: Bounded[InodeId, tuple[InodeId, ...]] = Bounded(GROUPS_CACHED_MAX)
        self._generation = -1
        placement.changed_names = self._name_changed

    def label(self, slot: Slot) -> str:
        """What the device of a writer is called."""
        return self._label(slot)

    def forget(self) -> None:
        """Drop what is cached."""
        self._conflicts.clear()
        self._groups.clear()
        self._generation = -1

    def _name_changed(self, parent: InodeId, name: bytes) -> None:
        # Of a merged directory a name can show more than one claim without being special in any member.
        if MARK in name or self._rows.directory(parent).special or not self._is_plain:
            self._conflicts.clear()
        else:
            self._conflicts.discard((parent,))  # its last special name may have ceased to be one just now

    def _fresh(self) -> None:
        if self._generation != self._placement.generation:
            self._groups.clear()
            self._conflicts.clear()
            self._generation = self._placement.generation

    # -- directories

    @property
    def _is_plain(self) -> bool:
        """Whether no two directories are shown as one, and nothing is in lost+found."""
        totals = self._rows.totals
        return not (totals.merged or totals.unknown or self._rows.directory(LOST_FOUND).live)

    def members(self, directory: InodeId) -> tuple[InodeId, ...]:
        """The directories shown as one with `directory`, the smallest id first; empty if it is not shown."""
        if self._is_plain:
            is_there = directory != LOST_FOUND and self._placement.is_shown(directory)
            return (directory,) if is_there else ()
        self._fresh()
        below: list[InodeId] = []
        group: tuple[InodeId, ...] | None = None
        at = directory
        while group is None:
            group = (ROOT,) if at == ROOT else self._groups.get(at)
            if group is None:
                if not self._placement.is_shown(at):
                    return ()
                below.append(at)
                at = self._above(at)
        for inode in reversed(below):
            group = self._members_named(group, self.name_of(inode))
            self._groups.put(inode, group)
        return group

    def _above(self, directory: InodeId) -> InodeId:
        """The directory whose entry shows `directory`, one of its members."""
        if is_root(directory):
            return ROOT
        place = self._placement.place_of(directory)
        assert place is not None
        if is_root(place[0]) or self._is_known(place[0]):
            return place[0]
        return LOST_FOUND

    def _is_known(self, inode: InodeId) -> bool:
        record = self._rows.inode(inode).record
        return record is not None and record.kind is Kind.DIRECTORY

    def name_of(self, directory: InodeId) -> bytes:
        """The name a shown directory claims."""
        if directory == LOST_FOUND:
            return LOST_FOUND_NAME
        place = self._placement.place_of(directory)
        return b"" if place is None else place[1]

    def _members_named(self, group: Sequence[InodeId], name: bytes) -> tuple[InodeId, ...]:
        found = [
            InodeId(held.key)
            for parent in self.sources(group)
            for held in self._rows.claims(parent, name)
            if held.flag == DIRECTORY
        ]
        if name == LOST_FOUND_NAME and ROOT in group and self.is_lost_found_shown():
            found.append(LOST_FOUND)
        return tuple(sorted(found))

    def sources(self, group: Sequence[InodeId]) -> Sequence[InodeId]:
        """The parents whose claims are shown in the directory of these members."""
        if LOST_FOUND in group and self._rows.totals.unknown:
            return [*group, *self._rows.unknown_parents()]
        return group

    def is_lost_found_shown(self) -> bool:
        """Whether lost+found holds something."""
        return bool(self._rows.totals.unknown or self._rows.directory(LOST_FOUND).live)

    def parent(self, directory: InodeId) -> InodeId:
        """The smallest member of the directory that shows `directory`; the root's is the root."""
        if directory == ROOT:
            return ROOT
        above = self.members(self._above(directory)) if self._placement.is_shown(directory) else ()
        return above[0] if above else ROOT

    def depth(self, directory: InodeId) -> int:
        """How many directories lie above a shown directory."""
        depth = 0
        while directory != ROOT:
            directory = self._above(directory)
            depth += 1
        return depth

    # -- entries

    def claims(self, group: Sequence[InodeId], name: bytes) -> list[Held]:
        """Who is shown by `name` in the directory of these members; lost+found itself is not counted."""
        sources = self.sources(group)
        if len(sources) == 1:
            return list(self._rows.claims(sources[0], name))
        return [held for parent in sources for held in self._rows.claims(parent, name)]

    def lookup(self, directory: InodeId, name: bytes) -> Entry | None:
        """The entry of a shown directory that is shown as `name`."""
        group = self.members(directory)
        return self.lookup_in(group, name) if group else None

    def lookup_in(self, group: Sequence[InodeId], name: bytes) -> Entry | None:
        """The same, for a directory whose members are known."""
        claims = self.claims(group, name)
        if name == LOST_FOUND_NAME and ROOT in group and self.is_lost_found_shown():
            claims.append(Held(DIRECTORY, LOST_FOUND))
        if len(claims) == 1 and claims[0].flag != CONFLICTS:
            return self._entry(name, claims[0])
        if claims:
            found = self._plain_entry(name, self.shown(group, name))
            if found is not None:
                return found
        if MARK in name:
            aside = self.conflicts(group).asides.get(name)
            if aside is not None:
                return _aside_entry(name, aside[1])
        return None

    def _entry(self, name: bytes, held: Held) -> Entry:
        inode, link = split_key(held.key)
        if held.flag == DIRECTORY:
            return Entry(name, Kind.DIRECTORY, inode, "", None)
        return Entry(name, self._kind(inode), inode, link, None)

    def _kind(self, inode: InodeId) -> Kind:
        record = self._rows.inode(inode).record
        assert record is not None
        return record.kind

    def _plain_entry(self, name: bytes, shown: Shown) -> Entry | None:
        if shown.directories:
            return Entry(name, Kind.DIRECTORY, shown.directories[0], "", None)
        if shown.file is not None:
            return Entry(name, shown.file.meaning.kind, shown.file.inode, shown.file.name.link, None)
        return None

    def shown(self, group: Sequence[InodeId], name: bytes) -> Shown:
        """Everything that claims `name` in the directory of these members, and who keeps it."""
        claims = self.claims(group, name)
        directories = [InodeId(held.key) for held in claims if held.flag == DIRECTORY]
        if name == LOST_FOUND_NAME and ROOT in group and self.is_lost_found_shown():
            directories.append(LOST_FOUND)
        return show(directories, [self._claimant(held) for held in claims if held.flag != DIRECTORY])

    def _claimant(self, held: Held) -> Claimant:
        inode, link = split_key(held.key)
        meaning = self._rows.inode(inode).meaning
        assert meaning is not None
        (name,) = (name for name in meaning.names if name.link == link)
        return Claimant(inode, name, meaning)

    def conflicts(self, group: tuple[InodeId, ...] | Sequence[InodeId]) -> Conflicts:
        """All names of a directory that show more or other than one claim."""
        self._fresh()
        key = tuple(group)
        found = self._conflicts.get(key)
        if found is None:
            found = self._work_out(key)
            self._conflicts.put(key, found)
        return found

    def _work_out(self, group: tuple[InodeId, ...]) -> Conflicts:
        plain = {name: self.shown(group, name) for name in self._special_names(group)}
        asides = name_asides(
            ((name, shown.asides) for name, shown in plain.items()),
            self._label,
            lambda name: self._is_taken(group, name),
        )
        names = {(aside.inode, aside.link, aside.dot): name for name, (_, aside) in asides.items()}
        return Conflicts(plain, asides, names)

    def has_special(self, group: Sequence[InodeId], name: bytes) -> bool:
        """Whether `name` may show more than one claim in the directory of these members."""
        sources = self.sources(group)
        return len(self.claims(group, name)) > 1 or any(self._rows.is_special(one, name) for one in sources)

    def ordinal(self, called: bytes, name: bytes, aside: Aside) -> int:
        """The number in the name under which `aside` is shown beside `name`."""
        return ordinal_of(called, name, aside, self._label)

    def shifted(self, group: Sequence[InodeId], leaving: Collection[bytes]) -> list[tuple[bytes, int, Aside]]:
        """What would be called otherwise without what has the names `leaving`: its name and ordinal now."""
        conflicts = self.conflicts(group)
        gone = {aside for name, (_, aside) in conflicts.asides.items() if name in leaving}
        left = name_asides(
            (
                (name, [aside for aside in shown.asides if aside not in gone])
                for name, shown in conflicts.plain.items()
            ),
            self._label,
            lambda name: name not in leaving and self._is_taken(group, name),
        )
        return [
            (called, self.ordinal(called, name, aside), aside)
            for called, (name, aside) in conflicts.asides.items()
            if aside not in gone and left.get(called) != (name, aside)
        ]

    def _is_taken(self, group: Sequence[InodeId], name: bytes) -> bool:
        """Whether something real has this name, or would have it if it did not wait."""
        return any(held.flag != CONFLICTS for held in self.claims(group, name))

    def _special_names(self, group: Sequence[InodeId]) -> set[bytes]:
        sources = self.sources(group)
        names = {name for parent in sources for name in self._rows.special_names(parent)}
        if len(sources) > 1:
            seen: set[bytes] = set()
            for parent in sources:
                for name, _ in self._rows.all_claims(parent):
                    (names if name in seen else seen).add(name)
        if ROOT in group and self.is_lost_found_shown():
            names.add(LOST_FOUND_NAME)
        return names

    def listing(self, directory: InodeId) -> list[Entry]:
        """All entries of a shown directory, in no order."""
        group = self.members(directory)
        if not group:
            return []
        sources = self.sources(group)
        is_mixed = len(sources) > 1 or (ROOT in group and self.is_lost_found_shown())
        if not is_mixed and not self._rows.directory(sources[0]).special:
            return [self._entry(name, claims[0]) for name, claims in self._rows.all_claims(sources[0])]
        conflicts = self.conflicts(group)
        entries = []
        for parent in sources:
            for name, claims in self._rows.all_claims(parent):
                if name not in conflicts.plain:
                    entries.append(self._entry(name, claims[0]))
        for name, shown in conflicts.plain.items():
            entry = self._plain_entry(name, shown)
            if entry is not None:
                entries.append(entry)
        entries.extend(_aside_entry(name, aside) for name, (_, aside) in conflicts.asides.items())
        return entries

    def asides(self, directory: InodeId) -> Collection[bytes]:
        """The names in a directory under which something is shown beside another of its name."""
        group = self.members(directory)
        return self.conflicts(group).asides.keys() if group else ()

    def beside(self, directory: InodeId) -> Mapping[bytes, bytes]:
        """Of each name in `asides` the one that it stands beside."""
        group = self.members(directory)
        return {called: name for called, (name, _) in self.conflicts(group).asides.items()} if group else {}

    def conflicted(self) -> Sequence[InodeId]:
        """The shown directories with names in `asides`. Costs grow with those, not with the tree."""
        found: dict[InodeId, bool] = {}
        waiting = sorted(self._rows.special_parents())
        while waiting:
            group = self.members_holding(waiting.pop())
            if not group or group[0] in found:
                continue
            found[group[0]] = bool(self.conflicts(group).asides)
            if self._rows.totals.merged:  # below there, names of different members meet without being special
                merged = (self._members_named(group, name) for name in self._special_names(group))
                waiting += [members[0] for members in merged if len(members) > 1]
        return [directory for directory, has_asides in found.items() if has_asides]

    def shown_name(self, inode: InodeId, name: Name) -> tuple[tuple[InodeId, ...], bytes] | None:
        """The directory's members and the name by which one name of a file is shown; None if it is not."""
        group = self.members_holding(name.place.parent)
        if not group or not name.is_plain:
            return None
        called = name.place.name
        claims = self.claims(group, called)
        if len(claims) > 1 or (called == LOST_FOUND_NAME and ROOT in group and self.is_lost_found_shown()):
            shown = self.shown(group, called)
            if shown.file is None or (shown.file.inode, shown.file.name.link) != (inode, name.link):
                aside = self.conflicts(group).names.get((inode, name.link, None))
                return None if aside is None else (group, aside)
        return group, called

    def members_holding(self, parent: InodeId) -> tuple[InodeId, ...]:
        """The members of the directory in which a claim on a name of `parent` is shown."""
        return self.members(parent if is_root(parent) or self._is_known(parent) else LOST_FOUND)

    def is_empty(self, group: Sequence[InodeId]) -> bool:
        """Whether a directory shows nothing."""
        if any(self._rows.directory(parent).live for parent in self.sources(group)):
            return False
        return not (ROOT in group and self.is_lost_found_shown())


def _aside_entry(name: bytes, aside: Aside) -> Entry:
    return Entry(name, aside.kind, aside.inode, aside.link, aside.dot)
