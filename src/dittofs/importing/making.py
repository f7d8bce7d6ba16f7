"""What an import makes in a volume: one entry for one of the directory, within the caller's transaction."""

from typing import Final

from dittofs.ids import INODE_ID_BYTES, InodeId, inode_id
from dittofs.importing.source import Item
from dittofs.tree.entry import Entry
from dittofs.tree.record import WITH_CONTENT, Kind, NewVersion, Owner
from dittofs.volume.state import State, owner_of
from dittofs.volume.transaction import Transaction

DIRECTORY_MODE: Final = 0o755


class Making:
    """Of one import: what has several names in the directory has them in the volume, too."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._tree = state.replica.tree
        self._links: dict[tuple[int, ...], InodeId] = {}

    def is_same(self, item: Item, entry: Entry) -> bool:
        """Whether an entry of the volume is what would be made; it is remembered for further names then."""
        is_same = self._is_same(item, entry)
        if is_same and item.is_linked and entry.dot is None:
            self._links.setdefault(item.identity, entry.inode)
        return is_same

    def _is_same(self, item: Item, entry: Entry) -> bool:
        if entry.kind is not item.kind:
            return False
        tree = self._tree
        version = tree.version(entry.ref)
        if item.kind is Kind.FILE:
            return version is not None and item.is_same and version.content == (item.root, item.size)
        if item.kind is Kind.SYMLINK:
            return version is not None and version.root == item.target
        attributes = tree.stat(entry.ref)
        is_device = item.kind in (Kind.CHARACTER, Kind.BLOCK)
        return attributes is not None and (not is_device or attributes.rdev == item.stat.st_rdev)

    def make(self, change: Transaction, parent: InodeId, item: Item, *, is_free: bool) -> InodeId:
        """Make what is no directory. A name that is not free is claimed beside who has it."""
        stamp = self._state.tick()
        known = self._links.get(item.identity) if item.is_linked else None
        if known is not None and is_free and self._is_still(known, item):
            change.group.link((known, None), parent, item.name, stamp=stamp)
            return known
        mtime = item.mtime
        version = None
        if item.kind is Kind.FILE:
            version = NewVersion(*item.content, mtime, item.node)
        elif item.kind is Kind.SYMLINK:
            version = NewVersion(*item.content, mtime, b"")
        inode = self._fresh()
        change.group.create(
            parent,
            item.name,
            item.kind,
            inode=inode,
            mode=item.stat.st_mode & 0o7777,
            owner=self._owner(item),
            birth=min(mtime, int(stamp)),
            mtime=mtime if version is None else None,
            version=version,
            rdev=item.stat.st_rdev if item.kind in (Kind.CHARACTER, Kind.BLOCK) else 0,
            xattrs=item.xattrs,
            stamp=stamp,
            beside=not is_free,
        )
        if item.is_linked:
            self._links[item.identity] = inode
        return inode

    def _is_still(self, inode: InodeId, item: Item) -> bool:
        """Whether what was made of one name of a file is what would be made of another."""
        version = self._tree.version((inode, None))
        is_content = item.kind not in WITH_CONTENT or (
            version is not None and version.content == item.content
        )
        return (
            self._tree.kind(inode) is item.kind and self._tree.stat((inode, None)) is not None and is_content
        )

    def directory(self, change: Transaction, parent: InodeId, name: bytes, item: Item | None) -> InodeId:
        """Make a directory, like `item` if that is given; it gets the name whoever has it."""
        stamp = self._state.tick()
        inode = self._fresh()
        stat = None if item is None else item.stat
        change.group.create(
            parent,
            name,
            Kind.DIRECTORY,
            inode=inode,
            mode=DIRECTORY_MODE if stat is None else stat.st_mode & 0o7777,
            owner=None if item is None else self._owner(item),
            birth=int(stamp) if item is None else min(item.mtime, int(stamp)),
            mtime=None if item is None else item.mtime,
            version=None,
            xattrs={} if item is None else item.xattrs,
            stamp=stamp,
            beside=True,
        )
        return inode

    def _owner(self, item: Item) -> Owner | None:
        state, stat = self._state, item.stat
        if (stat.st_uid, stat.st_gid) == (state.uid, state.gid):
            return None
        return owner_of(stat.st_uid, stat.st_gid)

    def _fresh(self) -> InodeId:
        return inode_id(self._state.replica.entropy(INODE_ID_BYTES))
