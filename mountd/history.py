"""`dittofs log`, `restore`, `trash`, `snapshot` and `checkout`: the past, asked for and had again."""

import errno
import os
import shlex
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from typing import Final

import trio

from dittofs.control.faults import Refusal
from dittofs.control.history import (
    CheckoutDone,
    CheckoutProgress,
    CheckoutRequest,
    EmptyTrashRequest,
    EmptyTrashResult,
    HistoryFileRequest,
    LogEvent,
    LogRequest,
    RestoredItem,
    RestoreRequest,
    SnapshotsRequest,
    SnapshotsResult,
    TrashItem,
    TrashRequest,
    UnreadableSnapshotStatus,
)
from dittofs.control.paths import components, path_bytes, path_fields
from dittofs.control.service import Content
from dittofs.errors import ChunkUnavailable, FSError, ReadOnlyVolume
from dittofs.history.past import Pasts
from dittofs.history.restoring import Restoring, require_all
from dittofs.history.restoring_views import ViewRestoring, found_in
from dittofs.history.snapshots import (
    Snapshot,
    SnapshotView,
    create_snapshot,
    delete_snapshot,
    find_snapshot,
    snapshots_of,
    unreadable_snapshots,
)
from dittofs.history.times import parse_time, time_name
from dittofs.history.trash import Removed, forget, trash
from dittofs.history.versions import Event, Versions, log_below, log_of
from dittofs.history.views import TimeView, View
from dittofs.ids import InodeId
from dittofs.node import Node
from dittofs.tree.record import Kind
from dittofs.volume.events import PastContent
from dittofs.volume.volume import Volume
from mountd.authors import author, authors_of
from mountd.checkout import Checkout
from mountd.history_items import done_item, status_of, told, would_be
from mountd.kinds import KIND_NAMES
from mountd.known_paths import is_there, never_there, require_known

PART_BYTES: Final = 1 << 20
ROWS_IN_A_ROW: Final = 32


