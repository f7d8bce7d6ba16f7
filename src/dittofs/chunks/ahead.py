"""Chunks of a content that is still being written, in packs that the store does not know yet (decision 0073).

Nothing names them, so they can be given back at any instant, by removing their files. Once the content is
whole the store adopts the packs. What a crash leaves of them goes at the next start.
"""

import contextlib
from array import array
from collections.abc import Callable, Iterator
from typing import Final, Protocol

from dittofs.chunks.appender import Appender
from dittofs.chunks.chunker import Chunking, Cutter
from dittofs.chunks.index_run import Location
from dittofs.chunks.known import KnownChunks
from dittofs.chunks.pack import FRAME_HEADER_BYTES, PACK_BYTES_MAX, PACK_HEADER_BYTES, frame_header
from dittofs.chunks.seal import Buffer, ChunkKind, Sealer
from dittofs.chunks.sweeping import Sweeping
from dittofs.disk import Disk, DiskFile
from dittofs.errors import DiskError, DittoError
from dittofs.ids import CHUNK_ID_BYTES, ChunkId

DIRECTORY: Final = "ahead"
SYNC_BYTES: Final = 32 << 20  # written before they are made durable: what is left of that for the end
_OWN_IDS_MAX: Final = 65_536  # chunks of one content that are not stored twice: 6 MB
_SUFFIX: Final = ".pack"

Piece = tuple[int, int, ChunkId]
"""(offset, length, chunk) of a stretch of the content."""


class Store(Protocol):
    """What is needed of the store: as `ChunkStore` says."""

    def has(self, kind: ChunkKind, chunk: ChunkId) -> bool: ...

    def claim(self, kind: ChunkKind, chunk: ChunkId) -> bool: ...

    def relieve(self) -> None: ...


class AheadPack:
    """One file of frames, laid out as a pack but for its header."""

    def __init__(self, disk: Disk, path: str) -> None:
        self.path = path
        self.size = PACK_HEADER_BYTES
        self._disk = disk
        self._file: DiskFile | None = disk.open(path, create=True)
        self._file.truncate(0)  # a crash may have left one
        self._unsynced = 0
        self._ids = bytearray()
        self._offsets = array("I")
        self._lengths = array("I")

    def append(self, frames: list[tuple[ChunkId, Buffer, Buffer]]) -> None:
        """(chunk, frame header, sealed) each. DiskFull or DiskError: which are there is in doubt."""
        assert self._file is not None
        data = b"".join([part for _, header, sealed in frames for part in (header, sealed)])
        self._file.write(self.size, data)
        for chunk, _, sealed in frames:
            length = FRAME_HEADER_BYTES + len(sealed)
            self._ids += chunk
            self._offsets.append(self.size)
            self._lengths.append(length)
            self.size += length
        self._unsynced += len(data)
        if self._unsynced >= SYNC_BYTES:
            self._file.sync()
            self._unsynced = 0
        if self.size >= PACK_BYTES_MAX:
            self.finish()

    def finish(self) -> None:
        """Durable, and never appended to again. DiskError or DiskFull if it may not be."""
        if self._file is not None:
            if self._unsynced:
                self._file.sync()
            self._close()

    @property
    def is_open(self) -> bool:
        return self._file is not None

    def entries(self) -> Iterator[tuple[ChunkId, int, int]]:
        """(chunk, offset, length) of every frame."""
        for number, offset in enumerate(self._offsets):
            chunk = bytes(self._ids[number * CHUNK_ID_BYTES : (number + 1) * CHUNK_ID_BYTES])
            yield ChunkId(chunk), offset, self._lengths[number]

    def empty(self) -> None:
        """Give the room back at once, although another thread may be writing: that goes with `remove`.

        By its path: the thread may close its own file at any instant.
        """
        with contextlib.suppress(DittoError, FileNotFoundError):
            file = self._disk.open(self.path)
            try:
                file.truncate(0)
            finally:
                file.close()
            self._disk.unlink(self.path)

    def remove(self) -> None:
        """Give the file back."""
        with contextlib.suppress(DittoError):
            self._close()
        with contextlib.suppress(DittoError, FileNotFoundError):
            self._disk.unlink(self.path)

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()


