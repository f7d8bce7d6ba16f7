"""Open files: read, write, cut, flush, fsync, close."""

import errno
import os
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import structlog

from dittofs.chunks.store import AbsentChunk
from dittofs.errors import Damaged, DiskFull, DittoError, FSError
from dittofs.ids import Stamp
from dittofs.tree.record import Kind
from dittofs.volume.contents import Content
from dittofs.volume.fetching import can_fetch, prefetch, read_fetched
from dittofs.volume.inodes import Inode
from dittofs.volume.publication import Publisher
from dittofs.volume.published import UNBORN
from dittofs.volume.readahead import ReadAhead
from dittofs.volume.room import FREE_BYTES_FLOOR
from dittofs.volume.staging import Base
from dittofs.volume.state import State, replace_entry

log = structlog.get_logger()

SIZE_MAX = (1 << 63) - 1
LAYERS_MAX = 4  # closes of one file that may wait for publication before a writer has to
UNSAVED_BYTES_MAX = 8 << 20  # acknowledged writes that may be lost with the process
YOUNG_S = 2.0  # how long a file that stays open is kept out of the tree
FREE_BYTES_STEP = 4 << 20  # writes between two looks at the free space


@dataclass(slots=True, eq=False)
class Handle:
    """One open file description."""

    inode: Inode
    is_writer: bool
    is_unnoted: bool = False
    """Opened with O_NOATIME: reading leaves the time of the last access."""
    ahead: ReadAhead = field(default_factory=ReadAhead)


