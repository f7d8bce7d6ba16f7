"""The chunks a device holds: sealed, in packs, found through an index. Survives a crash at any instant."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from dittofs.chunks.cache import PlainCache
from dittofs.chunks.index import RECENT_ENTRIES_MAX, PackIndex
from dittofs.chunks.index_run import IndexDamaged, Location
from dittofs.chunks.pack import (
    PACK_BYTES_MAX,
    PACK_HEADER_BYTES,
    Gap,
    frame_header,
    pack_name,
    scan,
    sealed_in_frame,
)
from dittofs.chunks.pack_files import PackFiles
from dittofs.chunks.recovery import Recovered, recover
from dittofs.chunks.seal import Buffer, ChunkKind, GenerationMissing, Sealer, VolumeKeys
from dittofs.clock import Entropy
from dittofs.disk import Disk
from dittofs.errors import ChunkMissing, Damaged, DiskError, DiskFull, FormatError
from dittofs.ids import ChunkId

_APPEND_BYTES_MAX = 16 << 20  # sealed at once and written by one call
_CACHE_BYTES = 8 << 20
_NOTES_MAX = 1000


class AbsentChunk(ChunkMissing):
    """The chunk is not in the local store. Storing it again, or fetching it from a peer, mends this."""

    def __init__(self, kind: ChunkKind, chunk: ChunkId) -> None:
        super().__init__(f"chunk {chunk.hex()} is not on this device")
        self.kind = kind
        self.chunk = chunk


@dataclass(frozen=True, slots=True)
class StoreStatistics:
    """How much a store holds."""

    chunks: int
    packs: int
    pack_bytes: int
    index_bytes: int


class ChunkStore:
    """Every chunk that was put and synced is got back, or its loss is named. Thread-safe.

    Methods block for disk access only; a chunk in the operating system's cache is got in about 30 µs.
    """

    def __init__(self, disk: Disk, directory: str, keys: VolumeKeys, entropy: Entropy) -> None:
        """`open` makes a store that works."""
        self._disk = disk
        self._index_directory = f"{directory}/index"
        self._volume_id = keys.volume_id
        self._sealer = Sealer(keys, entropy)
        self._files = PackFiles(disk, directory, keys.volume_id)
        self._index = PackIndex(disk, self._index_directory)
        # Taken in this order; only the last one is held for less than a disk access.
        self._save_lock = threading.Lock()
        self._sync_lock = threading.Lock()
        self._lock = threading.RLock()
        self._active: int | None = None
        self._durable: dict[int, int] = {}
        self._dirty: set[int] = set()
        self._failed: set[int] = set()
        self._appended = 0
        self._synced = 0
        self._damaged: set[ChunkId] = set()
        self._cache = PlainCache(_CACHE_BYTES)
        self.chunker_secret = keys.secret
        """V, from which the chunker's seed is derived."""
        self.notes: list[str] = []
        """What opening found amiss, in sentences: at most a thousand."""

    @classmethod
    def open(cls, disk: Disk, directory: str, keys: VolumeKeys, *, entropy: Entropy) -> "ChunkStore":
        """Open the store in `directory`, made if absent.

        Packs are scanned past what the index knows; an index that is absent or damaged is rebuilt from
        all packs. What was lost is in `notes`. Nothing is removed or overwritten but the index.
        """
        disk.make_directory(directory)
        disk.sync_directory(directory)  # a pack made just before a crash may be known to the cache alone
        store = cls(disk, directory, keys, entropy)
        with store._save_lock:
            try:
                store._index = PackIndex.open(disk, store._index_directory)
                store._index.remove_strays()
                recovered = recover(store._files, store._index, store._note)
            except IndexDamaged as error:
                if store._files.sizes:
                    store._note(f"the index is rebuilt: {error}")
                recovered = store._rebuild()
        if recovered.appendable is not None:
            store._files.reopen(recovered.appendable)
            store._active = recovered.appendable
        store._durable = recovered.durable
        return store

    def put(self, items: Sequence[tuple[ChunkKind, Buffer]]) -> list[ChunkId]:
        """Store plaintexts and return their ids, in order; what is there already is not stored again.

        With the operating system when it returns, durable after `sync`. DiskFull or DiskError: nothing
        stored before is affected, and a later put works when there is room again.
        """
        ids: list[ChunkId] = []
        batch: dict[ChunkId, tuple[ChunkKind, bytes]] = {}
        size = 0
        for kind, plain in items:
            chunk = self._sealer.identify(kind, plain)
            ids.append(chunk)
            if chunk in batch or self.has(kind, chunk):
                continue
            sealed = self._sealer.seal(kind, chunk, plain)
            batch[chunk] = (kind, sealed)
            size += len(sealed)
            if size >= _APPEND_BYTES_MAX:
                self._append(batch)
                batch, size = {}, 0
        self._append(batch)
        return ids

    def put_sealed(self, kind: ChunkKind, chunk: ChunkId, sealed: bytes) -> None:
        """Store what a peer sealed, after opening it. FormatError or Damaged: it is not that chunk."""
        self._sealer.open(kind, chunk, sealed)
        if not self.has(kind, chunk):
            self._append({chunk: (kind, sealed)})

    def get(self, kind: ChunkKind, chunk: ChunkId) -> bytes:
        """The plaintext, verified against its id.

        Raises AbsentChunk, GenerationMissing, DiskError, or Damaged, which names pack and place; the chunk
        counts as absent from then on, so that it is stored again when it comes.
        """
        plain = self._cache.get(chunk)
        if plain is not None:
            return plain
        location, sealed = self._read(kind, chunk)
        try:
            plain = self._sealer.open(kind, chunk, sealed)
        except GenerationMissing:
            raise
        except (Damaged, FormatError) as error:
            raise self._damage(chunk, location, str(error)) from error
        self._cache.add(chunk, plain)
        return plain

    def sealed(self, kind: ChunkKind, chunk: ChunkId) -> bytes:
        """The chunk as it is stored, not opened: the receiver does. Errors as `get`."""
        return bytes(self._read(kind, chunk)[1])

    def has(self, kind: ChunkKind, chunk: ChunkId) -> bool:
        """Whether the chunk is here, as far as is known without reading it."""
        return self._locate(kind, chunk) is not None

    def ids(self) -> Iterator[tuple[ChunkKind, ChunkId]]:
        """Every chunk here, once, ascending by id."""
        for chunk, location in self._index.entries():
            if chunk not in self._damaged and self._is_inside(location):
                yield ChunkKind(location.kind), chunk

    def sync(self) -> None:
        """Everything put before is durable when this returns; concurrent callers share the disk's work.

        DiskFull or DiskError: it may not be durable; the next `sync` tries again to make it so.
        """
        with self._lock:
            wanted = self._appended
        with self._sync_lock:
            if self._synced < wanted:
                self._sync_all()

    def save_index(self) -> None:
        """Write the index to the disk, so that the next start has nothing to scan.

        Blocks. DiskFull or DiskError: the index in memory is as good as before.
        """
        with self._save_lock:
            try:
                self._save_index()
            except IndexDamaged:
                self._rebuild()

    def rebuild_index(self) -> None:
        """Make the index anew from the packs. Blocks for as long as it takes to read them."""
        with self._save_lock:
            self._rebuild()

    def statistics(self) -> StoreStatistics:
        """How much is here, as of now."""
        return StoreStatistics(
            chunks=self._index.count,
            packs=len(self._files.sizes),
            pack_bytes=self._files.size_bytes,
            index_bytes=self._index.size_bytes,
        )

    def close(self) -> None:
        """Make everything durable and close. Nobody may be using the store."""
        try:
            self.save_index()
        finally:
            self._index.close()
            self._files.close()

    # Appending

    def _append(self, batch: Mapping[ChunkId, tuple[ChunkKind, bytes]]) -> None:
        if not batch:
            return
        frames = [
            (chunk, kind, frame_header(chunk, sealed), sealed) for chunk, (kind, sealed) in batch.items()
        ]
        with self._lock:
            # Another thread may have stored some of them meanwhile.
            frames = [frame for frame in frames if not self._is_recent(frame[0])]
            self._write_frames(frames)
            is_due = self._index.recent_count >= RECENT_ENTRIES_MAX
        if is_due and self._save_lock.acquire(blocking=False):
            try:
                self._save_index()
            except IndexDamaged:
                self._rebuild()
            except (DiskFull, DiskError):
                pass  # the chunks are stored; the index stays in memory and is saved when there is room
            finally:
                self._save_lock.release()

    def _write_frames(self, frames: Sequence[tuple[ChunkId, int, bytes, Buffer]]) -> None:
        """Append frames to the open pack. The caller holds `_lock`."""
        if not frames:
            return
        number = self._pack_to_append()
        self._dirty.add(number)
        at = self._files.append(number, b"".join([part for frame in frames for part in frame[2:]]))
        for chunk, kind, header, sealed in frames:
            length = len(header) + len(sealed)
            self._index.add(chunk, Location(number, at, length, kind))
            self._damaged.discard(chunk)
            at += length
        self._appended += 1

    def _pack_to_append(self) -> int:
        number = self._active
        if (
            number is not None
            and self._files.is_writable(number)
            and self._files.sizes[number] < PACK_BYTES_MAX
        ):
            return number
        number = max(self._files.last, max(self._durable, default=0)) + 1
        self._files.create(number)
        self._active = number
        self._durable[number] = PACK_HEADER_BYTES
        return number

    def _is_recent(self, chunk: ChunkId) -> bool:
        location = self._index.find_recent(chunk)
        return location is not None and chunk not in self._damaged

    # Finding and reading

    def _locate(self, kind: ChunkKind, chunk: ChunkId) -> Location | None:
        try:
            location = self._index.find(chunk)
        except IndexDamaged as error:
            location = self._find_anew(chunk, str(error))
        if (
            location is None
            or location.kind != kind
            or chunk in self._damaged
            or not self._is_inside(location)
        ):
            return None
        return location

    def _find_anew(self, chunk: ChunkId, why: str) -> Location | None:
        with self._save_lock:
            try:
                return self._index.find(chunk)  # another thread may have rebuilt it meanwhile
            except IndexDamaged:
                self._note(f"the index is rebuilt: {why}")
                self._rebuild()
                return self._index.find(chunk)

    def _is_inside(self, location: Location) -> bool:
        return location.offset + location.length <= self._files.sizes.get(location.pack, 0)

    def _read(self, kind: ChunkKind, chunk: ChunkId) -> tuple[Location, memoryview]:
        location = self._locate(kind, chunk)
        if location is None:
            raise AbsentChunk(kind, chunk)
        sealed = sealed_in_frame(self._files.read(location.pack, location.offset, location.length), chunk)
        if sealed is None:
            raise self._damage(chunk, location, "no frame of this chunk lies there")
        return location, sealed

    def _damage(self, chunk: ChunkId, location: Location, detail: str) -> Damaged:
        """Count the chunk as absent and return the error that says so."""
        with self._lock:
            self._damaged.add(chunk)
        return Damaged(f"{pack_name(location.pack)} at {location.offset}", f"chunk {chunk.hex()}: {detail}")

    # Durability

    def _sync_all(self) -> None:
        """The caller holds `_sync_lock`."""
        with self._lock:
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
            with self._lock:
                self._durable[number] = size
                if self._files.sizes[number] == size:
                    self._dirty.discard(number)
                    if number != self._active:
                        self._files.finish(number)
        self._synced = target

    def _move_out(self, number: int) -> None:
        """Store again, from the cache, what a failed pack may not hold. DiskError if it is gone."""
        with self._lock:
            self._files.finish(number)
            start, end = self._durable[number], self._files.sizes[number]
            for item in scan(lambda offset, size: self._files.read(number, offset, size), start, end):
                if isinstance(item, Gap):
                    raise DiskError(f"{pack_name(number)} at {item.offset}: written, and lost by the disk")
                header = frame_header(item.chunk, bytes(item.sealed))
                self._write_frames([(item.chunk, item.kind, header, item.sealed)])
            fresh = self._active
            assert fresh is not None
            size = self._files.sizes[fresh]
        self._files.sync(fresh)
        with self._lock:
            self._durable[fresh] = size
            self._files.sizes[number] = start
            self._dirty.discard(number)
            self._failed.discard(number)

    def _save_index(self) -> None:
        """The caller holds `_save_lock`. On an error the entries stay in memory."""
        self.sync()
        with self._lock:
            durable = dict(self._durable)
            self._index.leave(durable)
        try:
            self._index.save(durable)
        except BaseException:
            with self._lock:
                self._index.stay()
            raise

    def _rebuild(self) -> Recovered:
        """Make the index anew; readers go on with the old one. The caller holds `_save_lock`."""
        with self._sync_lock, self._lock:
            if self._dirty:
                self._sync_all()
            old = self._index
            index = PackIndex.create(self._disk, self._index_directory)
            recovered = recover(self._files, index, self._note)
            self._index = index
            self._durable = recovered.durable
            old.close()
            return recovered

    def _note(self, sentence: str) -> None:
        if len(self.notes) < _NOTES_MAX:
            self.notes.append(sentence)