class AheadPacks:
    """What was cut ahead of one content. One thread at a time."""

    def __init__(self, maker: "AheadMaker", name: str, chunking: Chunking) -> None:
        """`AheadMaker.begin` makes one."""
        self._maker = maker
        self._name = name
        self._chunking = chunking
        self._packs: list[AheadPack] = []
        self._made = 0
        self._own: set[ChunkId] = set()
        self._generation = maker.sealer.generation

    def cut(self, read: Callable[[int, int], bytes], start: int, end: int) -> list[Piece]:
        """Cut [start, end) of a content, and keep the chunks whose ends no byte from `end` on can move.

        `read(start, end)` gives the bytes, all of them data. Blocks. On DiskFull or DiskError all that was
        cut so far is in doubt: it is to be given back.
        """
        data = read(start, end)
        if len(data) != end - start:
            raise DiskError(f"a content to be cut has {len(data)} of {end - start} bytes at {start}")
        sealer = self._maker.sealer
        view = memoryview(data)
        found: list[Piece] = []
        frames: list[tuple[ChunkId, Buffer, Buffer]] = []
        begin = 0
        for stop in Cutter(self._chunking, self._maker.chunker_secret).cut(data, offset=start, final=False):
            plain = view[begin:stop]
            chunk = sealer.identify(ChunkKind.DATA, plain)
            found.append((start + begin, stop - begin, chunk))
            if chunk not in self._own and not self._maker.store.has(ChunkKind.DATA, chunk):
                sealed = sealer.seal(ChunkKind.DATA, chunk, plain)
                frames.append((chunk, frame_header(chunk, sealed), sealed))
                self._note_own(chunk)
            begin = stop
        if frames:
            self._pack().append(frames)
        return found

    def adopt(self, known: KnownChunks) -> KnownChunks:
        """The store has the chunks from now on, durably; returns those of `known` that truly are here.

        Blocks. They stay as long as the caller's lease of the store lasts. What is not adopted is given back:
        packs with more waste than use, all that are left when something is raised, and all of them if a
        generation has begun since: what enters the tree from then on is not sealed for who was removed.
        """
        if self._maker.sealer.generation != self._generation:
            self.give_back()
        wanted = {chunk for _, _, chunk in known}
        here: set[ChunkId] = set()
        try:
            while self._packs:
                pack = self._packs[0]
                entries = [entry for entry in pack.entries() if entry[0] in wanted]
                if 2 * sum(length for _, _, length in entries) >= pack.size:
                    pack.finish()
                    self._maker.adopt(pack, entries)
                    here.update(chunk for chunk, _, _ in entries)
                    self._packs.pop(0)
                else:
                    self._packs.pop(0).remove()
        finally:
            self.give_back()
        claim = self._maker.store.claim
        return known.filtered(lambda chunk: chunk in here or claim(ChunkKind.DATA, chunk))

    def empty(self) -> None:
        """As `give_back`, while another thread cuts: all room is there at once but what that still writes."""
        for pack in list(self._packs):
            pack.empty()

    def give_back(self) -> None:
        """Remove what was not adopted."""
        packs, self._packs = self._packs, []
        for pack in packs:
            pack.remove()

    def _note_own(self, chunk: ChunkId) -> None:
        if len(self._own) >= _OWN_IDS_MAX:
            self._own.clear()
        self._own.add(chunk)

    def _pack(self) -> AheadPack:
        if not self._packs or not self._packs[-1].is_open:
            self._made += 1
            self._packs.append(self._maker.pack(f"{self._name}-{self._made}{_SUFFIX}"))
        return self._packs[-1]


class AheadMaker:
    """Of one store: begins what is cut ahead, and adopts it."""

    def __init__(
        self,
        disk: Disk,
        directory: str,
        sealer: Sealer,
        chunker_secret: bytes,
        appender: Appender,
        sweeping: Sweeping,
        store: Store,
    ) -> None:
        self._disk = disk
        self._directory = f"{directory}/{DIRECTORY}"
        self._appender = appender
        self._sweeping = sweeping
        self.sealer = sealer
        self.chunker_secret = chunker_secret
        self.store = store

    def begin(self, name: str, chunking: Chunking) -> AheadPacks:
        """For one content, under a name that nobody else uses."""
        return AheadPacks(self, name, chunking)

    def remove_strays(self) -> None:
        """Blocking, at the start: remove what another process cut ahead, as far as the disk does it."""
        with contextlib.suppress(DittoError):
            for name in self._disk.listdir(self._directory):
                with contextlib.suppress(DittoError, FileNotFoundError):
                    self._disk.unlink(f"{self._directory}/{name}")

    def pack(self, name: str) -> AheadPack:
        """A fresh file of frames."""
        self._disk.make_directory(self._directory)
        return AheadPack(self._disk, f"{self._directory}/{name}")

    def adopt(self, pack: AheadPack, entries: list[tuple[ChunkId, int, int]]) -> None:
        """Make a finished file a pack of the store, with these chunks. DiskFull or DiskError: it is none."""
        self._sweeping.touch_all([chunk for chunk, _, _ in entries])  # before they are found, as `touch`
        self._appender.adopt(
            pack.path,
            pack.size,
            lambda number: [
                (chunk, Location(number, offset, length, ChunkKind.DATA)) for chunk, offset, length in entries
            ],
        )
        self.store.relieve()
