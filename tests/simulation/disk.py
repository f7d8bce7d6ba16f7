"""A disk in memory that can be killed, lose power, fail, fill up, and tells what was done to it.

What it promises after a power cut is what POSIX promises and no more: synced bytes are there; of
unsynced writes any set of sectors, each as any of its versions; names as of the last
`sync_directory`, plus any first part of what was done to the directory since.
"""

import copy
import itertools
import random
from collections.abc import Callable, Collection, Sequence
from typing import Final

from blake3 import blake3

from dittofs.disk import InUse
from dittofs.errors import DiskError, DiskFull
from dittofs.local_disk import checked

from .content import Content
from .vfs import register

SECTOR_BYTES: Final = 512
PAGE_BYTES: Final = 4096
Hook = Callable[[str], None]


class SimulatedFile:
    """An open file; stale once its process died."""

    def __init__(self, disk: "SimulatedDisk", path: str, content: Content, *, read_only: bool) -> None:
        self._disk = disk
        self._path = path
        self._content = content
        self._is_read_only = read_only
        self._process = disk.process
        self._failures_seen = content.failed_syncs

    def read(self, offset: int, size: int) -> bytes:
        self._disk.look("read", self._path, self._process)
        return bytes(self._content.current[offset : offset + size])

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        raw = bytes(data)
        self._expect_writable()
        detail = f"{offset} {len(raw)} {blake3(raw).hexdigest(8)}"
        self._disk.change("write", self._path, detail, self._process)
        self._disk.reserve(offset + len(raw) - len(self._content.current), f"writing {self._path}")
        self._content.write(offset, raw)

    def truncate(self, size: int) -> None:
        self._expect_writable()
        self._disk.change("truncate", self._path, str(size), self._process)
        self._disk.reserve(size - len(self._content.current), f"truncating {self._path}")
        self._content.truncate(size)

    def size(self) -> int:
        self._disk.look("size", self._path, self._process)
        return len(self._content.current)

    def sync(self) -> None:
        # As Linux does (errseq_t): whoever had the file open when a sync of it failed hears of it.
        if self._content.failed_syncs != self._failures_seen:
            raise DiskError(f"an earlier sync of {self._path} failed: what was written may be lost")
        try:
            self._disk.change("sync", self._path, "", self._process)
        except DiskError:
            self._content.fail_sync()
            raise
        self._content.sync()

    def close(self) -> None:
        self._process = -1

    def _expect_writable(self) -> None:
        if self._is_read_only:
            raise DiskError(f"writing {self._path}: opened for reading only")


class SimulatedLock:
    """The lock of one simulated process."""

    def __init__(self, disk: "SimulatedDisk", path: str) -> None:
        self._disk = disk
        self._path = path
        self._process = disk.process

    def close(self) -> None:
        self._disk.unlock(self._path, self._process)


