"""What the kernel front end does with requests, by a socket in the place of /dev/fuse."""

import errno
import os
import random
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from dittofs.errors import FSError
from dittofs.ids import ROOT_NUMBER
from dittofs.local_disk import LocalDisk
from mountd.accesses import Accesses
from mountd.handles import Handles
from mountd.invalidation import Invalidation
from mountd.kernel import device, wire
from mountd.kernel.context import Context
from mountd.kernel.device import Device
from mountd.kernel.echoes import NO_THREAD, EchoRequests, Making
from mountd.kernel.frontend import handlers_of
from mountd.kernel.notices import Notices
from mountd.kernel.reading_ahead import ReadingAhead
from mountd.kernel.request import Request
from mountd.kernel.wire import Opcode
from mountd.lookups import Lookups
from tests.simulation.rig import Rig

PATIENCE_S = 10.0
MALFORMED = pytest.mark.logs_warning("the kernel sent a malformed request", "the kernel sent half a request")


class Kernel:
    """The other end."""

    def __init__(self, end: socket.socket) -> None:
        self._end = trio.socket.from_stdlib_socket(end)
        self.unique = 0

    async def send(self, opcode: int, body: bytes = b"", node: int = ROOT_NUMBER) -> int:
        self.unique += 1
        size = wire.REQUEST.size + len(body)
        await self._end.send(wire.REQUEST.pack(size, opcode, self.unique, node, 0, 0, 1, 0, 0) + body)
        return self.unique

    async def send_raw(self, request: bytes) -> None:
        await self._end.send(request)

    async def receive(self) -> tuple[int, int, bytes]:
        """(unique, errno, body)"""
        with trio.fail_after(PATIENCE_S):
            reply = await self._end.recv(wire.REQUEST_BYTES_MAX)
        size, error, unique = wire.REPLY.unpack_from(reply)
        assert size == len(reply)
        return unique, -error, reply[wire.REPLY.size :]

    async def ask(self, opcode: int, body: bytes = b"", node: int = ROOT_NUMBER) -> tuple[int, bytes]:
        unique = await self.send(opcode, body, node)
        answered, error, answer = await self.receive()
        assert answered == unique
        return error, answer


