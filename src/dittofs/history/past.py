"""What the volume was at a time: what is now, with the history since taken back, as far as somebody asks.

"At a time" is as this device showed it then. Nothing is copied: each question reads the rows of one inode or
of one directory.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from dittofs.ids import LOST_FOUND, ROOT, InodeId, Slot, Stamp
from dittofs.journal.history import END, HistoryRow
from dittofs.tree.naming import CONFLICT, tagged_name
from dittofs.tree.record import PATH_DEPTH_MAX, Kind
from dittofs.volume.events import Past, PastContent, PastName, name_of, undone, whole_of
from dittofs.volume.replica import Replica

CANDIDATES_MAX: Final = 16
"""Of the directories and files that had one path, the latest so many are looked at."""
ROOT_PAST: Final = Past(Kind.DIRECTORY, {}, (), None, None, None, None, {}, 0)


@dataclass(frozen=True, slots=True)
class PastEntry:
    """One line of a directory as it was."""

    name: bytes
    kind: Kind
    inodes: tuple[InodeId, ...]
    """Of a directory all that were shown as one."""
    content: PastContent | None = None
    """Of a file or symbolic link."""
    is_aside: bool = False
    """A conflict entry."""
    past: Past | None = None
    """All there was to it; of several directories to the first."""


class Pasts:
    """Answers questions about the past of one replica."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica

    def of(self, inode: InodeId, at: int) -> Past | None:
        """What an inode was at a time; None: it did not live. FormatError, Damaged."""
        past = self.now(inode)
        for row in self._replica.journal.history.of_inode(inode):
            if row.at <= at:
                break
            past = undone(past, row)
        return past

    def now(self, inode: InodeId) -> Past | None:
        """What an inode is; None: it does not live."""
        whole = self._replica.tree.whole(inode)
        if whole is None and inode in (ROOT, LOST_FOUND):
            return ROOT_PAST
        return None if whole is None else whole_of(whole)

    def path(self, inode: InodeId, at: int, *, past: Past | None = None) -> bytes | None:
        """Where an inode was, below the root; None: it did not live, or hung nowhere."""
        return _path(self.of, inode, at, past)

    def last_life(self, inode: InodeId) -> tuple[int, Past] | None:
        """When a removed inode lived last, and what it was then; None: that is not known any more."""
        for row in self._replica.journal.history.of_inode(inode):
            past = self.of(inode, row.at - 1)
            if past is not None:
                return row.at - 1, past
        return None

    def directory_mtime(self, inodes: Sequence[InodeId], past: Past | None, at: int) -> int:
        """When a directory had changed last, as stat(2) said it at a time."""
        history = self._replica.journal.history
        changed = max(history.directory_changed(one, at + 1) for one in inodes)
        explicit = past.mtime if past is not None else None
        return max(changed, explicit or 0, (past.birth or 0) if past is not None else 0)

    # -- directories

    def entries(self, members: Sequence[InodeId], at: int) -> dict[bytes, PastEntry]:
        """What a directory of these members showed, by name."""
        steps = self.steps(members, at)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                found: dict[bytes, PastEntry] = end.value
                return found

    def size(self, members: Sequence[InodeId]) -> int:
        """About how many names a directory has."""
        return sum(len(self._replica.tree.claimants(member)) for member in members)

    def steps(self, members: Sequence[InodeId], at: int) -> Generator[None, None, dict[bytes, PastEntry]]:
        """As `entries`, a name at each step, so that others may run between."""
        named: dict[bytes, list[tuple[InodeId, Past]]] = {}
        beside: list[tuple[bytes, InodeId, PastContent | None, Past]] = []
        for member in members:
            for inode, past, held in self._named_in(member, at):
                yield
                if held.is_plain:
                    named.setdefault(held.name, []).append((inode, past))
                if past.asides and next(iter(past.names)) == held.link:
                    beside += ((held.name, inode, content, past) for content in past.asides)
        found: dict[bytes, PastEntry] = {}
        asides: list[tuple[bytes, InodeId, PastContent | None, Past]] = []
        for name, claims in named.items():
            directories = tuple(sorted({inode for inode, past in claims if past.kind is Kind.DIRECTORY}))
            files = self._in_order(members, name, [one for one in claims if one[0] not in directories])
            if directories:
                past = next(past for inode, past in claims if inode == directories[0])
                found[name] = PastEntry(name, Kind.DIRECTORY, directories, past=past)
            elif files:
                inode, past = files.pop(0)
                found[name] = PastEntry(name, past.kind, (inode,), past.main, past=past)
            asides += [(name, inode, past.main, past) for inode, past in files]
        for name, inode, content, past in (*asides, *beside):
            called, tries = name, 0
            while called in found:
                tries += 1
                slot, stamp = (content.slot, content.stamp) if content else (Slot(""), Stamp(0))
                called = tagged_name(name, CONFLICT, self._replica.tree.label(slot), stamp, tries)
            found[called] = PastEntry(called, past.kind, (inode,), content, is_aside=True, past=past)
        return found

    def _in_order(
        self, members: Sequence[InodeId], name: bytes, claims: list[tuple[InodeId, Past]]
    ) -> list[tuple[InodeId, Past]]:
        """Who keeps a name first, and of equal contents one alone."""
        if len(claims) < 2:
            return claims
        shown = self._replica.tree.lookup(members[0], name)
        keeper = None if shown is None else shown.inode
        found: dict[object, tuple[InodeId, Past]] = {}
        for inode, past in sorted(claims, key=lambda one: (one[0] != keeper, one[0])):
            main = past.main
            found.setdefault((past.kind, main.root, main.size) if main else inode, (inode, past))
        return list(found.values())

    def _named_in(self, directory: InodeId, at: int) -> Iterator[tuple[InodeId, Past, PastName]]:
        """Everything with a name in one directory."""
        changed = {row.inode for row in self._replica.journal.history.of_directory(directory, at + 1)}
        inodes = dict.fromkeys(self._replica.tree.claimants(directory))
        for inode in (*(one for one in inodes if one not in changed), *sorted(changed)):
            past = self.of(inode, at)
            if past is not None:
                yield from ((inode, past, name) for name in past.names.values() if name.parent == directory)

    def lookup(self, names: Sequence[bytes], at: int) -> PastEntry | None:
        """What was at a path."""
        entry = PastEntry(b"", Kind.DIRECTORY, (ROOT,))
        for name in names:
            if entry.kind is not Kind.DIRECTORY:
                return None
            found = self.entries(entry.inodes, at).get(name)
            if found is None:
                return None
            entry = found
        return entry

    def had_path(self, names: Sequence[bytes]) -> list[InodeId]:
        """Every inode that has or had a path, the present one first, then the latest."""
        directories: list[InodeId] = [ROOT]
        for name in names:
            found: dict[InodeId, None] = {}
            for directory in directories:
                shown = self._replica.tree.lookup(directory, name)
                if shown is not None:
                    found[shown.inode] = None
            rows = [row for one in directories for row in self._left(one, name)]
            for row in sorted(rows, key=lambda row: row.key, reverse=True):
                found[row.inode] = None
            directories = list(found)[:CANDIDATES_MAX]
        return directories

    def _left(self, directory: InodeId, name: bytes) -> Iterator[HistoryRow]:
        for row in self._replica.journal.history.of_directory(directory, 0):
            if row.source == directory and name in names_before(row):
                yield row