class SimulatedDisk:
    """A `Disk` in memory. Same calls, same seeds: same trace, same bytes after each crash.

    `hook` is called with each event (`"sync a/b"`) before it takes effect; `capacity` bounds the sum
    of file sizes. Both may be changed at any time.
    """

    def __init__(self, *, capacity: int = 1 << 40, hook: Hook | None = None) -> None:
        self.capacity = capacity
        self.hook = hook
        self.trace: list[str] = []
        self.process = 0
        """Counts the processes that used this disk: `kill` and `crash` begin the next."""
        self._names = _Names()
        self._locks: set[str] = set()
        self._failing: dict[str, frozenset[str]] = {}
        self._changes_left: int | None = None
        self._vfs: str | None = None

    # -- what a test does to the disk

    def kill(self) -> None:
        """The process dies; the operating system keeps everything. Files opened before are stale."""
        self._record("kill")
        self._begin_process()

    def crash(self, seed: int) -> None:
        """The power goes: of what was not synced survives what `seed` says."""
        self._record(f"crash {seed}")
        chance = random.Random(seed)
        self._names.lose_power(chance)
        sector = chance.choice((SECTOR_BYTES, PAGE_BYTES))
        for content in self._names.contents():
            content.lose_power(chance, sector)
        self._begin_process()

    def fork(self) -> "SimulatedDisk":
        """An independent disk in the same state, used by no process yet, without faults or hook."""
        forked = SimulatedDisk(capacity=self.capacity)
        forked._names = copy.deepcopy(self._names)
        return forked

    def fail_after(self, changes: int | None) -> None:
        """Let so many writes, syncs and name changes succeed and fail all after them; None: all succeed."""
        self._changes_left = changes

    def fail_path(self, path: str, events: Collection[str] = ("read", "write", "sync", "truncate")) -> None:
        """Make every such event on `path` an I/O error from now on; no events: mend it."""
        self._failing[path] = frozenset(events)

    def damage(self, path: str, offset: int, mask: int) -> None:
        """Flip the bits of `mask` in one byte, durably, behind everybody's back."""
        self._names.files[path].damage(offset, mask)

    def digest(self) -> str:
        """A hash of the trace so far."""
        return blake3("\n".join(self.trace).encode()).hexdigest()

    # -- Disk

    def open(self, path: str, *, create: bool = False, read_only: bool = False) -> SimulatedFile:
        content = self._names.files.get(checked(path))
        if self._names.is_directory(path):
            raise DiskError(f"opening {path}: not a regular file")
        if content is None:
            if not create or not self._names.is_directory(_parent(path)):
                raise FileNotFoundError(path)
            self.change("create", path)
            content = Content()
            self._names.change(_parent(path), (path, content))
        return SimulatedFile(self, path, content, read_only=read_only)

    def lock(self, path: str) -> SimulatedLock:
        self.open(path, create=True)
        if path in self._locks:
            raise InUse(path, str(self.process))
        self._locks.add(path)
        return SimulatedLock(self, path)

    def exists(self, path: str) -> bool:
        return checked(path) in self._names.files or self._names.is_directory(path)

    def listdir(self, path: str) -> Sequence[str]:
        return self._names.listed(path)

    def make_directory(self, path: str) -> None:
        if not path:
            return
        parts = checked(path).split("/")
        for directory in itertools.accumulate(parts, lambda above, name: f"{above}/{name}"):
            if directory in self._names.files:
                raise DiskError(f"making {directory}: a file has that name")
            if not self._names.is_directory(directory):
                self.change("mkdir", directory)
                self._names.directories.add(directory)

    def rename(self, old: str, new: str) -> None:
        checked(new)
        content = self._names.files.get(checked(old))
        if content is None or not self._names.is_directory(_parent(new)):
            raise FileNotFoundError(old)
        self.change("rename", f"{old} {new}")
        self._names.change(_parent(new), (old, None), (new, content))

    def unlink(self, path: str) -> None:
        if checked(path) not in self._names.files:
            raise FileNotFoundError(path)
        self.change("unlink", path)
        self._names.change(_parent(path), (path, None))

    def sync_directory(self, path: str) -> None:
        if not self._names.is_directory(path):
            raise FileNotFoundError(path)
        self.change("sync_directory", path)
        self._names.sync(path)

    def free_bytes(self) -> int:
        return max(0, self.capacity - self._names.used_bytes())

    def total_bytes(self) -> int:
        return self.capacity

    def database_uri(self, path: str) -> tuple[str, str, bool]:
        if self._vfs is None:
            self._vfs = register(self)
        return checked(path), self._vfs, False

    # -- for files and locks

    def change(self, event: str, path: str, detail: str = "", process: int | None = None) -> None:
        """Record an event that changes the disk and raise if it must fail."""
        self._record(" ".join(filter(None, (event, path, detail))))
        self._expect_alive(path, process)
        if self._changes_left is not None:
            if self._changes_left <= 0:
                raise DiskError(f"{event} {path}: the disk has failed")
            self._changes_left -= 1
        self._expect_sound(event, path)

    def look(self, event: str, path: str, process: int) -> None:
        """Raise if reading must fail."""
        self._expect_alive(path, process)
        self._expect_sound(event, path)

    def reserve(self, growth: int, doing: str) -> None:
        if growth > 0 and growth > self.capacity - self._names.used_bytes():
            raise DiskFull(f"{doing}: no room left")

    def unlock(self, path: str, process: int) -> None:
        if process == self.process:
            self._locks.discard(path)

    def _record(self, event: str) -> None:
        if self.hook is not None:
            self.hook(event)
        self.trace.append(event)

    def _expect_alive(self, path: str, process: int | None) -> None:
        if process is not None and process != self.process:
            raise DiskError(f"{path}: the process that opened it is dead")

    def _expect_sound(self, event: str, path: str) -> None:
        if event in self._failing.get(path, ()):
            raise DiskError(f"{event} {path}: input/output error")

    def _begin_process(self) -> None:
        self.process += 1
        self._locks.clear()


class _Names:
    """Which path names which content: now, and as far as it is durable."""

    def __init__(self) -> None:
        self.files: dict[str, Content] = {}
        self.directories = {""}
        self._durable: dict[str, Content] = {}
        self._unsynced: dict[str, list[tuple[_Naming, ...]]] = {}

    def is_directory(self, path: str) -> bool:
        return path in self.directories

    def listed(self, path: str) -> list[str]:
        prefix = f"{path}/" if path else ""
        found = {
            name for name in (*self.files, *self.directories) if name.startswith(prefix) and name != path
        }
        return sorted({name[len(prefix) :].partition("/")[0] for name in found})

    def contents(self) -> list[Content]:
        return [content for _, content in sorted(self.files.items())]

    def used_bytes(self) -> int:
        return sum(len(content.current) for content in self.files.values())

    def change(self, directory: str, *namings: "_Naming") -> None:
        """Do all of `namings` now; they become durable together, with `directory`."""
        _apply(self.files, namings)
        self._unsynced.setdefault(directory, []).append(namings)

    def sync(self, directory: str) -> None:
        for namings in self._unsynced.pop(directory, ()):
            _apply(self._durable, namings)

    def lose_power(self, chance: random.Random) -> None:
        """Of the unsynced changes of each directory any first part survives."""
        for _, changes in sorted(self._unsynced.items()):
            for namings in changes[: chance.randint(0, len(changes))]:
                _apply(self._durable, namings)
        self._unsynced.clear()
        self.files = dict(self._durable)


_Naming = tuple[str, Content | None]


def _apply(files: dict[str, Content], namings: tuple[_Naming, ...]) -> None:
    for path, content in namings:
        if content is None:
            files.pop(path, None)
        else:
            files[path] = content


def _parent(path: str) -> str:
    return path.rpartition("/")[0]
