"""The chunks a device holds: sealed, in packs, found through an index. Survives a crash at any instant."""

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence

from dittofs.chunks.ahead import AheadMaker
from dittofs.chunks.appender import Appender, SealedChunk
from dittofs.chunks.cache import PlainCache
from dittofs.chunks.check import Finding, Problem, check
from dittofs.chunks.garbage import Garbage
from dittofs.chunks.index import RECENT_ENTRIES_MAX, PackIndex
from dittofs.chunks.index_run import IndexDamaged, Location
from dittofs.chunks.pack import FRAME_HEADER_BYTES, is_sound_frame, pack_name
from dittofs.chunks.pack_files import PackFiles, StoreStatistics
from dittofs.chunks.recovery import recover
from dittofs.chunks.scrub import Scrub
from dittofs.chunks.seal import Buffer, ChunkKind, GenerationMissing, Sealer, VolumeKeys
from dittofs.chunks.sweeping import Sweeping
from dittofs.clock import Entropy
from dittofs.disk import Disk
from dittofs.errors import ChunkMissing, Damaged, DiskError, DiskFull, FormatError
from dittofs.ids import ChunkId

_APPEND_BYTES_MAX = 16 << 20  # sealed at once and written by one call
_CACHE_BYTES = 8 << 20
_NOTES_MAX = 1000
_UNSAVED_TIMES_MAX = 8  # a put saves the index itself only if nobody has synced for that long: 25 MB


class AbsentChunk(ChunkMissing):
    """The chunk is not in the local store. Storing it again, or fetching it from a peer, mends this."""

    def __init__(self, kind: ChunkKind, chunk: ChunkId) -> None:
        super().__init__(f"chunk {chunk.hex()} is not on this device")
        self.kind = kind
        self.chunk = chunk


