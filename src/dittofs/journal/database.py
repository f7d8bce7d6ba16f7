"""The SQLite file under a journal: opening, transactions, durability."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

import apsw
import apsw.sqlite_extra

from dittofs.disk import Disk
from dittofs.errors import ConfigError, Damaged, DiskError, DiskFull, DittoError, FormatError
from dittofs.journal import schema
from dittofs.journal.damage import Damage
from dittofs.journal.shared_sync import SharedSync
from dittofs.journal.statements import Statements
from dittofs.journal.wal import last_commit_frame

CACHE_KIB: Final = 4 << 10
CHECKER_CACHE_KIB: Final = 512
WAL_PAGES_DUE: Final = 4096
"""16 MiB: from here on `checkpoint` is due."""
WAL_PAGES_MAX: Final = 4 * WAL_PAGES_DUE
"""A transaction that begins beyond this checkpoints by itself first."""
BUSY_POLL_S: Final = 0.0002
BUSY_POLLS: Final = 300_000
"""A minute; a checkpoint holds a transaction up for milliseconds."""
CHECKPOINT_BUSY_POLLS: Final = 1_000
CHECKSUM_VFS: Final = "cksmvfs"
_COPY_BYTES = 1 << 20
_register_lock = threading.Lock()


class OtherFormat(FormatError):
    """The file is a journal of another version of this program, and may be sound."""


class Database:
    """One open SQLite file in WAL mode on a `Disk`.

    All methods but `sync` and `checkpoint` belong to one thread. A commit hands its rows to the
    operating system (synchronous=NORMAL); `sync` makes all of them durable. Once a sync has failed
    nothing is written any more: opening anew finds out what is durable.
    """

    def __init__(self, disk: Disk, path: str, *, reads_anything: bool = False) -> None:
        """`reads_anything`: pages are read whatever their checksums say, to save what can be saved."""
        self._disk = disk
        self._reads_anything = reads_anything
        self.path = path
        self.damage: list[Damage] = []
        self.tail_lost: Damage | None = None
        self._name, vfs, self._is_shared = disk.database_uri(path)
        self._vfs = _with_page_checksums(vfs) if self._is_shared else vfs
        self._checkpointer: Statements | None = None
        self._checkpoint_lock = threading.Lock()
        self._wal_pages = 0
        self._commits = 0
        self._durable = -1
        self._is_failed = False
        self._sync = SharedSync(self._sync_wal)
        if not disk.exists(path):
            # SQLite would make it readable for others; the -wal file inherits its mode.
            disk.open(path, create=True).close()
        expected = self._secure_wal()
        self.statements = self._connect(BUSY_POLLS, CACHE_KIB)
        try:
            self._prepare()
            self._recover(expected)
            disk.sync_directory(path.rpartition("/")[0])
            self._wal = disk.open(self._wal_path)
        except BaseException:
            with contextlib.suppress(apsw.Error):  # it meets the same disk
                self.statements.connection.close()
            raise
        self.statements.connection.set_wal_hook(self._committed)

    # -- transactions

    def begin(self) -> None:
        self._expect_sound()
        if self._wal_pages > WAL_PAGES_MAX:
            self.checkpoint()
        try:
            self.statements.run("begin", "BEGIN IMMEDIATE")
        except DittoError:
            self._is_failed = True
            raise

    def commit(self) -> None:
        """Commit; on failure everything since `begin` is undone and `DiskFull` or `DiskError` raised."""
        try:
            if not self.is_in_transaction:
                raise DiskError(f"{self.path}: the transaction was undone by an earlier failure")
            self.statements.run("commit", "COMMIT")
        except DittoError:
            self._is_failed = True
            self.rollback()
            raise
        self._is_failed = False

    def rollback(self) -> None:
        # A full disk or an I/O error may already have rolled back.
        if self.is_in_transaction:
            self.statements.run("rollback", "ROLLBACK")

    @property
    def is_in_transaction(self) -> bool:
        return self.statements.connection.in_transaction

    @property
    def is_usable(self) -> bool:
        """False from a failed commit to the next that succeeds, and for ever after a failed sync."""
        return not self._is_failed and not self.is_sync_failed

    @contextlib.contextmanager
    def reading_anything(self) -> Iterator[None]:
        """Within the block pages are read whatever their checksums say: rows carry hashes of their own."""
        if self._is_shared:
            self.statements.rows("header", "PRAGMA checksum_verification=OFF")
        try:
            yield
        finally:
            if self._is_shared:
                self.statements.rows("header", "PRAGMA checksum_verification=ON")

    # -- durability

    def sync(self) -> None:
        """Return when everything committed before the call is durable. From any thread."""
        if self._durable < self._commits or self.is_sync_failed:
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
            self._expect_sound()
            statements = self.statements
            if self._is_shared:
                if self._checkpointer is None:
                    self._checkpointer = self._connect(CHECKPOINT_BUSY_POLLS, 0)
                statements = self._checkpointer
            for mode in ("PASSIVE", "PASSIVE", "RESTART"):
                ((_, frames, moved),) = statements.rows("checkpoint", f"PRAGMA wal_checkpoint({mode})")
                if frames == moved and self._wal_pages <= frames:
                    # Nothing was committed meanwhile, so the next commit starts the file anew.
                    self._wal_pages = 0
                if self._wal_pages < WAL_PAGES_DUE:
                    break

    def connect_checker(self) -> Statements | None:
        """A connection for another thread that only reads; None where a database cannot be shared."""
        return self._connect(CHECKPOINT_BUSY_POLLS, CHECKER_CACHE_KIB) if self._is_shared else None

    def empty_wal(self) -> None:
        """Checkpoint and cut the -wal file to nothing, so that the next opening has nothing to recover."""
        with self._checkpoint_lock:
            self._expect_sound()
            self.statements.rows("checkpoint", "PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close all files and change none."""
        with self._checkpoint_lock:
            try:
                if self._checkpointer is not None:
                    self._checkpointer.connection.close()
                self.statements.connection.close()
            except apsw.Error as error:
                raise DiskError(f"{self.path}: close: {error}") from error
            finally:
                self._wal.close()

    # -- opening

    @property
    def _wal_path(self) -> str:
        return self.path + "-wal"

    def _connect(self, busy_polls: int, cache_kib: int) -> Statements:
        flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_NOFOLLOW
        try:
            connection = apsw.Connection(self._name, vfs=self._vfs, flags=flags)
        except apsw.Error as error:
            raise DiskError(f"{self.path}: open: {error}") from error
        statements = Statements(connection, self.path)
        connection.set_busy_handler(_poller(busy_polls))
        # Or the last connection to close would checkpoint, and tell nobody if that fails.
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        try:
            if not self._is_shared:
                # Before the file is first read: WAL without shared memory needs it.
                statements.run("open", "PRAGMA locking_mode=EXCLUSIVE")
            for pragma in (
                f"page_size={schema.PAGE_BYTES}",
                "synchronous=NORMAL",
                "wal_autocheckpoint=0",
                f"cache_size=-{cache_kib}",
                "cell_size_check=ON",
                "temp_store=MEMORY",  # a temporary file would carry names out of the disk
                "trusted_schema=OFF",
                *(["checksum_verification=OFF"] if self._is_shared and self._reads_anything else ()),
            ):
                statements.run("open", f"PRAGMA {pragma}")
        except DittoError:
            connection.close()
            raise
        return statements

    def _prepare(self) -> None:
        connection, statements = self.statements.connection, self.statements
        if not self._pragma("page_count"):
            connection.reserve_bytes("main", schema.PAGE_CHECKSUM_BYTES)
        if self._pragma("journal_mode=WAL") != "wal":
            raise DiskError(f"{self.path}: this disk cannot hold a write-ahead log")
        self.begin()
        try:
            self._prepare_tables()
        except BaseException:
            self.rollback()
            raise
        self.commit()
        if (
            self._is_shared
            and not self._reads_anything
            and (
                connection.reserve_bytes("main") != schema.PAGE_CHECKSUM_BYTES
                or statements.rows("header", "PRAGMA checksum_verification") != [("1",)]
            )
        ):
            raise Damaged(self.path, "its header no longer says that pages carry checksums")

    def _prepare_tables(self) -> None:
        known = (schema.APPLICATION_ID, schema.FORMAT_VERSION)
        application, version = self._pragma("application_id"), self._pragma("user_version")
        if (application, version) == (0, 0) and not self.statements.rows(
            "schema", "SELECT name FROM sqlite_schema LIMIT 1"
        ):
            self.statements.run("schema", schema.TABLES)
            self.statements.run("schema", f"PRAGMA application_id={known[0]}")
            self.statements.run("schema", f"PRAGMA user_version={known[1]}")
        elif application != known[0]:
            raise Damaged(self.path, "its header says that it is no journal")
        elif version != known[1]:
            raise OtherFormat(f"{self.path} has format {version}; this program knows format {known[1]}")

    def _pragma(self, name: str) -> object:
        rows = self.statements.rows("header", f"PRAGMA {name}")
        return rows[0][0] if rows else None

    def _secure_wal(self) -> int:
        """Make the -wal file of a process that died durable; the number of the frame it ends with.

        Every byte is written anew: after a failed sync of that process the pages may be in memory
        only and yet count as clean, and recovery would copy half of the truth into the database.
        """
        if not self._disk.exists(self._wal_path):
            return 0
        file = self._disk.open(self._wal_path)
        try:
            # On a full disk that cannot overwrite in place, reading is still possible.
            with contextlib.suppress(DiskFull):
                for offset in range(0, file.size(), _COPY_BYTES):
                    file.write(offset, file.read(offset, _COPY_BYTES))
                file.sync()
            return last_commit_frame(file)
        finally:
            file.close()

    def _recover(self, expected: int) -> None:
        try:
            ((_, frames, _),) = self.statements.rows("recovery", "PRAGMA wal_checkpoint(PASSIVE)")
        except DiskFull:  # what was committed is read from the -wal file until there is room
            ((_, frames, _),) = self.statements.rows("recovery", "PRAGMA wal_checkpoint(NOOP)")
        self._wal_pages = frames
        if frames < expected:
            self.tail_lost = Damage(
                self._wal_path,
                f"breaks off at frame {frames} of {expected}: later commits are lost, which is"
                " expected of unsynced ones after a power cut and of nothing else",
            )

    # -- state

    @property
    def is_sync_failed(self) -> bool:
        """Whether what is durable is unknown until the file is opened anew."""
        return (
            self._sync.has_failed
            or self.statements.is_sync_failed
            or (self._checkpointer is not None and self._checkpointer.is_sync_failed)
        )

    def _expect_sound(self) -> None:
        if self.is_sync_failed:
            raise DiskError(f"{self.path}: a sync failed; it has to be opened anew")

    def _committed(self, _connection: apsw.Connection, _name: str, pages: int) -> int:
        self._wal_pages = pages
        self._commits += 1
        return apsw.SQLITE_OK

    def _sync_wal(self) -> None:
        committed = self._commits
        self._wal.sync()
        self._durable = committed


def _poller(polls: int) -> Callable[[int], bool]:
    """What SQLite asks when it must wait: its own handler soon sleeps for tens of milliseconds."""

    def poll(count: int) -> bool:
        time.sleep(BUSY_POLL_S)
        return count < polls

    return poll


def _with_page_checksums(base: str) -> str:
    """The name of a VFS over `base` that gives each page a checksum and verifies it at each read."""
    with _register_lock:
        if CHECKSUM_VFS not in apsw.vfs_names():
            if not apsw.sqlite_extra.has("cksumvfs"):
                raise ConfigError("this build of apsw lacks cksumvfs: install the wheel from PyPI")
            carrier = apsw.Connection(":memory:")
            # The extension wraps whatever is the default when it is loaded, and becomes the default.
            default = apsw.vfs_names()[0]
            apsw.set_default_vfs(base)
            try:
                apsw.sqlite_extra.load(carrier, "cksumvfs")
            finally:
                apsw.set_default_vfs(default)
                carrier.close()
    return CHECKSUM_VFS
