"""A filled directory joins a filled volume, as two devices that meet would: nothing is overwritten.

What is there with the same content stays as it is. What is absent is added, with its attributes. What differs
is shown beside what the volume has; a directory keeps a name against a file. It can be stopped at any time,
and done again: what was added is then there already.
"""

import errno
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, Literal

import trio

from dittofs.errors import FSError
from dittofs.ids import LOST_FOUND, ROOT, InodeId
from dittofs.importing.making import Making
from dittofs.importing.source import Item, counted, entries, name, store
from dittofs.tree.entry import Entry
from dittofs.tree.record import Kind
from dittofs.volume.names import RESERVED, RESERVED_WHY
from dittofs.volume.state import NAME_BYTES_MAX
from dittofs.volume.volume import Volume

FILES_PER_SLICE: Final = 64
BYTES_PER_SLICE: Final = 64 << 20
PROGRESS_S: Final = 0.5
DIRECTORIES_COUNTED_AT_ONCE: Final = 64


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it is."""

    is_counting: bool
    entries: int
    bytes_done: int
    bytes_total: int


@dataclass(frozen=True, slots=True)
class Note:
    """Something about one path below the place that is imported to."""

    what: Literal["conflict", "left out", "failed"]
    path: bytes
    detail: str
    bytes: int = 0


@dataclass(slots=True)
class Totals:
    """What was done, or would be."""

    added: int = 0
    added_bytes: int = 0
    directories: int = 0
    same: int = 0
    same_bytes: int = 0
    conflicts: int = 0
    conflict_bytes: int = 0
    left_out: int = 0
    failed: int = 0


@dataclass(slots=True)
class _Place:
    """A directory that is being joined with one of the volume."""

    source: bytes
    path: bytes
    """Below the root of the volume, with a trailing slash."""
    inode: InodeId | None
    """None: it would be made, if this were not a dry run."""
    made: Item | None = None
    """It was made here, and gets its time when it is full."""
    is_done: bool = False


@dataclass(slots=True)
class Importing:
    """One import. `run` it once."""

    volume: Volume
    source: bytes
    """Absolute; it is only read."""
    names: tuple[bytes, ...]
    """Of the directory in the volume."""
    skipped: frozenset[bytes] = frozenset()
    """Local directories that are not gone into: mounts of ours."""
    is_dry: bool = False
    totals: Totals = field(default_factory=Totals)
    _entries: int = 0
    _bytes: int = 0
    _bytes_total: int = 0
    _batch: list[Item] = field(default_factory=list)
    """What is being read."""
    _notes: list[Note] = field(default_factory=list)
    _making: Making = field(init=False)

    def __post_init__(self) -> None:
        self._making = Making(self.volume.state)

    async def run(self) -> AsyncGenerator[Progress | Note, None]:
        """Do it. What is to be known comes as it is found; `totals` are true at the end.

        FSError(ENOTDIR) if something that is no directory is where it is imported to, EPERM if that place is
        reserved; ENOSPC and the like end it: what was added until then stays.
        """
        if self.names[:1] == (RESERVED,):
            raise FSError(errno.EPERM, RESERVED_WHY)
        if not self.is_dry:
            self.volume.replica.require_writable()
        await self.volume.publisher.drain_all()
        async for progress in self._count():
            yield progress
        waiting = [_Place(self.source, b"".join(one + b"/" for one in self.names), self._top())]
        last = trio.current_time()
        while waiting:
            place = waiting[-1]
            if place.is_done:
                waiting.pop()
                self._finish(place)
                continue
            place.is_done = True
            below: list[_Place] = []
            async for _ in self._join(place, below):
                for note in self._taken_notes():
                    yield note
                if trio.current_time() - last >= PROGRESS_S:
                    last = trio.current_time()
                    yield Progress(False, self._entries, self._bytes_done, self._bytes_total)
            waiting += reversed(below)
        await self.volume.replica.run_blocking(self.volume.replica.journal.sync)

    async def _count(self) -> AsyncGenerator[Progress, None]:
        steps = counted(self.source)
        found = 0

        def step() -> list[tuple[int, int]]:
            return list(islice(steps, DIRECTORIES_COUNTED_AT_ONCE))

        last = trio.current_time()
        while counts := await self.volume.replica.run_blocking(step):
            found += sum(count for count, _ in counts)
            self._bytes_total += sum(size for _, size in counts)
            if trio.current_time() - last >= PROGRESS_S:
                last = trio.current_time()
                yield Progress(True, found, 0, self._bytes_total)
            await trio.lowlevel.checkpoint()

    @property
    def _bytes_done(self) -> int:
        return self._bytes + sum(item.done for item in self._batch)

    def _top(self) -> InodeId | None:
        """The directory in the volume, made if it is not there."""
        inode = self.volume.root.id
        for depth, one in enumerate(self.names):
            entry = self.volume.replica.tree.lookup(inode, one)
            if entry is not None and entry.kind is not Kind.DIRECTORY:
                shown = b"/".join(self.names[: depth + 1]).decode(errors="replace")
                raise FSError(errno.ENOTDIR, f"{shown} is no directory")
            if entry is None and self.is_dry:
                return None
            if entry is None:
                with self.volume.replica.change() as change:
                    change.is_unasked = True
                    inode = self._making.directory(change, inode, one, None)
            else:
                inode = entry.inode
        return inode

    async def _join(self, place: _Place, below: list[_Place]) -> AsyncGenerator[None, None]:
        """One directory; those in it are put into `below`."""
        found, problem = await self.volume.replica.run_blocking(entries, place.source)
        if problem:
            self._fail(place.path, problem)
        beside = self._beside(place)
        batch: list[Item] = []
        size = 0
        for item in found:
            self._entries += 1
            reason = self._left_out(place, item)
            if reason:
                self.totals.left_out += 1
                self._note("left out", place.path + item.name, reason, item.size)
                self._bytes += item.size
            elif item.kind is Kind.DIRECTORY:
                directory = await self._directory(place, item)
                below.append(directory)
            else:
                batch.append(item)
                size += item.size
            if len(batch) >= FILES_PER_SLICE or size >= BYTES_PER_SLICE:
                async for _ in self._take(place, batch, beside):
                    yield
                batch, size = [], 0
        async for _ in self._take(place, batch, beside):
            yield

    def _beside(self, place: _Place) -> Mapping[bytes, list[bytes]]:
        """By name, the names of what stands beside it."""
        found: dict[bytes, list[bytes]] = {}
        tree = self.volume.replica.tree
        for called, plain in tree.beside(place.inode).items() if place.inode is not None else ():
            found.setdefault(plain, []).append(called)
        return found

    def _there(self, place: _Place, item: Item, beside: Mapping[bytes, list[bytes]]) -> list[Entry]:
        """What has the name in the volume, the shown one first."""
        if place.inode is None:
            return []
        tree = self.volume.replica.tree
        found = (tree.lookup(place.inode, one) for one in (item.name, *beside.get(item.name, ())))
        return [entry for entry in found if entry is not None]

    def _left_out(self, place: _Place, item: Item) -> str:
        state = self.volume.state
        # At the top of the directory it is another volume's, or what a copy of a mount took from there.
        if item.name == RESERVED and (place.inode == ROOT or place.source == self.source):
            return "the name is reserved"
        if place.inode == LOST_FOUND:
            return "nothing is made in lost+found"
        if len(item.name) > NAME_BYTES_MAX:
            return "the name is too long"
        if item.path in self.skipped:
            return "a volume is mounted there"
        is_directory = item.kind is Kind.DIRECTORY
        if state.rules.matches(place.path + item.name, is_directory=is_directory):
            return "ignored by .dittoignore"
        if place.inode is not None and state.local.lookup((place.inode,), item.name) is not None:
            return "a file that is only on this device has the name"
        return ""

    async def _directory(self, place: _Place, item: Item) -> _Place:
        path = place.path + item.name + b"/"
        tree = self.volume.replica.tree
        entry = tree.lookup(place.inode, item.name) if place.inode is not None else None
        if entry is not None and entry.kind is Kind.DIRECTORY:
            return _Place(item.path, path, entry.inode)
        self.totals.directories += 1
        if entry is not None:
            self.totals.conflicts += 1
            self._note("conflict", path[:-1], "the directory has the name, what was there stands beside it")
        if self.is_dry or place.inode is None:
            return _Place(item.path, path, None)
        chunks, slot = self.volume.replica.chunks, self.volume.replica.slot
        await self.volume.replica.run_blocking(store, chunks, slot, [item])
        if item.problem:
            self._fail(path[:-1], item.problem)
        with self.volume.replica.change() as change:
            change.is_unasked = True
            fresh = self._making.directory(change, place.inode, item.name, item)
        return _Place(item.path, path, fresh, made=item)

    def _finish(self, place: _Place) -> None:
        """A directory that was made here shows the time it had, now that it is full."""
        if place.made is None or place.inode is None:
            return
        with self.volume.replica.change() as change:
            change.is_unasked = True
            stamp = self.volume.state.tick()
            change.group.set_mtime(place.inode, place.made.mtime, stamp=stamp)

    async def _take(
        self, place: _Place, batch: list[Item], beside: Mapping[bytes, list[bytes]]
    ) -> AsyncGenerator[None, None]:
        """A slice of what is in a directory and is none; yields now and then."""
        if not batch:
            yield
            return
        tree = self.volume.replica.tree
        self._batch = batch
        for item in batch:
            versions = [tree.version(entry.ref) for entry in self._there(place, item, beside)]
            item.known = tuple(version.content for version in versions if version is not None)
        if self.is_dry:
            async for _ in self._working(name, self.volume.replica.chunks, batch):
                yield
        else:
            self.volume.files.require_room(sum(item.size for item in batch))
            chunks, slot = self.volume.replica.chunks, self.volume.replica.slot
            async for _ in self._working(store, chunks, slot, batch):
                yield
        self._write(place, batch, beside)
        self._bytes += sum(item.size for item in batch)
        self._batch = []
        yield

    async def _working(self, work: Callable[..., None], *arguments: Any) -> AsyncGenerator[None, None]:
        """Do blocking work; yields every PROGRESS_S. It comes to its end even if nobody waits any more."""
        done, problems = trio.Event(), list[Exception]()

        async def run() -> None:
            try:
                await self.volume.replica.run_blocking(work, *arguments)
            except Exception as error:  # noqa: BLE001 - raised again by who asked for the work
                problems.append(error)
            finally:
                done.set()

        trio.lowlevel.spawn_system_task(run)
        try:
            while not done.is_set():
                with trio.move_on_after(PROGRESS_S):
                    await done.wait()
                yield
        finally:
            with trio.CancelScope(shield=True):
                await done.wait()
        if problems:
            raise problems[0]

    def _write(self, place: _Place, batch: Iterable[Item], beside: Mapping[bytes, list[bytes]]) -> None:
        """At one instant: what is not there yet is made."""
        conflicts: list[tuple[Item, InodeId]] = []
        todo = []
        for item in batch:
            there = self._there(place, item, beside)
            if item.problem:
                self._fail(place.path + item.name, item.problem, item.size)
                continue
            same = next((entry for entry in there if self._making.is_same(item, entry)), None)
            if same is not None:
                self.totals.same += 1
                self.totals.same_bytes += item.size
                continue
            if there:
                self.totals.conflicts += 1
                self.totals.conflict_bytes += item.size
            else:
                self.totals.added += 1
                self.totals.added_bytes += item.size
            todo.append((item, bool(there)))
        if self.is_dry or place.inode is None:
            for item, is_conflict in todo:
                if is_conflict:
                    self._note(
                        "conflict", place.path + item.name, "differs; it would stand beside", item.size
                    )
            return
        if todo:
            with self.volume.replica.change() as change:
                change.is_unasked = True
                for item, is_conflict in todo:
                    inode = self._making.make(change, place.inode, item, is_free=not is_conflict)
                    if is_conflict:
                        conflicts.append((item, inode))
        for item, inode in conflicts:
            names = self.volume.replica.tree.names(inode)
            shown = names[0][1].name.decode(errors="replace") if names else "?"
            self._note("conflict", place.path + item.name, shown, item.size)

    def _fail(self, path: bytes, reason: str, size: int = 0) -> None:
        self.totals.failed += 1
        self._note("failed", path, reason, size)

    def _note(
        self, what: Literal["conflict", "left out", "failed"], path: bytes, detail: str, size: int = 0
    ) -> None:
        self._notes.append(Note(what, path, detail, size))

    def _taken_notes(self) -> list[Note]:
        notes, self._notes = self._notes, []
        return notes
