"""Checks of names that operations share, and what must happen before a name is left."""

import errno
from collections.abc import Sequence

from dittofs.errors import FSError
from dittofs.ids import InodeId, Stamp
from dittofs.tree.display import Conflicts, Display
from dittofs.tree.entry import Entry
from dittofs.tree.hlc import later
from dittofs.tree.naming import MARK, Aside, Claimant, Shown
from dittofs.tree.record import NAME_BYTES_MAX, Dot, Kind, Place, Ref, is_name
from dittofs.tree.removal import carried_contents, keep_ordinal
from dittofs.tree.rows import Rows
from dittofs.tree.rules import Meaning, Name
from dittofs.tree.writing import Transaction, Writing


def check_name(name: bytes) -> None:
    """Raise FSError unless `name` can stand in a directory."""
    if len(name) > NAME_BYTES_MAX:
        raise FSError(errno.ENAMETOOLONG)
    if not is_name(name):
        raise FSError(errno.EINVAL)


def check_free(display: Display, group: Sequence[InodeId], name: bytes) -> None:
    """Raise FSError(EEXIST) if the directory of these members shows `name`."""
    if display.lookup_in(group, name) is not None:
        raise FSError(errno.EEXIST)


def found(display: Display, directory: InodeId, entry: Entry) -> tuple[InodeId, ...]:
    """The members of `directory`. Raises FSError(ENOENT) if it does not show `entry` as it is given."""
    group = display.members(directory)
    if not group or display.lookup_in(group, entry.name) != entry:
        raise FSError(errno.ENOENT)
    return group


def vacate(
    writing: Writing, display: Display, directory: InodeId, entry: Entry, stamp: Stamp
) -> Sequence[Claimant]:
    """Before `entry` leaves its name: whoever waits for it is given the name it is shown under.

    So a plain name never changes hands by a local operation. Returns the files that are not shown because
    they equal `entry`: they are to be removed with it.
    """
    group = display.members(directory)
    name = claimed(writing.rows, display, entry)
    if len(display.claims(group, name)) < 2:
        return ()
    shown = display.shown(group, name)
    content = _content(writing.rows.inode(entry.inode).meaning)
    equal = [
        twin
        for twin in shown.twins
        if (twin.inode, twin.name.link) != (entry.inode, entry.link)
        and content is not None
        and _content(twin.meaning) == content
    ]
    if name == entry.name:
        named = display.conflicts(group).names
        for aside in shown.asides:
            if aside.dot is None:
                called = named[(aside.inode, aside.link, None)]
                _give_name(writing, shown, aside, (group[0], called), stamp)
    return equal


def _give_name(writing: Writing, shown: Shown, aside: Aside, to: tuple[InodeId, bytes], stamp: Stamp) -> None:
    """A file that waits for a name is called for good what it is shown as; so are those hidden behind it."""
    hidden = _behind(writing, shown, aside)
    for inode, link in [(aside.inode, aside.link), *hidden]:
        rename_file(writing, inode, link, to, stamp)


def _behind(writing: Writing, shown: Shown, aside: Aside) -> list[tuple[InodeId, str]]:
    """The files that are not shown because they equal one that stands aside."""
    content = _content(writing.rows.inode(aside.inode).meaning)
    if aside.dot is not None or content is None:
        return []
    return [(twin.inode, twin.name.link) for twin in shown.twins if _content(twin.meaning) == content]


def _content(meaning: Meaning | None) -> tuple[bytes, int] | None:
    return None if meaning is None or meaning.main is None else meaning.main.version.content


def keep_names(
    writing: Writing, display: Display, directory: InodeId, entry: Entry, stamp: Stamp, *, is_removal: bool
) -> dict[Ref, Dot]:
    """Before `entry` moves or is removed: what stands aside there keeps the names it is shown under.

    Several things of one device and second are told apart by a number. Were they to move up, whoever removes
    one after the other from a listing would remove the wrong ones. Returns the new dots of conflict entries.
    """
    dots: dict[Ref, Dot] = {}
    group = display.members(directory)
    if is_removal and entry.kind is not Kind.DIRECTORY:
        names = _names(writing, entry)
        if len(names) > 1 and names[0].link == entry.link:
            place = names[1].place
            to = (display.members_holding(place.parent), place.name)
            dots.update(make_room(writing, display, entry, to, stamp))
    if MARK not in entry.name and not display.has_special(group, claimed(writing.rows, display, entry)):
        return dots
    conflicts = display.conflicts(group)
    leaving = {entry.name}
    if entry.dot is None:
        followers = _followers(conflicts, entry.inode, entry.link)
        if is_removal and len(_names(writing, entry)) == 1:
            # With the last name they stay where they are, but for those that another file has.
            followers &= _saved_elsewhere(writing, conflicts, entry.inode)
        leaving |= followers
        for beside, aside in conflicts.asides.values():
            if beside == entry.name and aside.dot is None:
                leaving |= _taken_along(writing, conflicts, beside, aside)
    while True:
        shifted = display.shifted(group, leaving)
        # A file that is given its shown name takes along what stands aside of it, and that name is free, too.
        more = leaving.union(
            *(
                _taken_along(writing, conflicts, conflicts.asides[called][0], aside)
                for called, _, aside in shifted
                if aside.dot is None
            )
        )
        if more == leaving:
            break
        leaving = more
    for called, ordinal, aside in shifted:
        dots.update(_pin(writing, conflicts, group, called, ordinal, aside, stamp))
    return dots


