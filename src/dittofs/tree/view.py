"""The visible tree as a pure function of the joined records: the oracle of every test of the index.

It shares with the index what one inode means (rules.py) and what one name shows (naming.py). Everything that
the index keeps step by step is worked out here from scratch: which directories live, cycles, lost+found,
merged directories, links, numbers, counts. Six seconds at 100,000 entries, so nothing but tests calls it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from dittofs.ids import LOST_FOUND, ROOT, InodeId, Number, Slot, number_of
from dittofs.tree.entry import Counts, Entry
from dittofs.tree.naming import Claimant, Shown, name_asides, show
from dittofs.tree.record import Forward, Kind, Place, Record, Ref, Version, covers, split_key
from dittofs.tree.rules import (
    LOST_FOUND_NAME,
    Claim,
    Meaning,
    claims_of,
    is_root,
    meaning_of,
    second_number,
    winner_of,
)


@dataclass(slots=True)
class ShownDirectory:
    """A visible directory."""

    members: tuple[InodeId, ...]
    parent: InodeId
    entries: dict[bytes, Entry] = field(default_factory=dict)


@dataclass(slots=True)
class View:
    """Everything that is visible."""

    directories: dict[InodeId, ShownDirectory]
    """By smallest member."""
    numbers: dict[Ref, Number]
    """st_ino of everything but directories, whose number depends on what this device showed first."""
    links: dict[Ref, int]
    """st_nlink of everything."""
    contents: dict[Ref, Version]
    """What each visible file or symlink shows."""
    counts: Counts


def view(records: Mapping[str, Record], device_label: Callable[[Slot], str]) -> View:
    """The visible tree of the joined `records`, by record key."""
    return _Viewing(records, device_label).view()


class _Viewing:
    def __init__(self, records: Mapping[str, Record], device_label: Callable[[Slot], str]) -> None:
        self._label = device_label
        self._records = records
        self._meanings: dict[InodeId, Meaning] = {}
        links: dict[InodeId, dict[str, Record]] = {}
        for key, record in records.items():
            inode, link = split_key(key)
            if link:
                links.setdefault(inode, {})[link] = record
        for key, record in records.items():
            inode, link = split_key(key)
            if not link:
                further = dict(sorted(links.get(inode, {}).items()))
                self._meanings[inode] = meaning_of(record, further, self._has_seen)
        self._known = {inode for inode, m in self._meanings.items() if m.kind is Kind.DIRECTORY}
        self._known |= {ROOT, LOST_FOUND}

    def _has_seen(self, forward: Forward) -> bool:
        target = self._records.get(forward.target)
        return target is not None and covers(target.context, (forward.slot, forward.n))

    def view(self) -> View:
        self._places = self._work_out_places()
        self._shown = self._work_out_shown()
        self._claims: dict[InodeId, dict[bytes, list[tuple[InodeId, Claimant | None]]]] = {}
        for inode in self._shown:
            if not is_root(inode):
                parent, name = self._places[inode]
                self._claim(parent, name, inode, None)
        files = [(i, m) for i, m in sorted(self._meanings.items()) if i not in self._known and m.names]
        for inode, meaning in files:
            for one in meaning.names:
                self._claim(one.place.parent, one.place.name, inode, Claimant(inode, one, meaning))
        directories = self._work_out_directories()
        numbers = self._work_out_numbers(files)
        visible: dict[Ref, set[tuple[InodeId, bytes]]] = {}
        for directory, shown in directories.items():
            for name, entry in shown.entries.items():
                visible.setdefault(entry.ref, set()).add((directory, name))
        links = {ref: len(names) for ref, names in visible.items()}
        for directory, shown in directories.items():
            below = sum(entry.kind is Kind.DIRECTORY for entry in shown.entries.values())
            links[(directory, None)] = 2 + below
        contents = {}
        for ref in visible:
            version = self._content(ref)
            if version is not None:
                contents[ref] = version
        shown_files = {ref: n for ref, n in numbers.items() if ref in visible and ref[0] not in self._known}
        return View(directories, shown_files, links, contents, self._count(files))

    # -- where directories are

    def _raw(self, inode: InodeId) -> Place | None:
        if is_root(inode) or inode not in self._known:
            return None
        return self._records[inode].place

    def _work_out_places(self) -> dict[InodeId, tuple[InodeId, bytes]]:
        """Parent and name of each directory, parents that nobody knows being lost+found."""
        on_cycle: dict[InodeId, frozenset[InodeId]] = {}
        reaching: set[InodeId] = {ROOT, LOST_FOUND}
        for start in sorted(self._known):
            path: list[InodeId] = []
            at: InodeId | None = start
            while at is not None and at not in path and at not in reaching:
                path.append(at)
                place = self._raw(at)
                at = None if place is None else place.parent
            if at in reaching:
                reaching.update(path)
            elif at is not None and path[path.index(at) :] and at not in on_cycle:
                cycle = frozenset(path[path.index(at) :])
                on_cycle.update(dict.fromkeys(cycle, cycle))
        places = {}
        for inode in self._known:
            place = self._raw(inode)
            if place is None:
                continue
            places[inode] = (place.parent, place.name)
            cycle = on_cycle.get(inode, frozenset())
            if cycle and inode == max(cycle, key=self._order):
                goes_back = place.before is not None and place.before[0] in reaching
                places[inode] = place.before if goes_back and place.before else (LOST_FOUND, place.name)
        return places

    def _order(self, inode: InodeId) -> tuple[tuple[int, str, int], InodeId]:
        place = self._raw(inode)
        assert place is not None
        return place.order, inode

    def _work_out_shown(self) -> set[InodeId]:
        """Directories that live by their name, and those above anything that lives."""
        shown = {ROOT}
        starts = [i for i in self._known if i in self._places and self._meanings[i].is_alive]
        for inode, meaning in self._meanings.items():
            if inode not in self._known:
                starts.extend(one.place.parent for one in meaning.names)
        for start in starts:
            at = start
            while at not in shown:
                shown.add(at if at in self._known else LOST_FOUND)
                if at not in self._places:
                    break
                at = self._places[at][0]
        return shown

    def _claim(self, parent: InodeId, name: bytes, inode: InodeId, claimant: Claimant | None) -> None:
        parent = parent if parent in self._known else LOST_FOUND
        self._claims.setdefault(parent, {}).setdefault(name, []).append((inode, claimant))

    # -- what directories show

    def _work_out_directories(self) -> dict[InodeId, ShownDirectory]:
        if LOST_FOUND in self._shown:
            self._claim(ROOT, LOST_FOUND_NAME, LOST_FOUND, None)
        directories: dict[InodeId, ShownDirectory] = {}
        ahead: list[tuple[tuple[InodeId, ...], InodeId]] = [((ROOT,), ROOT)]
        while ahead:
            members, parent = ahead.pop()
            shown = self._show(members)
            directory = directories[members[0]] = ShownDirectory(members, parent)
            for name, one in shown.items():
                if one.directories:
                    directory.entries[name] = Entry(name, Kind.DIRECTORY, one.directories[0], "", None)
                    ahead.append((one.directories, members[0]))
                elif one.file is not None:
                    file = one.file
                    directory.entries[name] = Entry(name, file.meaning.kind, file.inode, file.name.link, None)
            real = {name for name, one in shown.items() if one.directories or one.file is not None}
            asides = name_asides(
                ((name, one.asides) for name, one in shown.items()), self._label, real.__contains__
            )
            for name, (_, aside) in asides.items():
                directory.entries[name] = Entry(name, aside.kind, aside.inode, aside.link, aside.dot)
        return directories

    def _show(self, members: tuple[InodeId, ...]) -> dict[bytes, Shown]:
        claims: dict[bytes, list[tuple[InodeId, Claimant | None]]] = {}
        for member in members:
            for name, claimants in self._claims.get(member, {}).items():
                claims.setdefault(name, []).extend(claimants)
        return {
            name: show(
                [inode for inode, claimant in claimants if claimant is None],
                [claimant for _, claimant in claimants if claimant is not None],
            )
            for name, claimants in claims.items()
        }

    def _content(self, ref: Ref) -> Version | None:
        meaning = self._meanings.get(ref[0])
        if meaning is None:
            return None
        if ref[1] is None:
            return meaning.main.version if meaning.main is not None else None
        return next(one.version for one in meaning.conflicts if one.version.dot == ref[1])

    # -- numbers and counts

    def _work_out_numbers(self, files: list[tuple[InodeId, Meaning]]) -> dict[Ref, Number]:
        claimed: dict[Number, list[tuple[Ref, Claim]]] = {}
        for inode in self._shown:
            if not is_root(inode):
                (claim,) = claims_of(inode, self._meanings[inode])
                claimed.setdefault(number_of(inode), []).append(((inode, None), claim))
        for inode, meaning in files:
            for claim in claims_of(inode, meaning):
                ref = (inode, claim.dot)
                claimed.setdefault(claim.number, []).append((ref, claim))
                if claim.face:
                    second = claim._replace(number=second_number(ref, claim.face))
                    claimed.setdefault(second.number, []).append((ref, second))
        numbers: dict[Ref, Number] = {}
        for number, claimants in claimed.items():
            winner = winner_of(claimants)
            for ref, claim in claimants:
                if not claim.is_second:
                    numbers[ref] = number if ref == winner else second_number(ref, claim.face)
        return numbers

    def _count(self, files: list[tuple[InodeId, Meaning]]) -> Counts:
        asides = sum(len(meaning.conflicts) for _, meaning in files)
        directories = sum(not is_root(inode) for inode in self._shown)
        claims: dict[tuple[InodeId, bytes], list[bool]] = {}
        for inode in self._shown:
            if not is_root(inode):
                claims.setdefault(self._places[inode], []).append(True)
        for _, meaning in files:
            for one in meaning.names:
                if one.is_plain:
                    claims.setdefault((one.place.parent, one.place.name), []).append(False)
        for held in claims.values():
            names = held.count(False)
            asides += names - 1 if names and True not in held else names
        size = sum(meaning.bytes for _, meaning in files)
        return Counts(len(files), directories, size, asides)
