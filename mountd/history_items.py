"""What happened and what was restored, in the words of the local API."""

from dittofs.control.history import LogEvent, RestoredItem, SnapshotStatus
from dittofs.control.paths import path_fields
from dittofs.history.restoring import Restored, Restoring
from dittofs.history.snapshots import Snapshot
from dittofs.history.versions import Event, Versions
from dittofs.ids import InodeId
from dittofs.volume.events import PastContent
from dittofs.volume.volume import Volume
from dittofs.volume.writers import Writers
from mountd.kinds import KIND_NAMES


async def told(
    volume: Volume, versions: Versions, restoring: Restoring, event: Event, known_as: str
) -> LogEvent:
    """An event of the log; `known_as`: what to type for its device."""
    content, row = event.version, event.row
    was = path_fields(event.was)
    shown = volume.replica.tree.version((row.inode, None))
    is_shown = (
        content is not None
        and event.what != "removed"
        and shown is not None
        and (shown.root, shown.size, shown.dot[0], shown.stamp)
        == (content.root, content.size, content.slot, content.stamp)
    )
    return LogEvent(
        kind=KIND_NAMES[event.kind],
        what=event.what,
        made_ns=int(row.stamp),
        applied_ns=row.at,
        device=event.device,
        was=was["path"],
        was_raw=was["path_raw"],
        version=versions.name(row.inode, content) if content is not None else "",
        id=content.id if content is not None else "",
        size=content.size if content is not None else 0,
        missing_bytes=await restoring.missing_bytes(content),
        is_shown=is_shown,
        known_as=known_as,
        **path_fields(event.path),
    )


async def would_be(
    volume: Volume,
    versions: Versions,
    restoring: Restoring,
    inode: InodeId,
    content: PastContent,
    path: bytes,
) -> RestoredItem:
    """What restoring a version would do."""
    shown = volume.replica.tree.version((inode, None))
    is_same = shown is not None and shown.content == (content.root, content.size)
    return RestoredItem(
        kind="file",
        what="same" if is_same else "version" if shown is not None else "back",
        version=versions.name(inode, content),
        id=content.id,
        size=content.size,
        missing_bytes=await restoring.missing_bytes(content),
        **path_fields(path),
    )


def done_item(done: Restored, version: str = "", identity: str = "") -> RestoredItem:
    """What was restored."""
    return RestoredItem(
        kind=KIND_NAMES[done.kind],
        what=done.what,
        version=version,
        id=identity,
        size=done.size,
        missing_bytes=done.missing_bytes,
        is_renamed=done.is_renamed,
        **path_fields(done.path),
    )


def status_of(writers: Writers, one: Snapshot) -> SnapshotStatus:
    """A snapshot."""
    device = one.device if one.writer is None else writers.name_or(one.writer, one.device)
    return SnapshotStatus(one.name, one.at, device, one.files, one.bytes)
