"""One volume on this device: the tree, the journal and the chunks, changed together or not at all."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

import structlog

from dittofs.blocking import RunBlocking
from dittofs.chunks.store import ChunkStore
from dittofs.clock import Clock, Entropy
from dittofs.disk import Disk
from dittofs.errors import Damaged, DiskError, DiskFull, ReadOnlyVolume
from dittofs.ids import Slot
from dittofs.journal.damage import Damage, IndexDamaged
from dittofs.journal.journal import Journal
from dittofs.tree.entry import Change
from dittofs.tree.group import Group
from dittofs.tree.tree import Tree

log = structlog.get_logger()
Result = TypeVar("Result")

LOG_BYTES_KEPT = 256 << 10  # of one shard, before a snapshot replaces them
SYNC_FAILED = "a sync of the journal failed: the volume has to be mounted anew"
LOCAL_VIA = b""
"""The voucher of what was written here."""


class Transaction:
    """One change: tree operations, local rows, and what follows once both are in the journal."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._group: Group | None = None
        self._after: list[Callable[[], None]] = []

    @property
    def group(self) -> Group:
        """The tree operations of this change, made at first use."""
        if self._group is None:
            self._group = self._tree.group()
        return self._group

    @property
    def has_group(self) -> bool:
        return self._group is not None

    def after(self, action: Callable[[], None]) -> None:
        """Run `action` once the change is committed: memory follows the journal, never the other way."""
        self._after.append(action)

    def run_after(self) -> None:
        for action in self._after:
            action()


class Replica:
    """Holds the parts of a replica and the one way to change them.

    If the journal cannot be appended to, nothing of the change remains and the replica
    turns read-only until `try_writing` succeeds.
    """

    def __init__(
        self,
        *,
        disk: Disk,
        journal: Journal,
        tree: Tree,
        chunks: ChunkStore,
        clock: Clock,
        entropy: Entropy,
        run_blocking: RunBlocking,
        slot: Slot,
        label: str,
        boot: bytes,
    ) -> None:
        self.disk = disk
        self.journal = journal
        self.tree = tree
        self.chunks = chunks
        self.clock = clock
        self.entropy = entropy
        self.run_blocking = run_blocking
        self.slot = slot
        self.label = label
        self.boot = boot
        self._must_remount = False
        self._snapshot_bytes: dict[int, int] = {}
        self.read_only: str | None = None
        """Why nothing can be changed, or None."""
        self.listeners: list[Callable[[Change], None]] = []
        """Called after each change of the tree with what it touched."""

    def require_writable(self) -> None:
        if self.read_only is not None:
            raise ReadOnlyVolume(self.read_only)

    @contextmanager
    def change(self) -> Iterator[Transaction]:
        """A transaction that is with the operating system when the block ends, or has not happened."""
        self.require_writable()
        transaction = Transaction(self.tree)
        change: Change | None = None
        damages = len(self.journal.damage)
        try:
            with self.journal.transaction():
                yield transaction
                if transaction.has_group:
                    change = transaction.group.finish()
                    self.journal.append(self.journal.next_group, change.updates, LOCAL_VIA)
                    self.journal.append_history(change.effects)
                if len(self.journal.damage) > damages:
                    raise Damaged(self.journal.damage[damages].what, self.journal.damage[damages].detail)
        except BaseException as error:
            if transaction.has_group:
                # The documents are ahead of the rolled back rows; nobody has seen those operations.
                self.tree.unload()
            if isinstance(error, (DiskFull, DiskError)):
                self._turn_read_only(error)
            if len(self.journal.damage) > damages:
                self._require_remount(self.journal.damage[damages])
            raise
        transaction.run_after()
        if change is not None:
            for listener in self.listeners:
                listener(change)

    def _turn_read_only(self, error: DiskFull | DiskError) -> None:
        self.read_only = f"the journal cannot be written: {error}"
        log.error("volume turned read-only", reason=str(error))

    def _require_remount(self, damage: Damage) -> None:
        """A shard holds less than the index shows, and maybe less than this writer wrote. Nothing may be
        built on that: opening anew makes the index from what is left and takes a fresh writer.
        """
        self._must_remount = True
        self.read_only = f"{damage.what} is damaged: mount the volume anew to go on with what is left of it"
        log.error("volume turned read-only", reason=self.read_only)
        with suppress(DiskFull, DiskError), self.journal.transaction():
            self.journal.mark_index(partial=True)

    def shorten_log(self, number: int) -> None:
        """Replace what is logged of a shard by a snapshot, once it is longer than the last one."""
        logged = self.journal.log_bytes(number)
        if logged <= max(LOG_BYTES_KEPT, self._snapshot_bytes.get(number, 0)):
            return
        epoch, blob = self.tree.snapshot(number)
        with self._translated(), self.journal.transaction():
            self.journal.put_snapshot(number, epoch, blob)
        self._snapshot_bytes[number] = len(blob)

    def rebuild_index(self) -> None:
        """Make the persisted index anew from snapshots and log. Blocking; nothing else runs meanwhile."""
        log.error("the index is damaged and made anew")
        with self._translated():
            with self.journal.transaction():
                self.journal.mark_index(partial=True)
            with self.journal.transaction():
                self.journal.clear_index()
                self.tree.rebuild_index()
                self.journal.mark_index(partial=False)
        log.error("the index is whole again")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (DiskFull, DiskError) as error:
            self._turn_read_only(error)
            raise

    def mended(self, act: Callable[[], Result]) -> Result:
        """What `act` gives; if it meets a damaged index, that is made anew and `act` done once more."""
        try:
            return act()
        except IndexDamaged:
            self.rebuild_index()
            return act()

    def try_writing(self) -> bool:
        """See whether the journal can be written again. True when the replica is writable."""
        if self._must_remount:
            return False
        if self.read_only is None and self.journal.usable:
            return True
        if not self.journal.revive():
            if self.journal.needs_reopening and self.read_only != SYNC_FAILED:
                self.read_only = SYNC_FAILED
                log.error("volume turned read-only", reason=SYNC_FAILED)
            return False
        self.read_only = None
        log.info("volume is writable again")
        return True
