"""Taking names and contents away: what `unlink`, `rename` over and a save do to the losing side."""

from collections.abc import Sequence

from dittofs.ids import InodeId, Slot, Stamp
from dittofs.tree.hlc import later
from dittofs.tree.join import join_contexts
from dittofs.tree.record import ORDINAL_MAX, PATH_DOTS_MAX, WITH_CONTENT, Dot, Record, Version, covers
from dittofs.tree.rules import Content, forwarded, meaning_of
from dittofs.tree.writing import Transaction, Writing, seen_by


def remove_name(writing: Writing, inode: InodeId, link: str, stamp: Stamp) -> None:
    """Remove one name of a file, and the shown content with it should no other name be left."""
    transaction = writing.begin(inode)
    known = writing.rows.inode(inode)
    assert known.meaning is not None
    seen = seen_by(known, transaction.fresh_context())
    holder = transaction.edit(inode, link)
    holder.context = join_contexts(holder.context, seen)
    holder.names = join_contexts(holder.names, seen)
    assert holder.place is not None
    holder.removed = later(later(stamp, holder.removed), holder.place.stamp)
    if known.meaning.kind in WITH_CONTENT and known.meaning.main is not None:
        record = transaction.edit(inode) if link else holder
        record.context = join_contexts(record.context, seen)
        record.content = join_contexts(record.content, _context_of(known.meaning.main))
        carried = carried_contents(writing, inode)
        conflicts = tuple(one for one in known.meaning.conflicts if one not in carried)
        keep_apart(writing, transaction, inode, record, conflicts, holder.removed)
    writing.commit(transaction, stamp)


def carried_contents(writing: Writing, inode: InodeId) -> Sequence[Content]:
    """The conflict entries of a file that saves have carried to others: its last name takes them along."""
    known = writing.rows.inode(inode)
    assert known.record is not None
    assert known.meaning is not None
    carried = forwarded(known.record, writing.rows.has_seen)[0]
    return [one for one in known.meaning.conflicts if all(covers(carried, dot) for dot in one.dots)]


def _context_of(content: Content) -> dict[Slot, int]:
    """The least context that covers the dots of a content."""
    context: dict[Slot, int] = {}
    for slot, n in content.dots:
        context[slot] = max(n, context.get(slot, 0))
    return context


def keep_apart(
    writing: Writing,
    transaction: Transaction,
    inode: InodeId,
    record: Record,
    conflicts: tuple[Content, ...],
    stamp: Stamp,
) -> None:
    """Give a fresh dot to each conflict entry that the content tombstone covers only by the way.

    A tombstone says "everything up to n" of a writer, so it may reach older versions that were left alone.
    """
    reached = [one for one in conflicts if any(covers(record.content, dot) for dot in one.dots)]
    for count, content in enumerate(reached):
        if count:
            # A dot names one version, so a transaction that makes several counts on.
            transaction.n += 1
            record.context = {**record.context, transaction.slot: transaction.n}
        record.versions = (
            *without(record, content.dots),
            successor(writing, inode, content, transaction, stamp),
        )


def successor(
    writing: Writing,
    inode: InodeId,
    content: Content,
    transaction: Transaction,
    stamp: Stamp,
    ordinal: int = 0,
) -> Version:
    """The same content with a fresh dot: its rank, its place among conflict entries and its number stay."""
    version = content.version
    return version._replace(
        dot=(transaction.slot, transaction.n),
        face=writing.shown_number(writing.rows.inode(inode), version.dot),
        stamp=later(stamp, version.stamp),
        path=descent(version),
        ordinal=ordinal or version.ordinal,
    )


def keep_ordinal(writing: Writing, inode: InodeId, dot: Dot, ordinal: int, stamp: Stamp) -> Dot:
    """Give a conflict entry the number in its name for good; return its new dot."""
    meaning = writing.rows.inode(inode).meaning
    assert meaning is not None
    content = next(content for content in meaning.conflicts if dot in content.dots)
    transaction = writing.begin(inode)
    record = transaction.edit(inode)
    version = successor(writing, inode, content, transaction, stamp, min(ordinal, ORDINAL_MAX))
    record.versions = (*without(record, content.dots), version)
    writing.commit(transaction, stamp)
    return version.dot


def descent(version: Version) -> tuple[Dot, ...]:
    """The path of what replaces a conflict entry."""
    return version.lineage[:PATH_DOTS_MAX]


def without(record: Record, dots: tuple[Dot, ...]) -> tuple[Version, ...]:
    """The record's versions but those."""
    return tuple(version for version in record.versions if version.dot not in dots)


def drop_content(writing: Writing, inode: InodeId, content: Content, stamp: Stamp) -> None:
    """Drop a conflict entry."""
    transaction = writing.begin(inode)
    take_out(writing, transaction, inode, content, stamp)
    writing.commit(transaction, stamp)


def take_out(
    writing: Writing, transaction: Transaction, inode: InodeId, content: Content, stamp: Stamp
) -> Record:
    """Edit an inode's own record: it has the conflict entry no more. What its name shows stays there.

    A name that was removed may be back because of that very entry; then it is given anew.
    """
    known = writing.rows.inode(inode)
    assert known.meaning is not None
    record = transaction.edit(inode)
    record.versions = without(record, content.dots)
    left = meaning_of(record, known.links, writing.rows.has_seen)
    if known.meaning.main is not None and left.main is None and left.names:
        name = left.names[0]
        living = {dot for one in left.contents for dot in one.dots}
        record.versions = tuple(version for version in record.versions if version.dot in living)
        holder = transaction.edit(inode, name.link) if name.link else record
        at = later(stamp, name.place.stamp)
        holder.place = name.place._replace(stamp=at, slot=transaction.slot, n=transaction.n)
    return record
