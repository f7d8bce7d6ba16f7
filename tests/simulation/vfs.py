"""SQLite on any `Disk`: a VFS without shared memory, whose time and randomness never change."""

import contextlib
import itertools
import weakref
import zlib
from typing import Final

import apsw

from dittofs.disk import Disk, DiskFile
from dittofs.errors import DiskError, DiskFull

JULIAN_DAY_MS: Final = 212_000_000_000_000
_SECTOR_BYTES: Final = 4096
_LOGS = apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_SUPER_JOURNAL | apsw.SQLITE_OPEN_WAL
_numbers = itertools.count()
_registered: list["DiskVFS"] = []


class DiskVFS(apsw.VFS):
    """Every file SQLite opens lies on `disk`. One connection at a time (locking_mode=EXCLUSIVE)."""

    def __init__(self, disk: Disk, name: str) -> None:
        super().__init__(name, None, maxpathname=512)
        self.vfs_name = name
        self._find_disk = weakref.ref(
            disk
        )  # SQLite keeps what is registered; a disk lives as long as its test
        self._draws = 0

    @property
    def _disk(self) -> Disk:
        disk = self._find_disk()
        assert disk is not None, "a file of a disk that is gone"
        return disk

    def xOpen(self, name: "str | apsw.URIFilename | None", flags: list[int]) -> "DiskVFSFile":  # type: ignore[override]
        assert name is not None, "SQLite asked for a temporary file"
        path = str(name if isinstance(name, str) else name.filename())
        if flags[0] & apsw.SQLITE_OPEN_MAIN_DB:
            self._reseed()
        is_new_log = bool(flags[0] & _LOGS) and not self._disk.exists(path)
        try:
            file = self._disk.open(path, create=bool(flags[0] & apsw.SQLITE_OPEN_CREATE))
        except (DiskFull, DiskError, FileNotFoundError) as error:
            raise apsw.CantOpenError(str(error)) from error
        flags[1] = flags[0]
        return DiskVFSFile(self._disk, file, path.rpartition("/")[0] if is_new_log else None)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        try:
            self._disk.unlink(filename)
            if syncdir:
                self._disk.sync_directory(filename.rpartition("/")[0])
        except FileNotFoundError as error:
            raise _io_error(apsw.SQLITE_IOERR_DELETE_NOENT, str(error)) from error
        except (DiskFull, DiskError) as error:
            raise _io_error(apsw.SQLITE_IOERR_DELETE, str(error)) from error

    def xAccess(self, pathname: str, flags: int) -> bool:  # noqa: ARG002
        return self._disk.exists(pathname)

    def xFullPathname(self, name: str) -> str:
        return name

    def xRandomness(self, numbytes: int) -> bytes:
        self._draws += 1
        return b"".join(
            zlib.crc32(number.to_bytes(4, "big"), self._draws).to_bytes(4, "big")
            for number in range((numbytes + 3) // 4)
        )[:numbytes]

    def xSleep(self, microseconds: int) -> int:
        return microseconds

    def xCurrentTime(self) -> float:
        return JULIAN_DAY_MS / 86_400_000

    def xCurrentTimeInt64(self) -> int:
        return JULIAN_DAY_MS

    def xGetLastError(self) -> tuple[int, str]:
        return 0, ""

    def _reseed(self) -> None:
        """Make SQLite draw its randomness, which is per process, from here."""
        default = apsw.vfs_names()[0]
        apsw.set_default_vfs(self.vfs_name)
        try:
            apsw.randomness(0)
            apsw.randomness(1)
        finally:
            apsw.set_default_vfs(default)


class DiskVFSFile:
    """One file as SQLite uses it. An error of the disk becomes the SQLite error of its kind."""

    def __init__(self, disk: Disk, file: DiskFile, unsynced_directory: str | None) -> None:
        self._disk = disk
        self._file = file
        self._unsynced_directory = unsynced_directory

    def xRead(self, amount: int, offset: int) -> bytes:
        try:
            return self._file.read(offset, amount)
        except DiskError as error:
            raise _io_error(apsw.SQLITE_IOERR_READ, str(error)) from error

    def xWrite(self, data: bytes, offset: int) -> None:
        try:
            self._file.write(offset, bytes(data))
        except DiskFull as error:
            raise apsw.FullError(str(error)) from error
        except DiskError as error:
            raise _io_error(apsw.SQLITE_IOERR_WRITE, str(error)) from error

    def xTruncate(self, newsize: int) -> None:
        try:
            self._file.truncate(newsize)
        except (DiskFull, DiskError) as error:
            raise _io_error(apsw.SQLITE_IOERR_TRUNCATE, str(error)) from error

    def xSync(self, flags: int) -> None:  # noqa: ARG002
        try:
            self._file.sync()
            # The unix VFS makes the name of a log it created durable with its first sync.
            if self._unsynced_directory is not None:
                self._disk.sync_directory(self._unsynced_directory)
                self._unsynced_directory = None
        except (DiskFull, DiskError) as error:
            raise _io_error(apsw.SQLITE_IOERR_FSYNC, str(error)) from error

    def xFileSize(self) -> int:
        try:
            return self._file.size()
        except DiskError as error:
            raise _io_error(apsw.SQLITE_IOERR_FSTAT, str(error)) from error

    def xClose(self) -> None:
        self._file.close()

    def xLock(self, level: int) -> None:
        """Nobody else is here."""

    def xUnlock(self, level: int) -> None:
        """Nobody else is here."""

    def xCheckReservedLock(self) -> bool:
        return False

    def xFileControl(self, op: int, ptr: int) -> bool:  # noqa: ARG002
        return False

    def xSectorSize(self) -> int:
        return _SECTOR_BYTES

    def xDeviceCharacteristics(self) -> int:
        # As the unix VFS assumes: bytes outside the range of a write are never touched by it.
        return apsw.SQLITE_IOCAP_POWERSAFE_OVERWRITE


def register(disk: Disk) -> str:
    """Make `disk` usable by SQLite under the name returned, as long as the disk lives."""
    vfs = DiskVFS(disk, f"simulated-{next(_numbers)}")
    _registered.append(vfs)
    weakref.finalize(disk, _forget, vfs)
    return vfs.vfs_name


def _forget(vfs: DiskVFS) -> None:
    vfs.unregister()
    _registered.remove(vfs)


def _io_error(extended: int, message: str) -> apsw.IOError:
    error = apsw.IOError(message)
    with contextlib.suppress(AttributeError):
        error.extendedresult = extended  # type: ignore[attr-defined]
    return error
