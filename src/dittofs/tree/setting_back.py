"""Setting an inode back to what it was: its names, its content and its attributes, in one transaction.

Whoever restores, undoes or refuses what another device did says what is to be shown again; nothing that is
shown now is lost by it but what is named in `replaces`. The dead come back too, directories among them, as
long as their record is known.
"""

import errno
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from dittofs.errors import FSError
from dittofs.ids import InodeId, Slot, Stamp
from dittofs.tree.hlc import later
from dittofs.tree.join import join_contexts
from dittofs.tree.record import (
    NEVER,
    Attribute,
    Dot,
    Kind,
    NewVersion,
    Owner,
    Ownership,
    Place,
    Record,
    Register,
    Version,
)
from dittofs.tree.removal import descent
from dittofs.tree.rows import Inode
from dittofs.tree.rules import Content, Meaning, version_order
from dittofs.tree.writing import Transaction, Writing

Where = tuple[InodeId, bytes]
MODE_BITS = 0o7777


@dataclass(frozen=True, slots=True)
class SetBack:
    """What an inode is to be again. What is not named stays as it is."""

    names: Mapping[str, Where] = field(default_factory=dict)
    """Parent and name of each of its names ("" is the inode's own), moved there or back from the dead."""
    contents: tuple[NewVersion, ...] = ()
    """What its names are to show, and after it what is to stand beside; empty: as it is."""
    has_faces: bool = False
    """Whether `contents` say which numbers they showed (0: the inode's own); else the present one stays."""
    replaces: frozenset[Dot] = frozenset()
    """The versions that go for them. Every other living one stays, as a conflict entry."""
    mode: int | None = None
    owner: tuple[Owner | None] | None = None
    """In a tuple, because None is an owner: whoever mounts."""
    mtime: int | None = None
    xattrs: Mapping[bytes, bytes | None] = field(default_factory=dict)

    @property
    def is_nothing(self) -> bool:
        """Whether it changes nothing."""
        is_kept = self.mode is None and self.owner is None and self.mtime is None
        return is_kept and not (self.names or self.contents or self.xattrs)


def set_back(writing: Writing, inode: InodeId, back: SetBack, stamp: Stamp) -> None:
    """Carry it out. FSError: ENOENT if nothing is known of the inode, or of one of the names; EINVAL for
    what other devices would not take.
    """
    transaction = writing.begin(inode)
    known = writing.rows.inode(inode)  # what was held of it is known from here on
    if known.record is None or known.meaning is None or not back.names.keys() <= {"", *known.links}:
        raise FSError(errno.ENOENT)
    record = transaction.edit(inode)
    if back.contents:
        record.versions = _versions(known.meaning, record, back, transaction, stamp)
    for link, (parent, name) in sorted(back.names.items()):
        holder = record if not link else transaction.edit(inode, link)
        if holder.place is None:
            raise FSError(errno.ENOENT)
        before = writing.placement.place_of(inode) if record.kind is Kind.DIRECTORY else None
        at = later(stamp, max(holder.place.stamp, holder.removed))
        holder.place = Place(at, transaction.slot, transaction.n, parent, name, before)
        holder.context = join_contexts(holder.context, record.context)
    _set_attributes(record, back, transaction, stamp)
    writing.commit(transaction, stamp)


def _versions(
    meaning: Meaning, record: Record, back: SetBack, transaction: Transaction, stamp: Stamp
) -> tuple[Version, ...]:
    """The contents that are asked for, the first one before all others, and what is not replaced."""
    wanted = {(one.root, one.size) for one in back.contents}
    living = {dot for content in meaning.contents for dot in content.dots}
    kept = [
        one
        for one in record.versions
        if one.content in wanted or (one.dot in living and one.dot not in back.replaces)
    ]
    face = meaning.main.version.face if meaning.main is not None else 0
    newest = max((one.stamp for one in record.versions), default=NEVER)
    if record.mtime is not None:
        newest = max(newest, record.mtime.stamp)
    rank = max((one.rank for one in record.versions), default=NEVER)
    made = 0
    for place, one in enumerate(back.contents):
        equal = [version for version in kept if version.content == (one.root, one.size)]
        if equal and (place or max(kept, key=version_order) in equal):
            continue
        kept = [version for version in kept if version not in equal]
        if made:  # a dot names one version, so a transaction that makes several counts on
            transaction.n += 1
            record.context = {**record.context, transaction.slot: transaction.n}
        made += 1
        version = Version(
            (transaction.slot, transaction.n),
            one.root,
            one.size,
            one.mtime,
            one.node,
            one.rank or min((v.rank for v in kept), default=stamp) if place else later(stamp, rank),
            one.face or (0 if place or back.has_faces else face),
            later(stamp, newest),
            one.path if place else (),
            one.ordinal if place else 0,
        )
        main = max(kept, key=version_order) if place else version
        if version_order(version) > version_order(main):
            # What stands beside was older than what is shown, whenever it comes back.
            version = version._replace(rank=max(NEVER, Stamp(main.rank - 1)))
        kept.append(version)
    return tuple(kept)


