"""Keeps the index equal to what the records mean, one inode at a time, at a cost proportional to depth.

What is persisted are raw facts: who claims which name, how much lives in each directory, who would like to
show which number. Who wins a name is worked out when it is read (display.py). view.py does all from scratch.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from dittofs.ids import LOST_FOUND, ROOT, InodeId, Stamp
from dittofs.tree.cycles import displaced
from dittofs.tree.numbers import claim_numbers
from dittofs.tree.record import Dot, Kind, Place, Record, covers
from dittofs.tree.rows import Held, Inode, Rows
from dittofs.tree.rules import Content, Name, claims_of, is_root

DIRECTORY, NAME, CONFLICTS = "D", "N", "C"


@dataclass(slots=True)
class Touched:
    """Whose view changed."""

    inodes: set[InodeId] = field(default_factory=set)
    names: set[tuple[InodeId, bytes]] = field(default_factory=set)
    remade: list[tuple[Inode, Inode]] = field(default_factory=list)
    """Whose meaning changed by another's records, before and after."""


class Placement:
    """Applies changes of records to the index rows."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self.touched = Touched()
        self._made: Stamp | None = None
        self.generation = 0
        """Grows whenever directories appear, vanish or move."""
        self.is_rebuilding = False
        """While the index is made anew: what only this device knew is lost."""
        self._suspended: set[InodeId] = set()
        self.changed_names: Callable[[InodeId, bytes], None] = lambda _parent, _name: None
        """Told about each (parent, name) that may show something else now."""

    def update(
        self,
        inode: InodeId,
        records: Mapping[str, Record],
        raw: Mapping[str, bytes],
        now: int,
        *,
        made: Stamp | None = None,
    ) -> tuple[Inode, Inode]:
        """Set records of one inode (by link; `raw`: their bytes) and all that follows from it.

        `now`, in nanoseconds, becomes the mtime of directories whose entries change, unless one was given a
        time of its own after the names were `made`, elsewhere. Returns the inode before and after.
        """
        rows = self._rows
        self._made = made
        before = rows.inode(inode)
        # As they are before this change: afterwards their meaning may be another one.
        waiting = [rows.inode(source) for source in rows.awaiting(inode)]
        self.touched.inodes.add(inode)
        if _is_directory(before) or (records.get("") or before.record or _NO_RECORD).kind is Kind.DIRECTORY:
            after = self._update_directory(before, records, raw, now)
        else:
            after = rows.put_records(inode, records, raw)
            self._follow(before, after, now)
        if after.record is not None:
            for forward in after.record.forwards:
                if not rows.has_seen(forward):
                    rows.set_awaiting(forward.target, inode, True)
            for source in waiting:
                self._awaited(inode, source, now)
        self._made = None
        return before, after

    def _awaited(self, target: InodeId, before: Inode, now: int) -> None:
        """The record that a save waits for has changed; `before` is the one the save was made from."""
        rows = self._rows
        waiting = [f for f in before.record.forwards if f.target == target] if before.record else []
        if all(rows.has_seen(forward) for forward in waiting):
            rows.set_awaiting(target, before.id, False)
        after = rows.remake(before.id)
        if after.meaning != before.meaning:
            self.touched.inodes.add(before.id)
            self._follow(before, after, now)
            self.touched.remade.append((before, after))

    def take_awaited(self) -> Sequence[tuple[Inode, Inode]]:
        """The inodes, before and after, whose saves became complete by updates since this was asked last."""
        remade, self.touched.remade = self.touched.remade, []
        return remade

    # -- things that are no directories

    def _follow(self, before: Inode, after: Inode, now: int) -> None:
        """A file's meaning changed from that of `before` to that of `after`."""
        old, new = before.meaning, after.meaning
        if old == new:
            return
        old_names = old.names if old is not None and old.kind is not Kind.DIRECTORY else ()
        new_names = new.names if new is not None and new.kind is not Kind.DIRECTORY else ()
        inode = after.id
        totals = self._rows.totals
        if old is not None and old_names:
            totals.files -= 1
            totals.bytes -= old.bytes
            totals.conflicts -= len(old.conflicts)
        if new is not None and new_names:
            totals.files += 1
            totals.bytes += new.bytes
            totals.conflicts += len(new.conflicts)
        gone, come = _held(inode, old_names), _held(inode, new_names)
        for (key, parent, name), flag in sorted(gone.items() - come.items()):
            self._claim_out(parent, name, Held(flag, key), now)
        for (key, parent, name), flag in sorted(come.items() - gone.items()):
            self._claim_in(parent, name, Held(flag, key), now)
        old_conflicts = old.conflicts if old is not None and old_names else ()
        new_conflicts = new.conflicts if new is not None and new_names else ()
        if old_conflicts or new_conflicts:
            is_listing_changed = _origins(old_conflicts) != _origins(new_conflicts)
            for parent, name in _where(names[0] for names in (old_names, new_names) if names):
                self._review(parent, name)
                if is_listing_changed:
                    self._touch(parent, now)
        for parent, name in _where((*old_names, *new_names)):
            self.changed_names(parent, name)
        old_claims = claims_of(inode, old) if old is not None and old_names else []
        new_claims = claims_of(inode, new) if new is not None and new_names else []
        self.touched.inodes |= claim_numbers(self._rows, inode, old_claims, new_claims)

    # -- claims

    def _claim_in(self, parent: InodeId, name: bytes, held: Held, now: int) -> None:
        """Something is shown in `parent` from now on; so are the dead directories above it."""
        rows = self._rows
        while True:
            claims = rows.claims(parent, name)
            self._count_claims(parent, claims, (*claims, held), held.flag == DIRECTORY)
            rows.put_claims(parent, name, tuple(sorted((*claims, held))))
            directory = rows.directory(parent)
            directory.live += 1
            was_empty = directory.live == 1
            rows.put_directory(parent, directory)
            self._changed(parent, name, now)
            if not was_empty:
                return
            above = self._raised(parent)
            if above is None:
                return
            parent, name, held = above

    def _claim_out(self, parent: InodeId, name: bytes, held: Held, now: int) -> None:
        """The reverse of `_claim_in`."""
        rows = self._rows
        while True:
            claims = rows.claims(parent, name)
            left = tuple(one for one in claims if one != held)
            assert len(left) == len(claims) - 1, (parent, name, held, claims)
            self._count_claims(parent, claims, left, held.flag == DIRECTORY)
            rows.put_claims(parent, name, left)
            directory = rows.directory(parent)
            directory.live -= 1
            is_empty = directory.live == 0
            rows.put_directory(parent, directory)
            self._changed(parent, name, now)
            if not is_empty:
                return
            above = self._raised(parent)
            if above is None:
                return
            parent, name, held = above

    def _raised(self, parent: InodeId) -> tuple[InodeId, bytes, Held] | None:
        """What the first entry in `parent` brings into view, or the last one takes with it: its own claim."""
        rows = self._rows
        self.generation += 1
        if is_root(parent):
            if parent == LOST_FOUND:
                self.touched.inodes.add(ROOT)
            return None
        inode = rows.inode(parent)
        if not _is_directory(inode):
            rows.set_unknown(parent, rows.directory(parent).live > 0)
            self.touched.inodes.add(LOST_FOUND)
            return None
        assert inode.meaning is not None
        shown_at = self.place_of(parent)
        if inode.meaning.is_alive or shown_at is None or parent in self._suspended:
            return None
        self._count_directory(parent, rows.directory(parent).live > 0)
        return (*shown_at, Held(DIRECTORY, parent))

    def _count_claims(
        self, parent: InodeId, old: tuple[Held, ...], new: tuple[Held, ...], is_directory: bool
    ) -> None:
        """Names in conflict, merged directories and subdirectories, where a name's claims change."""
        totals = self._rows.totals
        totals.conflicts += _asides(new) - _asides(old)
        if is_directory:
            was, now = (sum(held.flag == DIRECTORY for held in claims) for claims in (old, new))
            totals.merged += (now > 1) - (was > 1)
            directory = self._rows.directory(parent)
            directory.subdirectories += (now > 0) - (was > 0)
            self.generation += 1

    def _changed(self, parent: InodeId, name: bytes, now: int) -> None:
        self._review(parent, name)
        self._touch(parent, now)
        self.touched.names.add((parent, name))
        self.changed_names(parent, name)

    def _review(self, parent: InodeId, name: bytes) -> None:
        """Work out afresh whether `name` is special."""
        rows = self._rows
        claims = rows.claims(parent, name)
        special = len(claims) > 1
        if len(claims) == 1 and claims[0].flag != DIRECTORY:
            key = claims[0].key
            inode = rows.inode(InodeId(key[:16]))
            meaning = inode.meaning
            special = claims[0].flag == CONFLICTS or (
                meaning is not None and bool(meaning.conflicts) and meaning.names[0].link == key[17:]
            )
        if special != rows.is_special(parent, name):
            rows.set_special(parent, name, special)
            directory = rows.directory(parent)
            directory.special += 1 if special else -1
            rows.put_directory(parent, directory)

    def _touch(self, parent: InodeId, now: int) -> None:
        self.touched.inodes.add(parent)
        self.touch(parent, now)

    def touch(self, parent: InodeId, now: int) -> None:
        """The entries of `parent` changed at `now`; its times never go back."""
        if self._made is not None:
            record = self._rows.inode(parent).record
            if record is not None and record.mtime is not None and record.mtime.stamp >= self._made:
                return
        directory = self._rows.directory(parent)
        if now > directory.touched:
            directory.touched = directory.mtime = now
            self._rows.put_directory(parent, directory)

    # -- directories

    def place_of(self, inode: InodeId) -> tuple[InodeId, bytes] | None:
        """Where a directory is shown if it is: parent and name. None for the root, and what has no place."""
        shown = self._rows.displaced.get(inode)
        if shown is not None:
            return shown
        place = self._raw_place(inode)
        return None if place is None else (place.parent, place.name)

    def _raw_place(self, inode: InodeId) -> Place | None:
        if is_root(inode):
            return None
        record = self._rows.inode(inode).record
        return record.place if record is not None and record.kind is Kind.DIRECTORY else None

    def is_shown(self, inode: InodeId) -> bool:
        """Whether a directory lives: by its name, or because something in it does."""
        if is_root(inode):
            return True
        meaning = self._rows.inode(inode).meaning
        if meaning is None or meaning.kind is not Kind.DIRECTORY or not meaning.names:
            return False
        return meaning.is_alive or self._rows.directory(inode).live > 0

    def _update_directory(
        self, before: Inode, records: Mapping[str, Record], raw: Mapping[str, bytes], now: int
    ) -> Inode:
        """A record that was or becomes a directory."""
        rows, inode = self._rows, before.id
        if not _moves(before, records.get("")):
            after = rows.put_records(inode, records, raw)
            self._explicit_mtime(before, after, now)
            return after
        was_known = _is_directory(before)
        place_before = self._raw_place(inode)
        moves = {inode}
        self._suspend(inode, now)
        after = rows.put_records(inode, records, raw)
        place = self._raw_place(inode)
        is_known = _is_directory(after)
        if was_known != is_known:
            rows.set_unknown(inode, not is_known and not is_root(inode) and rows.directory(inode).live > 0)
            self.generation += 1
            if is_known and not is_root(inode) and after.record is not None:
                directory = rows.directory(inode)
                directory.first_shown = 0 if self.is_rebuilding else now
                if directory.mtime == 0:
                    directory.mtime = after.record.birth or 0
                rows.put_directory(inode, directory)
        if place != place_before and (
            rows.displaced or not (place and place_before) or place.parent != place_before.parent
        ):
            shown = displaced({inode, *rows.displaced}, self._raw_place)
            for other in (shown.keys() | rows.displaced.keys()) - {inode}:
                if shown.get(other) != rows.displaced.get(other):
                    # Out of view by where it was shown, while everything else still is as it was.
                    self._suspend(other, now)
                    moves.add(other)
            for other in shown.keys() | rows.displaced.keys():
                if shown.get(other) != rows.displaced.get(other):
                    rows.set_displaced(other, shown.get(other))
        if not was_known or not is_known:
            self._follow(before, after, now)
        for moved in sorted(moves):
            self._resume(moved, now)
        self._explicit_mtime(before, after, now)
        return after

    def _suspend(self, inode: InodeId, now: int) -> None:
        """Take a directory out of view, whatever happens below it, until `_resume`."""
        self._suspended.add(inode)
        if not is_root(inode) and self.is_shown(inode):
            shown_at = self.place_of(inode)
            assert shown_at is not None
            self._count_directory(inode, False)
            self._claim_out(*shown_at, Held(DIRECTORY, inode), now)

    def _resume(self, inode: InodeId, now: int) -> None:
        self._suspended.discard(inode)
        if not is_root(inode) and self.is_shown(inode):
            shown_at = self.place_of(inode)
            assert shown_at is not None
            self._count_directory(inode, True)
            self._claim_in(*shown_at, Held(DIRECTORY, inode), now)

    def _count_directory(self, inode: InodeId, comes: bool) -> None:
        """A directory comes into view, or leaves it."""
        meaning = self._rows.inode(inode).meaning
        self._rows.totals.directories += 1 if comes else -1
        self.touched.inodes.add(inode)
        if meaning is not None:
            claims = claims_of(inode, meaning)
            old, new = ([], claims) if comes else (claims, [])
            self.touched.inodes |= claim_numbers(self._rows, inode, old, new)

    def _explicit_mtime(self, before: Inode, after: Inode, now: int) -> None:
        """An explicit directory mtime holds until the entries change again."""
        old = before.record.mtime if before.record is not None else None
        new = after.record.mtime if after.record is not None else None
        if new is not None and new != old and not self.is_rebuilding:
            directory = self._rows.directory(after.id)
            directory.mtime = new.value
            directory.touched = max(directory.touched, now)
            self._rows.put_directory(after.id, directory)


