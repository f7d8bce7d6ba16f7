"""A small blocking client of the local API. Imports no event loop, so that commands start quickly."""

import http.client
import os
import socket
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import quote, urlencode

import msgspec

from dittofs.control import (
    conflicts,
    files,
    history,
    limiting,
    people,
    placement,
    protocol,
    routes,
    sharing,
    storage,
    undoing,
)
from dittofs.control.faults import FAULTS, Refusal
from dittofs.control.protocol import Failure
from dittofs.control.routes import Carried, Item, Route
from dittofs.control.socket_file import peer_credentials, short_address

ANSWER_S: Final = 10.0  # what a healthy daemon answers from memory
PART_BYTES: Final = 256 << 10
LINE_BYTES_MAX: Final = 4 << 20


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, uid: int, timeout_s: float | None) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path
        self._uid = uid

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        with short_address(self._path) as address:
            self.sock.connect(address)
        server = peer_credentials(self.sock)
        if server.uid != self._uid:
            self.close()
            raise Refusal(
                "forbidden",
                f"the daemon at {self._path} is run by user {server.uid}, not by you ({self._uid})",
                "Run the command as that user, or set DITTOFS_HOME.",
            )


class Download:
    """The bytes of a reply; iterate once. `size` of them come, or a `Refusal` ("cut_short") is raised."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self._response = response
        self.size = int(response.headers["content-length"])
        self.mode = int(response.headers["dittofs-mode"], 8)
        self.mtime_ns = int(response.headers["dittofs-mtime-ns"])

    def __iter__(self) -> Iterator[bytes]:
        remaining = self.size
        with self._response as response:
            while remaining:
                part = _receive(response, PART_BYTES)
                if not part:
                    raise _cut_short()
                remaining -= len(part)
                yield part


class Client:
    """Asks the daemon at one socket, one connection a request.

    A daemon of another user than `uid` (this process's own) is told nothing. Every method raises
    `Refusal`: what the daemon said, "no_daemon" if none runs, "no_answer" if it hangs.
    """

    def __init__(self, path: Path, uid: int | None = None) -> None:
        self._path = path
        self._uid = os.geteuid() if uid is None else uid

    def health(self) -> protocol.Health:
        return cast(protocol.Health, self._value(routes.HEALTH, None, ANSWER_S))

    def status(self, patience_s: float = ANSWER_S) -> protocol.StatusReport:
        return cast(protocol.StatusReport, self._value(routes.STATUS, None, patience_s))

    def mount(self, request: protocol.MountRequest) -> protocol.MountResult:
        return cast(protocol.MountResult, self._value(routes.MOUNT, request, None))

    def unmount(self, request: protocol.UnmountRequest) -> protocol.UnmountResult:
        return cast(protocol.UnmountResult, self._value(routes.UNMOUNT, request, None))

    def stop(self) -> protocol.StopResult:
        return cast(protocol.StopResult, self._value(routes.STOP, None, ANSWER_S))

    def list(self, request: files.ListRequest) -> Iterator[files.ListItem]:
        return cast(Iterator[files.ListItem], self._items(routes.LIST, request))

    def check(self, request: protocol.CheckRequest) -> Iterator[protocol.CheckItem]:
        return cast(Iterator[protocol.CheckItem], self._items(routes.CHECK, request))

    def events(self) -> Iterator[protocol.Event]:
        return cast(Iterator[protocol.Event], self._items(routes.EVENTS, None))

    def share(self, request: sharing.ShareRequest) -> Generator[sharing.ShareItem, None, None]:
        return cast(Generator[sharing.ShareItem, None, None], self._items(routes.SHARE, request))

    def join(self, request: sharing.JoinRequest) -> Iterator[sharing.JoinItem]:
        return cast(Iterator[sharing.JoinItem], self._items(routes.JOIN, request))

    def meet(self, request: sharing.MeetRequest) -> sharing.MeetResult:
        return cast(sharing.MeetResult, self._value(routes.MEET, request, None))

    def ping(self, request: sharing.PingRequest) -> Iterator[sharing.PingItem]:
        return cast(Iterator[sharing.PingItem], self._items(routes.PING, request))

    def sync(self, request: sharing.SyncRequest) -> Iterator[sharing.SyncItem]:
        return cast(Iterator[sharing.SyncItem], self._items(routes.SYNC, request))

    def remove(self, request: sharing.RemoveRequest) -> sharing.RemoveResult:
        return cast(sharing.RemoveResult, self._value(routes.REMOVE, request, None))

    def grant(self, request: people.GrantRequest) -> people.GrantResult:
        return cast(people.GrantResult, self._value(routes.GRANT, request, None))

    def user(self, request: people.UserRequest) -> people.PeopleResult:
        return cast(people.PeopleResult, self._value(routes.USER, request, None))

    def group(self, request: people.GroupRequest) -> people.PeopleResult:
        return cast(people.PeopleResult, self._value(routes.GROUP, request, None))

    def people(self, request: people.PeopleRequest, patience_s: float = ANSWER_S) -> people.PeopleReport:
        return cast(people.PeopleReport, self._value(routes.PEOPLE, request, patience_s))

    def rename(self, request: sharing.RenameRequest) -> sharing.RenameResult:
        return cast(sharing.RenameResult, self._value(routes.RENAME, request, None))

    def leave(self, request: sharing.LeaveRequest) -> sharing.LeaveResult:
        return cast(sharing.LeaveResult, self._value(routes.LEAVE, request, None))

    def recovery(self, request: sharing.RecoveryRequest) -> sharing.RecoveryResult:
        return cast(sharing.RecoveryResult, self._value(routes.RECOVERY, request, ANSWER_S))

    def copies(self, request: sharing.CopiesRequest) -> sharing.CopiesResult:
        return cast(sharing.CopiesResult, self._value(routes.COPIES, request, ANSWER_S))

    def list_conflicts(self, request: conflicts.ConflictsRequest) -> Iterator[conflicts.Conflict]:
        return cast(Iterator[conflicts.Conflict], self._items(routes.CONFLICTS, request))

    def differences(self, request: conflicts.ConflictsRequest) -> Iterator[conflicts.Difference]:
        return cast(Iterator[conflicts.Difference], self._items(routes.DIFFERENCES, request))

    def resolve(self, request: conflicts.ResolveRequest) -> conflicts.ResolveResult:
        return cast(conflicts.ResolveResult, self._value(routes.RESOLVE, request, None))

    def conflict_policy(self, request: conflicts.PolicyRequest) -> conflicts.PolicyResult:
        return cast(conflicts.PolicyResult, self._value(routes.CONFLICT_POLICY, request, ANSWER_S))

    def import_tree(self, request: conflicts.ImportRequest) -> Iterator[conflicts.ImportItem]:
        return cast(Iterator[conflicts.ImportItem], self._items(routes.IMPORT, request))

    def cache(self, request: storage.CacheRequest) -> storage.CacheReport:
        return cast(storage.CacheReport, self._value(routes.CACHE, request, None))

    def retire(self, request: storage.RetireRequest) -> storage.RetireResult:
        return cast(storage.RetireResult, self._value(routes.RETIRE, request, None))

    def undo(self, request: undoing.UndoRequest) -> Iterator[undoing.UndoItem]:
        return cast(Iterator[undoing.UndoItem], self._items(routes.UNDO, request))

    def brake(self, request: undoing.BrakeRequest) -> Iterator[undoing.BrakeItem]:
        return cast(Iterator[undoing.BrakeItem], self._items(routes.BRAKE, request))

    def log(self, request: history.LogRequest) -> Iterator[history.LogEvent]:
        return cast(Iterator[history.LogEvent], self._items(routes.LOG, request))

    def restore(self, request: history.RestoreRequest) -> Iterator[history.RestoredItem]:
        return cast(Iterator[history.RestoredItem], self._items(routes.RESTORE, request))

    def history_file(self, request: history.HistoryFileRequest) -> Download:
        return Download(self._ask(routes.HISTORY_FILE, request, None))

    def place(self, request: placement.PlaceRequest) -> placement.PlaceResult:
        return cast(placement.PlaceResult, self._value(routes.PLACE, request, None))

    def limit(self, request: limiting.LimitRequest) -> limiting.LimitReport:
        return cast(limiting.LimitReport, self._value(routes.LIMIT, request, ANSWER_S))

    def trash(self, request: history.TrashRequest) -> Iterator[history.TrashItem]:
        return cast(Iterator[history.TrashItem], self._items(routes.TRASH, request))

    def empty_trash(self, request: history.EmptyTrashRequest) -> history.EmptyTrashResult:
        return cast(history.EmptyTrashResult, self._value(routes.EMPTY_TRASH, request, None))

    def snapshots(self, request: history.SnapshotsRequest) -> history.SnapshotsResult:
        return cast(history.SnapshotsResult, self._value(routes.SNAPSHOTS, request, None))

    def checkout(
        self, request: history.CheckoutRequest
    ) -> Iterator[history.CheckoutProgress | history.CheckoutDone]:
        items = self._items(routes.CHECKOUT, request)
        return cast(Iterator[history.CheckoutProgress | history.CheckoutDone], items)

    def get_file(self, request: files.FileRequest) -> Download:
        return Download(self._ask(routes.GET_FILE, request, None))

    def get_chunks(self, request: files.ChunksRequest) -> Download:
        return Download(self._ask(routes.GET_CHUNKS, request, None))

    def add(self, request: files.AddRequest, parts: Iterable[bytes]) -> files.AddResult:
        """Upload `parts` as a file: exactly `request.size` bytes if that is given.

        If `parts` raises, nothing of it becomes visible in the volume.
        """
        with self._ask(routes.ADD_FILE, request, None, parts) as response:
            return cast(files.AddResult, _decoded(response, routes.ADD_FILE))

    def _value(self, route: Route, request: msgspec.Struct | None, timeout_s: float | None) -> object:
        with self._ask(route, request, timeout_s) as response:
            return _decoded(response, route)

    def _items(self, route: Route, request: msgspec.Struct | None) -> Generator[Item, None, None]:
        decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(cast(Any, route.reply))
        with self._ask(route, request, None) as response:
            pending = b""
            while part := _receive(response, PART_BYTES):
                *lines, pending = (pending + part).split(b"\n")
                if len(pending) > LINE_BYTES_MAX:
                    raise Refusal("failed", "the daemon sends a line without end")
                for line in lines:
                    item = decoder.decode(line)
                    if isinstance(item, Failure):
                        raise _refusal(item)
                    yield item

    def _ask(
        self,
        route: Route,
        request: msgspec.Struct | None,
        timeout_s: float | None,
        parts: Iterable[bytes] | None = None,
    ) -> http.client.HTTPResponse:
        """The response, if it is a success; its connection ends with it."""
        connection = _UnixConnection(self._path, self._uid, timeout_s)
        try:
            self._send(connection, route, request, parts)
            response = connection.getresponse()
            if response.status == 200:
                return response
            with response:
                raise _refusal(_failure(response.read()))
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise Refusal(
                "no_daemon", "no daemon is running; what is stored is not affected", "dittofs mount DIR"
            ) from error
        except NotADirectoryError as error:
            text = f"{self._path} cannot be: a part of it is not a directory"
            raise Refusal("refused", text, "Set DITTOFS_HOME to a directory, or to none") from error
        except BlockingIOError as error:
            raise Refusal("overloaded", "the daemon has too many callers waiting", "Try again.") from error
        except TimeoutError as error:
            text = f"the daemon did not answer within {timeout_s:g} s; it may be busy or hanging"
            raise Refusal("no_answer", text, "dittofs doctor") from error
        except PermissionError as error:
            raise Refusal("forbidden", f"{self._path}: {error.strerror}", "dittofs doctor") from error
        except (http.client.HTTPException, ConnectionError) as error:
            raise _cut_short() from error
        finally:
            connection.close()  # the response keeps the socket until it is closed itself

    def _send(
        self,
        connection: _UnixConnection,
        route: Route,
        request: msgspec.Struct | None,
        parts: Iterable[bytes] | None,
    ) -> None:
        connection.connect()  # here, so that a refused connection is not taken for one that broke
        target, headers = route.path, {"connection": "close"}
        body: bytes | Iterable[bytes] | None = None
        if request is not None and route.carried is Carried.JSON:
            body = msgspec.json.encode(request)
            headers["content-type"] = "application/json"
        elif request is not None:
            target = f"{target}?{_query(request)}"
        size = -1
        if isinstance(request, files.AddRequest) and parts is not None:
            body, size = parts, request.size
            headers["content-type"] = "application/octet-stream"
            if size >= 0:
                headers["content-length"] = str(size)
            else:
                headers["transfer-encoding"] = "chunked"
        try:
            connection.request(route.method, target, body, headers, encode_chunked=size < 0)
        except (BrokenPipeError, ConnectionResetError):
            return  # refused before all was sent: the reply says why


def _query(request: msgspec.Struct) -> str:
    fields = msgspec.to_builtins(request)
    told = {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in fields.items()
        if value is not None
    }
    return urlencode(told, quote_via=quote)


def _receive(response: http.client.HTTPResponse, size: int) -> bytes:
    try:
        return response.read1(size)
    except (http.client.HTTPException, ConnectionError) as error:
        raise _cut_short() from error


def _decoded(response: http.client.HTTPResponse, route: Route) -> object:
    try:
        return msgspec.json.decode(response.read(), type=cast(Any, route.reply))
    except (http.client.HTTPException, ConnectionError) as error:
        raise _cut_short() from error
    except msgspec.DecodeError as error:
        text = f"the daemon's answer is not understood ({error}); it may be of another version"
        raise Refusal("failed", text, "dittofs version") from error


def _failure(body: bytes) -> Failure:
    try:
        return msgspec.json.decode(body, type=Failure)
    except msgspec.DecodeError:
        return Failure(error="failed", message="what answers at the socket is not a DittoFS daemon")


def _refusal(failure: Failure) -> Refusal:
    code = failure.error if failure.error in FAULTS else "failed"
    return Refusal(code, failure.message, failure.mend)


def _cut_short() -> Refusal:
    text = "the daemon ended before its answer was whole; nothing is known about the rest"
    return Refusal("cut_short", text, "dittofs status")
