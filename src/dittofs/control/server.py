"""The control server: a Unix socket for the processes of one user, each connection on its own.

A client that floods, stalls, leaves or sends nonsense costs its own connection alone. The
socket answers as soon as `serve` has started; `GET /v1/health` is the daemon's readiness.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog
import trio

from dittofs.control.answering import answer
from dittofs.control.connection import ClientGone, Connection, Limits
from dittofs.control.faults import Refusal
from dittofs.control.service import Service
from dittofs.control.socket_file import listening_socket, peer_credentials

CONNECTIONS_MAX: Final = 128
CONNECTIONS_PER_PROCESS_MAX: Final = 32

log = structlog.get_logger(__name__)


async def serve(
    service: Service,
    path: Path,
    *,
    uid: int | None = None,
    limits: Limits | None = None,
    task_status: trio.TaskStatus[Path] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer requests at the Unix socket `path` until cancelled; `started()` when it can be connected to.

    The caller holds the daemon's lock: a socket file that lies there is replaced. `uid` (the
    process's own) is the only user who is answered. ConfigError if the directory is not private
    or the socket cannot be made.
    """
    owner = os.geteuid() if uid is None else uid
    room = _Room()

    async def serve_one(stream: trio.SocketStream) -> None:
        await _serve_connection(service, stream, owner, limits or Limits(), room)

    with listening_socket(path) as listening:
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(listening))
        task_status.started(path)
        await trio.serve_listeners(serve_one, [listener])


@dataclass(slots=True)
class _Guest:
    """A connection that has its place."""

    pid: int
    connection: Connection
    scope: trio.CancelScope


@dataclass(slots=True)
class _Room:
    """Who is connected. When it is full, whoever has idled longest makes place."""

    guests: list[_Guest] = field(default_factory=list)

    def is_admitted(self, pid: int) -> bool:
        """Whether one more connection of this process has a place; an idle one may lose its own."""
        own = [guest for guest in self.guests if guest.pid == pid]
        if len(own) >= CONNECTIONS_PER_PROCESS_MAX:
            return self._dismiss_idle(own)
        if len(self.guests) >= CONNECTIONS_MAX:
            return self._dismiss_idle(self.guests)
        return True

    def _dismiss_idle(self, guests: list[_Guest]) -> bool:
        longest = min(guests, key=lambda guest: guest.connection.idle_since)
        if longest.connection.idle_since > trio.current_time():  # it serves a request
            return False
        longest.scope.cancel()
        self.guests.remove(longest)
        return True


async def _serve_connection(
    service: Service, stream: trio.SocketStream, owner: int, limits: Limits, room: _Room
) -> None:
    connection = Connection(stream, limits)
    peer = peer_credentials(stream.socket)
    if peer.uid != owner:
        log.warning("another user was refused", uid=peer.uid, pid=peer.pid)
        refusal = Refusal("forbidden", "this daemon answers only to the user who runs it")
        await _tell(connection, refusal)
    elif not room.is_admitted(peer.pid):
        refusal = Refusal("overloaded", "too many connections at once; nothing was done", "Try again.")
        await _tell(connection, refusal)
    else:
        guest = _Guest(peer.pid, connection, trio.CancelScope())
        room.guests.append(guest)
        try:
            with guest.scope:
                await converse(service, connection)
        finally:
            if guest in room.guests:
                room.guests.remove(guest)


async def converse(service: Service, connection: Connection) -> None:
    """Answer one client's requests until it leaves, is idle too long or breaks a rule; then close."""
    try:
        while (head := await connection.next_request()) is not None:
            await answer(service, connection, head)
    except Refusal as refusal:
        await _tell(connection, refusal)
    except ClientGone as gone:
        log.debug("a client left", reason=str(gone))
    await connection.close()


async def _tell(connection: Connection, refusal: Refusal) -> None:
    try:
        await connection.refuse(refusal)
    except ClientGone:
        log.debug("a client left before it could be told", error=refusal.code)
