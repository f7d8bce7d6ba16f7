"""The journal of one volume: what was done is here before anybody hears of it.

Everything but `sync`, `checkpoint` and `check` belongs to one thread. Every change is made inside
`with journal.transaction():`.
"""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Final, Self

from dittofs.clock import Entropy
from dittofs.disk import Disk, DiskLock
from dittofs.errors import DittoError
from dittofs.ids import Slot, Stamp
from dittofs.journal.chain import EpochPair
from dittofs.journal.check import check_all
from dittofs.journal.damage import Damage
from dittofs.journal.database import Database
from dittofs.journal.history import History, HistoryEffect
from dittofs.journal.index import REBUILDING, Index, is_index_readable
from dittofs.journal.log import Log
from dittofs.journal.redo import Redo
from dittofs.journal.rows import Rows
from dittofs.journal.writer import Incarnations

LOCK_NAME: Final = "lock"
_OWN_META = "journal/"
_STAMP = _OWN_META + "stamp"


class Journal:
    """Updates, history, persisted index and local rows, changed together or not at all."""

    def __init__(self, database: Database, lock: DiskLock) -> None:
        self._database = database
        self._lock = lock
        self._is_closed = False
        self._log = Log(database)
        self._index = Index(database.statements)
        self._rows = Rows(database.statements)
        self._incarnations = Incarnations(database.statements, self._rows)
        self.history: Final = History(database.statements)
        self._redo = Redo(database, self._index, self.history)
        self._transaction = _Transaction(database, self._log, self._redo)
        self.ended_cleanly: Final = self._incarnations.ended_cleanly
        """Whether the last process that wrote here closed the journal. True for a new one."""
        self.load = self._log.load
        self.get = self._index.get
        self.scan = self._index.scan

    @classmethod
    def open(cls, disk: Disk, path: str) -> Self:
        """Open the journal at `path`, made if absent, in a directory that exists. Blocking.

        Takes the lock file of that directory: `InUse` names the process that has it. `Damaged` if
        the file's structure cannot be read or is no journal's, `FormatError` if its format is not known.
        Look at `damage` afterwards.
        """
        directory = path.rpartition("/")[0]
        lock = disk.lock(f"{directory}/{LOCK_NAME}" if directory else LOCK_NAME)
        try:
            database = Database(disk, path)
            try:
                return cls(database, lock)
            except DittoError:
                database.close()
                raise
        except DittoError:
            lock.close()
            raise

    @property
    def damage(self) -> Sequence[Damage]:
        """What was set aside since the journal was opened."""
        return self._database.damage

    @property
    def tail_lost(self) -> Damage | None:
        """Set if opening found the end of the -wal file unreadable.

        What is there is whole and consistent, log and index alike. The last commits are missing: after
        a power cut those that were never synced; otherwise something damaged the file.
        """
        return self._database.tail_lost

    # -- transactions and durability

    @property
    def is_in_transaction(self) -> bool:
        """Whether a transaction is open."""
        return self._database.is_in_transaction

    def transaction(self) -> "_Transaction":
        """One transaction: with the operating system when the block ends, undone if it raises.

        `DiskFull` or `DiskError` if it cannot be committed: then nothing of it happened.
        """
        return self._transaction

    def sync(self) -> None:
        """Return when everything committed before the call is durable. Blocking, from any thread.

        Never waits for a transaction; concurrent callers share one sync. `DiskFull` or `DiskError`
        if it failed: then what is durable is unknown until the journal has been opened again.
        """
        self._database.sync()

    @property
    def is_checkpoint_due(self) -> bool:
        """Whether `checkpoint` should be called soon; a transaction does it by itself at 4 times that."""
        return self._database.is_checkpoint_due

    def checkpoint(self) -> None:
        """Move committed pages from the -wal file to their places. Blocking.

        From any thread on a disk whose databases can be shared, without stopping readers or writers.
        """
        self._database.checkpoint()

    @property
    def usable(self) -> bool:
        """False once a commit failed, until one succeeds; for ever once a sync failed."""
        return self._database.is_usable

    @property
    def needs_reopening(self) -> bool:
        """Whether a sync failed: nothing more is written until the journal has been opened again."""
        return self._database.is_sync_failed

    def revive(self) -> bool:
        """Try to write and sync one small row: whether the journal is usable (again). Blocking."""
        try:
            with self._transaction:
                self._rows.put_meta(_OWN_META + "probe", b"")
            self.sync()
        except DittoError:
            return False
        return self.usable

    def settle(self) -> None:
        """Write to their tables the rows of index and history that are late (redo.py)."""
        with self._transaction:
            self._redo.settle()

    # -- updates

    @property
    def next_group(self) -> int:
        """A number for a group that no group had before. It changes with each `append`."""
        return self._log.next_seq

    def append(self, group: int, updates: Sequence[tuple[int, EpochPair, bytes]], via: bytes) -> None:
        """Log (shard, epoch, update) items of one group; `via`: who vouched for them.

        `ValueError` if a shard is at another epoch: only `put_snapshot` begins one.
        """
        self._transaction.expect_open()
        self._log.append(group, updates, via)

    def log_bytes(self, shard: int) -> int:
        """The size of the updates logged since the shard's snapshot. `ShardDamaged` as `load`."""
        return self._log.size(shard)

    def put_snapshot(self, shard: int, epoch: EpochPair, blob: bytes) -> None:
        """Replace a shard's snapshot and everything logged for it so far by `blob`."""
        self._transaction.expect_open()
        self._log.put_snapshot(shard, epoch, blob)

    def discard_shard(self, shard: int, reason: str) -> None:
        """Set everything of a shard aside, whatever is wrong with it, so that it can be had anew."""
        self._transaction.expect_open()
        self._note(self._log.discard(shard, reason))

    def drop_tail(self, shard: int) -> None:
        """Set aside what of a shard's log does not follow from what precedes it.

        The shard holds less than the index says then: rebuild the index and claim a fresh writer.
        """
        self._transaction.expect_open()
        self._note(self._log.drop_tail(shard))

    def _note(self, damage: Damage | None) -> None:
        if damage is not None and damage not in self._database.damage:
            self._database.damage.append(damage)

    def append_history(self, effects: Iterable[HistoryEffect], now_ns: int) -> None:
        """Add what one step did. `now_ns`: the wall clock."""
        self._transaction.expect_open()
        self.history.append(effects, now_ns)

    # -- the index

    def put(self, table: str, key: bytes, value: bytes) -> None:
        self._transaction.expect_open()
        self._index.put(table, key, value)

    def delete(self, table: str, key: bytes) -> None:
        self._transaction.expect_open()
        self._index.delete(table, key)

    def clear_index(self) -> None:
        """Remove every index row, readable or not."""
        self._transaction.expect_open()
        checker = self._database.connect_checker()
        try:
            is_readable = is_index_readable(checker or self._database.statements)
        finally:
            if checker is not None:
                checker.connection.close()
        self._redo.clear_index(is_readable=is_readable)

    @property
    def is_index_partial(self) -> bool:
        """Whether a rebuild of the index was begun and not ended."""
        return self._rows.get_meta(REBUILDING) == b"1"

    def mark_index(self, *, partial: bool) -> None:
        """Say that a rebuild in several transactions begins or has ended."""
        self._transaction.expect_open()
        self._rows.put_meta(REBUILDING, b"1" if partial else b"0")

    # -- local rows and meta

    def put_local(self, kind: str, key: bytes, value: bytes) -> None:
        self._transaction.expect_open()
        self._rows.put_local(kind, key, value)

    def delete_local(self, kind: str, key: bytes) -> None:
        self._transaction.expect_open()
        self._rows.delete_local(kind, key)

    def get_local(self, kind: str, key: bytes) -> bytes | None:
        """A row by its kind and key, None if there is none; `Damaged` names a bad one."""
        return self._rows.get_local(kind, key)

    def scan_local(
        self, kind: str, prefix: bytes, bad: list[bytes] | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        """Rows of a kind whose key begins with `prefix`, in order of key; `Damaged` names a bad one.

        With `bad` given, rows that fail their checksum are left out and their keys added to it.
        """
        return self._rows.scan_local(kind, prefix, bad)

    def get_meta(self, key: str) -> bytes | None:
        return self._rows.get_meta(key)

    def put_meta(self, key: str, value: bytes) -> None:
        """Set a row by name; names that begin with `journal/` are the journal's own."""
        self._transaction.expect_open()
        if key.startswith(_OWN_META):
            raise ValueError(f"{key} is the journal's own")
        self._rows.put_meta(key, value)

    # -- identity and time

    def claim_writer(self, entropy: Entropy, machine: str) -> int:
        """The CRDT client id (48 bits) for this process; that it is in use is durable on return. Blocking.

        The one before, if that ended cleanly, on the same `machine`, with exactly the log that is
        here; otherwise a random one never used here. Called again (after damage or a fork): a random
        one. `machine` names the machine and its boot as closely as the caller can.
        """
        may_reuse = not self.damage and self.tail_lost is None
        with self._transaction:
            client_id = self._incarnations.claim(entropy, machine, may_reuse=may_reuse)
        self.sync()
        return client_id

    def unclaimed_writer(self, entropy: Entropy) -> int:
        """A client id that was never used here, for who cannot claim one yet and so writes nothing."""
        return self._incarnations.fresh(entropy)

    def own_slots(self) -> frozenset[Slot]:
        """Every slot this replica ever wrote with."""
        return self._incarnations.slots()

    def greatest_stamp(self) -> Stamp:
        """The stamp given to the last `close`; 0 if there was none.

        History is not asked: it holds what others did too, by clocks that ours does not follow anywhere.
        """
        return Stamp(int.from_bytes(self._rows.get_meta(_STAMP) or b"", "big"))

    # -- the end

    def check(self) -> Iterator[Damage]:
        """Read and verify everything: SQLite's structure, each hash and each checksum. Changes nothing.

        From any thread on a disk whose databases can be shared, through a connection of its own.
        """
        checker = self._database.connect_checker()
        try:
            yield from check_all(checker or self._database.statements)
        finally:
            if checker is not None:
                checker.connection.close()

    def close(self, greatest: Stamp | None = None) -> None:
        """End cleanly: everything durable, the client id free for the next process. Blocking.

        `greatest` is the greatest stamp the clock has seen. Whatever fails, all files are closed.
        """
        try:
            if self.usable and not self.damage:
                # The proof of a clean end must not survive what it proves.
                self.sync()
                with self._transaction:
                    self._redo.settle()
                    if greatest is not None:
                        self._rows.put_meta(_STAMP, greatest.to_bytes(8, "big"))
                    self._incarnations.end()
                self.sync()
                # All is durable by now; a checkpoint that fails is made up for at the next opening.
                with contextlib.suppress(DittoError):
                    self._database.empty_wal()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Close all files without the mark of a clean end. Doing so twice is fine."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            self._database.close()
        finally:
            self._lock.close()


class _Transaction:
    """`with` it: one transaction. Reused, so that entering costs no allocation; it does not nest."""

    def __init__(self, database: Database, log: Log, redo: Redo) -> None:
        self._database = database
        self._log = log
        self._redo = redo
        self._is_open = False

    def expect_open(self) -> None:
        assert self._is_open, "a change of the journal outside a transaction"

    def __enter__(self) -> None:
        assert not self._is_open, "a transaction inside a transaction"
        self._database.begin()
        self._is_open = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_open = False
        if kind is not None:
            self._roll_back()
            return
        try:
            self._redo.write()
            self._database.commit()
        except BaseException:
            self._roll_back()
            raise
        self._log.committed()
        self._redo.committed()

    def _roll_back(self) -> None:
        self._log.rolled_back()
        self._redo.rolled_back()
        self._database.rollback()