_NO_RECORD = Record(Kind.FILE, {})


def _moves(before: Inode, record: Record | None) -> bool:
    """Whether a change of a directory's own record may change where and whether it is shown."""
    old = before.record
    if record is None:
        return False
    if old is None or old.kind != record.kind or old.place != record.place:
        return not (is_root(before.id) and record.kind is Kind.DIRECTORY)
    if old.place is None:
        return False
    dot = (old.place.slot, old.place.n)
    return covers(old.names, dot) != covers(record.names, dot)


def _is_directory(inode: Inode) -> bool:
    return is_root(inode.id) or (inode.record is not None and inode.record.kind is Kind.DIRECTORY)


def _held(inode: InodeId, names: Iterable[Name]) -> dict[tuple[str, InodeId, bytes], str]:
    """(record key, parent, name) -> flag."""
    return {
        (f"{inode}.{name.link}" if name.link else inode, name.place.parent, name.place.name): (
            NAME if name.is_plain else CONFLICTS
        )
        for name in names
    }


def _where(names: Iterable[Name]) -> set[tuple[InodeId, bytes]]:
    return {(name.place.parent, name.place.name) for name in names}


def _origins(contents: tuple[Content, ...]) -> list[Dot]:
    return [content.version.lineage[0] for content in contents]


def _asides(claims: tuple[Held, ...]) -> int:
    """How many files stand aside because others claim their name."""
    names = sum(held.flag == NAME for held in claims)
    if names and not any(held.flag == DIRECTORY for held in claims):
        names -= 1
    return names
