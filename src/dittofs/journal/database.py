"""The SQLite file under a journal: opening, transactions, durability, and errors in our words."""

import errno
import threading
from collections.abc import Sequence
from typing import Any, Final, NoReturn

import apsw
import apsw.sqlite_extra

from dittofs.disk import Disk, DiskFile
from dittofs.errors import ConfigError, Damaged, DiskError, DiskFull, DittoError, FormatError
from dittofs.journal import schema
from dittofs.journal.damage import Damage
from dittofs.journal.shared_sync import SharedSync
from dittofs.journal.wal import last_commit_frame

CACHE_KIB: Final = 8 << 10
WAL_PAGES_DUE: Final = 4096
"""16 MiB: from here on `checkpoint` is due."""
WAL_PAGES_MAX: Final = 4 * WAL_PAGES_DUE
"""A transaction that begins beyond this checkpoints by itself first."""
BUSY_MS: Final = 60_000
CHECKPOINT_BUSY_MS: Final = 200
CHECKSUM_VFS: Final = "cksmvfs"
Value = None | int | float | bytes | str
_CORRUPT_IO = frozenset({apsw.SQLITE_IOERR_DATA, apsw.SQLITE_IOERR_CORRUPTFS})
_register_lock = threading.Lock()


class Database:
    """One open SQLite file in WAL mode on a `Disk`.

    All methods but `sync` and `checkpoint` belong to one thread. A commit hands its rows to the
    operating system (synchronous=NORMAL); `sync` makes all of them durable.
    """

    def __init__(self, disk: Disk, path: str) -> None:
        self._disk = disk
        self.path = path
        self.damage: list[Damage] = []
        self._name, vfs, self._is_shared = disk.database_uri(path)
        self._vfs = _with_page_checksums(vfs) if self._is_shared else vfs
        self._wal_path = path + "-wal"
        if not disk.exists(path):
            # SQLite would make it readable for others; the -wal file inherits its mode.
            disk.open(path, create=True).close()
        expected = self._frames_expected()
        self._checkpointer: apsw.Connection | None = None
        self._checkpoint_lock = threading.Lock()
        self._wal_pages = 0
        self._commits = 0
        self._durable = -1
        self._wal: DiskFile | None = None
        self._is_failed = False
        try:
            self.connection = self._connect(BUSY_MS)
        except apsw.Error as error:
            self._raise(error, path)
        try:
            self._prepare()
            self._recover(expected)
        except apsw.Error as error:
            self.connection.close()
            self._raise(error, path)
        except DittoError:
            self.connection.close()
            raise
        directory = path.rpartition("/")[0]
        disk.sync_directory(directory)
        self._wal = disk.open(self._wal_path)
        self._sync = SharedSync(self._sync_wal)
        self.connection.set_wal_hook(self._committed)
        self._execute = self.connection.cursor().execute

    # -- statements

    def run(
        self, what: str, sql: str, values: Sequence[Value] = (), damaged: type[Damaged] = Damaged
    ) -> None:
        """Run a statement to its end. Errors are ours; `what` and `damaged` name a corrupted page."""
        try:
            self._execute(sql, values)
        except apsw.Error as error:
            self._raise(error, f"{self.path}: {what}", damaged)

    def rows(
        self, what: str, sql: str, values: Sequence[Value] = (), damaged: type[Damaged] = Damaged
    ) -> list[Any]:
        """All rows of a query: none is left unread, since an open read would hold up `checkpoint`."""
        try:
            return self._execute(sql, values).fetchall()
        except apsw.Error as error:
            self._raise(error, f"{self.path}: {what}", damaged)
        except UnicodeDecodeError as error:
            raise damaged(f"{self.path}: {what}", "text is not UTF-8") from error

    # -- transactions

    def begin(self) -> None:
        if self._wal_pages > WAL_PAGES_MAX:
            self.checkpoint()
        try:
            self._execute("BEGIN IMMEDIATE")
        except apsw.Error as error:
            self._is_failed = True
            self._raise(error, f"{self.path}: begin")

    def commit(self) -> None:
        """Commit; on failure everything since `begin` is undone and `DiskFull` or `DiskError` raised."""
        if not self.connection.in_transaction:
            self._is_failed = True
            raise DiskError(f"{self.path}: the transaction was already undone by an earlier failure")
        try:
            self._execute("COMMIT")
        except apsw.Error as error:
            self.rollback()
            self._is_failed = True
            self._raise(error, f"{self.path}: commit")
        self._is_failed = False

    def rollback(self) -> None:
        # A full disk or an I/O error may already have rolled back.
        if self.connection.in_transaction:
            self._execute("ROLLBACK")

    @property
    def is_in_transaction(self) -> bool:
        return self.connection.in_transaction

    @property
    def is_usable(self) -> bool:
        """False from a failed commit to the next that succeeds, and for ever after a failed sync."""
        return not self._is_failed and not self._sync.has_failed

    # -- durability

    def sync(self) -> None:
        """Return when everything committed before the call is durable. From any thread."""
        if self._durable >= self._commits:
            return
        self._sync.wait()

    @property
    def is_checkpoint_due(self) -> bool:
        return self._wal_pages >= WAL_PAGES_DUE

    def checkpoint(self) -> None:
        """Move what the -wal file holds into the database file, so that the -wal file starts anew.

        On a disk whose databases can be shared: from any thread, and commits go on meanwhile, but
        for the last few pages when they never pause. Otherwise only between transactions.
        """
        with self._checkpoint_lock:
            connection = self.connection
            try:
                if self._is_shared:
                    if self._checkpointer is None:
                        self._checkpointer = self._connect(CHECKPOINT_BUSY_MS)
                    connection = self._checkpointer
                for mode in ("PASSIVE", "PASSIVE", "RESTART"):
                    _, frames, moved = connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchall()[0]
                    if frames == moved or self._wal_pages < WAL_PAGES_DUE:
                        break
            except apsw.Error as error:
                self._raise(error, f"{self.path}: checkpoint")

    def close(self) -> None:
        """Close all files; SQLite moves the -wal file into the database first if it can."""
        with self._checkpoint_lock:
            if self._checkpointer is not None:
                self._checkpointer.close()
            try:
                self.connection.close()
            except apsw.Error as error:
                self._raise(error, f"{self.path}: close")
            finally:
                if self._wal is not None:
                    self._wal.close()

    # -- errors

    def _raise(self, error: apsw.Error, what: str, damaged: type[Damaged] = Damaged) -> NoReturn:
        detail = str(error) or type(error).__name__
        match error:
            case apsw.FullError():
                raise DiskFull(f"{what}: no room left") from error
            case apsw.CorruptError() | apsw.NotADBError():
                raise damaged(what, detail) from error
            case apsw.IOError() if getattr(error, "extendedresult", 0) in _CORRUPT_IO:
                raise damaged(what, "a page fails its checksum") from error
            case apsw.IOError() if self.connection.system_errno == errno.EDQUOT:
                raise DiskFull(f"{what}: over the disk quota") from error
            case _:
                raise DiskError(f"{what}: {detail}") from error

    # -- opening

    def _connect(self, busy_ms: int) -> apsw.Connection:
        flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_NOFOLLOW
        connection = apsw.Connection(self._name, vfs=self._vfs, flags=flags)
        connection.set_busy_timeout(busy_ms)
        for pragma in (
            f"page_size={schema.PAGE_BYTES}",
            "synchronous=NORMAL",
            "wal_autocheckpoint=0",
            f"cache_size=-{CACHE_KIB}",
            "cell_size_check=ON",
            "temp_store=MEMORY",  # a temporary file would carry names out of the disk
            "trusted_schema=OFF",
        ):
            connection.execute(f"PRAGMA {pragma}")
        return connection

    def _prepare(self) -> None:
        connection = self.connection
        if not self._is_shared:
            connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        if not connection.execute("PRAGMA page_count").fetchall()[0][0]:
            connection.reserve_bytes("main", schema.PAGE_CHECKSUM_BYTES)
        connection.execute("PRAGMA journal_mode=WAL").fetchall()
        with connection:
            application, version = (
                connection.execute(f"PRAGMA {name}").fetchall()[0][0]
                for name in ("application_id", "user_version")
            )
            if (application, version) == (0, 0) and not connection.execute(
                "SELECT name FROM sqlite_schema LIMIT 1"
            ).fetchall():
                connection.execute(schema.TABLES)
                connection.execute(f"PRAGMA application_id={schema.APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version={schema.FORMAT_VERSION}")
            elif application != schema.APPLICATION_ID:
                raise FormatError(f"{self.path} is not a journal")
            elif version != schema.FORMAT_VERSION:
                raise FormatError(
                    f"{self.path} has format {version}; this program knows format {schema.FORMAT_VERSION}"
                )
        if self._is_shared and (
            connection.reserve_bytes("main") != schema.PAGE_CHECKSUM_BYTES
            or connection.execute("PRAGMA checksum_verification").fetchall() != [("1",)]
        ):
            raise Damaged(self.path, "its header no longer says that pages carry checksums")

    def _frames_expected(self) -> int:
        if not self._disk.exists(self._wal_path):
            return 0
        file = self._disk.open(self._wal_path, read_only=True)
        try:
            return last_commit_frame(file)
        finally:
            file.close()

    def _recover(self, expected: int) -> None:
        # Also what a failed sync of an earlier process left only in the page cache is written anew
        # here, into the database file.
        frames: Any
        _, frames, _ = self.connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()[0]
        if frames < expected:
            self.damage.append(
                Damage(
                    self._wal_path,
                    f"breaks off at frame {frames} of {expected}: later commits are lost, which is"
                    " expected of unsynced ones after a power cut and of nothing else",
                )
            )

    def _committed(self, _connection: apsw.Connection, _name: str, pages: int) -> int:
        self._wal_pages = pages
        self._commits += 1
        return apsw.SQLITE_OK

    def _sync_wal(self) -> None:
        assert self._wal is not None
        committed = self._commits
        self._wal.sync()
        self._durable = committed


def _with_page_checksums(base: str) -> str:
    """The name of a VFS over `base` that gives each page a checksum and verifies it at each read."""
    with _register_lock:
        if CHECKSUM_VFS not in apsw.vfs_names():
            if not apsw.sqlite_extra.has("cksumvfs"):
                raise ConfigError("this build of apsw lacks cksumvfs: install the wheel from PyPI")
            carrier = apsw.Connection(":memory:")
            # The extension wraps whatever is the default when it is loaded, and becomes the default.
            apsw.set_default_vfs(base)
            try:
                apsw.sqlite_extra.load(carrier, "cksumvfs")
            finally:
                apsw.set_default_vfs("unix")
                carrier.close()
    return CHECKSUM_VFS
