"""One open /dev/fuse: requests come out, replies go in."""

import errno
import os
import select
import struct
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import structlog
import trio

from dittofs.errors import FSError
from dittofs.journal.damage import IndexDamaged
from mountd.errors import errno_of
from mountd.kernel import wire
from mountd.kernel.echoes import Making
from mountd.kernel.request import Answer, Handlers, Malformed, Request
from mountd.kernel.wire import Opcode

log = structlog.get_logger()

TURN_S = 0.002
"""How long requests are answered in a row before other tasks have their turn."""
SOON_S = 0.0001
"""Who was just answered asks again within this time, or is waited for without holding the loop."""
SELECT_DESCRIPTORS = 1024
"""select(2) takes lower ones; it alone of its family knows of microseconds and is in the standard library."""
SIGKILL_BIT = 1 << 8
"""Of signal 9 in the masks of /proc/PID/status."""
GONE = (errno.ENODEV, errno.ECONNABORTED, errno.EBADF)
UNANSWERED = (Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.INTERRUPT)


class Device:
    """Answers what can be answered at once in line; only what waits becomes a task.

    Nothing that a handler raises, and nothing that the kernel sends, ends the loop.
    """

    def __init__(
        self,
        descriptor: int,
        handlers: Handlers,
        mend_index: Callable[[], None],
        is_denied: Callable[[Request], bool] | None,
        making: Making,
        echo_handlers: Handlers,
    ) -> None:
        self._descriptor = descriptor
        self._handlers = dict(handlers)
        self._handlers[Opcode.INTERRUPT] = self._interrupt
        self._handlers[Opcode.DESTROY] = lambda _request: b""
        self._mend_index = mend_index
        self._is_denied = is_denied
        self._making = making
        self._echo_handlers = echo_handlers
        self._buffer = bytearray(wire.REQUEST_BYTES_MAX)
        self._waiting: dict[int, tuple[int, trio.CancelScope]] = {}
        self._unknown: set[int] = set()

    async def run(self) -> None:
        """Serve until the file system is unmounted or the connection aborted."""
        async with trio.open_nursery() as nursery:
            await self._read(nursery)
            nursery.cancel_scope.cancel()

    async def _read(self, nursery: trio.Nursery) -> None:
        descriptor = self._descriptor
        turn_ends = time.perf_counter() + TURN_S
        has_answered = False
        while True:
            try:
                length = os.readv(descriptor, [self._buffer])
            except BlockingIOError:
                if not (has_answered and self._comes_soon()):
                    await trio.lowlevel.wait_readable(descriptor)
                    turn_ends = time.perf_counter() + TURN_S
                has_answered = False
                continue
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.EINTR):
                    continue  # the request was taken back before it could be read
                if error.errno in GONE:
                    return
                raise
            self._serve(length, nursery)
            has_answered = True
            if time.perf_counter() > turn_ends:
                await trio.lowlevel.checkpoint()
                turn_ends = time.perf_counter() + TURN_S

    def _comes_soon(self) -> bool:
        """Whether there is a request within SOON_S; the loop stands still meanwhile."""
        if self._descriptor >= SELECT_DESCRIPTORS:
            return False
        return bool(select.select([self._descriptor], [], [], SOON_S)[0])

    def _serve(self, length: int, nursery: trio.Nursery) -> None:
        """Answer the request in the buffer, or begin to."""
        if length < wire.REQUEST.size:
            log.error("the kernel sent half a request", size=length)
            return
        size, opcode, unique, node, uid, gid, pid, _, _ = wire.REQUEST.unpack_from(self._buffer)
        body = memoryview(self._buffer)[wire.REQUEST.size : length]
        request = Request(opcode, unique, node, uid, gid, pid, body)
        handlers = self._handlers if pid != self._making.thread else self._echo_handlers
        handler = handlers.get(opcode)
        try:
            if size != length:
                raise Malformed(f"request {opcode} says {size} bytes and has {length}")
            if handler is None:
                self._note_unknown(opcode)
                # A kernel that hears ENOSYS asks nobody of this mount again; an echo speaks for itself alone.
                raise FSError(errno.EBUSY if handlers is self._echo_handlers else errno.ENOSYS)
            if self._is_denied is not None and self._is_denied(request):
                raise FSError(errno.EACCES)
            answer = self._mended(handler, request)
        except Exception as error:  # noqa: BLE001 - nothing ends the mount
            self._fail(request, error)
            return
        if isinstance(answer, bytes):
            self._reply(unique, answer)
        elif answer is not None:
            if opcode == Opcode.WRITE:
                self._buffer = bytearray(wire.REQUEST_BYTES_MAX)  # the bytes to write stay where they are
            else:
                request.body = memoryview(bytes(body))
            nursery.start_soon(self._finish, handler, request, answer)

    def _mended(self, handler: Callable[[Request], Answer], request: Request) -> Answer:
        try:
            return handler(request)
        except IndexDamaged:
            # The index is derived; a damaged one is mended before anybody sees an error.
            self._mend_index()
            return handler(request)

    async def _finish(
        self, handler: Callable[[Request], Answer], request: Request, answer: Coroutine[Any, Any, bytes]
    ) -> None:
        """A request that has to wait. Whoever asked may be killed meanwhile: then it is EINTR."""
        with trio.CancelScope() as scope:
            self._waiting[request.unique] = request.pid, scope
            try:
                self._reply(request.unique, await self._awaited(handler, request, answer))
            except Exception as error:  # noqa: BLE001 - nothing ends the mount
                self._fail(request, error)
            finally:
                del self._waiting[request.unique]
        if scope.cancelled_caught:
            self._reply_error(request, errno.EINTR)

    async def _awaited(
        self, handler: Callable[[Request], Answer], request: Request, answer: Coroutine[Any, Any, bytes]
    ) -> bytes:
        try:
            return await answer
        except IndexDamaged:
            self._mend_index()
            again = handler(request)
            assert again is not None
            return again if isinstance(again, bytes) else await again

    def _interrupt(self, request: Request) -> None:
        """A signal came for whoever waits. A local disk goes on all the same, unless it kills him."""
        (unique,) = request.unpack(wire.INTERRUPT_IN)
        waiting = self._waiting.get(unique)
        if waiting is not None and _is_killed(waiting[0]):
            waiting[1].cancel()

    def _fail(self, request: Request, error: Exception) -> None:
        if isinstance(error, (Malformed, struct.error)):
            log.error("the kernel sent a malformed request", opcode=request.opcode, reason=str(error))
            self._reply_error(request, errno.EIO)
        else:
            self._reply_error(request, errno_of(error))

    def _note_unknown(self, opcode: int) -> None:
        if opcode not in self._unknown:
            self._unknown.add(opcode)
            log.info("a request this front end does not serve", opcode=opcode)

    def _reply_error(self, request: Request, number: int) -> None:
        if request.opcode not in UNANSWERED:
            self._write(wire.REPLY.pack(wire.REPLY.size, -number, request.unique))

    def _reply(self, unique: int, body: bytes) -> None:
        self._write(wire.REPLY.pack(wire.REPLY.size + len(body), 0, unique), body)

    def _write(self, *parts: bytes) -> None:
        try:
            os.writev(self._descriptor, parts)
        except OSError as error:
            # ENOENT: whoever asked does not wait any more. ENODEV: nobody is there.
            if error.errno not in (errno.ENOENT, *GONE):
                log.error("the kernel takes no reply", reason=str(error))


def _is_killed(pid: int) -> bool:
    """Whether SIGKILL, or what the kernel made into it, is pending for a thread (proc(5), status)."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return pid != 0  # 0: a process of another pid namespace, of which nothing can be told
    masks = (line.split()[1] for line in lines if line.startswith(("SigPnd:", "ShdPnd:")))
    return any(int(mask, 16) & SIGKILL_BIT for mask in masks)
