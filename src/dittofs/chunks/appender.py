"""Puts frames behind the last pack, and makes them durable."""

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence

from dittofs.chunks.index_run import Location
from dittofs.chunks.pack import (
    FRAME_HEADER_BYTES,
    PACK_BYTES_MAX,
    PACK_HEADER_BYTES,
    Gap,
    frame_header,
    pack_name,
    scan,
)
from dittofs.chunks.pack_files import PackFiles
from dittofs.chunks.recovery import Recovered
from dittofs.chunks.seal import Buffer, ChunkKind
from dittofs.errors import DiskError, DiskFull
from dittofs.ids import ChunkId

SealedChunk = tuple[ChunkId, int, Buffer]
"""(id, kind, sealed bytes)."""


class Appender:
    """What was appended is durable after `sync`, or `sync` raises, for ever if need be.

    `placed` is told where each chunk lies, with `lock` held.
    """

    def __init__(self, files: PackFiles, placed: Callable[[ChunkId, Location], None]) -> None:
        self.lock = threading.RLock()
        """Held while packs or the index in memory change."""
        self._sync_lock = threading.Lock()  # taken before `lock`
        self._files = files
        self._placed = placed
        self._has_begun = False
        self._active: int | None = None
        self._durable: dict[int, int] = {}
        self._dirty: set[int] = set()
        self._failed: set[int] = set()
        self._appended = 0
        self._synced = 0

    def begin(self, recovered: Recovered) -> None:
        """Go on where the recovered packs end. After the first time the open pack stays what it is."""
        self._durable = recovered.durable
        if not self._has_begun and recovered.appendable is not None:
            self._files.reopen(recovered.appendable)
            self._active = recovered.appendable
        self._has_begun = True

    def durable(self) -> dict[int, int]:
        """pack -> bytes of it that are durable, with all their frames placed."""
        with self.lock:
            return dict(self._durable)

    def is_durable(self, location: Location) -> bool:
        """Whether what lies there was synced."""
        with self.lock:
            return location.offset + location.length <= self._durable.get(location.pack, 0)

    def append(self, chunks: Sequence[SealedChunk]) -> None:
        """Hand frames to the operating system. The caller holds `lock`.

        DiskFull or DiskError: none is placed, and appending works again when the disk does.
        """
        if not chunks:
            return
        parts: list[Buffer] = []
        for chunk, _, sealed in chunks:
            parts += (frame_header(chunk, sealed), sealed)
        number = self._pack_to_append()
        self._dirty.add(number)
        at = self._files.append(number, b"".join(parts))
        for chunk, kind, sealed in chunks:
            length = FRAME_HEADER_BYTES + len(sealed)
            self._placed(chunk, Location(number, at, length, kind))
            at += length
        self._appended += 1

    def sync(self) -> None:
        """Everything appended before is durable when this returns; concurrent callers share the disk's work.

        DiskFull or DiskError: it may not be; the next call tries again.
        """
        with self.lock:
            wanted = self._appended
        with self._sync_lock:
            if self._synced < wanted:
                self._sync_all()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Nobody appends, and everything appended is durable."""
        with self._sync_lock, self.lock:
            self._sync_all()
            yield

    def close_pack(self) -> int:
        """Begin another pack, and return its number: all packs below it are never appended to again."""
        with self._sync_lock, self.lock:
            self._sync_all()
            if self._active is not None:
                self._files.finish(self._active)
            return self._pack_to_append()

    def adopt(
        self, path: str, size: int, places: Callable[[int], Iterable[tuple[ChunkId, Location]]]
    ) -> None:
        """A file of frames, durable to its last byte, is the last pack now, and has what `places` says.

        Durable when this returns. DiskFull or DiskError: it is no pack.
        """
        with self._sync_lock, self.lock:
            self._sync_all()  # all packs but the last are durable (recovery)
            number, previous = self._next_number(), self._active
            self._active = (
                number  # before it can be seen: an active pack is not compacted while it seems empty
            )
            try:
                self._files.adopt(path, number, size)
            except BaseException:
                self._active = previous
                raise
            if previous is not None:
                self._files.finish(previous)
            self._durable[number] = size
            for chunk, location in places(number):
                self._placed(chunk, location)

    def forget(self, number: int) -> None:
        """This pack, never appended to again, is about to be removed."""
        with self._sync_lock, self.lock:
            assert number != self._active
            self._durable.pop(number, None)

    def _pack_to_append(self) -> int:
        active = self._active
        if active and self._files.is_writable(active) and self._files.sizes[active] < PACK_BYTES_MAX:
            return active
        number = self._next_number()
        self._files.create(number)
        self._active = number
        self._durable[number] = PACK_HEADER_BYTES
        return number

    def _next_number(self) -> int:
        # A pack that is gone or shorter than it was keeps its number: the index may still point into it.
        return max(self._files.last, max(self._durable, default=0)) + 1

    @property
    def active(self) -> int | None:
        """The pack that is appended to."""
        return self._active

    def _sync_all(self) -> None:
        """The caller holds `_sync_lock`."""
        with self.lock:
            target = self._appended
            sizes = {number: self._files.sizes[number] for number in self._dirty}
        for number, size in sizes.items():
            if number not in self._failed:
                try:
                    self._files.sync(number)
                except (DiskError, DiskFull):
                    # The system may have dropped what it could not write, and never says so again.
                    self._failed.add(number)
            if number in self._failed:
                self._move_out(number)
                continue
            with self.lock:
                self._durable[number] = size
                if self._files.sizes[number] == size:
                    self._dirty.discard(number)
                    if number != self._active:
                        self._files.finish(number)
        self._synced = target

    def _move_out(self, number: int) -> None:
        """Store again, from the system's cache, what a failed pack may not hold. DiskError if it is gone."""
        with self.lock:
            self._files.finish(number)
            start, end = self._durable[number], self._files.sizes[number]
            for item in scan(lambda offset, size: self._files.read(number, offset, size), start, end):
                if isinstance(item, Gap):
                    raise DiskError(f"{pack_name(number)} at {item.offset}: written, and lost by the disk")
                self.append([(item.chunk, ChunkKind(item.kind), item.sealed)])
            fresh = self._active
            assert fresh is not None
            size = self._files.sizes[fresh]
        self._files.sync(fresh)
        with self.lock:
            self._durable[fresh] = size
            self._files.sizes[number] = start
            self._dirty.discard(number)
            self._failed.discard(number)
