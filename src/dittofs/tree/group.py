"""A group of local operations that peers see as one.

Each method checks first (FSError, and nothing has changed), then writes one transaction in one shard or
several in an order in which every prefix is safe: what creates comes before what removes.
"""

import errno
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from dittofs.errors import FSError
from dittofs.ids import LOST_FOUND, ROOT, InodeId, Stamp
from dittofs.tree import moving, saving
from dittofs.tree.display import Display
from dittofs.tree.entry import Change, Entry
from dittofs.tree.hlc import later
from dittofs.tree.names import check_free, check_name, forget_removed, found, keep_names, vacate
from dittofs.tree.record import (
    NEVER,
    PATH_DEPTH_MAX,
    STAMP_END,
    WITH_CONTENT,
    Attribute,
    Dot,
    Kind,
    NewVersion,
    Owner,
    Ownership,
    Place,
    Record,
    Ref,
    Register,
    Version,
)
from dittofs.tree.removal import descent, drop_content, remove_name
from dittofs.tree.rules import Content, is_root, version_order
from dittofs.tree.setting_back import SetBack, set_back
from dittofs.tree.settings import VALUE_BYTES_MAX, is_setting_name
from dittofs.tree.status import Status
from dittofs.tree.writing import Transaction, Writing

LINKS_MAX = 65_000


