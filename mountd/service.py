"""What the local API asks of the daemon, answered from the node and its mounts."""

import errno
import os
import shlex
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence

import trio

from dittofs import __version__
from dittofs.chunks.seal import ChunkKind
from dittofs.control import history
from dittofs.control.conflicts import (
    Conflict,
    ConflictsRequest,
    Difference,
    ImportItem,
    ImportRequest,
    PolicyRequest,
    PolicyResult,
    ResolveRequest,
    ResolveResult,
)
from dittofs.control.events import EventFeed
from dittofs.control.faults import Refusal
from dittofs.control.files import (
    CHUNK_IDS_MAX,
    NOW,
    AddRequest,
    AddResult,
    ChunkRun,
    ChunksRequest,
    Entry,
    FileRequest,
    ListItem,
    ListRequest,
)
from dittofs.control.limiting import LimitReport, LimitRequest
from dittofs.control.paths import components, path_bytes, path_fields
from dittofs.control.people import (
    GrantRequest,
    GrantResult,
    GroupRequest,
    PeopleReport,
    PeopleRequest,
    PeopleResult,
    UserRequest,
)
from dittofs.control.placement import PlaceRequest, PlaceResult
from dittofs.control.protocol import (
    CheckItem,
    CheckRequest,
    DamageEvent,
    Event,
    Finding,
    Health,
    MountRequest,
    MountResult,
    PeerEvent,
    StatusReport,
    StopResult,
    UnmountRequest,
    UnmountResult,
    VolumeEvent,
)
from dittofs.control.service import Content
from dittofs.control.sharing import (
    CopiesRequest,
    CopiesResult,
    JoinItem,
    JoinRequest,
    LeaveRequest,
    LeaveResult,
    MeetRequest,
    MeetResult,
    PingItem,
    PingRequest,
    RecoveryRequest,
    RecoveryResult,
    RemoveRequest,
    RemoveResult,
    RenameRequest,
    RenameResult,
    ShareItem,
    ShareRequest,
    SyncItem,
    SyncRequest,
)
from dittofs.control.storage import CacheReport, CacheRequest, RetireRequest, RetireResult
from dittofs.control.undoing import BrakeItem, BrakeRequest, UndoItem, UndoRequest
from dittofs.errors import FSError
from dittofs.identity.keys import DeviceId
from dittofs.ids import ChunkId
from dittofs.node import Node
from dittofs.tree.record import Kind
from dittofs.volume.browsing import Browsing, Seen
from dittofs.volume.state import Caller
from mountd.checking import DOCUMENTS_S, check
from mountd.conflicts import ConflictDesk
from mountd.copies import CopiesDesk
from mountd.history import HistoryDesk
from mountd.importing import import_tree
from mountd.joining import Joining
from mountd.kinds import KIND_NAMES
from mountd.limiting import LimitDesk
from mountd.members import MemberDesk
from mountd.mounting import Mounting
from mountd.outsider import outside, require_writer
from mountd.people import PeopleDesk
from mountd.pinging import ping
from mountd.placement import PlacementDesk
from mountd.reports import Reports
from mountd.sharing import Sharing
from mountd.storage import StorageDesk, elsewhere_of
from mountd.syncing import sync
from mountd.undoing import UndoDesk
from mountd.unmounting import Unmounting