class Files:
    """Operations on open files. Each returns its result, or a coroutine when it must wait."""

    def __init__(self, state: State, publisher: Publisher, load_rules: Callable[[], None]) -> None:
        self._state = state
        self._publisher = publisher
        self._load_rules = load_rules
        self._dirty: dict[int, Content] = {}
        self._unsaved_bytes = 0
        self._until_room_check = 0
        self._young: dict[Inode, float] = {}

    def open(self, inode: Inode, flags: int) -> Handle:
        """Open a file; O_TRUNC cuts it. A writer's base is the version shown now.

        ESTALE for what another device took away or replaced since it was looked up: the kernel looks again.
        """
        if inode.kind is Kind.DIRECTORY:
            raise FSError(errno.EISDIR)
        if inode.virtual is not None:
            return self._open_virtual(inode, flags)
        is_writer = flags & os.O_ACCMODE != os.O_RDONLY
        if is_writer or flags & os.O_TRUNC:
            self._state.replica.require_writable()
        if is_writer and not inode.writers:
            inode.base = self._state.newest(inode)
        if not inode.opens:
            self._state.stat(inode)
            self._state.remember(inode)
        inode.opens += 1
        inode.writers += is_writer
        if self._state.used is not None:
            self._state.used[inode.id] = self._state.replica.clock.now_ns()
        local = self._state.local.get(inode.id)
        if is_writer and local is not None and not local.is_ignored:
            self._young.setdefault(inode, self._state.replica.clock.monotonic())
        if flags & os.O_TRUNC:
            try:
                self.truncate(inode, 0)
            except BaseException:
                inode.opens -= 1
                inode.writers -= is_writer
                if not inode.writers:
                    with suppress(DittoError):  # the disk that failed just now
                        self.close(inode)
                raise
        return Handle(inode, is_writer, bool(flags & os.O_NOATIME))

    def _open_virtual(self, inode: Inode, flags: int) -> Handle:
        if flags & os.O_ACCMODE != os.O_RDONLY:
            raise FSError(errno.EROFS)
        inode.opens += 1
        return Handle(inode, is_writer=False)

    def read(
        self, inode: Inode, offset: int, length: int, ahead: ReadAhead | None = None
    ) -> bytes | Coroutine[Any, Any, bytes]:
        """Bytes of the file, fewer only at its end, all of one version: at once if all of them are here.

        `ahead` is the descriptor's. Otherwise what is missing is fetched. ETIMEDOUT if it does not come, EIO
        rather than anything that was not written.
        """
        if inode.virtual is not None and inode.past is None:
            return inode.virtual.content()[offset : offset + length]
        return self.read_base(self.content_base(inode), offset, length, ahead)

    def read_base(
        self, base: Base, offset: int, length: int, ahead: ReadAhead | None = None
    ) -> bytes | Coroutine[Any, Any, bytes]:
        """Bytes of what `content_base` gave, whatever has become of the file since. As `read`."""
        try:
            data = base.read(offset, length)
        except (AbsentChunk, Damaged) as error:
            if not can_fetch(self._state.source):
                raise
            return self._read_fetched(base, offset, length, ahead, error)
        if ahead is not None:
            prefetch(self._state.source, base, ahead, offset, len(data))
        return data

    async def _read_fetched(
        self, base: Base, offset: int, length: int, ahead: ReadAhead | None, error: AbsentChunk | Damaged
    ) -> bytes:
        data = await read_fetched(self._state.source, base, offset, length, error)
        if ahead is not None:
            ahead.has_missed = True
            prefetch(self._state.source, base, ahead, offset, len(data))
        return data

    def content_base(self, inode: Inode) -> Base:
        """What the file holds at this instant."""
        content = self._state.content(inode)
        if content is not None:
            return content.top
        shown = self._state.shown(inode) if inode.past is None else inode.past.shown
        return self._state.contents.reader(shown.root, shown.size)

    def write(self, inode: Inode, offset: int, data: bytes | memoryview) -> int | Coroutine[Any, Any, int]:
        """Put all of `data` into staging. EFBIG, ENOSPC; on an error the file is as before.

        `data` must stay as it is until a coroutine that is returned has ended.
        """
        if not data:
            return 0
        if offset + len(data) > SIZE_MAX:
            raise FSError(errno.EFBIG)
        self._state.replica.require_writable()
        content = self.writable(inode)
        if content.top.is_closed and len(content.layers) >= LAYERS_MAX:
            return self._write_later(inode, offset, data)
        return self._write_now(content, offset, data)

    def _write_now(self, content: Content, offset: int, data: bytes | memoryview) -> int:
        self.require_room(len(data))
        layer = self._state.contents.writable(content)
        try:
            layer.write(offset, data)
        except DiskFull:
            if not self._publisher.ahead.give_back():
                raise
            layer.write(offset, data)
        self._publisher.ahead.wrote(content, offset)
        self.changed(content)
        self._unsaved_bytes += len(data)
        if self._unsaved_bytes > UNSAVED_BYTES_MAX:
            self.save_dirty()
        return len(data)

    async def _write_later(self, inode: Inode, offset: int, data: bytes | memoryview) -> int:
        await self._publisher.drain()
        self._state.replica.require_writable()
        return self._write_now(self.writable(inode), offset, data)

    def truncate(self, inode: Inode, size: int) -> None:
        """Cut the file or extend it with zeroes."""
        if inode.kind is Kind.DIRECTORY:
            raise FSError(errno.EISDIR)
        if inode.kind is not Kind.FILE:
            raise FSError(errno.EINVAL)
        if inode.virtual is not None:
            raise FSError(errno.EROFS)
        if size > SIZE_MAX:
            raise FSError(errno.EFBIG)
        self._state.replica.require_writable()
        content = self.writable(inode)
        self._state.contents.writable(content).truncate(size)
        self.changed(content)
        if not inode.writers:
            self.close(inode)

    def writable(self, inode: Inode) -> Content:
        """The inode's unpublished content, begun now if there is none."""
        state = self._state
        content = state.content(inode)
        if content is not None:
            return content
        if inode.detached is not None:
            base = inode.detached_version or UNBORN
            content = inode.orphan = state.contents.orphan(inode.ref, base)
            return content
        base = inode.base if inode.writers and inode.base is not None else state.shown(inode)
        return state.contents.begin(inode.ref, base)

    def changed(self, content: Content) -> None:
        """Note that unpublished content is other than what was saved of it."""
        stamp = self._state.tick()
        content.top.mtime, content.top.stamp = int(stamp), stamp
        content.is_flushed = content.is_saved = False
        self._dirty[id(content)] = content

    def require_room(self, count: int) -> None:
        """ENOSPC when `count` bytes more would eat what the journal and publication need."""
        self._until_room_check -= count
        if self._until_room_check > 0:
            return
        free = self.free_bytes(count)
        if free < FREE_BYTES_FLOOR + count:
            raise FSError(errno.ENOSPC, "the disk that holds the store is nearly full")
        self._until_room_check = min(FREE_BYTES_STEP, (free - FREE_BYTES_FLOOR) // 2)

    def free_bytes(self, count: int) -> int:
        """Room on the disk for who wants `count` bytes: what was cut ahead of writers yields to them."""
        disk = self._state.replica.disk
        free = disk.free_bytes()
        if free < FREE_BYTES_FLOOR + count and self._publisher.ahead.give_back():
            free = disk.free_bytes()
        return free

    def save(self, content: Content, *, is_flushed: bool = False) -> None:
        """With the operating system when this returns: the process may die."""
        if content.is_saved and content.is_flushed >= is_flushed:
            return
        if self._is_orphan(content):
            self._dirty.pop(id(content), None)
            return
        was_flushed = content.is_flushed
        content.is_flushed = is_flushed or was_flushed
        try:
            with self._state.replica.change() as change:
                self._state.contents.save(content, change)
        except BaseException:
            content.is_flushed = was_flushed
            raise
        self._dirty.pop(id(content), None)

    def _is_orphan(self, content: Content) -> bool:
        return self._state.contents.get(content.ref) is not content

    def save_dirty(self) -> None:
        """Save everything that a crash of the process would lose."""
        for content in list(self._dirty.values()):
            self.save(content)
        self._unsaved_bytes = 0

    def publish_young(self) -> None:
        """What was created YOUNG_S ago and is still open enters the tree as it is."""
        now = self._state.replica.clock.monotonic()
        for inode, since in list(self._young.items()):
            if now - since >= YOUNG_S:
                del self._young[inode]
                if inode.detached is None:
                    self._publisher.enqueue_open(inode.ref)

    def publish_forgotten(self) -> None:
        """What nobody writes any more enters the tree even if it is in no queue: that is a bug of ours, and
        must not keep a file on this device alone.
        """
        state = self._state
        for content in state.contents:
            inode, local = state.inodes.of_ref(content.ref), state.local.get(content.ref[0])
            is_local = local is not None and local.is_ignored
            is_written = inode is not None and inode.writers > 0
            if not (is_local or is_written or self._publisher.knows(content)):
                log.error("what was written was in no queue; it is published now", file=content.ref[0])
                self._publisher.enqueue(content.ref)

    def flush(self, inode: Inode) -> None:
        """close(2) on one descriptor: what was written counts from now on, whatever happens to us."""
        if inode.detached is not None:
            return
        content = self._state.contents.get(inode.ref)
        if content is not None:
            if not content.is_flushed:
                self._state.announce(inode)
            self.save(content, is_flushed=True)
            if self._state.are_rules_stale or inode.id == self._state.rules_inode:
                self._load_rules()
            return
        local = self._state.local.get(inode.id)
        if local is not None and not local.is_closed and local.kind == Kind.FILE:
            with self._state.replica.change() as change:
                self._state.local.put(replace_entry(local, is_closed=True), change)

    def release(self, handle: Handle) -> None:
        """The last descriptor of an open file description is closed."""
        inode = handle.inode
        is_behind = self._state.is_behind(inode)
        inode.opens -= 1
        inode.writers -= handle.is_writer
        if handle.is_writer and not inode.writers:
            inode.base = None
            if is_behind:
                self._state.announce(inode, is_remote=True)
            self._young.pop(inode, None)
            self.close(inode)
        if inode.detached is not None and not inode.opens and inode.orphan is not None:
            self._dirty.pop(id(inode.orphan), None)
            self._state.contents.discard(inode.orphan)
            inode.orphan = None
        self._state.inodes.drop_if_unused(inode)

    def close(self, inode: Inode) -> None:
        """No writer is left: the content becomes a version."""
        if inode.detached is not None:
            return
        state = self._state
        content = state.contents.get(inode.ref)
        local = state.local.get(inode.id)
        if content is None and (local is None or local.kind != Kind.FILE):
            return
        is_ignored = local is not None and local.is_ignored
        try:
            is_whole = content is None or (content.is_saved and content.is_flushed)
            if content is not None and not is_whole and state.replica.read_only is None:
                self.save(content, is_flushed=True)
        finally:  # what a failing disk does not take now is saved and published when it does
            if content is not None:
                content.top.is_closed = content.top.is_version = True
            if not is_ignored:
                self._publisher.enqueue(inode.ref)
        if is_ignored and (content is None or content.is_saved):
            state.contents.rest(inode.ref)

    async def fsync(self, inode: Inode) -> None:
        """Return when the file's bytes, and every change of the volume before, are on the platter."""
        content = self._state.content(inode)
        if content is not None and inode.detached is None:
            content.is_fsynced = True
            for layer in content.layers:
                layer.settle()
                if not layer.is_filed:
                    # Its bytes travel in the journal, with the row that says so.
                    layer.durable_sequence = layer.sequence + layer.is_dirty
            content.is_saved = False
            self.save(content)
            await self.make_durable([content])
            is_there = self._state.contents.get(inode.ref) is content  # or it was published meanwhile
            if is_there and inode.writers and not content.top.is_closed:
                self._publisher.enqueue_open(inode.ref)
        await self._state.replica.run_blocking(self._state.replica.journal.sync)

    async def make_durable(self, contents: list[Content]) -> None:
        """Put staging files on the platter and note in the journal how far that went."""
        layers = [
            (content, layer, layer.sequence)
            for content in contents
            for layer in content.layers
            if layer.is_filed and layer.durable_sequence < layer.sequence
        ]
        for content, layer, sequence in layers:
            with layer.in_use():
                await self._state.replica.run_blocking(layer.sync)
            layer.durable_sequence = max(layer.durable_sequence, sequence)
            content.is_saved = False
        for content in {id(content): content for content, _, _ in layers}.values():
            self.save(content)

    async def sync(self) -> None:
        """syncfs, unmount and the periodic sync: everything acknowledged is on the platter."""
        if self._state.replica.read_only is None:
            self.save_dirty()
            await self.make_durable(list(self._state.contents))
        doomed = self._state.contents.take_doomed()
        await self._state.replica.run_blocking(self._state.replica.journal.sync)
        for layer in doomed:
            layer.discard()

    def set_times(self, inode: Inode, mtime: int, stamp: Stamp) -> bool:
        """utimens(2) on unpublished content: True if it was there to take it."""
        content = self._state.content(inode)
        if content is None:
            return False
        content.top.mtime, content.top.stamp = mtime, stamp
        content.is_saved = False
        if inode.detached is None:
            self.save(content)
        return True
