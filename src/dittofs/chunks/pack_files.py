"""The pack files of a store: which there are, how long, and a bounded number of them open."""

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from dittofs.chunks.pack import PACK_HEADER_BYTES, pack_header, pack_name, pack_number
from dittofs.disk import Disk, DiskFile
from dittofs.errors import DiskFull, DittoError
from dittofs.ids import VolumeId

_OPEN_MAX = 128  # 16 GiB of packs at 128 MiB each
_COPY_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class StoreStatistics:
    """How much a store holds."""

    chunks: int
    packs: int
    pack_bytes: int
    index_bytes: int


class PackFiles:
    """Reads any pack and writes the ones it made. Thread-safe for reading; the caller orders the writing."""

    def __init__(self, disk: Disk, directory: str, volume_id: VolumeId) -> None:
        self._disk = disk
        self._directory = directory
        self.volume_id = volume_id
        self._guard = threading.Lock()
        self._open: OrderedDict[int, DiskFile] = OrderedDict()
        self._users: dict[int, int] = {}
        self._writable: set[int] = set()
        self.sizes: dict[int, int] = {}
        """pack -> bytes of it that count: frames beyond are not there."""
        for name in disk.listdir(directory):
            number = pack_number(name)
            if number is not None:
                self.sizes[number] = 0
        for number in self.sizes:
            self.sizes[number] = self._file(number).size()
            self._release(number)

    def read(self, number: int, offset: int, size: int) -> bytes:
        """At most `size` bytes; fewer at the end, none if there is no such pack."""
        if number not in self.sizes:
            return b""
        try:
            file = self._file(number)
        except FileNotFoundError:
            if number in self.sizes:
                raise
            return b""  # it was removed just now
        try:
            return file.read(offset, size)
        finally:
            self._release(number)

    def create(self, number: int) -> None:
        """Begin a pack. Its name and header are durable when this returns."""
        path = self._path(number)
        file = self._disk.open(path, create=True)
        try:
            file.truncate(0)
            file.write(0, pack_header(number, self.volume_id))
            file.sync()
            self._disk.sync_directory(self._directory)
        except BaseException:
            file.close()
            self._disk.unlink(path)
            raise
        with self._guard:
            self._open[number] = file
            self._writable.add(number)
        self.sizes[number] = PACK_HEADER_BYTES

    def adopt(self, path: str, number: int, size: int) -> None:
        """A file that is durable, with room for a header at its begin, is this pack from now on.

        Durable when this returns. DiskFull or DiskError: it is none.
        """
        file = self._disk.open(path)
        try:
            file.write(0, pack_header(number, self.volume_id))
            file.sync()
            self._disk.rename(path, self._path(number))
            self._disk.sync_directory(self._directory)
        except BaseException:
            file.close()
            with contextlib.suppress(DittoError, FileNotFoundError):
                self._disk.unlink(self._path(number))
            raise
        with self._guard:
            self._open[number] = file
            self._writable.add(number)
        self.sizes[number] = size

    def reopen(self, number: int) -> None:
        """Make a pack that is sound to its end writable again."""
        file = self._disk.open(self._path(number))
        with self._guard:
            stale = self._open.pop(number, None)
            self._open[number] = file
            self._writable.add(number)
        if stale is not None:
            stale.close()

    def append(self, number: int, data: bytes) -> int:
        """Hand `data` to the operating system behind the pack's last byte; the offset where it lies.

        After DiskFull or DiskError the pack is as before, or (`is_writable`) never written again.
        """
        offset = self.sizes[number]
        file = self._file(number)
        try:
            try:
                file.write(offset, data)
            except BaseException:
                self._cut(number, file, offset)
                raise
        finally:
            self._release(number)
        self.sizes[number] = offset + len(data)
        return offset

    def sync(self, number: int) -> None:
        """Make a pack's bytes durable. DiskError or DiskFull if they may not be."""
        file = self._file(number)
        try:
            file.sync()
        finally:
            self._release(number)

    def secure(self, number: int, start: int) -> None:
        """Write everything from `start` on anew, as it is read, and make it durable.

        For what another process wrote: after a sync that failed there, pages may be in memory only and yet
        count as clean, and a sync alone would say that all is well. DiskError or DiskFull as `sync`.
        """
        file = self._disk.open(self._path(number))
        try:
            with contextlib.suppress(DiskFull):  # a disk that cannot overwrite in place when it is full
                for offset in range(start, file.size(), _COPY_BYTES):
                    file.write(offset, file.read(offset, _COPY_BYTES))
            file.sync()
        finally:
            file.close()

    def is_writable(self, number: int) -> bool:
        """Whether the pack may be appended to."""
        return number in self._writable

    def remove(self, number: int) -> None:
        """Remove a pack in which no chunk lies. Who is reading it reads on. Durable after `removed`."""
        del self.sizes[number]
        with self._guard:
            self._writable.discard(number)
            file = None if number in self._users else self._open.pop(number, None)
        if file is not None:
            file.close()
        self._disk.unlink(self._path(number))

    def removed(self) -> None:
        """Every removal before is durable when this returns."""
        self._disk.sync_directory(self._directory)

    def finish(self, number: int) -> None:
        """Never append to the pack again."""
        with self._guard:
            self._writable.discard(number)

    def close(self) -> None:
        """Close every file. Nobody may be using one."""
        with self._guard:
            files, self._open = list(self._open.values()), OrderedDict()
        for file in files:
            file.close()

    @property
    def last(self) -> int:
        """The highest number; 0 if there is no pack."""
        return max(self.sizes, default=0)

    @property
    def size_bytes(self) -> int:
        """Room the packs take."""
        return sum(list(self.sizes.values()))

    def listing(self) -> Mapping[int, int]:
        """pack -> size, ascending, as of now."""
        return dict(sorted(self.sizes.items()))

    def _cut(self, number: int, file: DiskFile, size: int) -> None:
        try:
            file.truncate(size)
        except BaseException:  # what the write left behind stays there, so nothing may follow it
            self.finish(number)
            raise

    def _file(self, number: int) -> DiskFile:
        """Open the pack; it stays open until as many `_release`."""
        with self._guard:
            file = self._open.get(number)
            if file is None:
                file = self._disk.open(self._path(number), read_only=True)
                self._open[number] = file
            else:
                self._open.move_to_end(number)
            self._users[number] = self._users.get(number, 0) + 1
            return file

    def _release(self, number: int) -> None:
        with self._guard:
            left = self._users[number] - 1
            if left:
                self._users[number] = left
                return
            del self._users[number]
            surplus = len(self._open) - _OPEN_MAX
            if surplus <= 0 and number in self.sizes:
                return
            idle = [one for one in self._open if one not in self._users and one not in self._writable]
            gone = [one for one in idle if one not in self.sizes]  # removed while they were read
            closing = [self._open.pop(one) for one in {*gone, *idle[: max(0, surplus)]}]
        for file in closing:
            file.close()

    def _path(self, number: int) -> str:
        return f"{self._directory}/{pack_name(number)}"
