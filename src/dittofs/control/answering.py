"""From a request to the service's method and back: the one place where routes meet `Service`."""

import itertools
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, suppress
from typing import Final
from urllib.parse import parse_qsl

import h11
import msgspec
import structlog
import trio

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
from dittofs.control.connection import BYTES_TYPE, ITEMS_TYPE, ClientGone, Connection
from dittofs.control.faults import Refusal, refusal_of
from dittofs.control.paths import components, path_bytes
from dittofs.control.routes import Answered, Carried, Route
from dittofs.control.service import Content, Service
from dittofs.errors import DittoError

LIST_ITEMS_PER_STEP: Final = 32  # about a millisecond of the event loop
QUERY_FIELDS_MAX: Final = 32
HEARTBEAT_S: Final = 15.0
STOP_REPLY_S: Final = 2.0
MODE_HEADER: Final = "dittofs-mode"
MTIME_HEADER: Final = "dittofs-mtime-ns"

log = structlog.get_logger(__name__)
_encoder: Final = msgspec.json.Encoder()


async def answer(service: Service, connection: Connection, head: h11.Request) -> None:
    """Carry out one request and reply. What goes wrong is told or logged; `ClientGone` alone is raised."""
    try:
        await _answer(service, connection, head)
    except ClientGone:
        raise
    except DittoError as error:
        await _refuse(connection, refusal_of(error))
    except Exception as error:  # the edge: a bug in one request must not end the daemon
        cause = _sole(error)
        if isinstance(cause, ClientGone):
            raise cause from error
        if isinstance(cause, DittoError):
            await _refuse(connection, refusal_of(cause))
            return
        log.exception("a request failed by a bug", target=_route_name(head))
        text = "the daemon met a bug while doing this; its log says where. The daemon goes on"
        await _refuse(connection, Refusal("internal", text, "dittofs doctor"))


async def _refuse(connection: Connection, refusal: Refusal) -> None:
    if connection.has_replied:
        log.warning("a reply was cut short", reason=refusal.message)
        raise ClientGone("told by a reply cut short")
    await connection.refuse(refusal)


