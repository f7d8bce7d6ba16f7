"""`dittofs import`: which directories may join a volume, and what is told while one does."""

import os
import shlex
import stat
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Final, Literal

from dittofs.control.conflicts import ImportDone, ImportItem, ImportNote, ImportProgress, ImportRequest
from dittofs.control.faults import Refusal
from dittofs.control.mountpoint import mounts
from dittofs.control.paths import components, path_bytes, path_fields
from dittofs.errors import FSError
from dittofs.importing.importing import Importing, Progress
from dittofs.node import Node
from dittofs.volume.names import RESERVED
from mountd.outside import require_outside
from mountd.outsider import require_writer

_OUTSIDE: Final = ("nothing was done", "cp -a copies from one volume to another")


async def import_tree(node: Node, request: ImportRequest) -> AsyncGenerator[ImportItem, None]:
    """Join a directory with one of a volume; refuses before anything is changed."""
    opened = node.require_open(request.volume)
    require_writer(opened)
    names = components(path_bytes(request))
    given = request.source_raw or request.source.encode()
    require_outside(os.fsdecode(given), *_OUTSIDE)
    # In a thread: a link may lead into a mount, which the event loop has to serve meanwhile.
    source = await opened.volume.replica.run_blocking(_judged, given, node.state_directory)
    inside = source.rstrip(b"/") + b"/"
    ours = (os.fsencode(mount.path) for mount in mounts() if mount.is_ours)
    importing = Importing(
        opened.volume,
        source,
        names,
        skipped=frozenset(path for path in ours if path.startswith(inside)),
        is_dry=request.dry_run,
    )
    try:
        async for item in importing.run():
            if isinstance(item, Progress):
                step: Literal["counting", "reading"] = "counting" if item.is_counting else "reading"
                yield ImportProgress(step, item.entries, item.bytes_done, item.bytes_total)
            else:
                yield ImportNote(item.what, detail=item.detail, bytes=item.bytes, **path_fields(item.path))
    except FSError as error:
        if names[:1] == (RESERVED,):
            mend = f"dittofs import DIR {shlex.quote(request.volume)}:"
            raise Refusal("refused", f"{error}; nothing was done", f"Name another place:  {mend}") from error
        added = importing.totals.added
        done = f"{added} files were added, and stay; the same command goes on from there"
        raise Refusal(
            "failed", f"{error}; {done if added else 'nothing was done'}", "dittofs status"
        ) from error
    totals = importing.totals
    yield ImportDone(
        volume=request.volume,
        added=totals.added,
        added_bytes=totals.added_bytes,
        directories=totals.directories,
        same=totals.same,
        same_bytes=totals.same_bytes,
        conflicts=totals.conflicts,
        conflict_bytes=totals.conflict_bytes,
        left_out=totals.left_out,
        failed=totals.failed,
        dry_run=request.dry_run,
        **path_fields(b"/".join(names)),
    )


def _judged(given: bytes, state: Path) -> bytes:
    """Blocking: the directory itself, if it may be read whole. Refuses."""
    if not given.startswith(b"/"):
        raise Refusal("usage", "the directory to import must be given as an absolute path")
    source = os.path.realpath(given)
    require_outside(os.fsdecode(source), *_OUTSIDE)
    shown = source.decode(errors="replace")
    try:
        is_directory = stat.S_ISDIR(os.stat(source).st_mode)  # noqa: PTH116 - bytes
    except OSError as error:
        raise Refusal("not_found", f"{shown}: {error.strerror}; nothing was done") from error
    if not is_directory:
        mend = f"dittofs add {shlex.quote(shown)}"
        raise Refusal("usage", f"{shown} is no directory; nothing was done", mend)
    if not os.access(source, os.R_OK | os.X_OK):
        raise Refusal("forbidden", f"{shown} cannot be read by you; nothing was done")
    store = os.fsencode(os.path.realpath(state))
    if (store + b"/").startswith(source.rstrip(b"/") + b"/"):
        text = f"{shown} holds what this device stores ({store.decode(errors='replace')}), which would grow"
        raise Refusal("refused", f"{text} by it; nothing was done", "Name the directories in it one by one")
    return source
