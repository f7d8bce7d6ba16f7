"""A volume without a kernel: programs' calls by path, for unit tests and simulations alike."""

import os
import random
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from dittofs.blocking import run_inline
from dittofs.chunks.chunker import Chunking
from dittofs.chunks.seal import VolumeKeys
from dittofs.disk import Disk
from dittofs.errors import FSError
from dittofs.history.at import At
from dittofs.history.retention import Retention
from dittofs.ids import VolumeId
from dittofs.merging.conflicts_view import conflicts_directory
from dittofs.tree.record import Kind
from dittofs.volume.attributes import Wanted
from dittofs.volume.files import Handle
from dittofs.volume.inodes import Inode, Stat
from dittofs.volume.opening import open_replica
from dittofs.volume.state import Caller
from dittofs.volume.volume import Volume

KEYS = VolumeKeys(VolumeId(b"\x11" * 32), b"\x22" * 32, {b"\x33" * 8: b"\x44" * 32}, b"\x33" * 8)
USER = Caller(1000, 1000)


class SimulatedClock:
    """Time that moves only when told to, and a microsecond at each look."""

    def __init__(self, start_s: float = 1_790_000_000.0) -> None:
        self._now_ns = int(start_s * 1e9)
        self._elapsed_s = 0.0

    def now_ns(self) -> int:
        self._now_ns += 1_000
        return self._now_ns

    def monotonic(self) -> float:
        self._elapsed_s += 1e-6
        return self._elapsed_s

    def advance(self, seconds: float) -> None:
        self._now_ns += int(seconds * 1e9)
        self._elapsed_s += seconds

    def set_wrong(self, seconds: float) -> None:
        """The wall clock jumps; no time passes."""
        self._now_ns += int(seconds * 1e9)


