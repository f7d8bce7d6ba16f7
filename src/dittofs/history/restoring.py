"""Setting an inode, or a directory with all in it, back to a past state: by new changes, like any other.

The bytes are not touched: a restored version names the same content root. What is shown until then stays in
the history, and whoever has a file open for writing gets his version beside it.
"""

import errno
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Final, Literal

import trio

from dittofs.chunks.content import ContentReader
from dittofs.chunks.store import ChunkStore
from dittofs.chunks.version import store_version_node
from dittofs.errors import ChunkUnavailable, FormatError, FSError
from dittofs.history.past import PastEntry, Pasts
from dittofs.history.trash import forgotten_since
from dittofs.ids import INODE_ID_BYTES, ROOT, InodeId, inode_id
from dittofs.tree.naming import tagged_name
from dittofs.tree.record import Kind, NewVersion, Owner
from dittofs.tree.setting_back import SetBack
from dittofs.volume.events import Past, PastContent, node_of
from dittofs.volume.naming import Naming
from dittofs.volume.transaction import Transaction
from dittofs.volume.volume import Volume

RESTORED: Final = b"restored"
"""In the name of what comes back where something else has its name now."""
IN_A_ROW: Final = 16
FAILED_NAMED: Final = 8


@dataclass(frozen=True, slots=True)
class Restored:
    """What `Restoring` did with one inode."""

    path: bytes
    kind: Kind
    size: int
    missing_bytes: int
    """Of the content that is shown now: not on this device, and fetched when it is read."""
    what: Literal["same", "version", "back"]
    """ "same": nothing had to be done; "version": an older one is the newest now; "back": it was removed."""
    is_renamed: bool = False
    """Something else has its name; it has another."""


def require_all(failed: Sequence[str]) -> None:
    """FSError(EIO) that says what could not be restored, if anything could not."""
    if failed:
        named = "; ".join(failed[:FAILED_NAMED])
        raise FSError(errno.EIO, f"{len(failed)} could not be restored, all others were: {named}")


