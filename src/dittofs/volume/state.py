"""What the parts of a mounted volume share, and the questions all of them ask."""

import errno
import grp
import pwd
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import lru_cache

import msgspec

from dittofs.errors import FSError
from dittofs.ids import LOST_FOUND, ROOT, InodeId, Number, Stamp, number_of
from dittofs.tree.entry import Attributes, Entry
from dittofs.tree.record import Kind, Owner, Ref, Version
from dittofs.volume.contents import Content, Contents
from dittofs.volume.ignore import FILE_NAME as IGNORE_FILE_NAME
from dittofs.volume.ignore import IgnoreRules
from dittofs.volume.inodes import Inode, InodeTable, Last, Stat, Virtual
from dittofs.volume.local_layer import LocalLayer
from dittofs.volume.published import UNBORN, Published
from dittofs.volume.replica import Replica
from dittofs.volume.rows import LocalEntry
from dittofs.volume.source import ChunkSource, NoSource
from dittofs.volume.sparse import HoleBlocks
from dittofs.volume.transaction import Transaction

NAME_BYTES_MAX = 255
SET_ID_BITS = 0o6000
ASIDES_MAX = 65_536  # names of conflict entries that programs were shown and that are kept in mind
DIRECTORY_BYTES = 4096  # st_size of a directory, as most file systems say


ORIGIN: ContextVar[object] = ContextVar("origin", default=None)
"""The front end on whose behalf this task runs; it knows already what it asked for."""


@dataclass(frozen=True, slots=True)
class Caller:
    """The process behind a request."""

    uid: int
    gid: int
    pid: int = 0
    umask: int = 0


@lru_cache(maxsize=1024)
def uid_of(owner: Owner) -> int:
    """The user's number here: by name where the name exists."""
    try:
        return pwd.getpwnam(owner.user).pw_uid if owner.user else owner.uid
    except KeyError:
        return owner.uid


@lru_cache(maxsize=1024)
def gid_of(owner: Owner) -> int:
    """The group's number here: by name where the name exists."""
    try:
        return grp.getgrnam(owner.group).gr_gid if owner.group else owner.gid
    except KeyError:
        return owner.gid


@lru_cache(maxsize=1024)
def owner_of(uid: int, gid: int) -> Owner:
    """Numbers with the names they have here."""
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:
        user = ""
    try:
        group = grp.getgrgid(gid).gr_name
    except KeyError:
        group = ""
    return Owner(uid, gid, user, group)


def owner_row(owner: Owner | None) -> tuple[int, int, str, str] | None:
    """An owner as local rows keep it."""
    return None if owner is None else (owner.uid, owner.gid, owner.user, owner.group)