def make_room(
    writing: Writing, display: Display, entry: Entry, to: tuple[Sequence[InodeId], bytes], stamp: Stamp
) -> dict[Ref, Dot]:
    """Before what stands aside of `entry` follows it to another name: what stands there keeps its names.

    Returns the new dots of conflict entries.
    """
    dots: dict[Ref, Dot] = {}
    group, name = to
    inode = writing.rows.inode(entry.inode)
    if entry.dot is not None or inode.meaning is None or not inode.meaning.conflicts or not group:
        return dots
    conflicts = display.conflicts(group)
    for called, (beside, aside) in conflicts.asides.items():
        is_own = aside.inode == entry.inode and (aside.dot is not None or aside.link == entry.link)
        if beside == name and aside.ordinal == 0 and not is_own:
            ordinal = display.ordinal(called, name, aside)
            dots.update(_pin(writing, conflicts, group, called, ordinal, aside, stamp))
    return dots


def _pin(
    writing: Writing,
    conflicts: Conflicts,
    group: Sequence[InodeId],
    called: bytes,
    ordinal: int,
    aside: Aside,
    stamp: Stamp,
) -> dict[Ref, Dot]:
    """What stands aside is called for good what it is shown as; of a conflict entry its new dot."""
    if aside.dot is not None:
        ref = (aside.inode, aside.dot)
        return {ref: keep_ordinal(writing, aside.inode, aside.dot, ordinal, stamp)}
    shown = conflicts.plain[conflicts.asides[called][0]]
    _give_name(writing, shown, aside, (group[0], called), stamp)
    return {}


def _taken_along(writing: Writing, conflicts: Conflicts, beside: bytes, aside: Aside) -> set[bytes]:
    """The names of what follows a file that stands aside, and those hidden behind it, to another name."""
    hidden = _behind(writing, conflicts.plain[beside], aside)
    files = [(aside.inode, aside.link), *hidden]
    return set().union(*(_followers(conflicts, inode, link) for inode, link in files))


def _names(writing: Writing, entry: Entry) -> tuple[Name, ...]:
    meaning = writing.rows.inode(entry.inode).meaning
    return () if meaning is None else meaning.names


def _followers(conflicts: Conflicts, inode: InodeId, link: str) -> set[bytes]:
    """The names of the conflict entries that stand beside one name of a file."""
    return {
        called
        for called, (_, aside) in conflicts.asides.items()
        if aside.dot is not None and (aside.inode, aside.link) == (inode, link)
    }


def _saved_elsewhere(writing: Writing, conflicts: Conflicts, inode: InodeId) -> set[bytes]:
    """The names of a file's conflict entries that saves carried to others: they go with its last name."""
    carried = {content.version.dot for content in carried_contents(writing, inode)}
    return {
        called
        for called, (_, aside) in conflicts.asides.items()
        if aside.inode == inode and aside.dot in carried
    }


def claimed(rows: Rows, display: Display, entry: Entry) -> bytes:
    """The name that an entry's record claims, whatever it is shown as."""
    if entry.kind is Kind.DIRECTORY:
        return display.name_of(entry.inode)
    inode = rows.inode(entry.inode)
    record = inode.links[entry.link] if entry.link else inode.record
    assert record is not None
    assert record.place is not None
    return record.place.name


def forget_removed(writing: Writing, transaction: Transaction, inode: InodeId) -> None:
    """Before a file gets a living name: contents that went with its names do not come back with this one.

    They are kept while no name lives, for whoever gave the file a name without having seen them go.
    """
    known = writing.rows.inode(inode)
    assert known.record is not None
    assert known.meaning is not None
    living = {dot for content in known.meaning.contents for dot in content.dots}
    if any(version.dot not in living for version in known.record.versions):
        record = transaction.records.get(inode, {}).get("") or transaction.edit(inode)
        record.versions = tuple(version for version in record.versions if version.dot in living)


def rename_file(writing: Writing, inode: InodeId, link: str, to: tuple[InodeId, bytes], stamp: Stamp) -> None:
    """Move one name of a file."""
    transaction = writing.begin(inode)
    record = transaction.edit(inode, link)
    forget_removed(writing, transaction, inode)
    assert record.place is not None
    at = later(stamp, record.place.stamp)
    record.place = Place(at, transaction.slot, transaction.n, to[0], to[1], None)
    writing.commit(transaction, stamp)
