"""What stat(2) tells of things in the tree, read from the index."""

from collections.abc import Callable, Mapping, Sequence

from dittofs.ids import LOST_FOUND, ROOT, ROOT_NUMBER, InodeId, Number, Slot, number_of
from dittofs.tree.display import Display
from dittofs.tree.entry import Attributes, Entry
from dittofs.tree.record import NEVER, Attribute, Dot, Kind, Record, Ref, Version
from dittofs.tree.rows import Inode, Rows
from dittofs.tree.rules import Content, Meaning, claims_of, is_root, second_number, winner_of

MODE_OF_ROOT = 0o755
MODE_OF_LOST_FOUND = 0o700
MODE_OF_FILES = 0o644


class Status:
    """Attributes, names and numbers of visible things."""

    def __init__(self, rows: Rows, display: Display, own_slots: Callable[[Slot], bool]) -> None:
        self._rows = rows
        self._display = display
        self._own_slots = own_slots

    def stat(self, ref: Ref) -> Attributes | None:
        """The attributes of a visible thing; None if it is not visible."""
        inode = self._rows.inode(ref[0])
        if is_root(inode.id) or (inode.record is not None and inode.record.kind is Kind.DIRECTORY):
            return self._directory(inode.id) if ref[1] is None else None
        meaning = inode.meaning
        if meaning is None or not meaning.names or inode.record is None:
            return None
        record = inode.record
        content: Content | None
        if ref[1] is not None:
            content = _conflict(meaning, ref[1])
            if content is None:
                return None
        elif not meaning.names[0].is_plain:
            return None
        else:
            content = meaning.main
        version = None if content is None else content.version
        mtime = (record.birth or 0) if version is None else version.mtime
        explicit = record.mtime
        if ref[1] is None and explicit is not None and (version is None or explicit.stamp > version.stamp):
            mtime = explicit.value
        return Attributes(
            kind=record.kind,
            mode=MODE_OF_FILES if record.mode is None else record.mode.value,
            owner=None if record.owner is None else record.owner.value,
            size=0 if version is None else version.size,
            mtime=mtime,
            ctime=inode.latest,
            birth=record.birth or 0,
            nlink=1 if ref[1] is not None or len(meaning.names) == 1 else self._links(inode),
            number=self.number(inode, None if version is None or ref[1] is None else version.dot),
            rdev=record.rdev,
            version=version,
            trusted=self._is_trusted(record, version),
            members=(),
        )

    def version(self, ref: Ref) -> Version | None:
        """The content of a visible thing, without its attributes; None also if it is not visible."""
        meaning = self._rows.inode(ref[0]).meaning
        if meaning is None or not meaning.names:
            return None
        if ref[1] is not None:
            content = _conflict(meaning, ref[1])
        else:
            content = meaning.main if meaning.names[0].is_plain else None
        return None if content is None else content.version

    def _is_trusted(self, record: Record, version: Version | None) -> bool:
        slots = {register.slot for register in (record.mode, record.owner) if register is not None}
        if version is not None:
            slots.add(version.dot[0])
        elif record.place is not None and not slots:
            slots.add(record.place.slot)
        return all(self._own_slots(slot) for slot in slots)

    def _links(self, inode: Inode) -> int:
        assert inode.meaning is not None
        shown = {self._display.shown_name(inode.id, name) for name in inode.meaning.names}
        return max(1, len(shown - {None}))

    def number(self, inode: Inode, dot: Dot | None) -> Number:
        """What a visible thing that is no directory shows as st_ino."""
        assert inode.meaning is not None
        claim = next(claim for claim in claims_of(inode.id, inode.meaning) if claim.dot == dot)
        if self._rows.totals.contested:
            claimants = self._rows.claimants(claim.number)
            ref = (inode.id, dot)
            if len(claimants) > 1 and winner_of(claimants) != ref:
                return second_number(ref, claim.face)
        return claim.number

    def _directory(self, directory: InodeId) -> Attributes | None:
        members = self._display.members(directory)
        if not members:
            return None
        rows = self._rows
        records = [
            record for record in (rows.inode(member).record for member in members) if record is not None
        ]
        counts = [rows.directory(member) for member in members]
        modes = [record.mode for record in records if record.mode is not None]
        owners = [record.owner for record in records if record.owner is not None]
        mode, owner = max(modes, default=None), max(owners, key=lambda one: one[:2], default=None)
        births = [record.birth for record in records if record.birth is not None]
        latest = max(
            (rows.inode(member).latest for member in members if rows.inode(member).record), default=NEVER
        )
        birth = min(births, default=0)
        if mode is not None:
            bits = mode.value
        else:
            bits = MODE_OF_LOST_FOUND if LOST_FOUND in members else MODE_OF_ROOT
        first = min(members, key=lambda member: (rows.directory(member).first_shown, member))
        return Attributes(
            kind=Kind.DIRECTORY,
            mode=bits,
            owner=None if owner is None else owner.value,
            size=0,
            mtime=max(one.mtime for one in counts) or birth,
            ctime=max(latest, *(one.touched for one in counts)),
            birth=birth,
            nlink=2 + self._subdirectories(members),
            number=number_of(first),
            rdev=0,
            version=None,
            trusted=all(self._own_slots(one.slot) for one in (mode, owner) if one is not None),
            members=members,
        )

    def _subdirectories(self, members: Sequence[InodeId]) -> int:
        display = self._display
        sources = display.sources(members)
        if len(sources) == 1 and not (sources[0] == ROOT and display.is_lost_found_shown()):
            return self._rows.directory(sources[0]).subdirectories
        return sum(entry.kind is Kind.DIRECTORY for entry in display.listing(members[0]))

    def names(self, inode: InodeId) -> list[tuple[InodeId, Entry]]:
        """Every visible (directory, entry) of an inode: its names, then its conflict entries."""
        display = self._display
        if inode == ROOT:
            return []
        found = self._rows.inode(inode)
        if is_root(inode) or (found.record is not None and found.record.kind is Kind.DIRECTORY):
            members = display.members(inode)
            if not members:
                return []
            return [
                (display.parent(inode), Entry(display.name_of(inode), Kind.DIRECTORY, members[0], "", None))
            ]
        meaning = found.meaning
        if meaning is None or not meaning.names:
            return []
        entries = []
        for name in meaning.names:
            shown = display.shown_name(inode, name)
            if shown is not None:
                entries.append((shown[0][0], Entry(shown[1], meaning.kind, inode, name.link, None)))
        if meaning.conflicts:
            first = meaning.names[0]
            group = display.members_holding(first.place.parent)
            names = display.conflicts(group).names if group else {}
            for content in meaning.conflicts:
                called = names.get((inode, first.link, content.version.dot))
                if called is not None:
                    entry = Entry(called, meaning.kind, inode, first.link, content.version.dot)
                    entries.append((group[0], entry))
        return entries

    def by_number(self, number: Number) -> Ref | None:
        """The visible thing that shows `number`, or an alias of a merged directory that would."""
        if number == ROOT_NUMBER:
            return (ROOT, None)
        if number == number_of(LOST_FOUND):
            members = self._display.members(LOST_FOUND)
            return (members[0], None) if members else None
        for ref, _ in self._rows.claimants(number):
            attributes = self.stat(ref)
            if attributes is not None and attributes.kind is Kind.DIRECTORY:
                return (attributes.members[0], None)
            if attributes is not None and attributes.number == number:
                return ref
        return None

    def xattrs(self, inode: InodeId) -> Mapping[bytes, bytes]:
        """Extended attributes; of a merged directory the latest of its members."""
        members = self._display.members(inode) or (inode,)
        latest: dict[bytes, Attribute] = {}
        for member in members:
            record = self._rows.inode(member).record
            for name, attribute in record.xattrs.items() if record is not None else ():
                if name not in latest or latest[name][:2] < attribute[:2]:
                    latest[name] = attribute
        return {name: one.value for name, one in sorted(latest.items()) if one.value is not None}


def _conflict(meaning: Meaning, dot: Dot) -> Content | None:
    """The conflict entry that a dot names."""
    return next((one for one in meaning.conflicts if dot in one.dots), None)
