"""Setting files and directories back to what a view shows: a snapshot keeps what the history may not."""

import errno
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import trio

from dittofs.errors import ChunkUnavailable, FormatError, FSError
from dittofs.history.past import Pasts
from dittofs.history.restoring import Restored, Restoring, require_all
from dittofs.history.views import View, ViewEntry, settled
from dittofs.ids import ROOT, InodeId, Slot, Stamp
from dittofs.tree.record import Kind
from dittofs.volume.events import Past, PastContent, PastName
from dittofs.volume.volume import Volume


class ViewRestoring:
    """One run. Conflict entries are not brought back; what came since stays."""

    def __init__(self, volume: Volume, view: View) -> None:
        self._volume = volume
        self._view = view
        self._restoring = Restoring(volume)
        self._pasts = Pasts(volume.replica)
        self._met: set[InodeId] = set()

    async def run(self, names: Sequence[bytes], *, dry_run: bool) -> AsyncGenerator[Restored, None]:
        """`_run`; what the view keeps is kept until the end, though the snapshot may be deleted meanwhile."""
        with self._volume.replica.naming.begun():
            async with aclosing(self._run(names, dry_run=dry_run)) as found:
                async for one in found:
                    yield one

    async def _run(self, names: Sequence[bytes], *, dry_run: bool) -> AsyncGenerator[Restored, None]:
        """What is not as the view has it, each as it is set back; parents before children.

        FSError(ENOENT) if the view has nothing at `names`; EIO, after all others were set back, names
        those that could not be. FormatError: a writer made a listing that no volume ever had.
        """
        entry, parent = await found_in(self._view, names)
        waiting = [(b"/".join(names), parent, entry)]
        failed: list[str] = []
        while waiting:
            path, parent, one = waiting.pop(0)
            if path and not one.is_aside:
                try:
                    done = await self._set_back(path, parent, one, dry_run=dry_run)
                except (FSError, ChunkUnavailable) as error:
                    failed.append(f"{path.decode(errors='replace')}: {error}")
                    done = None
                if done is not None:
                    yield done
            if one.kind is Kind.DIRECTORY:
                here = one.inodes[0] if one.inodes else ROOT
                below = await settled(self._view.entries(one))
                waiting += [
                    (path + b"/" + name if path else name, here, found) for name, found in below.items()
                ]
            await trio.lowlevel.checkpoint()
        require_all(failed)

    async def _set_back(
        self, path: bytes, parent: InodeId, one: ViewEntry, *, dry_run: bool
    ) -> Restored | None:
        inode, parent = self._restoring.called(one.inodes[0]), self._restoring.called(parent)
        kind = self._volume.replica.tree.kind(inode)
        if kind not in (None, one.kind):  # no inode ever changes its kind
            raise FormatError(f"the snapshot says of {path.decode(errors='replace')} what it never was")
        now = self._pasts.now(inode)
        is_there = now is not None and any(
            name.is_plain and (name.parent, name.name) == (parent, one.name) for name in now.names.values()
        )
        past = _past_of(one, parent, now)
        if is_there and now is not None and _is_alike(now, past):
            self._met.add(inode)
            return None
        missing = await self._restoring.missing_bytes(past.main)
        if dry_run:
            what = Restored(path, one.kind, one.size, missing, "back" if now is None else "version")
        elif inode in self._met:  # one more name of what is back already
            is_renamed = self._restoring.link(inode, parent, one.name)
            what = Restored(path, one.kind, one.size, missing, "back", is_renamed)
        else:
            what = await self._restoring.back(inode, past, at=self._view.at, is_kept=True)
        self._met.add(self._restoring.called(inode))
        return what


async def found_in(view: View, names: Sequence[bytes]) -> tuple[ViewEntry, InodeId]:
    """What a view has at a path, and the directory that it is in. FSError(ENOENT)."""
    entry, parent = view.top(), ROOT
    for name in names:
        below = await settled(view.entries(entry)) if entry.kind is Kind.DIRECTORY else {}
        if name not in below:
            raise FSError(errno.ENOENT, f"{b'/'.join(names).decode(errors='replace')} was not there then")
        parent = entry.inodes[0] if entry.inodes else ROOT
        entry = below[name]
    return entry, parent


def _past_of(one: ViewEntry, parent: InodeId, now: Past | None) -> Past:
    """An entry as the history would have it, its name under the link that holds it now if one does."""
    held = now.names.values() if now is not None else ()
    link = next((name.link for name in held if (name.parent, name.name) == (parent, one.name)), "")
    content = PastContent(one.root, one.size, one.mtime, b"", Slot(""), Stamp(0))
    has_content = one.kind in (Kind.FILE, Kind.SYMLINK)
    return Past(
        one.kind,
        {link: PastName(parent, one.name, link, True)},
        (content,) if has_content else (),
        one.mode,
        one.owner,
        one.mtime,
        one.birth,
        one.xattrs,
        one.rdev,
    )


def _is_alike(now: Past, past: Past) -> bool:
    """Whether nothing but the place would change."""
    contents = [one.main[:2] if one.main is not None else None for one in (now, past)]
    is_mode = now.mode is None or now.mode == past.mode
    return contents[0] == contents[1] and is_mode and (now.owner, now.xattrs) == (past.owner, past.xattrs)