class Group:
    """See the module. Made by `Tree.group`; one at a time, ended by `finish`."""

    def __init__(self, writing: Writing, display: Display, status: Status) -> None:
        self._writing = writing
        self._rows = writing.rows
        self._display = display
        self._status = status

    def finish(self) -> Change:
        """What the group did. It is over."""
        return self._writing.finish()

    def touch(self, directory: InodeId, *, stamp: Stamp) -> None:
        """A name in `directory` that the tree does not know changed: its times on this device move on."""
        self._writing.placement.touch(directory, stamp)
        self._writing.placement.touched.inodes.add(directory)

    def set_setting(self, name: str, value: bytes | None) -> None:
        """Set a setting of the volume, which all replicas share; None removes it. The latest wins.

        Raises FSError(EINVAL) for a name that is none, FSError(E2BIG) for a value above 32 KiB.
        """
        if not is_setting_name(name):
            raise FSError(errno.EINVAL)
        if value is not None and len(value) > VALUE_BYTES_MAX:
            raise FSError(errno.E2BIG)
        self._writing.set(name, value)

    # -- making

    def create(
        self,
        parent: InodeId,
        name: bytes,
        kind: Kind,
        *,
        inode: InodeId,
        mode: int,
        owner: Owner | None,
        birth: int,
        mtime: int | None,
        version: NewVersion | None,
        rdev: int = 0,
        xattrs: Mapping[bytes, bytes],
        stamp: Stamp,
        revives: bool = False,
        beside: bool = False,
    ) -> None:
        """Make a file, directory, symlink or special file under a free name.

        `revives`: a directory that was removed meanwhile is shown again, because this is in it. `beside`:
        something else may have the name; who keeps it is as for things made apart (naming.py).

        `inode` is a fresh id. A regular file and a symlink come with a version. `mtime`: an explicit one,
        else the version's, or the birth. The directory's times move to the birth, or to an earlier stamp.
        """
        assert kind is not Kind.LINK
        assert (version is not None) == (kind in WITH_CONTENT)
        check_name(name)
        is_hidden = revives and self._is_directory(parent) and not self._display.members(parent)
        group = (parent,) if is_hidden else self._directory(parent)
        if not beside:
            check_free(self._display, group, name)
        if self._rows.inode(inode).record is not None:
            raise FSError(errno.EEXIST)
        if kind is Kind.DIRECTORY and self._display.depth(group[0]) >= PATH_DEPTH_MAX:
            raise FSError(errno.ENAMETOOLONG)
        transaction = self._writing.begin(inode)
        slot, n = transaction.slot, transaction.n
        record = Record(
            kind,
            transaction.fresh_context(),
            place=Place(stamp, slot, n, group[0], name, None),
            mode=Register(stamp, slot, mode),
            owner=None if owner is None else Ownership(stamp, slot, owner),
            mtime=None if mtime is None else Register(stamp, slot, mtime),
            birth=_birth(birth),
            versions=() if version is None else (_first_version(version, transaction, stamp),),
            xattrs={one: Attribute(stamp, slot, value) for one, value in xattrs.items()},
            rdev=rdev,
        )
        transaction.add(inode, "", record)
        self._writing.commit(transaction, stamp, touched=min(birth, stamp))

    def link(self, ref: Ref, parent: InodeId, name: bytes, *, stamp: Stamp) -> None:
        """Give a file a further name. A conflict entry becomes an inode of its own with both names."""
        check_name(name)
        group = self._directory(parent)
        check_free(self._display, group, name)
        inode = ref[0]
        dot = self._taken_back(inode, ref[1])
        ref = (inode, dot)
        known = self._rows.inode(inode)
        if known.meaning is None or not known.meaning.names:
            raise FSError(errno.ENOENT)
        if known.meaning.kind is Kind.DIRECTORY:
            raise FSError(errno.EPERM)
        if len(known.meaning.names) >= LINKS_MAX:
            raise FSError(errno.EMLINK)
        if dot is not None:
            for directory, entry in self._status.names(inode):
                if entry.dot is not None and self._status.stat(entry.ref) == self._status.stat(ref):
                    to, also = (directory, entry.name), (group[0], name)
                    moving.adopt(self._writing, self._status, entry, to, stamp, also)
                    return
            raise FSError(errno.ENOENT)
        transaction = self._writing.begin(inode)
        place = Place(stamp, transaction.slot, transaction.n, group[0], name, None)
        forget_removed(self._writing, transaction, inode)
        transaction.add(inode, transaction.link_id(), Record(Kind.LINK, transaction.fresh_context(), place))
        self._writing.commit(transaction, stamp)

    def write(
        self,
        inode: InodeId,
        version: NewVersion,
        *,
        replaces: Collection[Dot],
        stamp: Stamp,
        rank: Stamp | None = None,
    ) -> Dot:
        """Publish a content in place of the versions `replaces` and those equal to them; return its dot.

        Others stay, as conflict entries. `rank` is that of a conflict entry that was edited: the new version
        keeps its name and its number. Writing to what was removed meanwhile brings it back.
        """
        replaces = self._all_taken_back(inode, replaces)
        known = self._rows.inode(inode)
        if known.record is None or known.meaning is None or known.meaning.kind not in WITH_CONTENT:
            raise FSError(errno.ENOENT)
        twins = saving.twins_of(self._display, known)
        transaction = self._writing.begin(inode)
        record = transaction.edit(inode)
        contents = {one.content for one in record.versions if one.dot in replaces}
        replaced = [one for one in record.versions if one.content in contents]
        main = known.meaning.main.version if known.meaning.main is not None else None
        face = version.face
        path: tuple[Dot, ...] = ()
        ordinal = 0
        newest = max((one.stamp for one in replaced), default=NEVER)
        written = later(stamp, newest)
        if rank is None:
            rank = later(written, max((one.rank for one in replaced), default=NEVER))
            face = face or (main.face if main is not None else 0)
        elif replaced:
            # What is shown of them: an equal version may have gone with its names.
            shown = [one.version for one in known.meaning.contents if one.version.content in contents]
            edited = max(shown or replaced, key=version_order)
            path = descent(edited)
            ordinal = edited.ordinal
            is_aside = any(edited.dot == content.version.dot for content in known.meaning.conflicts)
            face = face or (self._status.number(known, edited.dot) if is_aside else edited.face)
        elif replaces:
            path = tuple(dot for dot in [min(replaces)] if record.context.get(dot[0], 0) >= dot[1])
        dot = (transaction.slot, transaction.n)
        published = Version(
            dot, version.root, version.size, version.mtime, version.node, rank, face, written, path, ordinal
        )
        record.versions = (*(one for one in record.versions if one not in replaced), published)
        self._writing.commit(transaction, stamp)
        for twin in twins:
            remove_name(self._writing, twin.inode, twin.name.link, stamp)
        return dot

    # -- removing

    def unlink(self, directory: InodeId, entry: Entry, *, stamp: Stamp) -> None:
        """Remove a name that is no directory's, or a conflict entry.

        The last name takes the shown content with it; other contents stay, as conflict entries. Files that
        waited for the name keep those they are shown under.
        """
        entry = self._owned(entry)
        found(self._display, directory, entry)
        if entry.kind is Kind.DIRECTORY:
            raise FSError(errno.EISDIR)
        keep_names(self._writing, self._display, directory, entry, stamp, is_removal=True)
        if entry.dot is not None:
            drop_content(self._writing, entry.inode, saving.content_of(self._rows, entry), stamp)
            return
        twins = vacate(self._writing, self._display, directory, entry, stamp)
        remove_name(self._writing, entry.inode, entry.link, stamp)
        for twin in twins:
            remove_name(self._writing, twin.inode, twin.name.link, stamp)

    def rmdir(self, directory: InodeId, entry: Entry, *, stamp: Stamp) -> None:
        """Remove an empty directory, with every member."""
        entry = self._owned(entry)
        found(self._display, directory, entry)
        if entry.kind is not Kind.DIRECTORY:
            raise FSError(errno.ENOTDIR)
        members = self._display.members(entry.inode)
        if any(is_root(member) for member in members):
            raise FSError(errno.EBUSY)
        if not self._display.is_empty(members):
            raise FSError(errno.ENOTEMPTY)
        keep_names(self._writing, self._display, directory, entry, stamp, is_removal=True)
        vacate(self._writing, self._display, directory, entry, stamp)
        for member in members:
            moving.remove_directory(self._writing, member, stamp)

    # -- moving

    def rename(
        self,
        directory: InodeId,
        entry: Entry,
        new_directory: InodeId,
        new_name: bytes,
        *,
        over: Entry | None,
        stamp: Stamp,
        node: bytes = b"",
    ) -> bool:
        """Move an entry; `over` is what is shown under the new name now.

        True if it was a *save*: the inode of `over` lives on and shows the content and number of `entry`, and
        its new version has the version node `node`, if that is given. Two names of one inode stay as they
        are (rename(2)).
        """
        return moving.rename(
            self._writing,
            self._display,
            self._status,
            (directory, self._owned(entry)),
            (new_directory, new_name),
            None if over is None else self._owned(over),
            stamp,
            node,
        )

    def exchange(self, directory: InodeId, a: Entry, directory_b: InodeId, b: Entry, *, stamp: Stamp) -> None:
        """Swap two entries. Conflict entries cannot be swapped (EINVAL)."""
        at = ((directory, self._owned(a)), (directory_b, self._owned(b)))
        moving.exchange(self._writing, self._display, *at, stamp)

    # -- what was

    def set_back(self, inode: InodeId, back: SetBack, *, stamp: Stamp) -> None:
        """Make an inode what it was, visible or not; of a merged directory this member only.

        FSError(ENOENT) if nothing is known of it any more.
        """
        replaces = frozenset(self._all_taken_back(inode, back.replaces))
        set_back(self._writing, inode, replace(back, replaces=replaces), stamp)

    def take_back(self, inode: InodeId) -> None:
        """Make a held inode what is shown of it, for all devices. One that is not held stays as it is."""
        self._writing.begin(inode)

    def _owned(self, entry: Entry) -> Entry:
        """`entry` as it is called once its inode is not held any more."""
        return replace(entry, dot=self._taken_back(entry.inode, entry.dot))

    def _taken_back(self, inode: InodeId, dot: Dot | None) -> Dot | None:
        """After `take_back`: the dot that the content of `dot` has now."""
        if not self._writing.is_held(inode):
            return dot
        shown = {one.version.content for one in self._contents(inode) if dot in one.dots}
        self.take_back(inode)
        return next((one.version.dot for one in self._contents(inode) if one.version.content in shown), dot)

    def _all_taken_back(self, inode: InodeId, dots: Collection[Dot]) -> Collection[Dot]:
        """After `take_back`: these dots, and those that their contents have now."""
        if not self._writing.is_held(inode):
            return dots
        shown = {one.version.content for one in self._contents(inode) if set(one.dots) & set(dots)}
        self.take_back(inode)
        fresh = (one.dots for one in self._contents(inode) if one.version.content in shown)
        return {*dots, *(dot for ones in fresh for dot in ones)}

    def _contents(self, inode: InodeId) -> Sequence[Content]:
        meaning = self._rows.inode(inode).meaning
        return () if meaning is None else meaning.contents

    # -- attributes; of a merged directory those of every member

    def set_mode(self, inode: InodeId, mode: int, *, stamp: Stamp) -> None:
        """Set the permission bits."""
        for transaction, record in self._edited(inode):
            at = later(stamp, record.mode.stamp if record.mode is not None else NEVER)
            record.mode = Register(at, transaction.slot, mode & 0o7777)
            self._writing.commit(transaction, stamp)

    def set_owner(self, inode: InodeId, owner: Owner | None, *, stamp: Stamp) -> None:
        """Set the owner; None: whoever mounts."""
        for transaction, record in self._edited(inode):
            at = later(stamp, record.owner.stamp if record.owner is not None else NEVER)
            record.owner = Ownership(at, transaction.slot, owner)
            self._writing.commit(transaction, stamp)

    def set_mtime(self, inode: InodeId, mtime: int, *, stamp: Stamp) -> None:
        """Set the modification time, nanoseconds; it holds until the next content, or change of entries."""
        for transaction, record in self._edited(inode):
            times = [one.stamp for one in record.versions]
            if record.mtime is not None:
                times.append(record.mtime.stamp)
            record.mtime = Register(later(stamp, max(times, default=NEVER)), transaction.slot, mtime)
            self._writing.commit(transaction, stamp)

    def set_xattr(self, inode: InodeId, name: bytes, value: bytes | None, *, stamp: Stamp) -> None:
        """Set an extended attribute, or remove it (None). Keeping large ones elsewhere is the caller's."""
        for transaction, record in self._edited(inode):
            known = record.xattrs.get(name)
            at = later(stamp, known.stamp if known is not None else NEVER)
            record.xattrs = {**record.xattrs, name: Attribute(at, transaction.slot, value)}
            self._writing.commit(transaction, stamp)

    def _edited(self, inode: InodeId) -> Iterator[tuple[Transaction, Record]]:
        """A copy of each member's record; it is committed before the next one is asked for."""
        members = self._display.members(inode) if self._is_directory(inode) else (inode,)
        if not members or (not is_root(inode) and self._rows.inode(inode).record is None):
            raise FSError(errno.ENOENT)
        for member in members:
            transaction = self._writing.begin(member)
            if self._rows.inode(member).record is None:
                fresh = Record(Kind.DIRECTORY, transaction.fresh_context())
                yield transaction, transaction.add(member, "", fresh)
            else:
                yield transaction, transaction.edit(member)

    def _is_directory(self, inode: InodeId) -> bool:
        record = self._rows.inode(inode).record
        return inode in (ROOT, LOST_FOUND) or (record is not None and record.kind is Kind.DIRECTORY)

    def _directory(self, directory: InodeId) -> tuple[InodeId, ...]:
        """The members of a directory that is shown."""
        group = self._display.members(directory) if self._is_directory(directory) else ()
        if not group:
            raise FSError(errno.ENOENT)
        return group


def _first_version(version: NewVersion, transaction: Transaction, stamp: Stamp) -> Version:
    dot = (transaction.slot, transaction.n)
    return Version(
        dot, version.root, version.size, version.mtime, version.node, stamp, version.face, stamp, ()
    )


def _birth(birth: int) -> int:
    return min(max(birth, 1 - STAMP_END), STAMP_END - 1)