def _set_attributes(record: Record, back: SetBack, transaction: Transaction, stamp: Stamp) -> None:
    slot = transaction.slot
    if back.mode is not None:
        at = later(stamp, record.mode.stamp if record.mode is not None else NEVER)
        record.mode = Register(at, slot, back.mode & MODE_BITS)
    if back.owner is not None:
        at = later(stamp, record.owner.stamp if record.owner is not None else NEVER)
        record.owner = Ownership(at, slot, back.owner[0])
    if back.mtime is not None:
        times = [version.stamp for version in record.versions]
        if record.mtime is not None:
            times.append(record.mtime.stamp)
        record.mtime = Register(later(stamp, max(times, default=NEVER)), slot, back.mtime)
    for name, value in back.xattrs.items():
        old = record.xattrs.get(name)
        at = later(stamp, old.stamp if old is not None else NEVER)
        record.xattrs = {**record.xattrs, name: Attribute(at, slot, value)}


def difference_back(shown: Inode, now: Inode, is_theirs: Callable[[Slot], bool]) -> SetBack:
    """How `now` becomes what `shown` says, but for what others than `is_theirs` did meanwhile.

    A content that another one wrote stays beside.
    """
    assert shown.record is not None
    assert shown.meaning is not None
    assert now.record is not None
    assert now.meaning is not None
    old, new = shown.record, now.record
    contents, replaces = _contents_back(shown.meaning, now.meaning, is_theirs)
    is_mode = _is_changed(old.mode, new.mode) and new.mode is not None and is_theirs(new.mode.slot)
    is_owner = _is_changed(old.owner, new.owner) and new.owner is not None and is_theirs(new.owner.slot)
    is_mtime = _is_changed(old.mtime, new.mtime) and new.mtime is not None and is_theirs(new.mtime.slot)
    return SetBack(
        names=_names_back(shown, now, is_theirs),
        contents=contents,
        has_faces=True,
        replaces=replaces,
        mode=old.mode.value if is_mode and old.mode is not None else None,
        owner=(old.owner.value if old.owner is not None else None,) if is_owner else None,
        mtime=old.mtime.value if is_mtime and old.mtime is not None and not contents else None,
        xattrs={
            name: old.xattrs[name].value if name in old.xattrs else None
            for name, one in new.xattrs.items()
            if is_theirs(one.slot) and _is_changed(old.xattrs.get(name), one)
        },
    )


def _is_changed(old: object, new: object) -> bool:
    return old != new


def _names_back(shown: Inode, now: Inode, is_theirs: Callable[[Slot], bool]) -> dict[str, Where]:
    names: dict[str, Where] = {}
    assert now.record is not None
    assert now.meaning is not None
    living = {one.link for one in now.meaning.names if one.is_plain} if now.meaning.is_alive else set()
    for link, place in _living(shown).items():
        holder = now.links.get(link) if link else now.record
        if holder is None or holder.place is None:
            continue
        is_moved = (holder.place.parent, holder.place.name) != (place.parent, place.name)
        if link not in living or (is_moved and is_theirs(holder.place.slot)):
            names[link] = (place.parent, place.name)
    return names


def _living(inode: Inode) -> dict[str, Place]:
    """Where an inode is shown by name."""
    meaning = inode.meaning
    if meaning is None or not meaning.is_alive:
        return {}
    return {one.link: one.place for one in meaning.names if one.is_plain}


def _contents_back(
    shown: Meaning, now: Meaning, is_theirs: Callable[[Slot], bool]
) -> tuple[tuple[NewVersion, ...], frozenset[Dot]]:
    wanted = shown.contents
    contents = {content.version.content for content in wanted}
    if not wanted or [one.version.content for one in now.contents] == [one.version.content for one in wanted]:
        return (), frozenset()
    replaces = frozenset(
        dot
        for content in now.contents
        if content.version.content not in contents
        for dot in content.dots
        if is_theirs(dot[0])
    )
    return (*map(_as_new, wanted[:1]), *map(_as_beside, wanted[1:])), replaces


def _as_new(content: Content) -> NewVersion:
    version = content.version
    return NewVersion(version.root, version.size, version.mtime, version.node, version.face)


def _as_beside(content: Content) -> NewVersion:
    """What a conflict entry shows is to be called as before."""
    version = content.version
    return replace(_as_new(content), rank=version.rank, path=descent(version), ordinal=version.ordinal)