class Restoring:
    """Of one volume."""

    def __init__(self, volume: Volume) -> None:
        self._volume = volume
        self._state = volume.state
        self._replica = volume.replica
        self._tree = volume.replica.tree
        self._pasts = Pasts(volume.replica)
        self._naming = Naming(volume.state)
        self._missing: dict[bytes, int] = {}
        self._made: dict[InodeId, InodeId] = {}
        """Of what was forgotten the inode that was made for it."""

    async def version(self, inode: InodeId, content: PastContent) -> Restored:
        """Make a content what the name of a file shows: of a living one, or of one that comes back with it.

        A file of which only conflict entries are left has its name again, and they stay. FSError: ENOENT if
        it is not known any more. ChunkUnavailable: nothing was done.
        """
        now = self._pasts.now(inode)
        if now is not None and now.main is not None:
            return await self.content(inode, content)
        lived = self._pasts.last_life(inode) if now is None else (self._replica.clock.now_ns(), now)
        if lived is None:
            raise FSError(errno.ENOENT, "what it was is not known any more")
        at, past = lived
        others = () if past.main is None else past.contents[1:]
        whole = replace(past.revived, contents=(content, *others), mtime=content.mtime)
        return await self.back(inode, whole, at=at)

    async def content(self, inode: InodeId, content: PastContent) -> Restored:
        """Make a content the newest version of a living file. The version shown now stays in the history.

        What others may sweep of it is fetched first. FSError: ENOENT if it does not live, EINVAL if it has no
        contents. ChunkUnavailable: nothing was done.
        """
        await self._settle(inode)
        with self._replica.naming.begun():
            return await self._content(inode, content)

    async def _content(self, inode: InodeId, content: PastContent) -> Restored:
        version = self._tree.version((inode, None))
        if version is None:
            raise FSError(errno.ENOENT)
        is_same = (version.root, version.size) == (content.root, content.size)
        if not is_same:
            await self._have(inode, None, content, 0)
            fresh = await self._as_new(inode, content)
            version = self._tree.version((inode, None))
            if version is None:
                raise FSError(errno.ENOENT, "it was removed just now")
            with self._replica.change() as change:
                change.is_unasked = True
                group = change.group
                group.write(inode, fresh, replaces=(version.dot,), stamp=self._state.tick())
        return await self._told(inode, content, "same" if is_same else "version")

    async def back(self, inode: InodeId, past: Past, *, at: int, is_kept: bool = False) -> Restored:
        """Make an inode all that it was: where, its content, mode, owner, time and attributes.

        What was removed comes back under its name, or if something else has it, under another; so do the
        directories above it, as they were at `at`. One that moved goes back to where it was. What others may
        sweep of it is fetched first, unless it `is_kept` by a snapshot. ChunkUnavailable: nothing was done.
        """
        await self._settle(inode)
        with self._replica.naming.begun():
            return await self._back(inode, past, at, is_kept=is_kept)

    async def _back(self, inode: InodeId, past: Past, at: int, *, is_kept: bool) -> Restored:
        main = past.main
        if not is_kept and self._pasts.now(inode) != past:
            await self._have(inode, past, main if past.kind is Kind.FILE else None, at)
        fresh = await self._as_new(inode, main) if main is not None and past.kind is Kind.FILE else None
        if main is not None and past.kind is Kind.SYMLINK:
            fresh = NewVersion(main.root, main.size, main.mtime, b"")
        now = self._pasts.now(inode)
        is_same, is_renamed = now == past, False
        if not is_same:
            with self._replica.change() as change:
                change.is_unasked = True
                inode, is_renamed = self._set_back(change, inode, now, past, fresh, at)
        told = await self._told(inode, main, "same" if is_same else "version" if now is not None else "back")
        return replace(told, is_renamed=is_renamed)

    async def directory(self, entry: PastEntry, at: int) -> AsyncGenerator[Restored, None]:
        """`back` for a directory and everything that was in it at a time, each as it is done.

        What came since stays. FSError(EIO), after all others were set back, names those that could not be.
        """
        with self._replica.naming.begun():
            async with aclosing(self._directory(entry, at)) as found:
                async for done in found:
                    yield done

    async def _directory(self, entry: PastEntry, at: int) -> AsyncGenerator[Restored, None]:
        failed: list[str] = []
        for number, (_, inode, past) in enumerate(self.inside(entry, at), 1):
            try:
                done = await self.back(inode, past, at=at)
            except (FSError, ChunkUnavailable) as error:
                failed.append(str(error))
            else:
                yield done
            if number % IN_A_ROW == 0:
                await trio.lowlevel.checkpoint()
        require_all(failed)

    async def has_forgotten(self, entry: PastEntry, at: int) -> bool:
        """Whether something that was in a directory at a time was removed later, and forgotten."""
        forgotten = forgotten_since(self._replica, at)
        if not forgotten or not forgotten.isdisjoint(entry.inodes):
            return bool(forgotten)
        for _, inode, _ in self.inside(entry, at):
            if inode in forgotten:
                return True
            await trio.lowlevel.checkpoint()
        return False

    def inside(self, entry: PastEntry, at: int, path: bytes = b"") -> Iterator[tuple[bytes, InodeId, Past]]:
        """All that a directory was and held at a time, each once, from the top: what `directory` sets back.

        With its path then, below `path`, that of the directory.
        """
        met: set[InodeId] = set()
        waiting = [(path, entry)]
        while waiting:
            here, one = waiting.pop(0)
            for inode in (found for found in one.inodes if found not in met):
                met.add(inode)
                past = self._pasts.of(inode, at)
                if inode != ROOT and past is not None and not one.is_aside:
                    yield here, inode, past
            if one.kind is Kind.DIRECTORY:
                below = self._pasts.entries(one.inodes, at)
                waiting += [(here + b"/" + name if here else name, found) for name, found in below.items()]

    def called(self, inode: InodeId) -> InodeId:
        """What an inode is called now that it may have been made anew."""
        made = self._made.get(inode, inode)
        return made if self._tree.kind(made) is not None else inode

    def link(self, inode: InodeId, parent: InodeId, name: bytes) -> bool:
        """Give one more name to what is back; whether it is another one, because something else has it."""
        free = self._free(parent, name)
        with self._replica.change() as change:
            change.is_unasked = True
            change.group.link((inode, None), parent, free, stamp=self._state.tick())
        return free != name

    async def missing_bytes(self, content: PastContent | None) -> int:
        """How much of a content is not on this device."""
        if content is None or not content.size:
            return 0
        known = self._missing.get(content.root)
        if known is None:
            known = await self._replica.run_blocking(_missing_bytes, self._replica.chunks, content)
            self._missing[content.root] = known
        return known

    async def _have(self, inode: InodeId, past: Past | None, content: PastContent | None, at: int) -> None:
        """Have here what is about to be named and others may sweep; so of the directories that come back."""
        if content is not None:
            self._missing.pop(content.root, None)
            try:
                await self._naming.have(inode, content.root, content.size)
            except ChunkUnavailable as error:
                what = (self._path(inode) or self._pasts.path(inode, at) or b"").decode(errors="replace")
                why = f"{what or 'the version'} is not all on this device, and others may have swept it"
                raise ChunkUnavailable(f"{why}: {error}") from error
        if past is None:
            return
        await self._naming.have_large(inode, past.xattrs)
        for name in past.names.values():
            if name.parent != ROOT and self._pasts.now(name.parent) is None:
                above = self._pasts.of(name.parent, at) or self._last(name.parent)
                if above is not None:
                    await self._have(name.parent, above, None, at)

    async def _settle(self, inode: InodeId) -> None:
        """What was closed before is a version before."""
        self._replica.require_writable()
        if self._state.contents.peek((inode, None)) is not None:
            await self._volume.publisher.settle((inode, None))

    async def _as_new(self, inode: InodeId, content: PastContent) -> NewVersion:
        """A content as a version to come; its node, which says what it follows, is durable."""
        previous = [node_of(version.node) for version in self._tree.versions(inode)]
        known = [*dict.fromkeys(node for node in previous if node is not None)]

        def store() -> bytes:
            chunks = self._replica.chunks
            node = store_version_node(
                chunks, content.root, content.size, content.mtime, self._replica.slot, known
            )
            chunks.sync()
            return node

        node = await self._replica.run_blocking(store)
        return NewVersion(content.root, content.size, content.mtime, node)

    def _set_back(
        self,
        change: Transaction,
        inode: InodeId,
        now: Past | None,
        past: Past,
        fresh: NewVersion | None,
        at: int,
    ) -> tuple[InodeId, bool]:
        """Within a transaction. The inode it is, and whether it has another name than it had."""
        is_known = self._tree.kind(inode) is not None
        names: dict[str, tuple[InodeId, bytes]] = {}
        is_renamed = False
        for link, name in past.names.items():
            held = now.names.get(link) if now is not None else None
            if not name.is_plain or (held is not None and held[:2] == name[:2] and held.is_plain):
                continue
            self._revive(change, name.parent, at)
            parent = self.called(name.parent)
            free = self._free(parent, name.name)
            is_renamed = is_renamed or free != name.name
            names[link] = (parent, free)
        if not is_known:
            self._made[inode] = self._make(change, past, fresh, list(names.values()))
            return self._made[inode], is_renamed
        shown = self._tree.versions(inode)[:1] if now is not None and now.main is not None else ()
        is_other = fresh is not None and (
            now is None or now.main is None or now.main[:2] != past.contents[0][:2]
        )
        gone = dict.fromkeys(now.xattrs.keys() - past.xattrs.keys()) if now is not None else {}
        back = SetBack(
            names=names,
            contents=(fresh,) if fresh is not None and is_other else (),
            replaces=frozenset(one.dot for one in shown) if is_other else frozenset(),
            mode=past.mode if now is None or now.mode != past.mode else None,
            owner=(past.owner,) if now is None or now.owner != past.owner else None,
            mtime=past.mtime if past.kind is not Kind.DIRECTORY else None,
            xattrs={**gone, **past.xattrs} if now is None or now.xattrs != past.xattrs else {},
        )
        change.group.set_back(inode, back, stamp=self._state.tick())
        return inode, is_renamed

    def _revive(self, change: Transaction, directory: InodeId, at: int) -> None:
        """The directories above come back first, where they were."""
        if directory == ROOT or self._pasts.now(self.called(directory)) is not None:
            return
        past = self._pasts.of(directory, at) or self._last(directory)
        if past is None:
            raise FSError(errno.ENOENT, "the directory it was in is not known any more")
        self._set_back(change, directory, None, past, None, at)

    def _last(self, inode: InodeId) -> Past | None:
        """What an inode was when it lived last."""
        lived = self._pasts.last_life(inode)
        return None if lived is None else lived[1]

    def _free(self, parent: InodeId, name: bytes) -> bytes:
        """`name`, or one beside it if something else has it."""
        free, tries, label, stamp = name, 0, self._replica.label, self._state.tick()
        while self._tree.lookup(parent, free) is not None or self._state.local.lookup((parent,), free):
            tries += 1
            free = tagged_name(name, RESTORED, label, stamp, tries)
        return free

    def _make(
        self,
        change: Transaction,
        past: Past,
        fresh: NewVersion | None,
        names: Sequence[tuple[InodeId, bytes]],
    ) -> InodeId:
        """What is forgotten but for the history becomes an inode of its own."""
        inode = inode_id(self._replica.entropy(INODE_ID_BYTES))
        (parent, name), *others = names
        owner: Owner | None = past.owner
        stamp = self._state.tick()
        change.group.create(
            parent,
            name,
            past.kind,
            inode=inode,
            mode=past.mode if past.mode is not None else 0o644,
            owner=owner,
            birth=past.birth or int(stamp),
            mtime=past.mtime if fresh is None else None,
            version=fresh,
            rdev=past.rdev,
            xattrs=past.xattrs,
            stamp=stamp,
        )
        for other, called in others:
            change.group.link((inode, None), other, called, stamp=self._state.tick())
        return inode

    async def _told(
        self, inode: InodeId, content: PastContent | None, what: Literal["same", "version", "back"]
    ) -> Restored:
        past = self._pasts.now(inode)
        size = content.size if content is not None else 0
        kind = past.kind if past is not None else Kind.FILE
        path = self._path(inode)
        if not path:
            raise FSError(errno.ENOENT, "it had no name to come back under")
        return Restored(path, kind, size, await self.missing_bytes(content), what)

    def _path(self, inode: InodeId) -> bytes:
        for directory, entry in self._tree.names(inode):
            return self._state.path(directory) + entry.name
        return b""


def _missing_bytes(chunks: ChunkStore, content: PastContent) -> int:
    """Blocking: every chunk is looked up."""
    try:
        reader = ContentReader(chunks, content.root, content.size)
        return sum(part.length for part in reader.presence() if not part.is_here)
    except FormatError:
        # The target of a symbolic link is in the tree itself.
        return 0 if content.size == len(content.root) else content.size