class ChunkStore:
    """Every chunk that was put and synced is got back, or its loss is named. Thread-safe.

    Methods block for disk access only; a chunk in the operating system's cache is got in about 30 µs.
    """

    def __init__(self, disk: Disk, directory: str, keys: VolumeKeys, entropy: Entropy) -> None:
        """`open` makes a store that works."""
        self._disk = disk
        self._index_directory = f"{directory}/index"
        self._sealer = Sealer(keys, entropy)
        self._files = PackFiles(disk, directory, keys.volume_id)
        self._index = PackIndex(disk, self._index_directory)
        self._appender = Appender(self._files, self._placed)
        self._sweeping = Sweeping(disk, directory)
        self._save_lock = threading.Lock()  # held by who writes the index; taken before the appender's locks
        self.garbage = Garbage(
            self._files,
            self._appender,
            self._sealer,
            self._sweeping,
            self._save_lock,
            lambda: self._index,
            self._rebuild,
        )
        """Marks, sweeps, and makes room."""
        self.scrub = Scrub(self._files, self._sealer, lambda: self._index, self._lose)
        """Reads everything again, a little at a time."""
        self.ahead = AheadMaker(
            disk, directory, self._sealer, keys.secret, self._appender, self._sweeping, self
        )
        """Cuts and seals contents that are still being written."""
        self.damaged: set[ChunkId] = set()
        """What was found damaged since the store was opened, and not stored again."""
        self._cache = PlainCache(_CACHE_BYTES)
        self.chunker_secret = keys.secret  # V, from which the chunker's seed is derived
        self.notes: list[str] = []
        """What opening found amiss, in sentences: at most a thousand."""
        self.losses = 0  # how often something that was here was found to be lost, or in doubt
        self.on_loss: list[Callable[[], None]] = []
        """Told after each further loss, in whatever thread found it."""

    @classmethod
    def open(cls, disk: Disk, directory: str, keys: VolumeKeys, *, entropy: Entropy) -> "ChunkStore":
        """Open the store in `directory`, made if absent.

        Packs are scanned past what the index knows; an index that is absent or damaged is rebuilt from
        all packs. What was lost is in `notes`. Nothing is removed or overwritten but the index, and what was
        cut ahead of contents that nobody writes any more.
        """
        disk.make_directory(directory)
        disk.sync_directory(directory)  # a pack made just before a crash may be known to the cache alone
        store = cls(disk, directory, keys, entropy)
        try:
            store.ahead.remove_strays()
            store._begin()
        except BaseException:
            store._index.close()
            store._files.close()
            raise
        return store

    def renew_keys(self, keys: VolumeKeys) -> None:
        """Open what is sealed under the generations of `keys`, too, and seal under its current one."""
        self._sealer.renew(keys)

    def put(self, items: Sequence[tuple[ChunkKind, Buffer]]) -> list[ChunkId]:
        """Store plaintexts and return their ids, in order; what is there already is not stored again.

        With the operating system when it returns, durable after `sync`. DiskFull or DiskError: nothing
        stored before is affected, and a later put works when there is room again.
        """
        ids: list[ChunkId] = []
        batch: dict[ChunkId, SealedChunk] = {}
        size = 0
        for kind, plain in items:
            chunk = self._sealer.identify(kind, plain)
            ids.append(chunk)
            if chunk in batch or self.claim(kind, chunk):
                continue
            sealed = self._sealer.seal(kind, chunk, plain)
            batch[chunk] = (chunk, kind, sealed)
            size += len(sealed)
            if size >= _APPEND_BYTES_MAX:
                self._append(list(batch.values()))
                batch, size = {}, 0
        self._append(list(batch.values()))
        return ids

    def identify(self, kind: ChunkKind, plain: Buffer) -> ChunkId:
        """The id that a plaintext has here, stored or not."""
        return self._sealer.identify(kind, plain)

    def put_sealed(
        self, items: Sequence[tuple[ChunkKind, ChunkId, bytes]]
    ) -> list[FormatError | Damaged | None]:
        """Store what peers sealed, after opening each; for each None, or why it is not that chunk.

        DiskFull or DiskError: the good ones cannot be stored. Durability as `put`.
        """
        problems: list[FormatError | Damaged | None] = []
        batch: dict[ChunkId, SealedChunk] = {}
        for kind, chunk, sealed in items:
            problem: FormatError | Damaged | None = None
            if chunk not in batch and not self.claim(kind, chunk):
                try:
                    self._sealer.open(kind, chunk, sealed)
                except (FormatError, Damaged) as error:
                    problem = error
                else:
                    batch[chunk] = (chunk, kind, sealed)
            problems.append(problem)
        self._append(list(batch.values()))
        return problems

    def get(self, kind: ChunkKind, chunk: ChunkId) -> bytes:
        """The plaintext, verified against its id.

        Raises AbsentChunk, GenerationMissing, DiskError, or Damaged, which names pack and place; the chunk
        counts as absent from then on, so that it is stored again when it comes.
        """
        plain = self._cache.get(chunk)
        if plain is not None:
            return plain
        plain = self.get_stored(kind, chunk)
        self._cache.add(chunk, plain)
        return plain

    def get_stored(self, kind: ChunkKind, chunk: ChunkId) -> bytes:
        """As `get`, and read from its pack, whatever is in memory."""
        return self._open(kind, chunk, *self._read(kind, chunk))

    def sealed(self, kind: ChunkKind, chunk: ChunkId) -> bytes:
        """The chunk as it is stored, for a peer, and whole. Errors as `get`."""
        location, frame = self._read(kind, chunk)
        if not is_sound_frame(frame, chunk):
            self._open(kind, chunk, location, frame)
        return frame[FRAME_HEADER_BYTES:]

    def has(self, kind: ChunkKind, chunk: ChunkId) -> bool:
        """Whether the chunk is here, as far as is known without reading it."""
        return self._locate(kind, chunk) is not None

    def is_durable(self, kind: ChunkKind, chunk: ChunkId) -> bool:
        """Whether the chunk is here, and a power cut leaves it here, without a further `sync`."""
        location = self._locate(kind, chunk)
        return location is not None and self._appender.is_durable(location)

    def claim(self, kind: ChunkKind, chunk: ChunkId) -> bool:
        """As `has`; if it is here, it is not swept before the next round of marks (decision 0030).

        For whoever is about to name the chunk somewhere, or to tell others that it is here.
        """
        self._sweeping.touch(chunk)  # before it is looked for: a sweep sees this, or hides the chunk
        return self.has(kind, chunk)

    def lease(self) -> contextlib.AbstractContextManager[None]:
        """What is put or claimed inside stays at least until the end, in however many rounds."""
        return self._sweeping.lease()

    def ids(self) -> Iterator[tuple[ChunkKind, ChunkId]]:
        """Every chunk here of a kind this program knows, once, ascending by id."""
        known = {int(kind): kind for kind in ChunkKind}
        for chunk, location in self._index.entries():
            kind = known.get(location.kind)
            if kind and chunk not in self.damaged and self._is_inside(location):
                yield kind, chunk

    def sync(self) -> None:
        """Everything put before is durable when this returns; concurrent callers share the disk's work.

        DiskFull or DiskError: it may not be durable; the next `sync` tries again to make it so.
        """
        self._appender.sync()
        self._save_if_above(RECENT_ENTRIES_MAX)

    def save_index(self) -> None:
        """Write the index to the disk, so that the next start has nothing to scan.

        Blocks. DiskFull or DiskError: the index in memory is as good as before.
        """
        with self._save_lock:
            self._save_or_rebuild()

    def rebuild_index(self) -> None:
        """Make the index anew from the packs. Blocks for as long as it takes to read them."""
        with self._save_lock:
            self._rebuild("asked for")

    def verify(self) -> Iterator[Finding]:
        """Read everything and tell what is wrong, with progress in between (`check.check`).

        A chunk found to be lost counts as absent from then on, so that it is stored again when it comes.
        """
        for finding in check(self._files, self._index, self._sealer):
            if isinstance(finding, Problem) and finding.chunk is not None:
                self._lose(finding.chunk)
            yield finding

    def statistics(self) -> StoreStatistics:
        """How much is here, as of now."""
        packs = self._files
        return StoreStatistics(self._index.count, len(packs.sizes), packs.size_bytes, self._index.size_bytes)

    def close(self) -> None:
        """Make everything durable and close. Nobody may be using the store.

        DiskFull or DiskError: it is closed, and not everything is durable.
        """
        try:
            self.sync()
            with contextlib.suppress(DiskFull, DiskError):  # then the next start scans
                self.save_index()
                self._sweeping.save()
        finally:
            self._sweeping.close()
            self._index.close()
            self._files.close()

    def _append(self, batch: Sequence[SealedChunk]) -> None:
        if not batch:
            return
        with self._appender.lock:
            # Another thread may have stored some of them meanwhile.
            self._appender.append([item for item in batch if not self._is_recent(item[0])])
        self.relieve()

    def relieve(self) -> None:
        """Write the index to the disk if much of it is in memory only."""
        # Whoever puts may be in a hurry; whoever syncs waits for the disk anyhow.
        self._save_if_above(_UNSAVED_TIMES_MAX * RECENT_ENTRIES_MAX)

    def _placed(self, chunk: ChunkId, location: Location) -> None:
        self._index.add(chunk, location)
        self.damaged.discard(chunk)

    def _is_recent(self, chunk: ChunkId) -> bool:
        location = self._index.find_recent(chunk)
        if location is None or chunk in self.damaged:
            return False
        return not self._sweeping.takes(chunk, location)

    # Finding and reading

    def _locate(self, kind: ChunkKind, chunk: ChunkId) -> Location | None:
        try:
            location = self._index.find(chunk)
        except IndexDamaged as error:
            location = self._find_anew(chunk, str(error))
        if (
            location is None
            or location.kind != kind
            or chunk in self.damaged
            or not self._is_inside(location)
            or self._sweeping.takes(chunk, location)
        ):
            return None
        return location

    def _find_anew(self, chunk: ChunkId, why: str) -> Location | None:
        with self._save_lock:
            try:
                return self._index.find(chunk)  # another thread may have rebuilt it meanwhile
            except IndexDamaged:
                self._rebuild(why)
                return self._index.find(chunk)

    def _is_inside(self, location: Location) -> bool:
        return location.offset + location.length <= self._files.sizes.get(location.pack, 0)

    def _read(self, kind: ChunkKind, chunk: ChunkId) -> tuple[Location, bytes]:
        while (location := self._locate(kind, chunk)) is not None:
            frame = self._files.read(location.pack, location.offset, location.length)
            if len(frame) == location.length or self._locate(kind, chunk) == location:
                return location, frame
            # It was moved to another pack between the two.
        raise AbsentChunk(kind, chunk)

    def _open(self, kind: ChunkKind, chunk: ChunkId, location: Location, frame: bytes) -> bytes:
        # Not a look at the frame's header: the seal proves more, and a damaged header costs no chunk.
        try:
            return self._sealer.open(kind, chunk, memoryview(frame)[FRAME_HEADER_BYTES:])
        except (Damaged, FormatError) as error:
            if isinstance(error, GenerationMissing) and is_sound_frame(frame, chunk):
                raise  # the generation was not damaged into an unknown one
            self._lose(chunk)
            where = f"{pack_name(location.pack)} at {location.offset}"
            raise Damaged(where, f"chunk {chunk.hex()}: {error}") from error

    def _lose(self, chunk: ChunkId) -> None:
        """The chunk counts as absent until it is stored again."""
        with self._appender.lock:
            if chunk in self.damaged:
                return
            self.damaged.add(chunk)
        self._doubt()

    def _doubt(self) -> None:
        self.losses += 1
        for told in list(self.on_loss):
            told()

    # The index on the disk

    def _begin(self) -> None:
        with self._save_lock:
            try:
                self._index = PackIndex.open(self._disk, self._index_directory)
                self._index.remove_strays()
                self._sweeping.begin(self._index.count)
                self._appender.begin(recover(self._files, self._index, self._note))
            except IndexDamaged as error:
                self._rebuild(str(error))

    def _save_if_above(self, entries: int) -> None:
        """Save the index if so many entries are in memory only and nobody is at it."""
        if self._index.recent_count < entries or not self._save_lock.acquire(blocking=False):
            return
        try:
            # The chunks are stored; if there is no room the index stays in memory until there is.
            with contextlib.suppress(DiskFull, DiskError):
                self._save_or_rebuild()
        finally:
            self._save_lock.release()

    def _save_or_rebuild(self) -> None:
        """The caller holds `_save_lock`. On DiskFull or DiskError the entries stay in memory."""
        self._appender.sync()
        with self._appender.lock:
            durable = self._appender.durable()
            self._index.leave(durable)
        try:
            self._index.save(durable)
        except BaseException as error:
            with self._appender.lock:
                self._index.stay()
            if not isinstance(error, IndexDamaged):
                raise
            self._rebuild(str(error))

    def _rebuild(self, why: str) -> None:
        """Make the index anew; readers go on with the old one. The caller holds `_save_lock`."""
        if self._files.sizes:
            self._note(f"the index is rebuilt: {why}")
        with self._appender.paused():
            old = self._index
            index = PackIndex.create(self._disk, self._index_directory)
            self._appender.begin(recover(self._files, index, self._note))
            self._index = index
            self.damaged.clear()  # the scan has read every frame, and places sound ones only
            old.close()
        self._doubt()  # of what the old one held and no pack does, nobody knows any more
        with contextlib.suppress(DiskFull, DiskError):  # then the next start scans again
            self._save_or_rebuild()

    def _note(self, sentence: str) -> None:
        self.losses += 1
        if len(self.notes) < _NOTES_MAX:
            self.notes.append(sentence)
