"""What the control server needs from the daemon.

Every method may raise a `Refusal` (told to the client as it is) or any other `DittoError`
(translated by `dittofs.control.faults.refusal_of`). Another exception is a bug: the client is
told so without details, the traceback goes to the log, the server goes on. Plain functions
answer from memory within a millisecond. All run in the server's tasks and may be cancelled
when their client leaves, except `mount`, `unmount`, `leave` and `stop`, which run to their end.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Protocol

from dittofs.control import conflicts, history, limiting, people, placement, sharing, storage, undoing
from dittofs.control.files import AddRequest, AddResult, ChunksRequest, FileRequest, ListItem, ListRequest
from dittofs.control.protocol import (
    CheckItem,
    CheckRequest,
    Event,
    Health,
    MountRequest,
    MountResult,
    StatusReport,
    StopResult,
    UnmountRequest,
    UnmountResult,
)


@dataclass(frozen=True, slots=True)
class Content:
    """Bytes to be sent: exactly `size` of them in `parts`, none empty, each at most 1 MiB.

    The server takes the next part when the client has taken the last one, and closes the
    generator in any case. If `parts` raises, the client sees a reply cut short.
    """

    size: int
    parts: AsyncGenerator[bytes, None]
    mode: int = 0
    mtime_ns: int = 0


class Service(Protocol):
    """The daemon, as the local API sees it."""

    def health(self) -> Health: ...

    def status(self) -> StatusReport: ...

    async def mount(self, request: MountRequest) -> MountResult:
        """Return when the mount is usable. Mounting what is mounted there already is no error.

        The directory is judged anew by `dittofs.control.mountpoint`, whatever the client found.
        """

    async def unmount(self, request: UnmountRequest) -> UnmountResult:
        """Return when the mounts are gone and everything written to them is durable.

        Refuses with "busy" if programs use one and `force` is not set, with "unsent" if data would
        stay only here, with "not_found" if nothing of ours is mounted there.
        """

    def list(self, request: ListRequest) -> Iterator[ListItem]:
        """The entries, made one by one: the server takes a few at a time and lets others run between.

        The tree may change in between; what does not change is listed exactly once.
        """

    async def add(self, request: AddRequest, parts: AsyncIterator[bytes]) -> AddResult:
        """Store what `parts` yields, and return when it is in the tree and durable.

        If `parts` raises, the upload was cut: nothing of it may become visible. Not reading
        `parts` holds the client back.
        """

    async def get_file(self, request: FileRequest) -> Content:
        """The content of one version of a file, whatever is written meanwhile."""

    async def get_chunks(self, request: ChunksRequest) -> Content:
        """Verified chunks, in the order asked."""

    def check(self, request: CheckRequest) -> AsyncGenerator[CheckItem, None]:
        """Verify; yields progress at least every second, findings as they come, `CheckDone` at the end."""

    def share(self, request: sharing.ShareRequest) -> AsyncGenerator[sharing.ShareItem, None]:
        """Open an invitation, then tell what becomes of it. It stays open when the generator is closed.

        Refuses with "forbidden" unless this device is an owner.
        """

    def join(self, request: sharing.JoinRequest) -> AsyncGenerator[sharing.JoinItem, None]:
        """Use an invitation, mount, end with `JoinResult`. The directory is judged before it is used.

        Doing it again is no error, whatever became of the invitation.
        """

    async def meet(self, request: sharing.MeetRequest) -> sharing.MeetResult:
        """Who has an open invitation at an address. Nothing is told to it."""

    def ping(self, request: sharing.PingRequest) -> AsyncGenerator[sharing.PingItem, None]:
        """Ask a device for answers, one after the other; end with `PingDone`."""

    def sync(self, request: sharing.SyncRequest) -> AsyncGenerator[sharing.SyncItem, None]:
        """Wait until everything is safe on others, or cannot become so; end with `SyncResult`."""

    async def remove(self, request: sharing.RemoveRequest) -> sharing.RemoveResult:
        """Take a device out of a volume; durable here, and told to who is connected, when it returns."""

    async def grant(self, request: people.GrantRequest) -> people.GrantResult:
        """Give a role, or take one away; durable here, and told to who is connected, when it returns."""

    async def user(self, request: people.UserRequest) -> people.PeopleResult:
        """Change who the users are and whose the devices; as `grant`."""

    async def group(self, request: people.GroupRequest) -> people.PeopleResult:
        """Change who is in a group; as `grant`."""

    def people(self, request: people.PeopleRequest) -> people.PeopleReport:
        """The users and groups of a volume."""

    async def rename(self, request: sharing.RenameRequest) -> sharing.RenameResult:
        """Call a device otherwise; durable here, and told to who is connected, when it returns."""

    async def leave(self, request: sharing.LeaveRequest) -> sharing.LeaveResult:
        """Refuses with "unsent" while something is only here, with "forbidden" for the last owner."""

    async def recovery(self, request: sharing.RecoveryRequest) -> sharing.RecoveryResult:
        """The recovery words; or, with two of them, the owner key erased from this device."""

    async def copies(self, request: sharing.CopiesRequest) -> sharing.CopiesResult:
        """Show or set how many devices hold each content."""

    def list_conflicts(self, request: conflicts.ConflictsRequest) -> AsyncGenerator[conflicts.Conflict, None]:
        """What stands aside at and below a path."""

    def differences(self, request: conflicts.ConflictsRequest) -> AsyncGenerator[conflicts.Difference, None]:
        """How the sides of those differ; contents that are elsewhere are fetched."""

    async def resolve(self, request: conflicts.ResolveRequest) -> conflicts.ResolveResult:
        """End one conflict; durable when it returns. What gives way stays in the history."""

    async def conflict_policy(self, request: conflicts.PolicyRequest) -> conflicts.PolicyResult:
        """Show, set or remove the rules by which conflicts end by themselves."""

    def import_tree(self, request: conflicts.ImportRequest) -> AsyncGenerator[conflicts.ImportItem, None]:
        """Add a local directory to the volume; ends with `ImportDone`. When the client leaves it stops: what
        was added until then stays, and doing it again goes on.
        """

    async def cache(self, request: storage.CacheRequest) -> storage.CacheReport:
        """What is stored and what becomes of garbage; with `collect` what can go now has gone."""

    async def retire(self, request: storage.RetireRequest) -> storage.RetireResult:
        """Wait for a device no more, or take this one back; durable when this returns."""

    async def place(self, request: placement.PlaceRequest) -> placement.PlaceResult:
        """Let contents go from this device that others prove to have, or keep them here; when its client
        leaves, what has gone until then has.

        Refuses with "not_found" if there is nothing at the path.
        """

    async def limit(self, request: limiting.LimitRequest) -> limiting.LimitReport:
        """Show or set how fast this device sends and receives; durable, and in force, when this returns."""

    def undo(self, request: undoing.UndoRequest) -> AsyncGenerator[undoing.UndoItem, None]:
        """Undo what a device did; ends with `UndoDone`. When the client leaves it stops: what was undone
        until then stays, and doing it again does the rest.

        Refuses with "not_found" if no such device has written, with "forbidden" unless this one may write.
        """

    def brake(self, request: undoing.BrakeRequest) -> AsyncGenerator[undoing.BrakeItem, None]:
        """What the brake holds, or accept or refuse it; ends with `BrakeDone`, durable. Else as `undo`."""

    def log(self, request: history.LogRequest) -> AsyncGenerator[history.LogEvent, None]:
        """What happened, the latest first."""

    def restore(self, request: history.RestoreRequest) -> AsyncGenerator[history.RestoredItem, None]:
        """Set a file or a directory back. What is shown until then stays in the history."""

    async def history_file(self, request: history.HistoryFileRequest) -> Content:
        """The bytes of one version."""

    def trash(self, request: history.TrashRequest) -> AsyncGenerator[history.TrashItem, None]:
        """Removed files, the last removed first."""

    async def empty_trash(self, request: history.EmptyTrashRequest) -> history.EmptyTrashResult:
        """Forget removed files on this device."""

    async def snapshots(self, request: history.SnapshotsRequest) -> history.SnapshotsResult:
        """List, create or delete; durable on return."""

    def checkout(
        self, request: history.CheckoutRequest
    ) -> AsyncGenerator[history.CheckoutProgress | history.CheckoutDone, None]:
        """Write what was into a directory. Refuses ("exists") one that holds something without `force`."""

    def events(self) -> AsyncGenerator[Event, None]:
        """What happens from now on. `dittofs.control.events.EventFeed` makes this."""

    async def stop(self) -> StopResult:
        """Begin the same orderly end as SIGTERM and return at once.

        The reply is sent before the server can be cancelled.
        """
