"""The table of routes: every thing that can be asked of the daemon, how it is carried and how answered."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from msgspec import Struct

from dittofs.control import (
    conflicts,
    files,
    history,
    limiting,
    people,
    placement,
    protocol,
    sharing,
    storage,
    undoing,
)
from dittofs.control.protocol import PREFIX, Failure

Reply = (
    protocol.Health
    | protocol.StatusReport
    | protocol.MountResult
    | protocol.UnmountResult
    | protocol.StopResult
    | files.AddResult
    | sharing.MeetResult
    | sharing.RemoveResult
    | people.GrantResult
    | people.PeopleResult
    | people.PeopleReport
    | sharing.RenameResult
    | sharing.LeaveResult
    | sharing.RecoveryResult
    | sharing.CopiesResult
    | history.EmptyTrashResult
    | history.SnapshotsResult
    | conflicts.ResolveResult
    | conflicts.PolicyResult
    | storage.CacheReport
    | storage.RetireResult
    | placement.PlaceResult
    | limiting.LimitReport
)
Item = (
    files.ListItem
    | protocol.CheckItem
    | protocol.Event
    | sharing.SharingItem
    | history.HistoryItem
    | conflicts.ConflictItem
    | undoing.UndoingItem
)


class Carried(enum.Enum):
    """How a request reaches the server."""

    NOTHING = "there is nothing to say"
    QUERY = "in the query of the target, one parameter a field"
    JSON = "as a JSON body"
    QUERY_AND_BODY = "in the query; the body is the file"


class Answered(enum.Enum):
    """How the reply reaches the client."""

    VALUE = "one JSON object"
    ITEMS = "JSON objects, one a line, chunked"
    BYTES = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Route:
    """One thing that can be asked. `reply` is a struct, or a union of them for items; None for bytes."""

    method: str
    path: str
    carried: Carried
    request: type[Struct] | None
    answered: Answered
    reply: object


HEALTH: Final = Route("GET", f"{PREFIX}/health", Carried.NOTHING, None, Answered.VALUE, protocol.Health)
STATUS: Final = Route("GET", f"{PREFIX}/status", Carried.NOTHING, None, Answered.VALUE, protocol.StatusReport)
EVENTS: Final = Route(
    "GET", f"{PREFIX}/events", Carried.NOTHING, None, Answered.ITEMS, protocol.Event | Failure
)
MOUNT: Final = Route(
    "POST", f"{PREFIX}/mount", Carried.JSON, protocol.MountRequest, Answered.VALUE, protocol.MountResult
)
UNMOUNT: Final = Route(
    "POST", f"{PREFIX}/unmount", Carried.JSON, protocol.UnmountRequest, Answered.VALUE, protocol.UnmountResult
)
STOP: Final = Route("POST", f"{PREFIX}/stop", Carried.NOTHING, None, Answered.VALUE, protocol.StopResult)
LIST: Final = Route(
    "GET", f"{PREFIX}/list", Carried.QUERY, files.ListRequest, Answered.ITEMS, files.ListItem | Failure
)
CHECK: Final = Route(
    "POST",
    f"{PREFIX}/check",
    Carried.JSON,
    protocol.CheckRequest,
    Answered.ITEMS,
    protocol.CheckItem | Failure,
)
GET_FILE: Final = Route("GET", f"{PREFIX}/file", Carried.QUERY, files.FileRequest, Answered.BYTES, None)
ADD_FILE: Final = Route(
    "PUT", f"{PREFIX}/file", Carried.QUERY_AND_BODY, files.AddRequest, Answered.VALUE, files.AddResult
)
GET_CHUNKS: Final = Route("POST", f"{PREFIX}/chunks", Carried.JSON, files.ChunksRequest, Answered.BYTES, None)
SHARE: Final = Route(
    "POST", f"{PREFIX}/share", Carried.JSON, sharing.ShareRequest, Answered.ITEMS, sharing.ShareItem | Failure
)
JOIN: Final = Route(
    "POST", f"{PREFIX}/join", Carried.JSON, sharing.JoinRequest, Answered.ITEMS, sharing.JoinItem | Failure
)
MEET: Final = Route(
    "POST", f"{PREFIX}/meet", Carried.JSON, sharing.MeetRequest, Answered.VALUE, sharing.MeetResult
)
PING: Final = Route(
    "POST", f"{PREFIX}/ping", Carried.JSON, sharing.PingRequest, Answered.ITEMS, sharing.PingItem | Failure
)
SYNC: Final = Route(
    "POST", f"{PREFIX}/sync", Carried.JSON, sharing.SyncRequest, Answered.ITEMS, sharing.SyncItem | Failure
)
REMOVE: Final = Route(
    "POST", f"{PREFIX}/remove", Carried.JSON, sharing.RemoveRequest, Answered.VALUE, sharing.RemoveResult
)
GRANT: Final = Route(
    "POST", f"{PREFIX}/grant", Carried.JSON, people.GrantRequest, Answered.VALUE, people.GrantResult
)
USER: Final = Route(
    "POST", f"{PREFIX}/user", Carried.JSON, people.UserRequest, Answered.VALUE, people.PeopleResult
)
GROUP: Final = Route(
    "POST", f"{PREFIX}/group", Carried.JSON, people.GroupRequest, Answered.VALUE, people.PeopleResult
)
PEOPLE: Final = Route(
    "GET", f"{PREFIX}/people", Carried.QUERY, people.PeopleRequest, Answered.VALUE, people.PeopleReport
)
RENAME: Final = Route(
    "POST", f"{PREFIX}/rename", Carried.JSON, sharing.RenameRequest, Answered.VALUE, sharing.RenameResult
)
LEAVE: Final = Route(
    "POST", f"{PREFIX}/leave", Carried.JSON, sharing.LeaveRequest, Answered.VALUE, sharing.LeaveResult
)
RECOVERY: Final = Route(
    "POST",
    f"{PREFIX}/recovery",
    Carried.JSON,
    sharing.RecoveryRequest,
    Answered.VALUE,
    sharing.RecoveryResult,
)
COPIES: Final = Route(
    "POST", f"{PREFIX}/copies", Carried.JSON, sharing.CopiesRequest, Answered.VALUE, sharing.CopiesResult
)
CONFLICTS: Final = Route(
    "GET",
    f"{PREFIX}/conflicts",
    Carried.QUERY,
    conflicts.ConflictsRequest,
    Answered.ITEMS,
    conflicts.Conflict | Failure,
)
DIFFERENCES: Final = Route(
    "GET",
    f"{PREFIX}/differences",
    Carried.QUERY,
    conflicts.ConflictsRequest,
    Answered.ITEMS,
    conflicts.Difference | Failure,
)
RESOLVE: Final = Route(
    "POST",
    f"{PREFIX}/resolve",
    Carried.JSON,
    conflicts.ResolveRequest,
    Answered.VALUE,
    conflicts.ResolveResult,
)
CONFLICT_POLICY: Final = Route(
    "POST",
    f"{PREFIX}/conflict_policy",
    Carried.JSON,
    conflicts.PolicyRequest,
    Answered.VALUE,
    conflicts.PolicyResult,
)
IMPORT: Final = Route(
    "POST",
    f"{PREFIX}/import",
    Carried.JSON,
    conflicts.ImportRequest,
    Answered.ITEMS,
    conflicts.ImportItem | Failure,
)
CACHE: Final = Route(
    "POST", f"{PREFIX}/cache", Carried.JSON, storage.CacheRequest, Answered.VALUE, storage.CacheReport
)
RETIRE: Final = Route(
    "POST", f"{PREFIX}/retire", Carried.JSON, storage.RetireRequest, Answered.VALUE, storage.RetireResult
)
PLACE: Final = Route(
    "POST", f"{PREFIX}/place", Carried.JSON, placement.PlaceRequest, Answered.VALUE, placement.PlaceResult
)
LIMIT: Final = Route(
    "POST", f"{PREFIX}/limit", Carried.JSON, limiting.LimitRequest, Answered.VALUE, limiting.LimitReport
)
UNDO: Final = Route(
    "POST", f"{PREFIX}/undo", Carried.JSON, undoing.UndoRequest, Answered.ITEMS, undoing.UndoItem | Failure
)
BRAKE: Final = Route(
    "POST", f"{PREFIX}/brake", Carried.JSON, undoing.BrakeRequest, Answered.ITEMS, undoing.BrakeItem | Failure
)
LOG: Final = Route(
    "POST", f"{PREFIX}/log", Carried.JSON, history.LogRequest, Answered.ITEMS, history.LogEvent | Failure
)
RESTORE: Final = Route(
    "POST",
    f"{PREFIX}/restore",
    Carried.JSON,
    history.RestoreRequest,
    Answered.ITEMS,
    history.RestoredItem | Failure,
)
HISTORY_FILE: Final = Route(
    "POST", f"{PREFIX}/version", Carried.JSON, history.HistoryFileRequest, Answered.BYTES, None
)
TRASH: Final = Route(
    "POST", f"{PREFIX}/trash", Carried.JSON, history.TrashRequest, Answered.ITEMS, history.TrashItem | Failure
)
EMPTY_TRASH: Final = Route(
    "POST",
    f"{PREFIX}/empty_trash",
    Carried.JSON,
    history.EmptyTrashRequest,
    Answered.VALUE,
    history.EmptyTrashResult,
)
SNAPSHOTS: Final = Route(
    "POST",
    f"{PREFIX}/snapshots",
    Carried.JSON,
    history.SnapshotsRequest,
    Answered.VALUE,
    history.SnapshotsResult,
)
CHECKOUT: Final = Route(
    "POST",
    f"{PREFIX}/checkout",
    Carried.JSON,
    history.CheckoutRequest,
    Answered.ITEMS,
    history.CheckoutProgress | history.CheckoutDone | Failure,
)

ROUTES: Final[Mapping[tuple[str, str], Route]] = {
    (route.path, route.method): route
    for route in (
        HEALTH,
        STATUS,
        EVENTS,
        MOUNT,
        UNMOUNT,
        STOP,
        LIST,
        CHECK,
        GET_FILE,
        ADD_FILE,
        GET_CHUNKS,
        SHARE,
        JOIN,
        MEET,
        PING,
        SYNC,
        REMOVE,
        GRANT,
        USER,
        GROUP,
        PEOPLE,
        RENAME,
        LEAVE,
        RECOVERY,
        COPIES,
        LOG,
        RESTORE,
        HISTORY_FILE,
        TRASH,
        EMPTY_TRASH,
        SNAPSHOTS,
        CHECKOUT,
        CACHE,
        RETIRE,
        PLACE,
        LIMIT,
        UNDO,
        BRAKE,
        CONFLICTS,
        DIFFERENCES,
        RESOLVE,
        CONFLICT_POLICY,
        IMPORT,
    )
}
