"""A real, small `Service`: one volume whose files are in memory."""

import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterator

import msgspec
import trio

from dittofs.control import conflicts, history, limiting, placement, storage, undoing
from dittofs.control.events import EventFeed
from dittofs.control.faults import Refusal
from dittofs.control.files import (
    AddRequest,
    AddResult,
    ChunkRun,
    ChunksRequest,
    Entry,
    FileRequest,
    ListItem,
    ListRequest,
)
from dittofs.control.paths import path_bytes, path_fields
from dittofs.control.people import (
    GrantRequest,
    GrantResult,
    GroupRequest,
    GroupStatus,
    PeopleReport,
    PeopleRequest,
    PeopleResult,
    RoleChange,
    UserRequest,
    UserStatus,
)
from dittofs.control.protocol import (
    CheckDone,
    CheckItem,
    CheckProgress,
    CheckRequest,
    Custody,
    DeviceStatus,
    Event,
    Finding,
    Health,
    MemberStatus,
    MountRequest,
    MountResult,
    StatusReport,
    StopResult,
    Unmounted,
    UnmountRequest,
    UnmountResult,
    VolumeStatus,
)
from dittofs.control.service import Content
from dittofs.control.sharing import (
    CopiesRequest,
    CopiesResult,
    CopiesRule,
    Invitation,
    JoinItem,
    JoinProgress,
    JoinRequest,
    JoinResult,
    LeaveRequest,
    LeaveResult,
    MeetRequest,
    MeetResult,
    PingDone,
    PingItem,
    PingReply,
    PingRequest,
    RecoveryRequest,
    RecoveryResult,
    RemoveRequest,
    RemoveResult,
    RenameRequest,
    RenameResult,
    ShareEnded,
    ShareItem,
    ShareRequest,
    ShareWaiting,
    SyncItem,
    SyncProgress,
    SyncRequest,
    SyncResult,
)
from dittofs.errors import FormatError
from dittofs.rate_limits import Direction, RateLimit, in_force, parse_rate, with_rule
from dittofs.timetable import Timetable

PART_BYTES = 64 << 10

LATE = "8-cabin-velvet"
SLOW = "9-cabin-velvet"


