"""Rename and exchange: which records change, and in which order."""

import errno
from collections.abc import Mapping
from dataclasses import replace

from dittofs.errors import FSError
from dittofs.ids import InodeId, Number, Stamp
from dittofs.tree import saving
from dittofs.tree.display import Display
from dittofs.tree.entry import Attributes, Entry
from dittofs.tree.hlc import later
from dittofs.tree.join import join_contexts
from dittofs.tree.names import (
    check_free,
    check_name,
    claimed,
    found,
    keep_names,
    make_room,
    rename_file,
    vacate,
)
from dittofs.tree.record import NEVER, PATH_DEPTH_MAX, Dot, Kind, Place, Record, Ref, Version
from dittofs.tree.removal import drop_content, remove_name, take_out, without
from dittofs.tree.rules import is_root
from dittofs.tree.status import Status
from dittofs.tree.writing import Transaction, Writing

Where = tuple[InodeId, bytes]
At = tuple[InodeId, Entry]


def rename(
    writing: Writing,
    display: Display,
    status: Status,
    source: At,
    target: Where,
    over: Entry | None,
    stamp: Stamp,
    node: bytes = b"",
) -> bool:
    """See `Group.rename`."""
    directory, entry = source
    new_directory, name = target
    check_name(name)
    found(display, directory, entry)
    group = display.members(new_directory)
    if not group:
        raise FSError(errno.ENOENT)
    if over is None:
        check_free(display, group, name)
    else:
        found(display, new_directory, over)
        if over.name != name:
            raise FSError(errno.ENOENT)
        if entry == over or (entry.dot is over.dot is None and entry.inode == over.inode):
            return False
    to = (group[0], name)
    if entry.kind is Kind.DIRECTORY:
        _rename_directory(writing, display, source, to, over, stamp)
        return False
    if over is not None and over.kind is Kind.DIRECTORY:
        raise FSError(errno.EISDIR)
    dots = keep_names(writing, display, directory, entry, stamp, is_removal=False)
    dots.update(make_room(writing, display, entry, (group, name), stamp))
    if over is not None:
        over = _with_dot(over, dots)
        dots = keep_names(writing, display, new_directory, over, stamp, is_removal=True)
        entry = _with_dot(entry, dots)
    if entry.dot is not None:
        if over is not None and over.dot is None and over.inode == entry.inode:
            _resolve(writing, status, entry, stamp)
            return True
        twins = vacate(writing, display, new_directory, over, stamp) if over is not None else ()
        adopt(writing, status, entry, to, stamp)
    elif (
        over is not None
        and saving.can_save(writing.rows, entry, over)
        and claimed(writing.rows, display, over) == over.name
    ):
        hidden = vacate(writing, display, directory, entry, stamp)
        equal = saving.twins_of(display, writing.rows.inode(over.inode))
        saving.save(writing, status, entry, over, stamp, node)
        for twin in {(one.inode, one.name.link) for one in (*hidden, *equal)} - {(entry.inode, entry.link)}:
            remove_name(writing, *twin, stamp)
        return True
    else:
        twins = [
            *vacate(writing, display, directory, entry, stamp),
            *(vacate(writing, display, new_directory, over, stamp) if over is not None else ()),
        ]
        rename_file(writing, entry.inode, entry.link, to, stamp)
    if over is not None:
        _remove(writing, over, stamp)
    # A conflict entry's own file may be hidden behind what it replaces.
    gone = {(one.inode, one.link) for one in (entry, over) if one is not None and one.dot is None}
    for twin in sorted({(one.inode, one.name.link) for one in twins} - gone):
        remove_name(writing, *twin, stamp)
    return False


def _with_dot(entry: Entry, dots: Mapping[Ref, Dot]) -> Entry:
    """The entry, after `keep_names` gave some versions other dots."""
    return replace(entry, dot=dots.get(entry.ref, entry.dot))


def _remove(writing: Writing, entry: Entry, stamp: Stamp) -> None:
    """A file's name, or a conflict entry, goes."""
    if entry.dot is not None:
        drop_content(writing, entry.inode, saving.content_of(writing.rows, entry), stamp)
    else:
        remove_name(writing, entry.inode, entry.link, stamp)


def _rename_directory(
    writing: Writing, display: Display, source: At, to: Where, over: Entry | None, stamp: Stamp
) -> None:
    directory, entry = source
    members = display.members(entry.inode)
    if any(is_root(member) for member in members):
        raise FSError(errno.EBUSY)
    check_not_below(display, members, to[0])
    if display.depth(to[0]) >= PATH_DEPTH_MAX:
        raise FSError(errno.ENAMETOOLONG)
    replaced: tuple[InodeId, ...] = ()
    if over is not None:
        if over.kind is not Kind.DIRECTORY:
            raise FSError(errno.ENOTDIR)
        replaced = display.members(over.inode)
        if any(is_root(member) for member in replaced):
            raise FSError(errno.EBUSY)
        if not display.is_empty(replaced):
            raise FSError(errno.ENOTEMPTY)
    keep_names(writing, display, directory, entry, stamp, is_removal=False)
    vacate(writing, display, directory, entry, stamp)
    settle_above(writing, to[0], stamp)
    place_directory(writing, members, to, stamp)
    for member in replaced:
        remove_directory(writing, member, stamp)


def check_not_below(display: Display, members: tuple[InodeId, ...], directory: InodeId) -> None:
    """Raise FSError(EINVAL) if `directory` is one of `members` or lies below them."""
    at = display.members(directory)[0]
    while not is_root(at):
        if at in members:
            raise FSError(errno.EINVAL)
        at = display.parent(at)
    if at in members:
        raise FSError(errno.EINVAL)


