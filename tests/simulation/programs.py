"""What users do on a device of a swarm, at random, and what they were promised about it.

An operation that has to wait for publications is tried again when they are through, so that what a user saw
when he replaced or removed something is known exactly.
"""

import os
import random
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import trio

from dittofs.chunks.content import ContentReader
from dittofs.errors import (
    ChunkMissing,
    ChunkUnavailable,
    DiskError,
    DiskFull,
    DittoError,
    FSError,
    ReadOnlyVolume,
)
from dittofs.tree.record import Kind
from dittofs.volume.attributes import Wanted
from dittofs.volume.files import Handle
from dittofs.volume.inodes import Inode
from dittofs.volume.staging import Base, Layer
from tests.simulation.device import SwarmDevice
from tests.simulation.ledger import digest_of

NAMES: Final = ("a", "b", "c", "d/e", "d/f", "d/g", "s/e", "s/h")
DIRECTORIES: Final = ("d", "s", "d/x", "s/x")
SIZES: Final = (0, 10, 900, 900, 5_000, 70_000, 200_000)
BIG_BYTES: Final = 700_000
"""Of several chunks, so that an edit elsewhere needs some of them only."""
HELD_MAX: Final = 3
ATTEMPTS: Final = 20

Act = Callable[[], "Coroutine[Any, Any, None] | None"]


