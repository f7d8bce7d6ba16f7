"""What the local API asks of the daemon, answered from the node and its mounts."""

import errno
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from pathlib import Path

import trio

from dittofs import __version__
from dittofs.chunks.seal import ChunkKind
from dittofs.control.events import EventFeed
from dittofs.control.faults import Refusal
from dittofs.control.paths import components, path_bytes, path_fields
from dittofs.control.protocol import (
    CHUNK_IDS_MAX,
    NOW,
    AddRequest,
    AddResult,
    CheckItem,
    CheckRequest,
    ChunkRun,
    ChunksRequest,
    DamageEvent,
    DeviceStatus,
    Entry,
    EntryKind,
    Event,
    FileRequest,
    Finding,
    Health,
    ListItem,
    ListRequest,
    MountRequest,
    MountResult,
    Pending,
    StatusReport,
    StopResult,
    Unmounted,
    UnmountRequest,
    UnmountResult,
    VolumeEvent,
    VolumeStatus,
)
from dittofs.control.service import Content
from dittofs.errors import FSError
from dittofs.ids import ChunkId
from dittofs.node import Node
from dittofs.shared_volume import SharedVolume
from dittofs.tree.record import Kind
from dittofs.volume.browsing import Browsing, Seen
from dittofs.volume.state import Caller
from mountd.checking import check
from mountd.mounting import Mounting

KIND_NAMES: dict[Kind, EntryKind] = {
    Kind.FILE: "file",
    Kind.DIRECTORY: "directory",
    Kind.SYMLINK: "symlink",
    Kind.FIFO: "fifo",
    Kind.SOCKET: "socket",
    Kind.CHARACTER: "character",
    Kind.BLOCK: "block",
}
DAMAGE_MAX = 100


