"""Checks of names that operations share, and what must happen before a name is left."""

import errno
from collections.abc import Mapping, Sequence

from dittofs.errors import FSError
from dittofs.ids import InodeId, Stamp
from dittofs.tree.display import Display
from dittofs.tree.entry import Entry
from dittofs.tree.hlc import later
from dittofs.tree.naming import MARK, Aside, Claimant
from dittofs.tree.record import NAME_BYTES_MAX, Dot, Kind, Place, Ref, is_name
from dittofs.tree.removal import keep_ordinal
from dittofs.tree.rows import Rows
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
    if name == entry.name:
        named = display.conflicts(group).names
        for aside in shown.asides:
            if aside.dot is None:
                called = named[(aside.inode, aside.link, None)]
                rename_file(writing, aside.inode, aside.link, (group[0], called), stamp)
    if entry.kind is Kind.DIRECTORY:
        return ()
    meaning = writing.rows.inode(entry.inode).meaning
    if meaning is None or meaning.main is None:
        return ()
    content = meaning.main.version.content
    return [
        twin
        for twin in shown.twins
        if (twin.inode, twin.name.link) != (entry.inode, entry.link)
        and twin.meaning.main is not None
        and twin.meaning.main.version.content == content
    ]


def keep_names(
    writing: Writing, display: Display, directory: InodeId, entry: Entry, stamp: Stamp
) -> dict[Ref, Dot]:
    """Before `entry` goes: what stands aside in its directory keeps the names it is shown under.

    Several things of one device and second are told apart by a number. Were they to move up, whoever removes
    one after the other from a listing would remove the wrong ones. Returns the new dots of conflict entries.
    """
    dots: dict[Ref, Dot] = {}
    group = display.members(directory)
    if MARK not in entry.name and not display.has_special(group, claimed(writing.rows, display, entry)):
        return dots
    asides = display.conflicts(group).asides
    leaving = {entry.name}
    if entry.dot is None:
        leaving |= _followers(asides, entry.inode, entry.link)
        for _, (beside, aside) in asides.items():
            if beside == entry.name and aside.dot is None:
                leaving |= _followers(asides, aside.inode, aside.link)
    while True:
        shifted = display.shifted(group, leaving)
        # A file that is given its shown name takes along what stands aside of it, and that name is free, too.
        more = leaving.union(
            *(_followers(asides, aside.inode, aside.link) for _, aside in shifted if aside.dot is None)
        )
        if more == leaving:
            break
        leaving = more
    names = {aside: called for called, (_, aside) in asides.items()}
    for ordinal, aside in shifted:
        if aside.dot is None:
            rename_file(writing, aside.inode, aside.link, (group[0], names[aside]), stamp)
        else:
            ref = (aside.inode, aside.dot)
            dots[ref] = keep_ordinal(writing, aside.inode, aside.dot, ordinal, stamp)
    return dots


def _followers(asides: Mapping[bytes, tuple[bytes, Aside]], inode: InodeId, link: str) -> set[bytes]:
    """The names of the conflict entries that stand beside one name of a file."""
    return {
        called
        for called, (_, aside) in asides.items()
        if aside.dot is not None and (aside.inode, aside.link) == (inode, link)
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
