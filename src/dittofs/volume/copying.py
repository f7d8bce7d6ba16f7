"""copy_file_range(2): a copy inside the volume is a copy of the manifest."""

import errno
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

from dittofs.errors import FSError
from dittofs.tree.record import Kind
from dittofs.volume.files import Files
from dittofs.volume.inodes import Inode
from dittofs.volume.publication import Publisher
from dittofs.volume.state import State


class Copying:
    """Copies whole files without their bytes."""

    def __init__(self, state: State, files: Files, publisher: Publisher) -> None:
        self._state = state
        self._files = files
        self._publisher = publisher

    def copy_range(
        self, source: Inode, offset: int, target: Inode, target_offset: int, length: int
    ) -> int | Coroutine[Any, Any, int]:
        """copy_file_range(2): the whole of a file into an empty one, in constant time; its bytes.

        The copy is based on the same chunks. EOPNOTSUPP for anything else: the caller then copies bytes.
        """
        self._require_copyable(source, offset, target, target_offset, length)
        if self._state.contents.get(source.ref) is not None:
            return self._copy_settled(source, offset, target, target_offset, length)
        return self._copy(source, target)

    async def _copy_settled(
        self, source: Inode, offset: int, target: Inode, target_offset: int, length: int
    ) -> int:
        await self._publisher.settle(source.ref)
        self._require_copyable(source, offset, target, target_offset, length)
        if self._state.contents.get(source.ref) is not None:
            raise FSError(errno.EOPNOTSUPP)
        return self._copy(source, target)

    def _require_copyable(
        self, source: Inode, offset: int, target: Inode, target_offset: int, length: int
    ) -> None:
        if source.kind is not Kind.FILE or target.kind is not Kind.FILE or target.virtual is not None:
            raise FSError(errno.EINVAL)
        self._state.replica.require_writable()
        is_in_past = source.past is not None
        is_plain = source.detached is None and (source.virtual is None or is_in_past)
        stat = self._state.stat(source)
        local = self._state.local.get(source.id)
        is_whole = offset == target_offset == 0 and length >= stat.size > 0
        is_empty = target is not source and not self._state.stat(target).size
        is_settled = source.writers == 0 and (is_in_past or local is None or not local.is_ignored)
        if not (is_plain and is_whole and is_empty and is_settled):
            raise FSError(errno.EOPNOTSUPP)

    def _copy(self, source: Inode, target: Inode) -> int:
        state = self._state
        shown = state.shown(source) if source.past is None else source.past.shown
        content = state.content(target)
        if content is not None and (len(content.layers) > 1 or content.top.is_closed):
            raise FSError(errno.EOPNOTSUPP)
        content = content or self._files.writable(target)
        begun, old = content.published, content.top
        content.layers[:] = [state.contents.layer_on(shown)]
        content.published = replace(begun, root=shown.root, size=shown.size)
        self._files.changed(content)
        if target.detached is None:
            try:
                with state.replica.change() as change:
                    state.contents.erase_rows(content, [old])
                    state.contents.save(content, change)
            except BaseException:
                content.layers[:], content.published = [old], begun
                raise
        state.contents.doom(old)
        return shown.size