@dataclass(slots=True)
class State:
    """Names, contents and numbers of one mounted volume."""

    replica: Replica
    uid: int
    gid: int
    """The mounting user: who owns what has no owner set."""
    local: LocalLayer
    contents: Contents
    inodes: InodeTable
    rules: IgnoreRules
    trusts_root: bool = False
    """Set-id bits and devices act whoever wrote them."""
    listeners: list[Callable[[Inode, bytes | None, object], None]] = field(default_factory=list)
    """Told about every inode (and name in it) that changed, and by whom: other mounts must look again."""
    source: ChunkSource = field(default_factory=NoSource)
    """Where chunks come from that are not here."""
    may_borrow: Callable[[], bool] = lambda: True
    """Whether what is published may name chunks that are not here."""
    holes: HoleBlocks = field(default_factory=HoleBlocks)
    """What of the contents is hole."""
    used: dict[InodeId, int] | None = None
    """When programs opened files last, nanoseconds since 1970; None: nobody wants to know."""
    rules_inode: InodeId | None = None
    asides: dict[InodeId, set[bytes]] = field(default_factory=dict)
    """By directory, names of conflict entries that programs have looked up: no change names them."""
    are_rules_stale: bool = False
    """The name `.dittoignore` changed."""

    def tick(self) -> Stamp:
        return self.replica.tree.tick()

    def members(self, directory: InodeId) -> tuple[InodeId, ...]:
        """The directories shown as this one."""
        if directory in (ROOT, LOST_FOUND) or self.local.get(directory) is not None:
            return (directory,)
        members = self.replica.tree.members(directory)
        if not members:
            raise FSError(errno.ESTALE)
        return members

    def require_directory(self, inode: Inode) -> None:
        if inode.kind is not Kind.DIRECTORY:
            raise FSError(errno.ENOTDIR)
        if inode.detached is not None:
            raise FSError(errno.ENOENT)

    def inode_of_entry(self, entry: Entry) -> Inode:
        """The inode a tree entry shows."""
        ref: Ref = entry.inode, entry.dot
        content = self.contents.peek(ref)
        if content is not None and content.face:
            return self.inodes.intern(Number(content.face), ref, entry.kind)
        known = self.inodes.of_ref(ref)
        if known is not None:
            return known
        attributes = self.replica.tree.stat(ref)
        if attributes is None:
            raise FSError(errno.ENOENT)
        return self.inodes.intern(attributes.number, ref, attributes.kind)

    def inode_of_local(self, entry: LocalEntry) -> Inode:
        """The inode a local entry shows."""
        inode = InodeId(entry.inode)
        return self.inodes.intern(number_of(inode), (inode, None), Kind(entry.kind))

    def inode_by_number(self, number: Number) -> Inode:
        """The inode a program remembers by its number alone, after FORGET or a remount. ESTALE if none."""
        known = self.inodes.get(number)
        if known is not None:
            return known
        local = self.local.by_number(number)
        if local is not None:
            entry = self.local.get(local)
            assert entry is not None
            return self.inode_of_local(entry)
        ref = self.replica.tree.by_number(number)
        for content in self.contents:
            if content.face == number:
                ref = content.ref
        attributes = self.replica.tree.stat(ref) if ref is not None else None
        if ref is None or attributes is None:
            raise FSError(errno.ESTALE)
        return self.inodes.intern(number, ref, attributes.kind)

    def attributes(self, inode: Inode) -> Attributes:
        """What the tree says about an attached inode. ESTALE if it is gone."""
        attributes = self.replica.tree.stat(inode.ref)
        if attributes is None:
            raise FSError(errno.ESTALE)
        return attributes

    def remember(self, inode: Inode) -> None:
        """Note what an open inode shows, for when another device takes that out of the tree."""
        if inode.virtual is not None or inode.detached is not None or self.local.get(inode.id) is not None:
            return
        attributes = self.replica.tree.stat(inode.ref)
        if attributes is not None:
            target = attributes.version.root if inode.kind is Kind.SYMLINK and attributes.version else b""
            shown = _published(inode, attributes.version)
            inode.last = Last(self._stat_of(inode, attributes), shown, target)

    def is_behind(self, inode: Inode) -> bool:
        """Whether the file has moved on elsewhere since its present writers opened it."""
        if not inode.writers or inode.base is None or inode.detached is not None:
            return False
        version = self.replica.tree.version(inode.ref)
        return version is not None and version.content != (inode.base.root, inode.base.size)

    def note_aside(self, directory: InodeId, name: bytes) -> None:
        """A program was told what a name shows, or that it shows nothing, which a conflict may change."""
        names = self.asides.setdefault(directory, set())
        names.add(name)
        if len(names) > ASIDES_MAX or len(self.asides) > ASIDES_MAX:
            asides, self.asides = self.asides, {}
            for above, called in ((above, one) for above, ones in asides.items() for one in ones):
                known = self.inodes.of_ref((above, None))
                if known is not None:
                    self.announce(known, called, is_remote=True)

    def content(self, inode: Inode) -> Content | None:
        """Its unpublished content."""
        if inode.virtual is not None:
            return None
        return inode.orphan if inode.detached is not None else self.contents.get(inode.ref)

    def saved_over(self, inode: Inode) -> Content | None:
        """Unpublished content that carries the attributes of the file it came from (a save)."""
        content = self.content(inode)
        return content if content is not None and content.taken is not None else None

    def shown(self, inode: Inode) -> Published:
        """The version a reader sees where nothing is unpublished: while somebody writes, what he opened."""
        if inode.writers and inode.base is not None and inode.detached is None:
            return inode.base
        return self.newest(inode)

    def newest(self, inode: Inode) -> Published:
        """The version its name shows."""
        if inode.detached is not None:
            return inode.detached_version or UNBORN
        if self.local.get(inode.id) is not None:
            return UNBORN
        version = self.replica.tree.version(inode.ref)
        if version is None and inode.last is not None and self.replica.tree.stat(inode.ref) is None:
            return inode.last.shown
        return _published(inode, version or self.attributes(inode).version)

    def stat(self, inode: Inode) -> Stat:
        """Attributes as programs see them."""
        if inode.past is not None:
            return inode.past.stat
        if inode.virtual is not None:
            return self._stat_virtual(inode, inode.virtual)
        content = inode.orphan if inode.detached is not None else self.contents.peek(inode.ref)
        if inode.detached is not None:
            stat = inode.detached
        else:
            local = self.local.get(inode.id)
            stat = self.stat_of_local(inode, local) if local is not None else self._stat_tree(inode)
        if content is not None:
            top = content.top
            stat = replace(stat, size=content.size, mtime=top.mtime, ctime=max(stat.ctime, int(top.stamp)))
            stat.hole_blocks = self.holes.of_layers(content.published, content.layers)
            if content.taken is not None:
                owner = Owner(*content.taken.owner) if content.taken.owner is not None else None
                stat.mode = content.taken.mode
                stat.uid = uid_of(owner) if owner else self.uid
                stat.gid = gid_of(owner) if owner else self.gid
        if inode.atime is not None:
            stat.atime = inode.atime
        return stat

    def _stat_virtual(self, inode: Inode, virtual: Virtual) -> Stat:
        is_directory = inode.kind is Kind.DIRECTORY
        now = self.replica.clock.now_ns()
        return Stat(
            number=inode.number,
            kind=inode.kind,
            mode=0o555 if is_directory else 0o444,
            nlink=2 if is_directory else 1,
            uid=self.uid,
            gid=self.gid,
            rdev=0,
            size=DIRECTORY_BYTES if is_directory else len(virtual.content()),
            atime=now,
            mtime=now,
            ctime=now,
            birth=now,
        )

    def stat_of_local(self, inode: Inode, entry: LocalEntry) -> Stat:
        """What a local entry says of an inode; its content says the rest."""
        owner = Owner(*entry.owner) if entry.owner is not None else None
        is_directory = entry.kind == Kind.DIRECTORY
        return Stat(
            number=inode.number,
            kind=Kind(entry.kind),
            mode=entry.mode,
            nlink=2 + self.local.subdirectories((inode.id,)) if is_directory else len(entry.names),
            uid=uid_of(owner) if owner else self.uid,
            gid=gid_of(owner) if owner else self.gid,
            rdev=entry.rdev,
            size=DIRECTORY_BYTES if is_directory else len(entry.target),
            atime=entry.mtime,
            mtime=entry.mtime,
            ctime=entry.stamp,
            birth=entry.birth,
        )

    def _stat_tree(self, inode: Inode) -> Stat:
        attributes = self.replica.tree.stat(inode.ref)
        if attributes is None and inode.last is not None:
            return replace(inode.last.stat, nlink=0)  # open, and another device has removed it
        if attributes is None:
            raise FSError(errno.ESTALE)
        stat = self._stat_of(inode, attributes)
        if inode.last is not None and self.is_behind(inode):
            assert inode.base is not None
            stat.size, stat.mtime = inode.base.size, inode.last.stat.mtime
            stat.hole_blocks = self.holes.of(inode.base.root)
        return stat

    def _stat_of(self, inode: Inode, attributes: Attributes) -> Stat:
        owner = attributes.owner
        mode = attributes.mode
        if mode & SET_ID_BITS and attributes.kind is not Kind.DIRECTORY:
            mode = mode if attributes.trusted or self.trusts_root else mode & ~SET_ID_BITS
        nlink, size = attributes.nlink, attributes.size
        if attributes.kind is Kind.DIRECTORY:
            nlink += self.local.subdirectories(attributes.members or (inode.id,))
            size = DIRECTORY_BYTES
        is_inert = not (attributes.trusted or self.trusts_root)
        return Stat(
            number=inode.number,
            kind=attributes.kind,
            mode=mode,
            nlink=nlink,
            uid=uid_of(owner) if owner else self.uid,
            gid=gid_of(owner) if owner else self.gid,
            rdev=0 if is_inert else attributes.rdev,
            size=size,
            atime=attributes.mtime,
            mtime=attributes.mtime,
            ctime=attributes.ctime,
            birth=attributes.birth,
            hole_blocks=self.holes.of(attributes.version.root) if attributes.version is not None else 0,
        )

    def touch(self, directory: Inode, stamp: Stamp, transaction: Transaction) -> None:
        """A local name in `directory` changed: its times move, within the transaction."""
        entry = self.local.get(directory.id)
        if entry is not None:
            self.local.put(replace_entry(entry, mtime=int(stamp), stamp=int(stamp)), transaction)
        else:
            transaction.group.touch(directory.id, stamp=stamp)

    def path(self, directory: InodeId) -> bytes:
        """The path of a directory below the root, with a trailing slash; empty for the root."""
        parts: list[bytes] = []
        while directory != ROOT:
            local = self.local.get(directory)
            if local is not None:
                parent, name = local.names[0]
                parts.append(name)
                directory = InodeId(parent)
                continue
            names = self.replica.tree.names(directory)
            if not names:
                break
            directory, entry = names[0]
            parts.append(entry.name)
        return b"".join(part + b"/" for part in reversed(parts))

    def is_ignored(self, directory: InodeId, name: bytes, *, is_directory: bool) -> bool:
        """Whether something made under this name stays local."""
        parent = self.local.get(directory)
        if parent is not None:
            return True
        prefix = b"" if self.rules.is_plain else self.path(directory)
        return self.rules.matches(prefix + name, is_directory=is_directory)

    def announce(self, inode: Inode, name: bytes | None = None, *, is_remote: bool = False) -> None:
        """Something programs can see changed: an inode, or a name in a directory.

        `is_remote`: not as the front end expects that this task works for.
        """
        if inode.id == ROOT and name == IGNORE_FILE_NAME:
            self.are_rules_stale = True
        origin = None if is_remote else ORIGIN.get()
        for listener in self.listeners:
            listener(inode, name, origin)

    def announce_names(self, inode: InodeId) -> None:
        """All that shows a file may show something else, to everybody."""
        for known in self.inodes.of_id(inode):
            self.announce(known, is_remote=True)
        for directory, entry in self.replica.tree.names(inode):
            above = self.inodes.of_ref((directory, None))
            if above is not None:
                self.announce(above, entry.name, is_remote=True)


def _published(inode: Inode, version: Version | None) -> Published:
    if version is None:
        return UNBORN
    rank = version.rank if inode.ref[1] is not None else None
    return Published(version.root, version.size, (version.dot,), rank)


def replace_entry(entry: LocalEntry, **changes: object) -> LocalEntry:
    """A copy of a local entry with other fields."""
    return msgspec.structs.replace(entry, **changes)
