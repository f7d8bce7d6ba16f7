"""Rename over as a *save*: the file people see keeps its identity and takes the content moved onto it.

Two transactions: the target's new version, then a conditional tombstone at the source that counts only once
the target's record has seen that version. Either alone, in either order, shows the content.
"""

from dittofs.ids import Number, Stamp, number_of
from dittofs.tree.display import Display
from dittofs.tree.entry import Attributes, Entry
from dittofs.tree.hlc import later
from dittofs.tree.join import join_contexts
from dittofs.tree.naming import Claimant
from dittofs.tree.record import (
    NEVER,
    WITH_CONTENT,
    Attribute,
    Forward,
    Ownership,
    Record,
    Register,
    Version,
)
from dittofs.tree.rows import Inode, Rows
from dittofs.tree.rules import NO_FACE, Content, Meaning
from dittofs.tree.status import Status
from dittofs.tree.writing import Transaction, Writing, seen_by

SET_ID_BITS = 0o6000


def content_of(rows: Rows, entry: Entry) -> Content:
    """The content that an entry shows."""
    meaning = rows.inode(entry.inode).meaning
    assert meaning is not None
    if entry.dot is None:
        assert meaning.main is not None
        return meaning.main
    return next(content for content in meaning.conflicts if entry.dot in content.dots)


def twins_of(display: Display, inode: Inode) -> list[Claimant]:
    """Files that are not shown because they equal this one, under any of its names."""
    meaning = inode.meaning
    assert meaning is not None
    twins = []
    for name in meaning.names if meaning.main is not None else ():
        group = display.members_holding(name.place.parent)
        if group and len(display.claims(group, name.place.name)) > 1:
            for twin in display.shown(group, name.place.name).twins:
                if twin.inode != inode.id and _content(twin.meaning) == _content(meaning):
                    twins.append(twin)
    return twins


def _content(meaning: Meaning) -> tuple[bytes, int] | None:
    return None if meaning.main is None else meaning.main.version.content


def can_save(rows: Rows, source: Entry, target: Entry) -> bool:
    """Whether moving `source` over `target` is a save.

    Both are regular or both symlinks, each has one name, and the source has one version.
    """
    if source.dot is not None or target.dot is not None or source.kind is not target.kind:
        return False
    one, other = rows.inode(source.inode).meaning, rows.inode(target.inode).meaning
    if one is None or other is None or source.kind not in WITH_CONTENT or source.inode == target.inode:
        return False
    return len(one.names) == 1 and len(other.names) == 1 and len(one.contents) == 1


def save(
    writing: Writing, status: Status, source: Entry, target: Entry, stamp: Stamp, node: bytes = b""
) -> None:
    """Carry it out. The source's name is gone afterwards. `node` is the version node, if not the source's."""
    rows = writing.rows
    attributes = status.stat(source.ref)
    assert attributes is not None
    transaction = writing.begin(target.inode)
    record = transaction.edit(target.inode)
    contents = rows.inode(target.inode).meaning
    assert contents is not None
    assert contents.main is not None
    published = _published(attributes, record, contents.main, transaction, stamp, number_of(target.inode))
    published = published._replace(node=node or published.node)
    record.versions = (
        *(one for one in record.versions if one.dot not in contents.main.dots),
        published,
    )
    copy_attributes(writing.rows, attributes, source, record, transaction, stamp)
    writing.commit(transaction, stamp)

    second = writing.begin(source.inode)
    known = rows.inode(source.inode)
    forwarded = second.edit(source.inode)
    seen = seen_by(known, second.fresh_context())
    forwarded.context = join_contexts(forwarded.context, seen)
    slot, n = published.dot
    forwarded.forwards = (
        *forwarded.forwards,
        Forward(target.inode, slot, n, later(stamp, known.latest), seen),
    )
    writing.commit(second, stamp)


def _published(
    attributes: Attributes, record: Record, main: Content, transaction: Transaction, stamp: Stamp, own: Number
) -> Version:
    shown = attributes.version
    assert shown is not None
    replaced = [one for one in record.versions if one.dot in main.dots]
    explicit = record.mtime.stamp if record.mtime is not None else NEVER
    written = later(stamp, max(explicit, *(one.stamp for one in replaced)))
    return Version(
        (transaction.slot, transaction.n),
        shown.root,
        shown.size,
        attributes.mtime,
        shown.node,
        later(written, max(one.rank for one in replaced)),
        _face(attributes, own),
        written,
        (),
    )


def _face(attributes: Attributes, own: Number) -> Number:
    """The face that makes an inode of number `own` show what the attributes show."""
    return NO_FACE if attributes.number == own else Number(attributes.number)


def copy_attributes(
    rows: Rows, attributes: Attributes, source: Entry, record: Record, transaction: Transaction, stamp: Stamp
) -> None:
    """Give `record` the mode, owner and extended attributes of `source`.

    Bits that were inert because they came from elsewhere do not come alive by a rename.
    """
    slot = transaction.slot
    mode = attributes.mode if attributes.trusted else attributes.mode & ~SET_ID_BITS
    at = later(stamp, record.mode.stamp if record.mode is not None else NEVER)
    record.mode = Register(at, slot, mode)
    owner = record.owner.value if record.owner is not None else None
    if owner != attributes.owner:
        at = later(stamp, record.owner.stamp if record.owner is not None else NEVER)
        record.owner = Ownership(at, slot, attributes.owner)
    known = rows.inode(source.inode).record
    assert known is not None
    xattrs = dict(record.xattrs)
    for name in known.xattrs.keys() | record.xattrs.keys():
        value = known.xattrs[name].value if name in known.xattrs else None
        old = record.xattrs.get(name)
        if (old.value if old is not None else None) != value:
            xattrs[name] = Attribute(later(stamp, old.stamp if old is not None else NEVER), slot, value)
    record.xattrs = xattrs