class SeededEntropy:
    """Randomness that a seed reproduces."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def __call__(self, count: int, /) -> bytes:
        return self._random.randbytes(count)


async def settled(answer: Any) -> Any:
    return await answer if isinstance(answer, Awaitable) else answer


class Rig:
    """One open volume and the calls a program would make."""

    def __init__(
        self, disk: Disk, *, seed: int = 0, machine: str = "machine/boot-1", label: str = "laptop"
    ) -> None:
        self.disk = disk
        self.machine = machine
        self.label = label
        self.clock = SimulatedClock()
        self.entropy = SeededEntropy(seed)
        self.volume = self.open()

    def open(self) -> Volume:
        """Open (again) what lies on the disk."""
        replica = open_replica(
            self.disk,
            KEYS,
            clock=self.clock,
            entropy=self.entropy,
            run_blocking=run_inline,
            label=self.label,
            machine=self.machine,
        )
        self.volume = Volume(
            replica,
            uid=USER.uid,
            gid=USER.gid,
            chunking=Chunking.CONTENT_DEFINED,
            volume_id=KEYS.volume_id,
            trusts_root=False,
        )
        self.volume.reserved.add(At)
        self.volume.reserved.add(conflicts_directory)
        self.retention = Retention(replica)
        self.volume.recover()
        return self.volume

    def abandon(self) -> None:
        """The process dies: nothing is flushed, nothing is closed cleanly."""
        self.volume.replica.chunks.close()
        self.volume.replica.journal.abandon()

    async def close(self) -> None:
        """A clean end."""
        await self.publish()
        await self.volume.close()
        self.volume.replica.chunks.close()
        self.volume.replica.journal.close(self.volume.replica.tree.tick())

    async def publish(self) -> None:
        """Run publication points until nothing waits."""
        for _ in range(1000):
            if self.volume.publisher.is_idle:
                return
            await self.volume.publisher.publish_point()
        raise AssertionError("publication does not come to an end")

    # Paths

    def walk(self, path: str) -> Inode:
        inode = self.volume.root
        for part in path.split("/"):
            if part:
                inode = self.volume.names.lookup(inode, os.fsencode(part))
        return inode

    def place(self, path: str) -> tuple[Inode, bytes]:
        parent, _, name = path.rpartition("/")
        directory = self.walk(parent)
        self.volume.state.require_directory(directory)
        return directory, os.fsencode(name)

    def exists(self, path: str) -> bool:
        try:
            self.walk(path)
        except FSError:
            return False
        return True

    def stat(self, path: str) -> Stat:
        return self.volume.state.stat(self.walk(path))

    def listing(self, path: str) -> list[str]:
        handle = self.volume.directories.open(self.walk(path))
        names: list[str] = []
        after = 0
        while listed := self.volume.directories.read(handle, after, 7):
            names += [os.fsdecode(line.name) for line in listed]
            after = listed[-1].cookie
        self.volume.directories.release(handle)
        assert names[:2] == [".", ".."]
        return sorted(names[2:])

    # Calls

    async def _with_publisher(self, act: Callable[[], Any]) -> Any:
        """Wait as the program would: the publisher runs beside."""
        answer = act()
        if not isinstance(answer, Awaitable):
            return answer
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.volume.publisher.run)
            result = await answer
            nursery.cancel_scope.cancel()
        return result

    def open_file(self, path: str, flags: int = os.O_RDONLY, mode: int = 0o644) -> Handle:
        parent, name = self.place(path)
        try:
            inode = self.volume.names.lookup(parent, name)
        except FSError:
            if not flags & os.O_CREAT:
                raise
            inode = self.volume.names.make(parent, name, Kind.FILE, mode, USER, is_open=True)
        else:
            if flags & os.O_EXCL:
                raise FSError(17)
        return self.volume.files.open(inode, flags)

    async def write_at(self, handle: Handle, offset: int, data: bytes) -> None:
        await self._with_publisher(lambda: self.volume.files.write(handle.inode, offset, data))

    def close_file(self, handle: Handle) -> None:
        self.volume.files.flush(handle.inode)
        self.volume.files.release(handle)

    async def write(self, path: str, data: bytes) -> None:
        """Create or replace a whole file, and close it."""
        handle = self.open_file(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        if data:
            await self.write_at(handle, 0, data)
        self.close_file(handle)

    def read(self, path: str) -> bytes:
        handle = self.open_file(path)
        size = self.volume.state.stat(handle.inode).size
        try:
            data = self.volume.files.read(handle.inode, 0, size + 1)
            assert isinstance(data, bytes), "it has to be fetched: use `fetch`"
            return data
        finally:
            self.volume.files.release(handle)

    async def fetch(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        """Read, and wait for what is not on this device."""
        handle = self.open_file(path)
        try:
            size = self.volume.state.stat(handle.inode).size if length is None else length
            data: bytes = await settled(self.volume.files.read(handle.inode, offset, size))
            return data
        finally:
            self.volume.files.release(handle)

    def mkdir(self, path: str, mode: int = 0o755) -> None:
        parent, name = self.place(path)
        self.volume.names.make(parent, name, Kind.DIRECTORY, mode, USER)

    def symlink(self, target: str, path: str) -> None:
        parent, name = self.place(path)
        self.volume.names.make(parent, name, Kind.SYMLINK, 0o777, USER, target=os.fsencode(target))

    def link(self, old: str, new: str) -> None:
        inode = self.walk(old)
        parent, name = self.place(new)
        self.volume.linking.link(inode, parent, name)

    async def unlink(self, path: str) -> None:
        parent, name = self.place(path)
        await self._with_publisher(lambda: self.volume.names.unlink(parent, name))

    async def rmdir(self, path: str) -> None:
        parent, name = self.place(path)
        await self._with_publisher(lambda: self.volume.names.rmdir(parent, name))

    async def rename(self, old: str, new: str, flags: int = 0) -> None:
        parent, name = self.place(old)
        new_parent, new_name = self.place(new)
        await self._with_publisher(
            lambda: self.volume.renaming.rename(parent, name, new_parent, new_name, flags)
        )

    def truncate(self, path: str, size: int) -> None:
        self.volume.attributes.set(self.walk(path), Wanted(size=size))

    def chmod(self, path: str, mode: int) -> None:
        self.volume.attributes.set(self.walk(path), Wanted(mode=mode))