class SmallService:
    """Keeps files of one volume, "Shared", in a dict. `damaged` paths are found by `check`."""

    def __init__(self) -> None:
        self.files: dict[bytes, bytes] = {}
        self.damaged: set[bytes] = set()
        self.mounted_at = b""
        self.retired = frozenset({"laptop"})
        self.limits: tuple[RateLimit, ...] = ()
        self.limited: tuple[int, int, tuple[str, ...]] = (0, 0, ())
        """What `status` says of limits: up, down, and problems."""
        self.stored = storage.CacheReport(
            "Shared",
            storage.Amount(3, 300),
            storage.Amount(2, 200),
            storage.Amount(1, 100),
            300,
            300,
            700,
            1,
            50,
            60,
            0,
        )
        self.failure = ""
        self.past: list[history.LogEvent] = []
        self.removed: list[history.TrashItem] = []
        self.snapshots_kept: dict[str, history.SnapshotStatus] = {}
        self.feed = EventFeed()
        self.stopped = trio.Event()
        self.parts_made = 0
        self.open_streams = 0
        self.uploads_cut = 0
        self.others: list[MemberStatus] = []
        self.unsent_bytes = 0
        self.is_unconfirmed = False
        self.copies_wanted = "2"
        self.rules_of_copies: dict[str, str] = {}
        self.standing_aside: list[conflicts.Conflict] = []
        self.rules: dict[str, conflicts.PolicyRule] = {}
        self.held: list[undoing.HeldBatch] = []
        self.steps: list[undoing.UndoStep] = []
        self.undo_asked: list[undoing.UndoRequest] = []
        self.words: tuple[str, ...] = ("acid", "acorn", "actor")
        """Of the owner key; empty when it was erased."""
        self.joined: JoinRequest | None = None
        self.share_ends = ShareEnded("joined", "desktop", "ef" * 32, "writer", "tcp 192.0.2.7:7347", 3)

    def health(self) -> Health:
        return Health(version="1.2.3", pid=os.getpid())

    def status(self) -> StatusReport:
        device = DeviceStatus(name="laptop", id="ab" * 16, is_this=True, is_online=True)
        up, down, problems = self.limited
        return StatusReport(
            "1.2.3",
            os.getpid(),
            12.5,
            40 << 20,
            (self._volume(),),
            (device,),
            limit_up=up,
            limit_down=down,
            limit_problems=problems,
        )

    def _volume(self) -> VolumeStatus:
        return VolumeStatus(
            name="Shared",
            id="cd" * 16,
            state="failed" if self.failure else "mounted" if self.mounted_at else "unmounted",
            failure=self.failure,
            **path_fields(self.mounted_at),
            files=len(self.files),
            bytes=sum(map(len, self.files.values())),
            copies=self.copies_wanted,
            custody=Custody(
                only_here=int(bool(self.unsent_bytes)),
                only_here_bytes=self.unsent_bytes,
                unsent=int(bool(self.unsent_bytes)),
                unsent_bytes=self.unsent_bytes,
            ),
            members=(MemberStatus("laptop", "ab" * 32, "owner", is_this=True), *self.others),
            held=tuple(self.held),
        )

    async def mount(self, request: MountRequest) -> MountResult:
        if request.name == "broken":
            raise RuntimeError("a bug, with secrets in its text")
        path = path_bytes(request)
        was_mounted = self.mounted_at == path
        self.mounted_at = path
        return MountResult(volume=self._volume(), device="laptop", was_mounted=was_mounted)

    async def unmount(self, request: UnmountRequest) -> UnmountResult:
        if not self.mounted_at:
            raise Refusal("not_found", "nothing is mounted there", "dittofs status")
        if self.unsent_bytes and not request.force:
            raise Refusal("unsent", "not yet: 1 file exists only on this device", "dittofs sync Shared")
        gone = Unmounted(volume="Shared", **path_fields(self.mounted_at), is_lazy=request.force)
        self.mounted_at = b""
        return UnmountResult(unmounted=(gone,))

    async def share(self, request: ShareRequest) -> AsyncGenerator[ShareItem, None]:
        if request.bind == "192.0.2.1":
            raise Refusal("refused", "the daemon listens elsewhere")
        ticket = "dittofs://join/1?d=x&k=y"
        yield Invitation(
            request.volume,
            request.role or "writer",
            "7-cabin-velvet",
            "dittofs join 7-cabin-velvet",
            ticket,
            f"dittofs join '{ticket}'",
            ("192.0.2.2:7347",),
            "ab" * 32,
            600.0,
        )
        await trio.lowlevel.checkpoint()
        yield ShareWaiting(599.0)
        yield self.share_ends

    async def join(self, request: JoinRequest) -> AsyncGenerator[JoinItem, None]:
        yield JoinProgress("pairing")
        await trio.lowlevel.checkpoint()
        if request.invitation == LATE:
            raise Refusal("refused", "this ticket is older than ten minutes")
        self.joined = request
        self.mounted_at = path_bytes(request)
        yield JoinProgress("names", 3, 1000)
        yield JoinResult(
            self._volume(), "laptop", "desktop", "reader", is_complete=request.invitation != SLOW
        )

    async def ping(self, request: PingRequest) -> AsyncGenerator[PingItem, None]:
        if request.device != "nas":
            raise Refusal("not_found", f'no device is called "{request.device}"')
        took = (0.001, None, 0.003)
        for number in range(1, request.count + 1):
            await trio.lowlevel.checkpoint()
            yield PingReply(number, took[number % 3], "tcp 192.0.2.7:7347")
        yield PingDone(
            "nas", "cd" * 32, request.count, sum(took[n % 3] is not None for n in range(1, request.count + 1))
        )

    async def meet(self, request: MeetRequest) -> MeetResult:
        if request.address != "192.0.2.7:7347":
            raise Refusal("failed", f"nobody was reached: {request.address}")
        return MeetResult(request.address, "cd" * 32)

    async def undo(self, request: undoing.UndoRequest) -> AsyncGenerator[undoing.UndoItem, None]:
        if request.device != "nas":
            raise Refusal("not_found", f'no device has written here that is called "{request.device}"')
        self.undo_asked.append(request)
        for step in self.steps:
            yield step
        yield undoing.UndoDone(request.volume, request.device, request.dry_run, bool(self.others))

    async def brake(self, request: undoing.BrakeRequest) -> AsyncGenerator[undoing.BrakeItem, None]:
        batches = tuple(one for one in self.held if request.device in ("", one.device))
        for batch in batches:
            yield batch
        if request.action != "list" and not request.dry_run:
            yield undoing.BrakeProgress(1, 2)
            self.held = [one for one in self.held if one not in batches]
        yield undoing.BrakeDone(request.volume, request.action, batches, request.dry_run)

    async def sync(self, request: SyncRequest) -> AsyncGenerator[SyncItem, None]:
        yield SyncProgress(1, self.unsent_bytes, self.unsent_bytes, "contents")
        await trio.lowlevel.checkpoint()
        if request.timeout_s == 0.25:
            return
        reason = "nobody is connected to confirm it" if self.is_unconfirmed else ""
        yield SyncResult(
            request.volume,
            is_safe=not (self.unsent_bytes or reason),
            is_alone=not self.others,
            reason="no other device is connected" if self.unsent_bytes else reason,
            files=1 if self.unsent_bytes else 0,
            bytes=self.unsent_bytes,
            connected=tuple(one.name for one in self.others if one.is_online),
            offline=tuple(one.name for one in self.others if not one.is_online),
            copies=self.copies_wanted,
            copies_rules=len(self.rules_of_copies),
        )

    async def remove(self, request: RemoveRequest) -> RemoveResult:
        found = [one for one in self.others if one.name == request.device]
        if not found:
            raise Refusal("refused", f'no device of "Shared" is called {request.device!r}')
        self.others.remove(found[0])
        return RemoveResult(request.volume, found[0].name, found[0].id, ("phone",))

    async def grant(self, request: GrantRequest) -> GrantResult:
        found = [one for one in self.others if one.name == request.name]
        if not found:
            raise Refusal("refused", f'no device of "Shared" is called {request.name!r}')
        was = found[0].role
        may = "writer" if request.role == "inherit" else request.role
        changed = (RoleChange(found[0].name, found[0].id, may, was),)
        return GrantResult(
            request.volume, found[0].name, "device", request.role, was, may, found[0].id, changed
        )

    async def user(self, request: UserRequest) -> PeopleResult:
        if request.action == "remove" and request.name != "ada":
            raise Refusal("not_found", f'there is no user "{request.name}"; there are: ada')
        if request.action == "remove":
            return PeopleResult(request.volume, request.name)
        status = UserStatus(
            request.name,
            request.role or "inherit",
            request.role or "writer",
            "default",
            devices=request.devices,
        )
        return PeopleResult(request.volume, request.name, is_new=True, user=status)

    async def group(self, request: GroupRequest) -> PeopleResult:
        status = GroupStatus(request.name, request.role or "inherit", request.users)
        return PeopleResult(request.volume, request.name, is_new=True, group=status)

    def people(self, request: PeopleRequest) -> PeopleReport:
        ada = UserStatus("ada", "inherit", "reader", "group", "family", ("family",), ("phone", "tablet"))
        family = GroupStatus("family", "reader", ("ada",))
        return PeopleReport(request.volume, (ada,), (family,), "writer", "reader")

    async def rename(self, request: RenameRequest) -> RenameResult:
        found = [one for one in self.others if one.name == request.device]
        if not found:
            raise Refusal("refused", f'no device of "Shared" is called {request.device!r}')
        self.others[self.others.index(found[0])] = msgspec.structs.replace(found[0], name=request.name)
        return RenameResult(request.volume, request.name, found[0].id, found[0].name)

    async def leave(self, request: LeaveRequest) -> LeaveResult:
        if self.unsent_bytes and not request.force:
            raise Refusal(
                "unsent", "not yet: 1 file exists only on this device", "dittofs leave --force Shared"
            )
        gone = Unmounted(volume="Shared", **path_fields(self.mounted_at))
        return LeaveResult(
            request.volume, "/home/ada/state", not request.force, (gone,) if self.mounted_at else ()
        )

    async def recovery(self, request: RecoveryRequest) -> RecoveryResult:
        if not self.words:
            return RecoveryResult(request.volume, "absent")
        if not request.typed:
            return RecoveryResult(request.volume, "here", self.words, (1, 3))
        if tuple(self.words[place - 1] for place in request.places) != request.typed:
            raise Refusal("usage", "word 3 is another one; nothing was erased")
        self.words = ()
        return RecoveryResult(request.volume, "erased")

    async def log(self, request: history.LogRequest) -> AsyncGenerator[history.LogEvent, None]:
        found = [one for one in self.past if request.device in ("", one.device)]
        for event in found[: request.limit or None]:
            yield event

    async def restore(self, request: history.RestoreRequest) -> AsyncGenerator[history.RestoredItem, None]:
        if path_bytes(request) not in self.files:
            raise Refusal("not_found", f"{request.path} is not there and never was")
        yield history.RestoredItem(request.path, "file", "version", version=request.version, size=5)

    async def history_file(self, request: history.HistoryFileRequest) -> Content:
        return await self.get_file(FileRequest(request.volume, request.path, request.path_raw))

    async def trash(self, request: history.TrashRequest) -> AsyncGenerator[history.TrashItem, None]:
        for item in self.removed[: request.limit or None]:
            yield item

    async def empty_trash(self, request: history.EmptyTrashRequest) -> history.EmptyTrashResult:
        gone = history.EmptyTrashResult(
            request.volume, len(self.removed), sum(one.size for one in self.removed)
        )
        if not request.dry_run:
            self.removed = []
        return gone

    async def snapshots(self, request: history.SnapshotsRequest) -> history.SnapshotsResult:
        done = None
        if request.action == "create":
            done = history.SnapshotStatus(request.name, 1, "laptop", len(self.files), 5)
            self.snapshots_kept[request.name] = done
        elif request.action == "delete":
            done = self.snapshots_kept.pop(request.name, None)
            if done is None:
                raise Refusal("not_found", f"there is no snapshot {request.name}")
        bad = (history.UnreadableSnapshotStatus("old/0123456789ab", "what its setting holds is no snapshot"),)
        return history.SnapshotsResult(request.volume, tuple(self.snapshots_kept.values()), done, bad)

    async def checkout(
        self, request: history.CheckoutRequest
    ) -> AsyncGenerator[history.CheckoutProgress | history.CheckoutDone, None]:
        yield history.CheckoutProgress(1, 5)
        left_out = ("x: a special file is not written",) if request.version == "odd" else ()
        yield history.CheckoutDone(len(self.files), 5, 1, left_out)

    async def copies(self, request: CopiesRequest) -> CopiesResult:
        if request.copies == "1" or (request.copies == "inherit" and not request.path):
            raise Refusal("usage", "copies is all, on-demand, or a number from 2")
        was = self.rules_of_copies.get(request.path, self.copies_wanted)
        if request.copies == "inherit":
            self.rules_of_copies.pop(request.path, None)
        elif request.copies and request.path:
            self.rules_of_copies[request.path] = request.copies
        elif request.copies:
            self.copies_wanted = request.copies
        rules = self.rules_of_copies
        return CopiesResult(
            request.volume,
            rules.get(request.path, self.copies_wanted),
            1 + len(self.others),
            was if request.copies else "",
            request.path,
            is_inherited=bool(request.path) and request.path not in rules,
            rules=tuple(
                CopiesRule(path, rules[path])
                for path in sorted(rules)
                if not request.path or path.startswith(f"{request.path}/")
            ),
            is_file="." in request.path,
        )

    def list(self, request: ListRequest) -> Iterator[ListItem]:
        below = path_bytes(request)
        if below and not any(path.startswith(below) for path in self.files):
            raise Refusal("not_found", f"there is no {request.path!r}")
        for path, content in sorted(self.files.items()):
            if path.startswith(below):
                yield Entry(
                    **path_fields(path), kind="file", size=len(content), mtime_ns=0, mode=0o644, bytes_here=0
                )
                if request.chunks:
                    yield ChunkRun(offset=0, ids=("00" * 32,), sizes=(len(content),), here=(True,))

    async def add(self, request: AddRequest, parts: AsyncIterator[bytes]) -> AddResult:
        path = path_bytes(request)
        if path in self.files and not request.replace:
            raise Refusal("exists", f"{request.path} exists; nothing was changed")
        content = bytearray()
        try:
            async for part in parts:
                content += part
        except BaseException:
            self.uploads_cut += 1
            raise
        self.files[path] = bytes(content)
        return AddResult(**path_fields(path), size=len(content))

    async def get_file(self, request: FileRequest) -> Content:
        content = self.files.get(path_bytes(request))
        if content is None:
            raise Refusal("not_found", f"{request.path}: No such file or directory")  # as `Browsing.find`
        end = len(content) if request.length < 0 else request.offset + request.length
        wanted = content[request.offset : end]
        return Content(len(wanted), self._parts(wanted), 0o640, 1_700_000_000_000_000_001)

    async def get_chunks(self, request: ChunksRequest) -> Content:
        content = b"".join(bytes.fromhex(chunk) for chunk in request.ids)
        return Content(len(content) + 1, self._parts(content))  # promises a byte that never comes

    async def _parts(self, content: bytes) -> AsyncGenerator[bytes, None]:
        self.open_streams += 1
        try:
            for start in range(0, len(content), PART_BYTES):
                self.parts_made += 1
                yield content[start : start + PART_BYTES]
                await trio.lowlevel.checkpoint()
        finally:
            self.open_streams -= 1

    async def cache(self, request: storage.CacheRequest) -> storage.CacheReport:
        report = self.stored
        if request.collect and not request.is_dry:
            swept = storage.Swept(1, report.garbage, report.garbage.bytes)
            report = msgspec.structs.replace(report, swept=swept, is_swept_now=True, garbage=storage.Amount())
        packs = (storage.PackReport("pack-1", 100, 2, 50),) if request.is_detailed else ()
        return msgspec.structs.replace(report, volume=request.volume, packs=packs)

    async def retire(self, request: storage.RetireRequest) -> storage.RetireResult:
        is_rejoin = request.action == "rejoin"
        name = "laptop" if is_rejoin else request.device
        if not is_rejoin and name != "nas":
            raise Refusal(
                "not_found", f'no device of "{request.volume}" is called {name}', "dittofs devices -v"
            )
        is_changed = (name in self.retired) == is_rejoin
        self.retired = self.retired - {name} if is_rejoin else self.retired | {name}
        only_there = 0 if is_rejoin else 2
        return storage.RetireResult(name, "ab" * 32, is_changed, 0, only_there, 10 * only_there)

    async def limit(self, request: limiting.LimitRequest) -> limiting.LimitReport:
        try:
            if request.action == "set":
                at = Timetable.parse(request.at) if request.at else None
                device = "ab" * 32 if request.device else None
                rule = RateLimit(Direction(request.direction), parse_rate(request.rate), device, at)
                self.limits = with_rule(self.limits, rule)
            elif request.action == "clear":
                self.limits = ()
        except FormatError as error:
            raise Refusal("usage", f"{error}; nothing was changed", "dittofs limit --help") from error
        counting = in_force(self.limits, 0, 0)
        return limiting.LimitReport(
            tuple(
                limiting.LimitRule(
                    one.direction.value,
                    one.rate or 0,
                    "nas" if one.device else "",
                    one.device or "",
                    str(one.at or ""),
                    counting.get(one.about) is one,
                )
                for one in self.limits
            )
        )

    async def place(self, request: placement.PlaceRequest) -> placement.PlaceResult:
        if request.path == "absent":
            raise Refusal("not_found", "absent: No such file or directory", "dittofs list Shared:")
        if request.action != "evict":
            return placement.PlaceResult(request.volume, request.action, 2, 30, was_so=request.path == "so")
        kept = placement.Kept("open.txt", "a program has it open")
        few = placement.Kept(
            "few.txt", "copies = 3: so many others would have to hold it, and only 1 other has"
        )
        if request.is_forced or request.is_dry:
            return placement.PlaceResult(request.volume, "evict", 2, 5_000_000, 4_000_000)
        return placement.PlaceResult(request.volume, "evict", 1, 10, 0, (kept, few), 2, 20)

    async def check(self, request: CheckRequest) -> AsyncGenerator[CheckItem, None]:
        if request.volume != "Shared":
            raise Refusal("not_found", f"there is no volume {request.volume}")
        findings = 0
        for path, content in sorted(self.files.items()):
            yield CheckProgress(bytes_done=0, bytes_total=len(content), step="files")
            await trio.lowlevel.checkpoint()
            if content == b"endless":
                return
            if content == b"unreadable":
                raise Refusal("failed", "the disk does not answer")
            if path in self.damaged:
                findings += 1
                yield Finding(severity="damage", what="chunk", detail="its hash differs", **path_fields(path))
        yield CheckDone(files=len(self.files), chunks=len(self.files), bytes=0, findings=findings)

    async def list_conflicts(
        self, request: conflicts.ConflictsRequest
    ) -> AsyncGenerator[conflicts.Conflict, None]:
        path = path_bytes(request)
        for one in self.standing_aside:
            if not path or path_bytes(one) == path:
                yield one

    async def differences(
        self, request: conflicts.ConflictsRequest
    ) -> AsyncGenerator[conflicts.Difference, None]:
        async for one in self.list_conflicts(request):
            shown, *others = one.sides
            for other in others:
                yield conflicts.Difference(shown.path, other.path, shown.size, other.size, lines="-a\n+b")

    async def resolve(self, request: conflicts.ResolveRequest) -> conflicts.ResolveResult:
        found = [one for one in self.standing_aside if path_bytes(one) == path_bytes(request)]
        if not found:
            raise Refusal(
                "not_found", f"{request.path} has no conflict; nothing was done", "dittofs conflicts"
            )
        gone = found[0].sides[1:]
        if not request.dry_run:
            self.standing_aside.remove(found[0])
        return conflicts.ResolveResult(request.path, gone, left=len(self.standing_aside))

    async def conflict_policy(self, request: conflicts.PolicyRequest) -> conflicts.PolicyResult:
        was = self.rules.pop(request.pattern, None)
        if request.policy:
            self.rules[request.pattern] = conflicts.PolicyRule(request.pattern, request.policy)
        return conflicts.PolicyResult(request.volume, tuple(self.rules.values()), was.policy if was else "")

    async def import_tree(
        self, request: conflicts.ImportRequest
    ) -> AsyncGenerator[conflicts.ImportItem, None]:
        yield conflicts.ImportProgress("counting", 2, 0, 0)
        yield conflicts.ImportNote("conflict", "differs", "differs (conflict, laptop, now)", bytes=3)
        yield conflicts.ImportDone(
            request.volume, request.path, added=1, conflicts=1, dry_run=request.dry_run
        )

    async def events(self) -> AsyncGenerator[Event, None]:
        async for event in self.feed.listen():
            yield event

    async def stop(self) -> StopResult:
        self.stopped.set()
        await trio.lowlevel.checkpoint()
        return StopResult(pid=os.getpid())