class HistoryDesk:
    """Of all volumes of a node."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def _volume(self, name: str) -> Volume:
        return self._node.require_open(name).volume

    # -- log

    async def log(self, request: LogRequest) -> AsyncGenerator[LogEvent, None]:
        """The latest first."""
        opened = self._node.require_open(request.volume)
        volume = opened.volume
        names = components(path_bytes(request))
        versions, restoring = Versions(volume.replica), Restoring(volume)
        wanted = author(opened, request.device) if request.device else ""
        authors = authors_of(opened)
        found = 0
        for number, event in enumerate(self._events(volume, names), 1):
            if number % ROWS_IN_A_ROW == 0:
                await trio.lowlevel.checkpoint()
            if event is None or (wanted and event.author != wanted):
                continue
            yield await told(volume, versions, restoring, event, authors.known_as(event.author))
            found += 1
            if found == request.limit:
                return

    def _events(self, volume: Volume, names: tuple[bytes, ...]) -> Iterator[Event | None]:
        if not names:
            yield from log_below(volume.replica, b"")
            return
        inodes = Pasts(volume.replica).had_path(names)
        if not inodes:
            raise never_there(names)
        if any(volume.replica.tree.kind(one) is Kind.DIRECTORY for one in inodes[:1]):
            yield from log_below(volume.replica, b"/".join(names))
            return
        events = [list(log_of(volume.replica, inode)) for inode in inodes]
        yield from sorted(
            (one for found in events for one in found), key=lambda one: one.row.key, reverse=True
        )

    # -- restore

    async def restore(self, request: RestoreRequest) -> AsyncGenerator[RestoredItem, None]:
        """What is done to each file, as it is done."""
        volume = self._volume(request.volume)
        names = components(path_bytes(request))
        if not request.version:
            async for item in self._from_trash(volume, names, dry_run=request.dry_run):
                yield item
            return
        snapshot = find_snapshot(volume.replica, request.version)
        if snapshot is not None:
            run = ViewRestoring(volume, SnapshotView(volume.state, snapshot))
            async with aclosing(run.run(names, dry_run=request.dry_run)) as found:
                async for one in found:
                    yield done_item(one)
            return
        versions = Versions(volume.replica)
        inodes = Pasts(volume.replica).had_path(names)
        if not inodes:
            _require_no_name(volume, names, request)
            raise never_there(names)
        is_directory = not names or volume.replica.tree.kind(inodes[0]) is Kind.DIRECTORY
        if is_directory:
            async for item in self._directory(volume, names, request):
                yield item
            return
        inode, content = _found(versions, inodes, request)
        restoring = Restoring(volume)
        if request.dry_run:
            yield await would_be(volume, versions, restoring, inode, content, b"/".join(names))
            return
        done = await restoring.version(inode, content)
        yield done_item(done, versions.name(inode, content), content.id)

    async def _directory(
        self, volume: Volume, names: tuple[bytes, ...], request: RestoreRequest
    ) -> AsyncGenerator[RestoredItem, None]:
        pasts, restoring = Pasts(volume.replica), Restoring(volume)
        at = _time(volume, request.version)
        entry = pasts.lookup(names, at)
        if entry is None:
            raise Refusal(
                "not_found",
                f"{request_path(names)} was not there at {time_name(at)}, as far as this device knows",
                f"What happened:  dittofs log {shlex.quote(request.volume)}:{request_path(names)}",
            )
        if request.dry_run:
            for path, inode, past in restoring.inside(entry, at, b"/".join(names)):
                now = pasts.now(inode)
                if past != now:
                    yield RestoredItem(
                        kind=KIND_NAMES[past.kind],
                        what="back" if now is None else "version",
                        size=past.main.size if past.main else 0,
                        missing_bytes=await restoring.missing_bytes(past.main),
                        **path_fields(path),
                    )
                await trio.lowlevel.checkpoint()
        else:
            async with aclosing(restoring.directory(entry, at)) as found:
                async for done in found:
                    if done.what != "same":
                        yield done_item(done)
        if await restoring.has_forgotten(entry, at):
            text = f"{request_path(names)}: what was removed later and forgotten (trash empty) cannot be had"
            raise Refusal("failed", f"{text}; all else is or would be as it was", "dittofs snapshot list")

    async def _from_trash(
        self, volume: Volume, names: tuple[bytes, ...], *, dry_run: bool
    ) -> AsyncGenerator[RestoredItem, None]:
        restoring = Restoring(volume)
        found = await self._removed(volume, b"/".join(names), 0)
        if not found:
            text = f"nothing that was removed had the path {request_path(names)}"
            if names and is_there(volume, names):
                text = f"{request_path(names)} is there already; nothing was brought back"
            raise Refusal("not_found", text, "What was removed:  dittofs trash list")
        exact = [one for one in found if one.path == b"/".join(names)]
        failed: list[str] = []
        for one in exact[:1] or reversed(found):
            if dry_run:
                size = one.past.main.size if one.past.main else 0
                missing = await restoring.missing_bytes(one.past.main)
                yield RestoredItem(
                    kind=KIND_NAMES[one.past.kind],
                    what="back",
                    size=size,
                    missing_bytes=missing,
                    **path_fields(one.path),
                )
                continue
            try:
                done = await restoring.back(one.inode, one.past, at=one.at - 1)
            except (FSError, ChunkUnavailable) as error:
                failed.append(str(error))
            else:
                yield done_item(done)
        require_all(failed)

    # -- one version

    async def file(self, request: HistoryFileRequest) -> Content:
        """A version's bytes, as they are asked for."""
        volume = self._volume(request.volume)
        names = components(path_bytes(request))
        snapshot = find_snapshot(volume.replica, request.version)
        if snapshot is not None:
            entry, _ = await found_in(SnapshotView(volume.state, snapshot), names)
            if entry.kind is not Kind.FILE:
                raise Refusal("usage", f"{request_path(names)} was no regular file")
            return Content(entry.size, _parts(volume, entry.root, entry.size), entry.mode, entry.mtime)
        inodes = Pasts(volume.replica).had_path(names)
        if not inodes:
            raise never_there(names)
        _, content = _found(Versions(volume.replica), inodes, request)
        parts = _parts(volume, content.root, content.size)
        return Content(content.size, parts, 0o644, content.mtime)

    # -- trash

    async def trash(self, request: TrashRequest) -> AsyncGenerator[TrashItem, None]:
        volume = self._volume(request.volume)
        restoring = Restoring(volume)
        names = components(path_bytes(request))
        removed = await self._removed(volume, b"/".join(names), request.limit)
        if not removed:
            require_known(volume, names)
        for one in removed:
            main = one.past.main
            yield TrashItem(
                kind=KIND_NAMES[one.past.kind],
                removed_ns=one.made,
                device=volume.replica.writers.name(one.slot),
                id=main.id if main else "",
                size=main.size if main else 0,
                missing_bytes=await restoring.missing_bytes(main),
                **path_fields(one.path),
            )

    async def empty(self, request: EmptyTrashRequest) -> EmptyTrashResult:
        volume = self._volume(request.volume)
        names = components(path_bytes(request))
        found = await self._removed(volume, b"/".join(names), 0)
        if not found:
            require_known(volume, names)
        size = sum(one.past.main.size for one in found if one.past.main)
        if not request.dry_run:
            await forget(volume.replica, found)
        count = len(snapshots_of(volume.replica))
        return EmptyTrashResult(request.volume, len(found), size, count)

    async def _removed(self, volume: Volume, prefix: bytes, limit: int) -> list[Removed]:
        found: list[Removed] = []
        for number, one in enumerate(trash(volume.replica, prefix), 1):
            if number % ROWS_IN_A_ROW == 0:
                await trio.lowlevel.checkpoint()
            if one is not None:
                found.append(one)
                if len(found) == limit:
                    break
        return found

    # -- snapshots

    async def snapshots(self, request: SnapshotsRequest) -> SnapshotsResult:
        volume = self._volume(request.volume)
        done: Snapshot | None = None
        try:
            match request.action:
                case "create":
                    done = await create_snapshot(volume.replica, volume.publisher, request.name)
                case "delete":
                    done = delete_snapshot(volume.replica, request.name)
        except ReadOnlyVolume:
            raise
        except FSError as error:
            code = {errno.EINVAL: "usage", errno.EFBIG: "usage", errno.EEXIST: "exists"}.get(
                error.errno, "not_found"
            )
            raise Refusal(code, str(error), "Those there are:  dittofs snapshot list") from error
        if done is not None:
            self._node.require_open(request.volume).peers.custody.recount()  # others are to hold it too
        writers = volume.replica.writers
        known = tuple(status_of(writers, one) for one in snapshots_of(volume.replica))
        unreadable = tuple(
            UnreadableSnapshotStatus(one.name, one.reason) for one in unreadable_snapshots(volume.replica)
        )
        told_done = None if done is None else status_of(writers, done)
        return SnapshotsResult(request.volume, known, told_done, unreadable)

    async def checkout(
        self, request: CheckoutRequest
    ) -> AsyncGenerator[CheckoutProgress | CheckoutDone, None]:
        """Write what was; progress at least every second."""
        volume = self._volume(request.volume)
        snapshot = find_snapshot(volume.replica, request.version)
        view: View
        if snapshot is not None:
            view = SnapshotView(volume.state, snapshot)
        else:
            view = TimeView(volume.replica, _time(volume, request.version))
        directory = os.fsdecode(request.directory_raw or request.directory.encode())
        checkout = Checkout(volume, view, directory, force=request.force)
        async with aclosing(checkout.run(components(path_bytes(request)))) as told_items:
            async for item in told_items:
                yield item