@asynccontextmanager
async def served(
    rig: Rig, thread: int = NO_THREAD, **more: Callable[[Request], object]
) -> AsyncIterator[Kernel]:
    """A device that answers for the rig's volume; handlers may be replaced by the name of their opcode."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    notices = Notices()
    lookups = Lookups(rig.volume, Invalidation(notices))
    clock = rig.volume.replica.clock
    context = Context(
        rig.volume, lookups, Handles(), notices, Accesses(rig.volume), ReadingAhead(clock.monotonic)
    )
    handlers: dict[int, Callable[[Request], Any]] = dict(handlers_of(context))
    handlers.update((Opcode[name], handler) for name, handler in more.items())
    with ours, theirs:
        making = Making(thread)
        echo_handlers = EchoRequests(context, making, handlers).handlers
        mend_index = rig.volume.replica.rebuild_index
        one = Device(ours.fileno(), handlers, mend_index, None, making, echo_handlers)
        theirs.setblocking(False)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.run)
            yield Kernel(theirs)
            nursery.cancel_scope.cancel()


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(LocalDisk(str(tmp_path / "store")))


async def test_what_nobody_serves_is_enosys(rig: Rig) -> None:
    async with served(rig) as kernel:
        for opcode in (Opcode.POLL, Opcode.BMAP, Opcode.ACCESS, Opcode.GETLK, 999, 4_000_000_000):
            assert await kernel.ask(opcode, bytes(64)) == (errno.ENOSYS, b"")


async def test_what_an_echo_may_not_do_the_kernel_goes_on_to_ask_for_programs(rig: Rig) -> None:
    async with served(rig, thread=1) as kernel:
        for opcode in (Opcode.POLL, Opcode.BMAP, Opcode.WRITE, 999):
            assert await kernel.ask(opcode, bytes(64)) == (errno.EBUSY, b"")


@MALFORMED
async def test_bytes_without_sense_are_answered_and_end_nothing(rig: Rig) -> None:
    chance = random.Random(4)
    opcodes = [one for one in Opcode if one not in device.UNANSWERED]
    async with served(rig) as kernel:
        for _ in range(1500):
            body = chance.randbytes(chance.choice([0, 1, 7, 8, 16, 24, 40, 56, 88, 120]))
            node = chance.choice([1, 1, 1, 2, 1 << 63, chance.getrandbits(64)])
            error, _ = await kernel.ask(chance.choice(opcodes), body, node)
            assert 0 <= error < 134
        await kernel.send_raw(b"half")
        await kernel.send_raw(wire.REQUEST.pack(4000, Opcode.STATFS, 77, 1, 0, 0, 1, 0, 0))
        assert await kernel.receive() == (77, errno.EIO, b"")
        for opcode in device.UNANSWERED:
            await kernel.send(opcode, b"")
        assert (await kernel.ask(Opcode.GETATTR, bytes(16)))[0] == 0


async def test_a_file_is_made_written_read_and_removed(rig: Rig) -> None:
    async with served(rig) as kernel:
        create = wire.CREATE_IN.pack(os.O_RDWR | os.O_CREAT, 0o100666, 0o022, 0)
        error, entry = await kernel.ask(Opcode.CREATE, create + b"name\0")
        assert error == 0
        node = wire.ENTRY_OUT.unpack_from(entry)[0]
        handle = wire.OPEN_OUT.unpack_from(entry, wire.ENTRY_OUT.size)[0]
        data = os.urandom(100_000)
        write = wire.WRITE_IN.pack(handle, 5, len(data), 0, 0, 0, 0)
        assert await kernel.ask(Opcode.WRITE, write + data, node) == (0, struct.pack("=II", len(data), 0))
        read = wire.READ_IN.pack(handle, 0, 1 << 20, 0, 0, 0, 0)
        assert await kernel.ask(Opcode.READ, read, node) == (0, bytes(5) + data)
        assert rig.stat("name").mode == 0o644
        assert rig.walk("name").lookups == 1
        await kernel.send(Opcode.FORGET, wire.FORGET_IN.pack(1), node)
        assert (await kernel.ask(Opcode.RELEASE, wire.RELEASE_IN.pack(handle, 0, 0, 0), node))[0] == 0
        assert (await kernel.ask(Opcode.UNLINK, b"name\0"))[0] == 0
        error, absent = await kernel.ask(Opcode.LOOKUP, b"name\0")
        assert (error, wire.ENTRY_OUT.unpack(absent)[0]) == (0, 0)
    assert rig.volume.state.inodes.get(node) is None


@pytest.mark.parametrize("is_killed", [True, False])
async def test_a_signal_ends_a_wait_only_if_it_kills(
    rig: Rig, is_killed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "_is_killed", lambda _pid: is_killed)
    may_end, has_begun = trio.Event(), trio.Event()

    async def wait() -> bytes:
        has_begun.set()
        await may_end.wait()
        return b"done"

    async with served(rig, READ=lambda _request: wait()) as kernel:
        unique = await kernel.send(Opcode.READ)
        await has_begun.wait()
        await kernel.send(Opcode.INTERRUPT, wire.INTERRUPT_IN.pack(12345))
        await kernel.send(Opcode.INTERRUPT, wire.INTERRUPT_IN.pack(unique))
        if is_killed:
            assert await kernel.receive() == (unique, errno.EINTR, b"")
        assert (await kernel.ask(Opcode.STATFS))[0] == 0  # others are answered meanwhile
        may_end.set()
        if not is_killed:
            assert await kernel.receive() == (unique, 0, b"done")


@pytest.mark.logs_warning("a file operation failed unexpectedly")
async def test_a_bug_is_eio_and_the_mount_goes_on(rig: Rig) -> None:
    def fail(_request: Request) -> bytes:
        raise ZeroDivisionError

    async def fail_later() -> bytes:
        raise FSError(errno.EDQUOT)

    async with served(rig, STATFS=fail, FSYNC=lambda _request: fail_later()) as kernel:
        assert await kernel.ask(Opcode.STATFS) == (errno.EIO, b"")
        assert await kernel.ask(Opcode.FSYNC) == (errno.EDQUOT, b"")
        assert (await kernel.ask(Opcode.GETATTR, bytes(16)))[0] == 0


async def test_bytes_that_must_wait_to_be_written_are_not_overwritten_by_the_next_request(rig: Rig) -> None:
    may_write = trio.Event()
    written: list[bytes] = []

    async def write(data: memoryview) -> bytes:
        await may_write.wait()
        written.append(bytes(data))
        return b""

    async with served(rig, WRITE=lambda request: write(request.body)) as kernel:
        for letter in (b"a", b"b"):
            await kernel.send(Opcode.WRITE, letter * 1000)
        assert (await kernel.ask(Opcode.GETATTR, bytes(16)))[0] == 0
        may_write.set()
        await kernel.receive()
        await kernel.receive()
    assert sorted(written) == [b"a" * 1000, b"b" * 1000]
