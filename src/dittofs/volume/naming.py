"""Naming again what is shown no more: a version, a snapshot, out of the past (decision 0030).

Others sweep what they alone hold once every device has answered that it names it no more. So what a device
brings back after its answer must be here, altogether; or it was shown here since; or the operation began
before, and the answer waits for its end.
"""

from collections.abc import Mapping

from dittofs.chunks.content import ContentReader
from dittofs.chunks.manifest import chunk_root
from dittofs.chunks.marking import Named, named_root
from dittofs.chunks.seal import ChunkKind
from dittofs.chunks.store import ChunkStore
from dittofs.errors import ChunkUnavailable
from dittofs.ids import CHUNK_ID_BYTES, ChunkId, InodeId
from dittofs.journal.answered import answered_at
from dittofs.journal.history import HistoryEffect
from dittofs.volume.attributes import CHUNK
from dittofs.volume.events import contents_in, whole_of, xattr_of
from dittofs.volume.source import Wanted
from dittofs.volume.state import State

CHUNKS_AT_ONCE = 64
"""Asked for at a time."""


class Naming:
    """Of one such operation, which has `begun`."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._replica = state.replica
        self._fetched: set[Named] = set()

    def may_name(self, inode: InodeId, root: bytes) -> bool:
        """Whether nobody can have swept what a content of `inode` needs, as far as this device lacks it."""
        named = named_root(root)
        if named is None or named in self._fetched:
            return True
        chunks, journal = self._replica.chunks, self._replica.journal
        if named.kind is ChunkKind.DATA and chunks.claim(*named):
            return True
        if not self._state.may_borrow():
            return False  # others did not wait for this device
        tree = self._replica.tree
        if any(version.root == root for version in tree.versions(inode)):
            return True
        if root in roots_of(tree.xattrs(inode)):
            return True
        answered = answered_at(journal)
        for row in journal.history.of_inode(inode):
            if row.at <= answered:
                return False
            if root in _shown_by(row):
                return True
        return False

    async def have(self, inode: InodeId, root: bytes, size: int) -> None:
        """Fetch what must be here before a content of `inode` is named. ChunkUnavailable."""
        named = named_root(root)
        if named is None or self.may_name(inode, root):
            return
        chunks, run_blocking = self._replica.chunks, self._replica.run_blocking
        asked: set[Wanted] = set()
        while wanted := await run_blocking(_absent, chunks, named, size):
            if wanted[0] in asked:
                raise ChunkUnavailable("what other devices sent is not what was missing")
            for start in range(0, len(wanted), CHUNKS_AT_ONCE):
                asked.update(wanted[start : start + CHUNKS_AT_ONCE])
                await self._state.source.fetch(root, wanted[start : start + CHUNKS_AT_ONCE])
        await run_blocking(chunks.sync)
        self._fetched.add(named)

    async def have_large(self, inode: InodeId, xattrs: Mapping[bytes, bytes | None]) -> None:
        """`have` for those of the attributes that are chunks."""
        for root in roots_of(xattrs):
            await self.have(inode, root, 0)


def roots_of(xattrs: Mapping[bytes, bytes | None]) -> list[bytes]:
    """The roots of large attributes, which are chunks."""
    return [
        chunk_root(ChunkId(value[len(CHUNK) :]))
        for value in xattrs.values()
        if value is not None and value[:1] == CHUNK and len(value) == len(CHUNK) + CHUNK_ID_BYTES
    ]


def _shown_by(row: HistoryEffect) -> list[bytes]:
    """What was shown just before a row or just after it."""
    roots = [content.root for content in contents_in(row)]
    if row.kind == "xattr":
        roots += roots_of(dict([xattr_of(row.before)])) + roots_of(dict([xattr_of(row.after)]))
    elif row.kind == "remove":
        roots += roots_of(whole_of(row.before).xattrs)
    return roots


def _absent(chunks: ChunkStore, named: Named, size: int) -> list[Wanted]:
    """Blocking."""
    if named.kind is ChunkKind.DATA:
        return [] if chunks.claim(*named) else [(named.kind, named.chunk)]
    return ContentReader(chunks, bytes([named.kind]) + named.chunk, size).absent()