class DaemonService:
    """Implements `dittofs.control.service.Service`."""

    def __init__(self, node: Node, mounting: Mounting, feed: EventFeed, stop: Callable[[], None]) -> None:
        self._node = node
        self._mounting = mounting
        self._feed = feed
        self._stop = stop
        self._reports = Reports(node, mounting)
        self._sharing = Sharing(node)
        self._joining = Joining(node, mounting, self._reports)
        self._members = MemberDesk(node, mounting)
        self._people = PeopleDesk(node, self._reports)
        self._copies = CopiesDesk(node)
        self._unmounting = Unmounting(node, mounting, self._members)
        self._conflicts = ConflictDesk(node)
        self._undoing = UndoDesk(node)
        self._storage = StorageDesk(node, self._reports)
        self._history = HistoryDesk(node)
        self._placement = PlacementDesk(node)
        self._limiting = LimitDesk(node)
        self._told: set[tuple[str, Finding]] = set()

    def health(self) -> Health:
        return Health(version=__version__, pid=os.getpid())

    def status(self) -> StatusReport:
        return self._reports.status()

    def publish_state(self, name: str) -> None:
        """Tell who listens that a volume changed its state, and what was found damaged since."""
        if name not in self._node.names():
            return
        status = self._reports.volume(name)
        self._feed.publish(VolumeEvent(status))
        for finding in status.damage:
            if (name, finding) not in self._told:
                self._told.add((name, finding))
                self._feed.publish(DamageEvent(name, finding))

    def publish_peer(self, name: str, device: DeviceId, is_online: bool) -> None:
        """Tell who listens that a device of a volume came or went."""
        self._reports.seen(name, device, is_online=is_online)
        opened = self._node.opened(name)
        label = opened.membership.name(device) if opened is not None else ""
        self._feed.publish(PeerEvent(volume=name, name=label, id=device.hex(), is_online=is_online))

    async def mount(self, request: MountRequest) -> MountResult:
        done = await self._mounting.mount(os.fsdecode(path_bytes(request)), request.name, request.options)
        return MountResult(
            volume=self._reports.volume(done.volume),
            device=self._node.label,
            is_new_volume=done.is_new_volume,
            is_new_directory=done.is_new_directory,
            was_mounted=done.was_mounted,
            was_stale=done.was_stale,
            warnings=done.warnings,
        )

    async def unmount(self, request: UnmountRequest) -> UnmountResult:
        return await self._unmounting.unmount(request)

    def share(self, request: ShareRequest) -> AsyncGenerator[ShareItem, None]:
        return self._sharing.share(request)

    def join(self, request: JoinRequest) -> AsyncGenerator[JoinItem, None]:
        return self._joining.join(request)

    def ping(self, request: PingRequest) -> AsyncGenerator[PingItem, None]:
        return ping(self._node, request)

    async def meet(self, request: MeetRequest) -> MeetResult:
        return await self._joining.meet(request)

    def sync(self, request: SyncRequest) -> AsyncGenerator[SyncItem, None]:
        opened = self._node.require_open(request.volume)
        if gone := outside(opened):
            raise gone
        return sync(opened, request.timeout_s)

    async def remove(self, request: RemoveRequest) -> RemoveResult:
        return await self._members.remove(request)

    async def grant(self, request: GrantRequest) -> GrantResult:
        return await self._people.grant(request)

    async def user(self, request: UserRequest) -> PeopleResult:
        return await self._people.user(request)

    async def group(self, request: GroupRequest) -> PeopleResult:
        return await self._people.group(request)

    def people(self, request: PeopleRequest) -> PeopleReport:
        return self._people.people(request)

    async def rename(self, request: RenameRequest) -> RenameResult:
        return await self._members.rename(request)

    async def leave(self, request: LeaveRequest) -> LeaveResult:
        return await self._members.leave(request)

    async def recovery(self, request: RecoveryRequest) -> RecoveryResult:
        return await self._members.recovery(request)

    async def copies(self, request: CopiesRequest) -> CopiesResult:
        return await self._copies.copies(request)

    def list(self, request: ListRequest) -> Iterator[ListItem]:
        browsing = self._browsing(request.volume)
        names = components(path_bytes(request))
        pins = self._node.require_open(request.volume).pins
        for seen in browsing.walk(names, recursive=request.recursive):
            is_file = seen.stat.kind is Kind.FILE
            if request.missing and not seen.missing_bytes:
                continue
            yield self._entry(seen, is_pinned=pins.of(seen.inode) is not None)
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

    def _entry(self, seen: Seen, *, is_pinned: bool) -> Entry:
        return Entry(
            is_pinned=is_pinned,
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
        require_writer(opened)
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
            if error.errno == errno.EPERM:
                mend = f"Name another place:  dittofs add FILE --to {shlex.quote(request.volume)}:"
                raise Refusal("refused", f"{error}; nothing was added", mend) from error
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
        node, names = self._node, components(path_bytes(request))
        if request.repair and node.opened(request.volume) is None and node.is_journal_damaged(request.volume):
            return self._rescued(request.volume, names)
        opened = node.require_open(request.volume)
        return check(opened.volume, names, elsewhere_of(opened), repair=request.repair)

    async def _rescued(self, volume: str, names: Sequence[bytes]) -> AsyncGenerator[CheckItem, None]:
        """A volume that cannot be opened, with a journal of all that can be read; then as any other."""
        node = self._node
        lost = await node.rescue(volume)
        kept = "the damaged file is kept beside journal.db"
        yield Finding(
            "warning", "mended", f"the journal was made anew of all that could be read in it; {kept}"
        )
        for loss in lost:
            yield Finding("warning" if loss.is_mended else "damage", "journal", loss.detail)
        opened = node.require_open(volume)
        with trio.move_on_after(DOCUMENTS_S):
            await opened.volume.replica.documents.all_came()  # only then is it known who has the volume
        async for item in check(opened.volume, names, elsewhere_of(opened), repair=True):
            yield item

    def list_conflicts(self, request: ConflictsRequest) -> AsyncGenerator[Conflict, None]:
        return self._conflicts.list(request)

    def differences(self, request: ConflictsRequest) -> AsyncGenerator[Difference, None]:
        return self._conflicts.diff(request)

    async def resolve(self, request: ResolveRequest) -> ResolveResult:
        return await self._conflicts.resolve(request)

    async def conflict_policy(self, request: PolicyRequest) -> PolicyResult:
        return await self._conflicts.policy(request)

    def import_tree(self, request: ImportRequest) -> AsyncGenerator[ImportItem, None]:
        return import_tree(self._node, request)

    async def cache(self, request: CacheRequest) -> CacheReport:
        return await self._storage.cache(request)

    async def retire(self, request: RetireRequest) -> RetireResult:
        return await self._storage.retire(request)

    async def limit(self, request: LimitRequest) -> LimitReport:
        return await self._limiting.limit(request)

    async def place(self, request: PlaceRequest) -> PlaceResult:
        return await self._placement.place(request)

    def undo(self, request: UndoRequest) -> AsyncGenerator[UndoItem, None]:
        return self._undoing.undo(request)

    def brake(self, request: BrakeRequest) -> AsyncGenerator[BrakeItem, None]:
        return self._undoing.brake(request)

    def log(self, request: history.LogRequest) -> AsyncGenerator[history.LogEvent, None]:
        return self._history.log(request)

    def restore(self, request: history.RestoreRequest) -> AsyncGenerator[history.RestoredItem, None]:
        return self._history.restore(request)

    async def history_file(self, request: history.HistoryFileRequest) -> Content:
        return await self._history.file(request)

    def trash(self, request: history.TrashRequest) -> AsyncGenerator[history.TrashItem, None]:
        return self._history.trash(request)

    async def empty_trash(self, request: history.EmptyTrashRequest) -> history.EmptyTrashResult:
        return await self._history.empty(request)

    async def snapshots(self, request: history.SnapshotsRequest) -> history.SnapshotsResult:
        return await self._history.snapshots(request)

    def checkout(
        self, request: history.CheckoutRequest
    ) -> AsyncGenerator[history.CheckoutProgress | history.CheckoutDone, None]:
        return self._history.checkout(request)

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