class DaemonService:
    """Implements `dittofs.control.service.Service`."""

    def __init__(self, node: Node, mounting: Mounting, feed: EventFeed, stop: Callable[[], None]) -> None:
        self._node = node
        self._mounting = mounting
        self._feed = feed
        self._stop = stop
        self._started = time.monotonic()
        self._told: set[tuple[str, Finding]] = set()

    def health(self) -> Health:
        return Health(version=__version__, pid=os.getpid())

    def status(self) -> StatusReport:
        return StatusReport(
            version=__version__,
            pid=os.getpid(),
            uptime_s=time.monotonic() - self._started,
            memory_bytes=_resident_bytes(),
            volumes=tuple(self.volume_status(name) for name in self._node.names()),
            devices=(
                DeviceStatus(
                    name=self._node.label, id=self._node.device_id.hex(), is_this=True, is_online=True
                ),
            ),
        )

    def volume_status(self, name: str) -> VolumeStatus:
        """One volume as `status` shows it."""
        record = self._node.record(name)
        mount = self._mounting.of_volume(name)
        where = path_fields(os.fsencode(mount.path if mount else record.path))
        opened = self._node.opened(name)
        if opened is None:
            failure = self._node.failure(name)
            return VolumeStatus(
                name=name,
                id=record.volume_id,
                state="failed" if failure else "unmounted",
                failure=failure,
                **where,
            )
        summary = opened.volume.summary()
        statistics = opened.volume.replica.chunks.statistics()
        return VolumeStatus(
            name=name,
            id=record.volume_id,
            state="mounted" if mount else "unmounted",
            options=tuple(record.options),
            files=summary.files,
            directories=summary.directories,
            bytes=summary.content_bytes,
            bytes_here=summary.bytes_here,
            stored_bytes=statistics.pack_bytes + statistics.index_bytes,
            conflicts=summary.conflicts,
            pending=Pending(files=summary.pending_files, bytes=summary.pending_bytes),
            read_only=summary.read_only or "",
            damage=tuple(_findings(opened))[:DAMAGE_MAX],
            **where,
        )

    def publish_state(self, name: str) -> None:
        """Tell who listens that a volume changed its state, and what was found damaged since."""
        status = self.volume_status(name)
        self._feed.publish(VolumeEvent(status))
        for finding in status.damage:
            if (name, finding) not in self._told:
                self._told.add((name, finding))
                self._feed.publish(DamageEvent(name, finding))

    async def mount(self, request: MountRequest) -> MountResult:
        done = await self._mounting.mount(os.fsdecode(path_bytes(request)), request.name, request.options)
        return MountResult(
            volume=self.volume_status(done.volume),
            device=self._node.label,
            is_new_volume=done.is_new_volume,
            is_new_directory=done.is_new_directory,
            was_mounted=done.was_mounted,
            was_stale=done.was_stale,
            warnings=done.warnings,
        )

    async def unmount(self, request: UnmountRequest) -> UnmountResult:
        mounts = self._mounting.select(
            os.fsdecode(path_bytes(request)), request.volume, everything=request.all
        )
        done: list[Unmounted] = []
        refused: list[Refusal] = []
        for mount in mounts:
            try:
                is_lazy = await self._mounting.unmount(mount, force=request.force)
            except Refusal as refusal:
                refused.append(refusal)
                continue
            done.append(Unmounted(volume=mount.name, is_lazy=is_lazy, **path_fields(os.fsencode(mount.path))))
        if len(refused) == 1 and not done:
            raise refused[0]
        if refused:
            gone = ", ".join(one.path for one in done) or "nothing"
            reasons = "; ".join(refusal.message for refusal in refused)
            raise Refusal(refused[0].code, f"{reasons}. Unmounted: {gone}.", refused[0].mend)
        return UnmountResult(unmounted=tuple(done))

    def list(self, request: ListRequest) -> Iterator[ListItem]:
        browsing = self._browsing(request.volume)
        names = components(path_bytes(request))
        for seen in browsing.walk(names, recursive=request.recursive):
            is_file = seen.stat.kind is Kind.FILE
            if request.missing and not seen.missing_bytes:
                continue
            yield self._entry(seen)
            parts = list(browsing.presence(seen.shown)) if is_file and request.chunks else []
            for start in range(0, len(parts), CHUNK_IDS_MAX):
                run = parts[start : start + CHUNK_IDS_MAX]
                yield ChunkRun(
                    offset=run[0].offset,
                    # Of a part whose manifest is elsewhere no chunk is known.
                    ids=tuple(
                        part.chunk.hex() if part.chunk and part.kind is ChunkKind.DATA else "" for part in run
                    ),
                    sizes=tuple(part.length for part in run),
                    here=tuple(part.is_here for part in run),
                )

    def _entry(self, seen: Seen) -> Entry:
        return Entry(
            kind=KIND_NAMES[seen.stat.kind],
            size=seen.stat.size,
            mtime_ns=seen.stat.mtime,
            mode=seen.stat.mode,
            bytes_here=max(0, seen.stat.size - seen.missing_bytes),
            number=seen.stat.number,
            id=seen.inode,
            is_conflict=seen.is_conflict,
            is_local=seen.is_local,
            **path_fields(seen.path),
        )

    async def add(self, request: AddRequest, parts: AsyncIterator[bytes]) -> AddResult:
        browsing = self._browsing(request.volume)
        names = components(path_bytes(request))
        opened = self._node.require_open(request.volume)
        if request.size > 0:
            opened.volume.files.require_room(request.size)
        try:
            size, was_replaced = await browsing.add(
                names,
                parts,
                caller=Caller(opened.volume.state.uid, opened.volume.state.gid, os.getpid()),
                mode=request.mode,
                mtime=None if request.mtime_ns == NOW else request.mtime_ns,
                parents=request.parents,
                replace=request.replace,
            )
        except FSError as error:
            if error.errno == errno.EEXIST:
                raise Refusal("exists", f"{request.path} exists already and is unchanged") from error
            raise
        return AddResult(size=size, was_replaced=was_replaced, **path_fields(b"/".join(names)))

    async def get_file(self, request: FileRequest) -> Content:
        names = components(path_bytes(request))
        stat, parts = self._browsing(request.volume).read(names, request.offset, request.length)
        end = stat.size if request.length < 0 else min(stat.size, request.offset + request.length)
        return Content(max(0, end - request.offset), parts, stat.mode, stat.mtime)

    async def get_chunks(self, request: ChunksRequest) -> Content:
        chunks = self._node.require_open(request.volume).volume.replica.chunks
        found: list[tuple[ChunkKind, ChunkId]] = []
        size = 0
        for text in request.ids:
            try:
                identity = ChunkId(bytes.fromhex(text))
            except ValueError:
                raise Refusal("usage", f"{text!r} is not a chunk id: 64 hexadecimal digits") from None
            kind = next((kind for kind in ChunkKind if chunks.has(kind, identity)), None)
            if kind is None:
                raise Refusal("not_found", f"chunk {text} is not on this device")
            found.append((kind, identity))
            size += len(chunks.get(kind, identity))
        return Content(size, _stepped(chunks.get(kind, identity) for kind, identity in found))

    def check(self, request: CheckRequest) -> AsyncGenerator[CheckItem, None]:
        opened = self._node.require_open(request.volume)
        is_alone = len(opened.membership.members()) <= 1
        return check(opened.volume, components(path_bytes(request)), is_alone=is_alone)

    def events(self) -> AsyncGenerator[Event, None]:
        return self._feed.listen()

    async def stop(self) -> StopResult:
        self._stop()
        return StopResult(pid=os.getpid())

    def _browsing(self, volume: str) -> Browsing:
        return Browsing(self._node.require_open(volume).volume)


async def _stepped(parts: Iterator[bytes]) -> AsyncGenerator[bytes, None]:
    """Parts made one by one, letting others run between two."""
    for part in parts:
        yield part
        await trio.lowlevel.checkpoint()


def _findings(opened: SharedVolume) -> Iterator[Finding]:
    volume = opened.volume
    for damage in volume.replica.journal.damage:
        yield Finding("damage", "journal", f"{damage.what}: {damage.detail}", mend="dittofs check")
    if volume.publisher.problem is not None:
        yield Finding(
            "warning",
            "publication",
            f"closed files stay staged on this device, and are tried again: {volume.publisher.problem}",
            mend="see that the disk has room",
        )
    for reason in dict.fromkeys(volume.publisher.waiting.values()):
        yield Finding(
            "warning",
            "publication",
            f"edits stay staged until another device gives what they are based on: {reason}",
            mend="connect a device that has these files",
        )
    for reason in volume.publisher.stuck.values():
        yield Finding("damage", "file", f"staged, and cannot be published: {reason}", mend="dittofs check")
    for reason in volume.recovered.damaged:
        yield Finding("damage", "staging", reason, mend="dittofs check")
    for name in volume.recovered.set_beside:
        yield Finding(
            "warning",
            "file",
            "holds what was being written when the daemon died; the last whole version kept its name",
            mend="look at it, then rename or remove it",
            **path_fields(name),
        )


def _resident_bytes() -> int:
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")