def names_before(row: HistoryRow) -> list[bytes]:
    """The names that a row took away, or moved."""
    if row.kind == "remove":
        return [name.name for name in whole_of(row.before).names.values()]
    name = name_of(row.before) if row.kind == "name" else None
    return [] if name is None else [name.name]


class Backwards:
    """All rows from the last to the first, and what everything was just after and just before each.

    Holds what it met: as much as happened, so bound how far it goes.
    """

    def __init__(self, replica: Replica, *, before: int = END) -> None:
        self._pasts = Pasts(replica)
        self._history = replica.journal.history
        self._before = before
        self._known: dict[InodeId, Past | None] = {}
        self._step: dict[InodeId, Past | None] = {}
        """What was after the step that is looked at, of what rows of it were about that were met already."""

    def __iter__(self) -> Iterator[tuple[HistoryRow, Past | None, Past | None]]:
        """(row, after, before). `path` and `path_before` are about the step that the row is one of."""
        at = -1
        for row in self._history.before(self._before):
            if row.at != at:
                at = row.at
                self._step.clear()
            after = self.past(row.inode, row.at)
            before = undone(after, row)
            yield row, after, before
            self._step.setdefault(row.inode, after)
            self._known[row.inode] = before

    def past(self, inode: InodeId, at: int) -> Past | None:
        """What an inode was, at the row that is looked at."""
        if inode not in self._known:
            self._known[inode] = self._pasts.of(inode, at)
        return self._known[inode]

    def path(self, inode: InodeId, at: int, past: Past | None = None) -> bytes | None:
        """Where it was after the step; `past` if it is known better.

        A file and its directory may come in one step, in any order.
        """
        return _path(self._after_step, inode, at, past)

    def path_before(self, inode: InodeId, at: int, past: Past | None = None) -> bytes | None:
        """Where it was before the step that was applied at `at`."""
        return _path(self._pasts.of, inode, at - 1, past)

    def _after_step(self, inode: InodeId, at: int) -> Past | None:
        return self._step[inode] if inode in self._step else self.past(inode, at)


def _path(
    of: Callable[[InodeId, int], Past | None], inode: InodeId, at: int, past: Past | None
) -> bytes | None:
    """By the first name of everything above; None: something of that did not live, or hung nowhere."""
    parts: list[bytes] = []
    while inode != ROOT:
        found = past or of(inode, at)
        past = None
        if found is None or not found.names or len(parts) > PATH_DEPTH_MAX:
            return None
        name = next(iter(found.names.values()))
        parts.append(name.name)
        inode = name.parent
    return b"/".join(reversed(parts))