class Programs:
    """The programs that run on one device, in all of its lives."""

    def __init__(self, device: SwarmDevice, trace: Callable[[str], None]) -> None:
        self.device = device
        self.chance = random.Random(0)
        self.ledger = device.ledger
        self.trace = trace
        self.plan: Sequence[Planned] = ()
        self._at = 0
        self._step = 0
        self._count = 0
        self._held: list[tuple[Handle, str]] = []

    @property
    def is_over(self) -> bool:
        """No step is left."""
        return self._at >= len(self.plan)

    async def run(self, device: SwarmDevice) -> None:
        """One operation after the other, as long as the process lives and steps are left."""
        self._held = []  # descriptors end with the process
        while not self.is_over:
            planned = self.plan[self._at]
            await trio.sleep(planned.after_s)
            self._at += 1
            if planned.chance is not None:
                self.chance, self._step, self._count = planned.chance, planned.number, 0
                await self.step(device, BY_NAME[planned.what])

    async def step(self, device: SwarmDevice, operation: "Operation") -> None:
        """One operation. That it is not possible is fine; that it breaks is not."""
        what = f"{device.number} {operation.__name__}"
        try:
            said = await operation(self)
        except ReadOnlyVolume:
            said = "may not"
        except (DiskFull, DiskError) as error:
            said = type(error).__name__
        except FSError as error:
            said = os.strerror(error.errno or 0)
        except (ChunkMissing, ChunkUnavailable):
            said = "not here"
        if device.is_dead:
            said = f"{said or ''} dies"
        self.trace(f"{what} {said or ''}")

    async def finish(self) -> None:
        """Close what is still open."""
        for handle, path in self._held:
            with suppress(DittoError):  # of a disk that failed: nobody was promised anything
                self._close(handle, path)
        self._held = []

    # -- operations

    async def write(self) -> str:
        """Create or replace a whole file."""
        path = self._name()
        data = self._data()
        handle = self._open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        await self._put(handle, 0, data)
        self._close(handle, path)
        return f"{path} {len(data)}"

    async def save(self) -> str:
        """As editors do: a file beside, renamed over the old one."""
        path, data = self._name(), self._data()
        beside = f"{path}.{self.device.number}~"
        handle = self._open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        await self._put(handle, 0, data)
        if self.chance.random() < 0.5:
            await self.device.volume.files.fsync(handle.inode)
        self._close(handle, beside)
        await self._rename(beside, path)
        return f"{path} {len(data)}"

    async def edit(self) -> str:
        """Change a few bytes of a file, which may be on another device only."""
        path = self._some_file()
        size = self.device.stat(path).size
        handle = self._open(path, os.O_RDWR)
        at = self.chance.randint(0, size)
        await self._put(handle, at, self._tag() * 3)
        self._close(handle, path)
        return f"{path} at {at} of {size}"

    async def truncate(self) -> str:
        path = self._some_file()
        inode = self.device.walk(path)
        size = self.chance.randint(0, 2_000)
        self._supersede(inode, "truncate")
        try:
            self.device.volume.files.truncate(inode, size)
        finally:  # one that could not be made durable has taken effect all the same
            data = self._bytes(inode)
            self.ledger.note(data)
        if not inode.writers:
            self._closed(data, path)
        return f"{path} to {size}"

    async def hold(self) -> str:
        """Open a file, write to it, and keep it open."""
        if len(self._held) >= HELD_MAX:
            return await self.let_go()
        path = self._name()
        handle = self._open(path, os.O_RDWR | os.O_CREAT)
        if self.chance.random() < 0.7:
            await self._put(handle, 0, self._data())
        self._held.append((handle, path))
        return path

    async def let_go(self) -> str:
        """Write to a file that has been open for a while, and close it."""
        if not self._held:
            return "nothing"
        handle, path = self._held.pop(self.chance.randrange(len(self._held)))
        await self._put(handle, self.chance.choice((0, 50)), self._tag() * 5)
        self._close(handle, path)
        return path

    async def fsync(self) -> str:
        path = self._some_file()
        handle = self.device.open_file(path, os.O_RDWR)
        await self.device.volume.files.fsync(handle.inode)
        self.device.close_file(handle)
        return path

    async def read(self) -> str:
        """Read all of a file, fetching what is elsewhere; the bytes are those of some version."""
        path = self._some_file()
        handle = self.device.open_file(path)
        try:
            inode = handle.inode
            if inode.writers:
                return "being written"
            size = self.device.volume.state.stat(inode).size
            answer = self.device.volume.files.read(inode, 0, size + 1)
            data = await answer if isinstance(answer, Awaitable) else answer
        finally:
            self.device.volume.files.release(handle)
        if not self.device.is_dead:
            assert not data or digest_of(data) in self.ledger.held, f"{path} reads as nobody wrote it"
        return f"{path} {len(data)}"

    async def rename(self) -> str:
        old, new = self._some_file(), self._name()
        await self._rename(old, new)
        return f"{old} {new}"

    async def move(self) -> str:
        """Rename a directory."""
        old, new = (
            self.chance.choice(DIRECTORIES),
            self.chance.choice((*DIRECTORIES, "t", "d/s", "d/s", "s/d", "s/d")),
        )
        await self._rename(old, new)
        return f"{old} {new}"

    async def exchange(self) -> str:
        old, new = self._some_file(), self._some_file()
        await self._rename(old, new, 2)
        return f"{old} {new}"

    async def link(self) -> str:
        old, new = self._some_file(), self._name()
        self.device.link(old, new)
        return f"{old} {new}"

    async def unlink(self) -> str:
        path = self._some_file()
        parent, name = self.device.place(path)

        def act() -> Coroutine[Any, Any, None] | None:
            return self.device.volume.names.unlink(parent, name)

        await self._do(act, lambda: self._remove(self.device.walk(path), "unlink"))
        return path

    async def mkdir(self) -> str:
        path = self.chance.choice(DIRECTORIES)
        self.device.mkdir(path)
        return path

    async def rmdir(self) -> str:
        path = self.chance.choice(DIRECTORIES)
        parent, name = self.device.place(path)
        await self._do(lambda: self.device.volume.names.rmdir(parent, name), lambda: None)
        return path

    async def chmod(self) -> str:
        path = self._some_file()
        self.device.volume.attributes.set(
            self.device.walk(path), Wanted(mode=self.chance.choice((0o600, 0o644, 0o755)))
        )
        return path

    async def sync(self) -> str:
        await self.device.volume.files.sync()
        return ""

    # -- parts of operations

    def _name(self) -> str:
        return self.chance.choice(NAMES)

    def _some_file(self) -> str:
        """A file there is, conflict entries too. ENOENT if there is none."""
        found = self._files("")
        if not found:
            raise FSError(2)
        return self.chance.choice(found)

    def _files(self, directory: str) -> list[str]:
        found = []
        for name in self.device.listing(directory):
            path = f"{directory}/{name}" if directory else name
            try:
                kind = self.device.walk(path).kind
            except FSError:
                continue
            if kind is Kind.DIRECTORY:
                found += self._files(path)
            elif kind is Kind.FILE:
                found.append(path)
        return found

    def _tag(self) -> bytes:
        self._count += 1
        return b"<%d.%d.%d>" % (self.device.number, self._step, self._count)

    def _data(self) -> bytes:
        """What nobody wrote before, saying who did in every block."""
        tag = self._tag()
        size = BIG_BYTES if self.chance.random() < 0.04 else self.chance.choice(SIZES)
        if size == BIG_BYTES:
            return tag + self.chance.randbytes(size)
        return (tag * (size // len(tag) + 1))[: max(size, len(tag))] if size else b""

    def _open(self, path: str, flags: int) -> Handle:
        if flags & os.O_TRUNC and self.device.exists(path):
            inode = self.device.walk(path)
            if inode.kind is Kind.FILE:
                self._supersede(inode, f"open to replace {path}")
        return self.device.open_file(path, flags)

    async def _put(self, handle: Handle, offset: int, data: bytes) -> None:
        """Write as a program does that gives up, and ends, when it cannot."""
        if not data:
            return
        try:
            for _ in range(ATTEMPTS):
                self._supersede(handle.inode, "write")
                answer = self.device.volume.files.write(handle.inode, offset, data)
                if not isinstance(answer, Coroutine):
                    break
                answer.close()
                await self.device.volume.publisher.drain()
            else:
                raise FSError(16, "it cannot be written")
        except DittoError:
            self._release(handle)
            raise
        self.ledger.note(self._bytes(handle.inode))

    def _close(self, handle: Handle, path: str) -> None:
        inode = handle.inode
        data = self._bytes(inode)
        is_gone = inode.detached is not None
        try:
            self.device.volume.files.flush(inode)
        except (FSError, DittoError):
            self._release(handle)
            raise
        if not self._release(handle):
            return
        if not is_gone and not inode.writers and self._is_shown(inode):
            self._closed(data, path)

    def _release(self, handle: Handle) -> bool:
        """Give the descriptor back. False: its bytes could not be kept, which nobody is told by close(2)."""
        try:
            self.device.volume.files.release(handle)
        except (DiskFull, DiskError, ReadOnlyVolume):
            return False
        return True

    def _is_shown(self, inode: Inode) -> bool:
        """Whether the file is not without a name, removed by another device while it was open."""
        volume = self.device.volume
        return (
            volume.state.contents.peek(inode.ref) is not None or volume.state.local.get(inode.id) is not None
        )

    def _closed(self, data: bytes, path: str) -> None:
        if not self.device.is_dead:
            name = self.ledger.close_file(data, self.device.number, path, trio.current_time())
            self.trace(f"{self.device.number} closes {path}: {name}")

    def _supersede(self, inode: Inode, how: str) -> None:
        data = self._bytes(inode)
        if data:
            name = self.ledger.supersede(data, how)
            self.trace(f"{self.device.number} will {how}: {name}")

    def _remove(self, inode: Inode, how: str) -> None:
        """What its name shows goes: what is written here, and what has come from elsewhere meanwhile."""
        self._supersede(inode, how)
        state = self.device.volume.state
        if inode.detached is None and state.local.get(inode.id) is None:
            shown = state.newest(inode)
            self.ledger.supersede(self.bytes_of(state.contents.reader(shown.root, shown.size)), how)

    def _bytes(self, inode: Inode) -> bytes:
        """What the file holds at this instant, wherever its chunks are."""
        return self.bytes_of(self.device.volume.files.content_base(inode))

    def bytes_of(self, base: Base) -> bytes:
        """What it reads as, wherever its chunks are or were."""
        if isinstance(base, ContentReader):
            return self._stored(base)
        if not isinstance(base, Layer):
            return b""
        found, at = bytearray(), 0
        for bottom, start, end in sorted(base.shown_through(0, base.size), key=lambda one: one[1]):
            found += base.read(at, start - at) if start > at else b""
            below = self._stored(bottom)[start:end] if isinstance(bottom, ContentReader) else b""
            found += below.ljust(end - start, b"\0")
            at = end
        return bytes(found) + (base.read(at, base.size - at) if base.size > at else b"")

    def _stored(self, reader: ContentReader) -> bytes:
        try:
            return self.ledger.bytes_of(reader.root, reader.size)
        except ChunkMissing:
            for device in self.others():
                if device.is_up and not device.is_dead:
                    self.ledger.gather(device.volume.replica.chunks)
        return self.ledger.bytes_of(reader.root, reader.size)

    others: Callable[[], list[SwarmDevice]] = staticmethod(list)
    """All devices of the swarm."""

    async def _rename(self, old: str, new: str, flags: int = 0) -> None:
        parent, name = self.device.place(old)
        new_parent, new_name = self.device.place(new)
        names = self.device.volume.names

        def supersede() -> None:
            target = names.find(new_parent, new_name)
            source = names.find(parent, name)
            is_same = target is not None and source is not None and target[0] is source[0]
            if target is not None and not flags and not is_same and target[0].kind is Kind.FILE:
                self._remove(target[0], f"rename over {new}")

        def act() -> Coroutine[Any, Any, None] | None:
            return self.device.volume.renaming.rename(parent, name, new_parent, new_name, flags)

        await self._do(act, supersede)

    async def _do(self, act: Act, before: Callable[[], None]) -> None:
        """Do it at one instant, after what has to come first; `before` sees the same as it does."""
        for _ in range(ATTEMPTS):
            before()
            answer = act()
            if answer is None:
                return
            answer.close()
            await self.device.volume.publisher.drain_all()
        raise FSError(16, "publications do not end")


@dataclass(frozen=True, slots=True)
class Planned:
    """A step of a plan. Without `chance` it is left out: only its time passes."""

    number: int
    after_s: float
    what: str
    chance: random.Random | None


Operation = Callable[[Programs], Awaitable[str]]
OPERATIONS: tuple[Operation, ...] = (
    *[Programs.write] * 6,
    *[Programs.save] * 4,
    *[Programs.edit] * 5,
    Programs.truncate,
    *[Programs.hold] * 2,
    *[Programs.let_go] * 2,
    Programs.fsync,
    *[Programs.read] * 3,
    *[Programs.rename] * 3,
    Programs.move,
    Programs.exchange,
    Programs.link,
    *[Programs.unlink] * 2,
    *[Programs.mkdir] * 3,
    Programs.rmdir,
    Programs.chmod,
    Programs.sync,
)
BY_NAME: Final = {operation.__name__: operation for operation in OPERATIONS}