def _sole(error: Exception) -> Exception:
    """The only exception in nested groups of one: what a nursery of the service wrapped."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _route_name(head: h11.Request) -> str:
    return head.target.partition(b"?")[0][:64].decode("ascii", "replace")  # never the query: it names files


async def _answer(service: Service, connection: Connection, head: h11.Request) -> None:
    method = head.method.decode("ascii")
    path, _, query = head.target.decode("ascii", "replace").partition("?")
    route = routes.ROUTES.get((path, method))
    if route is None:
        allowed = ", ".join(known for place, known in routes.ROUTES if place == path)
        if allowed:
            refusal = Refusal("wrong_method", f"{path} answers to {allowed}")
            await connection.refuse(refusal, [("allow", allowed)])
            return
        raise Refusal("not_found", "there is no such request", "docs/reference/control.md lists them all")
    request = await _request(connection, route, query)
    match route.answered:
        case Answered.VALUE:
            await _answer_value(service, connection, route, request)
        case Answered.ITEMS:
            await _answer_items(service, connection, route, request)
        case Answered.BYTES:
            await _answer_bytes(service, connection, request)


async def _request(connection: Connection, route: Route, query: str) -> object:
    """What is asked, checked. The body has been read unless it is the file itself."""
    body = b""
    if route.carried is not Carried.QUERY_AND_BODY:
        body = await connection.whole_body(protocol.JSON_BYTES_MAX)
    if route.request is None:
        return None
    try:
        if route.carried is Carried.JSON:
            request = msgspec.json.decode(body, type=route.request)
        else:
            fields = parse_qsl(
                query,
                keep_blank_values=True,
                strict_parsing=bool(query),
                errors="strict",
                max_num_fields=QUERY_FIELDS_MAX,
            )
            if len(dict(fields)) != len(fields):
                raise Refusal("usage", "a parameter is given twice")
            request = msgspec.convert(dict(fields), route.request, strict=False)
    except (msgspec.DecodeError, ValueError) as error:  # ValidationError and UnicodeDecodeError among them
        raise Refusal("usage", f"the request is not understood: {error}") from error
    _check_path(request)
    return request


def _check_path(request: object) -> None:
    match request:
        case (
            history.LogRequest()
            | history.RestoreRequest()
            | history.HistoryFileRequest()
            | history.TrashRequest()
            | history.EmptyTrashRequest()
        ):
            components(path_bytes(request))
        case history.CheckoutRequest():
            components(path_bytes(request))
            if not (request.directory_raw or request.directory.encode()).startswith(b"/"):
                raise Refusal("usage", "the directory to write to must be given as an absolute path")
        case undoing.UndoRequest() | placement.PlaceRequest():
            components(path_bytes(request))
        case conflicts.ConflictsRequest() | conflicts.ResolveRequest() | conflicts.ImportRequest():
            components(path_bytes(request))
        case protocol.MountRequest() | sharing.JoinRequest():
            if not path_bytes(request).startswith(b"/"):
                raise Refusal("usage", "the directory to mount on must be given as an absolute path")
        case protocol.UnmountRequest():
            path_bytes(request)
            if bool(request.path) + bool(request.volume) + request.all != 1:
                raise Refusal("usage", "unmount takes one of a directory, a volume or all")
        case files.ListRequest() | files.AddRequest() | files.FileRequest() | protocol.CheckRequest():
            components(path_bytes(request))


async def _answer_value(service: Service, connection: Connection, route: Route, request: object) -> None:
    reply: routes.Reply
    match route, request:
        case routes.HEALTH, None:
            reply = service.health()
        case routes.STATUS, None:
            reply = service.status()
        case routes.MOUNT, protocol.MountRequest():
            reply = await service.mount(request)
        case routes.UNMOUNT, protocol.UnmountRequest():
            reply = await service.unmount(request)
        case routes.ADD_FILE, files.AddRequest():
            async with aclosing(connection.body()) as parts:
                reply = await service.add(request, parts)
        case routes.MEET, sharing.MeetRequest():
            reply = await service.meet(request)
        case routes.REMOVE, sharing.RemoveRequest():
            reply = await service.remove(request)
        case routes.GRANT, people.GrantRequest():
            reply = await service.grant(request)
        case routes.USER, people.UserRequest():
            reply = await service.user(request)
        case routes.GROUP, people.GroupRequest():
            reply = await service.group(request)
        case routes.PEOPLE, people.PeopleRequest():
            reply = service.people(request)
        case routes.RENAME, sharing.RenameRequest():
            reply = await service.rename(request)
        case routes.LEAVE, sharing.LeaveRequest():
            reply = await service.leave(request)
        case routes.RECOVERY, sharing.RecoveryRequest():
            reply = await service.recovery(request)
        case routes.COPIES, sharing.CopiesRequest():
            reply = await service.copies(request)
        case routes.RESOLVE, conflicts.ResolveRequest():
            reply = await service.resolve(request)
        case routes.CONFLICT_POLICY, conflicts.PolicyRequest():
            reply = await service.conflict_policy(request)
        case routes.EMPTY_TRASH, history.EmptyTrashRequest():
            reply = await service.empty_trash(request)
        case routes.SNAPSHOTS, history.SnapshotsRequest():
            reply = await service.snapshots(request)
        case routes.CACHE, storage.CacheRequest():
            reply = await service.cache(request)
        case routes.PLACE, placement.PlaceRequest():
            reply = await service.place(request)
        case routes.LIMIT, limiting.LimitRequest():
            reply = await service.limit(request)
        case routes.RETIRE, storage.RetireRequest():
            reply = await service.retire(request)
        case routes.STOP, None:
            # It may cancel this very task: the reply still leaves, within a bound.
            with trio.CancelScope(shield=True, deadline=trio.current_time() + STOP_REPLY_S):
                await connection.reply(200, _encoder.encode(await service.stop()))
            return
        case _:
            raise AssertionError(route)
    await connection.reply(200, _encoder.encode(reply))


async def _answer_items(service: Service, connection: Connection, route: Route, request: object) -> None:
    match route, request:
        case routes.EVENTS, None:
            await _answer_events(service, connection)
        case routes.LIST, files.ListRequest():
            await _send_lines(connection, _in_steps(service.list(request)))
        case routes.CHECK, protocol.CheckRequest():
            await _send_lines(connection, _as_lines(service.check(request)))
        case routes.SHARE, sharing.ShareRequest():
            await _send_lines(connection, _as_lines(service.share(request)))
        case routes.JOIN, sharing.JoinRequest():
            await _send_lines(connection, _as_lines(service.join(request)))
        case routes.LOG, history.LogRequest():
            await _send_lines(connection, _as_lines(service.log(request)))
        case routes.RESTORE, history.RestoreRequest():
            await _send_lines(connection, _as_lines(service.restore(request)))
        case routes.TRASH, history.TrashRequest():
            await _send_lines(connection, _as_lines(service.trash(request)))
        case routes.CHECKOUT, history.CheckoutRequest():
            await _send_lines(connection, _as_lines(service.checkout(request)))
        case routes.PING, sharing.PingRequest():
            await _send_lines(connection, _as_lines(service.ping(request)))
        case routes.SYNC, sharing.SyncRequest():
            await _send_lines(connection, _as_lines(service.sync(request)))
        case routes.UNDO, undoing.UndoRequest():
            await _send_lines(connection, _as_lines(service.undo(request)))
        case routes.BRAKE, undoing.BrakeRequest():
            await _send_lines(connection, _as_lines(service.brake(request)))
        case routes.CONFLICTS, conflicts.ConflictsRequest():
            await _send_lines(connection, _as_lines(service.list_conflicts(request)))
        case routes.DIFFERENCES, conflicts.ConflictsRequest():
            await _send_lines(connection, _as_lines(service.differences(request)))
        case routes.IMPORT, conflicts.ImportRequest():
            await _send_lines(connection, _as_lines(service.import_tree(request)))
        case _:
            raise AssertionError(route)


async def _in_steps(items: Iterator[files.ListItem]) -> AsyncGenerator[bytes, None]:
    while step := list(itertools.islice(items, LIST_ITEMS_PER_STEP)):
        yield _encoder.encode_lines(step)
        await trio.lowlevel.checkpoint()


async def _as_lines(items: AsyncGenerator[routes.Item, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(items):
        async for item in items:
            yield _encoder.encode_lines([item])


async def _send_lines(connection: Connection, lines: AsyncGenerator[bytes, None]) -> None:
    """Send lines as they come. A refusal before the first is a plain one, a later one is the last line."""
    async with aclosing(lines):
        first = await anext(lines, b"")
        await connection.begin(200, ITEMS_TYPE)
        if first:
            await connection.send(first)
        try:
            async for piece in lines:
                await connection.send(piece)
        except DittoError as error:
            await connection.send(_failure_line(refusal_of(error)))
        await connection.end()


def _failure_line(refusal: Refusal) -> bytes:
    return _encoder.encode_lines([protocol.failure_of(refusal)])


async def _answer_events(service: Service, connection: Connection) -> None:
    """Events as they come, a sign of life first and whenever nothing happens for `HEARTBEAT_S`."""
    alive = _encoder.encode_lines([protocol.AliveEvent()])
    await connection.begin(200, ITEMS_TYPE)
    await connection.send(alive)
    sender, receiver = trio.open_memory_channel[bytes](0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_pump_events, service.events(), sender)
        with receiver:
            while True:
                line = alive
                with trio.move_on_after(HEARTBEAT_S):
                    try:
                        line = await receiver.receive()
                    except trio.EndOfChannel:
                        break
                await connection.send(line)
        nursery.cancel_scope.cancel()
    await connection.end()


async def _pump_events(
    events: AsyncGenerator[protocol.Event, None], sender: trio.MemorySendChannel[bytes]
) -> None:
    # A timeout must not strike inside the generator, which it would end: hence a task and a channel.
    with sender, suppress(trio.BrokenResourceError):  # who listened has left: the other end says so
        async with aclosing(events):
            try:
                async for event in events:
                    await sender.send(_encoder.encode_lines([event]))
            except DittoError as error:
                await sender.send(_failure_line(refusal_of(error)))


async def _answer_bytes(service: Service, connection: Connection, request: object) -> None:
    content: Content
    match request:
        case files.FileRequest():
            content = await service.get_file(request)
        case files.ChunksRequest():
            content = await service.get_chunks(request)
        case history.HistoryFileRequest():
            content = await service.history_file(request)
        case _:
            raise AssertionError(request)
    async with aclosing(content.parts) as parts:
        first = await anext(parts, b"")
        headers = [(MODE_HEADER, f"{content.mode:04o}"), (MTIME_HEADER, str(content.mtime_ns))]
        await connection.begin(200, BYTES_TYPE, headers, content.size)
        if first:
            await connection.send(first)
        async for part in parts:
            await connection.send(part)
    await connection.end()