def settle_above(writing: Writing, directory: InodeId, stamp: Stamp) -> None:
    """Make the places above `directory` say what is shown, before something is moved into it.

    A directory that is shown elsewhere because of a cycle is given that place. Otherwise the cycle would
    still be there, and what is moved now, being the latest move, would be taken out of it.
    """
    at = directory
    while (place := writing.placement.place_of(at)) is not None:
        if at in writing.rows.displaced:
            place_directory(writing, (at,), place, stamp)
        at = place[0]


def place_directory(writing: Writing, members: tuple[InodeId, ...], to: Where, stamp: Stamp) -> None:
    """Move every member of a directory, all with one stamp."""
    for member in members:
        record = writing.rows.inode(member).record
        stamp = later(stamp, record.place.stamp if record is not None and record.place is not None else NEVER)
    for member in members:
        transaction = writing.begin(member)
        record = transaction.edit(member)
        before = writing.placement.place_of(member)
        record.place = Place(stamp, transaction.slot, transaction.n, to[0], to[1], before)
        writing.commit(transaction, stamp)


def remove_directory(writing: Writing, member: InodeId, stamp: Stamp) -> None:
    """Remove one directory record's name."""
    transaction = writing.begin(member)
    record = transaction.edit(member)
    assert record.place is not None
    record.names = join_contexts(record.names, record.context)
    record.removed = later(later(stamp, record.removed), record.place.stamp)
    writing.commit(transaction, stamp)


def adopt(
    writing: Writing, status: Status, entry: Entry, to: Where, stamp: Stamp, also: Where | None = None
) -> None:
    """A conflict entry becomes an inode of its own at `to`, and `also`; its number stays."""
    attributes = status.stat(entry.ref)
    assert attributes is not None
    content = saving.content_of(writing.rows, entry)
    transaction = writing.begin(entry.inode)
    take_out(writing, transaction, entry.inode, content, stamp)
    inode = transaction.sibling(entry.inode)
    slot, n = transaction.slot, transaction.n
    made = Record(
        entry.kind,
        transaction.fresh_context(),
        place=Place(stamp, slot, n, to[0], to[1], None),
        birth=attributes.birth,
        versions=(_own(attributes, transaction, stamp, stamp),),
    )
    saving.copy_attributes(writing.rows, attributes, entry, made, transaction, stamp)
    transaction.add(inode, "", made)
    if also is not None:
        place = Place(stamp, slot, n, also[0], also[1], None)
        transaction.add(inode, transaction.link_id(), Record(Kind.LINK, transaction.fresh_context(), place))
    writing.commit(transaction, stamp)


def _resolve(writing: Writing, status: Status, entry: Entry, stamp: Stamp) -> None:
    """A conflict entry is moved onto the name it stands beside: its content replaces the shown one."""
    attributes = status.stat(entry.ref)
    assert attributes is not None
    content = saving.content_of(writing.rows, entry)
    meaning = writing.rows.inode(entry.inode).meaning
    assert meaning is not None
    assert meaning.main is not None
    transaction = writing.begin(entry.inode)
    record = transaction.edit(entry.inode)
    rank = later(stamp, max(one.rank for one in record.versions))
    record.versions = (
        *without(record, (*content.dots, *meaning.main.dots)),
        _own(attributes, transaction, rank, rank),
    )
    writing.commit(transaction, stamp)


def _own(attributes: Attributes, transaction: Transaction, rank: Stamp, stamp: Stamp) -> Version:
    """The content of a conflict entry as a version that keeps its number."""
    shown = attributes.version
    assert shown is not None
    return shown._replace(
        ordinal=0,
        dot=(transaction.slot, transaction.n),
        mtime=attributes.mtime,
        rank=rank,
        stamp=stamp,
        face=Number(attributes.number),
        path=(),
    )


def exchange(writing: Writing, display: Display, a: At, b: At, stamp: Stamp) -> None:
    """See `Group.exchange`."""
    for directory, entry in (a, b):
        found(display, directory, entry)
        if entry.dot is not None:
            raise FSError(errno.EINVAL)
    if a[1].inode == b[1].inode:
        return
    groups = [display.members(directory) for directory, _ in (a, b)]
    moves = []
    for (_, entry), group, (_, other) in ((a, groups[1], b), (b, groups[0], a)):
        if entry.kind is Kind.DIRECTORY:
            members = display.members(entry.inode)
            if any(is_root(member) for member in members):
                raise FSError(errno.EBUSY)
            check_not_below(display, members, group[0])
        moves.append((entry, (group[0], other.name)))
    for directory, entry in (a, b):
        keep_names(writing, display, directory, entry, stamp, is_removal=False)
    twins = [
        (twin.inode, twin.name.link)
        for directory, entry in (a, b)
        for twin in vacate(writing, display, directory, entry, stamp)
    ]
    for entry, _ in moves:
        known = writing.rows.inode(entry.inode)
        stamp = later(
            stamp, max(one.place.stamp for one in (known.record, *known.links.values()) if one and one.place)
        )
    places = [display.members(entry.inode) if entry.kind is Kind.DIRECTORY else () for entry, _ in moves]
    for (entry, to), members in zip(moves, places, strict=True):
        if entry.kind is Kind.DIRECTORY:
            settle_above(writing, to[0], stamp)
            place_directory(writing, members, to, stamp)
        else:
            rename_file(writing, entry.inode, entry.link, to, stamp)
    for twin in sorted(set(twins)):
        remove_name(writing, *twin, stamp)