def _found(
    versions: Versions, inodes: Sequence[InodeId], request: RestoreRequest | HistoryFileRequest
) -> tuple[InodeId, PastContent]:
    """The version that is asked for. Refuses what names none, with where the versions are listed."""
    try:
        return versions.find(inodes, request.version)
    except FSError as error:
        place = shlex.quote(f"{request.volume}:{os.fsdecode(path_bytes(request))}")
        text = f"{error}; nothing was done"
        code = "not_found" if error.errno == errno.ENOENT else "usage"
        raise Refusal(code, text, f"Which there are:  dittofs log {place}") from error


def _require_no_name(volume: Volume, names: tuple[bytes, ...], request: RestoreRequest) -> None:
    """Refuses ("usage") if what is taken for a path and a version is the path of something."""
    whole = (*names[:-1], names[-1] + b"@" + os.fsencode(request.version)) if names else ()
    if whole and (is_there(volume, whole) or Pasts(volume.replica).had_path(whole)):
        place = shlex.quote(f"{request.volume}:{os.fsdecode(b'/'.join(whole))}")
        text = f"{request_path(whole)} is a path, and it is not said to which version; nothing was done"
        raise Refusal("usage", text, f"Which there are:  dittofs log {place}")


def request_path(names: tuple[bytes, ...]) -> str:
    return b"/".join(names).decode(errors="backslashreplace") or "/"


def _time(volume: Volume, text: str) -> int:
    replica = volume.replica
    now, first = replica.clock.now_ns(), replica.journal.history.first_at()
    at = parse_time(text, now)
    if at is None:
        known = ", ".join(one.name for one in snapshots_of(replica)) or "none"
        raise Refusal(
            "usage",
            f"{text!r} is neither a snapshot (there are: {known}) nor a time",
            "A time is  2026-11-21T14:30  or  2026-11-21  or  3h  or  yesterday, in UTC",
        )
    if first is None or at < first:
        since = time_name(first) if first is not None else "now"
        raise Refusal("not_found", f"this device knows nothing of that time: its history begins {since}")
    return min(at, now)


async def _parts(volume: Volume, root: bytes, size: int) -> AsyncGenerator[bytes, None]:
    base = volume.state.contents.reader(root, size)
    offset = 0
    while offset < size:
        answer = volume.files.read_base(base, offset, min(PART_BYTES, size - offset))
        part = answer if isinstance(answer, bytes) else await answer
        if not part:
            raise FSError(errno.EIO, "the version is shorter than it says")
        yield part
        offset += len(part)
        await trio.lowlevel.checkpoint()
