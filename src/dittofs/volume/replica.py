"""One volume on this device: the tree, the journal and the chunks, changed together or not at all."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import TypeVar

import structlog

from dittofs.blocking import RunBlocking
from dittofs.chunks.store import ChunkStore
from dittofs.clock import Clock, Entropy
from dittofs.disk import Disk
from dittofs.errors import Behind, Contradiction, DiskError, DiskFull, Forked, ReadOnlyVolume
from dittofs.ids import InodeId, Slot, client_of_slot, slot_of_client
from dittofs.journal.damage import IndexDamaged, ShardDamaged
from dittofs.journal.journal import Journal
from dittofs.tree.delivery import Delivery, fork_setting
from dittofs.tree.entry import Change
from dittofs.tree.exchange import Taken
from dittofs.tree.record import DOCUMENTS
from dittofs.tree.shard import Epoch
from dittofs.tree.states import Difference, DocumentState
from dittofs.tree.tree import Tree
from dittofs.volume.authorship import Authorship
from dittofs.volume.mending import DocumentMended, Documents
from dittofs.volume.recording import record, was_shown
from dittofs.volume.transaction import Transaction
from dittofs.volume.under_way import UnderWay
from dittofs.volume.writability import Writability
from dittofs.volume.writers import Writers

log = structlog.get_logger()
Result = TypeVar("Result")

LOG_BYTES_KEPT = 256 << 10  # of one shard, before a snapshot replaces them
LOGGED_BYTES_MAX = 4 << 10
"""Of a longer part of a round the document is written whole: SQLite reads a row of many pages whenever it
looks for the place of another one beside it, which is 70 µs at 70 kB for each later update.
"""
INDEX_FORMAT = "index format"
CURRENT_INDEX = b"3"
"""Of an index of any other form nothing is believed: it is made anew."""
HEALED = "healed"
"""Kind of the local rows that name slots of ours which stood for two histories and are given up."""
LOCAL_VIA = b""
"""The voucher of what was written here."""


class Replica:
    """Holds the parts of a replica and the one way to change them.

    If the journal cannot be appended to, nothing of the change remains and the replica turns read-only
    until `writability.try_again` succeeds.
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
        own_slots: set[Slot],
        writers: Writers,
        authorship: Authorship,
        boot: bytes,
        documents: Documents,
    ) -> None:
        self.disk = disk
        self.journal = journal
        self.tree = tree
        self.chunks = chunks
        self.clock = clock
        self.entropy = entropy
        self.run_blocking = run_blocking
        self.slot = slot
        self._own_slots = own_slots
        healed = {Slot(key.decode("ascii")) for key, _ in journal.scan_local(HEALED, b"")}
        tree.exchange.judge.forkable |= own_slots - healed
        tree.brake.was_shown = partial(was_shown, journal)
        self.writers = writers
        self.authorship = authorship
        self.boot = boot
        self._snapshot_bytes: dict[int, int] = {}
        self.writability = Writability(journal)
        self.refused: str | None = None
        """Why the members' records do not let this device change the volume, or None."""
        self.documents = documents
        documents.belong_to(self)
        self.listeners: list[Callable[[Change], None]] = []
        """Called after each change of the tree with what it touched."""
        self.naming = UnderWay()
        self.authored: list[Callable[[Change], None]] = []
        """Called within the transaction of each change made here: rows that must not be lost without it."""

    @property
    def read_only(self) -> str | None:
        """Why nothing can be changed, or None."""
        return self.writability.reason

    @property
    def not_allowed(self) -> str | None:
        """Why this device may not change the volume itself, or None. What others change is taken in."""
        return self.documents.refusal or self.refused

    def require_writable(self) -> None:
        """ReadOnlyVolume unless this device can and may change the volume."""
        if self.not_allowed is not None:
            raise ReadOnlyVolume(self.not_allowed)
        self.writability.require()

    @contextmanager
    def change(self) -> Iterator[Transaction]:
        """A transaction that is with the operating system when the block ends, or has not happened.

        Rows of this device alone may be changed by one that may not change the volume.
        """
        self.writability.require()
        if self.not_allowed is None and not self.authorship.is_of(self.slot):
            self.claim_writer()
        transaction = Transaction(self.tree, self.not_allowed)
        change: Change | None = None
        with self.journalled(transaction):
            yield transaction
            if transaction.has_group:
                self.authorship.introduce(transaction.group, self.slot)
                change = transaction.group.finish()
                if transaction.is_unasked:
                    change = replace(change, is_unasked=True)
                self.journal.append(self.journal.next_group, change.updates, LOCAL_VIA)
                record(self.journal, change.effects, self.clock.now_ns())
                for listener in self.authored:
                    listener(change)
        transaction.run_after()
        if change is not None:
            self._tell(change)

    @property
    def label(self) -> str:
        """What this device is called now."""
        return self.authorship.label

    # -- other replicas

    def states(self) -> Sequence[DocumentState]:
        """What each of the 257 documents has seen, by number. Loads none."""
        return self.tree.exchange.states()

    def root_digest(self) -> bytes:
        """32 bytes that are equal on replicas that have seen the same."""
        return self.tree.exchange.root_digest()

    def digests(self) -> list[bytes]:
        """8 bytes of what each document has seen, by number."""
        return self.tree.exchange.digests()

    def difference(self, document: int, theirs: DocumentState) -> Difference | None:
        """What a replica in the state `theirs` lacks of a document; None: nothing that is here.

        Raises FormatError if their vector is none.
        """
        return self.mended(partial(self.tree.exchange.difference, document, theirs))

    def is_fork(self, theirs: Iterable[tuple[int, DocumentState]]) -> bool:
        """Whether somebody knows more of the present writer than it wrote: then `heal_fork`.

        Raises FormatError if a vector is none.
        """
        return self.tree.exchange.is_fork(theirs)

    def receive(self, updates: Sequence[tuple[int, Epoch, bytes]], via: bytes) -> bool:
        """Take a group of another replica whole, as one step; True if anything in it was new.

        `Behind`: it does not continue what is here, pull. FormatError: no replica makes such updates.
        Nothing of it was taken then. `via`: the device that vouches for it.
        """
        return self._receive(lambda: self.tree.exchange.judge.group(updates), via)

    def receive_round(self, parts: Sequence[Difference], via: bytes, lacks: Collection[int] = ()) -> bool:
        """Take what another replica has beyond our `states`, as one step; True if anything was new.

        What has become known meanwhile is passed over. Errors are those of `receive`. As long as the tree is
        hidden the parts may be given one by one. `lacks`: documents that the other has lost itself.
        """
        if self.not_allowed is not None:
            # Nobody would take what we wrote to join two epochs: until writers have, ours is kept.
            would = self.tree.exchange.judge.would_write
            left = {part.document for part in parts if self.mended(partial(would, part))}
            parts = [part for part in parts if part.document not in left]
        given = {part.document for part in parts}.difference(lacks)
        return self._receive(lambda: self.tree.exchange.judge.round(parts), via, given)

    def _receive(
        self, judge: Callable[[], Delivery], via: bytes, given: Collection[int] | None = None
    ) -> bool:
        """`given`: it is a round, and the documents of which it has all that the other had."""
        self.writability.require()
        try:
            delivery = self.mended(judge)
        except Forked as error:
            self.heal_fork([error.client])
            raise
        except Contradiction as error:
            if self._mark_forked(error.clients):
                raise Behind(str(error)) from None
            raise
        if delivery.is_new:
            taken = self.mended(lambda: self._take(delivery, via, given))
            self._tell(taken.change)
        return delivery.is_new

    def _take(self, delivery: Delivery, via: bytes, given: Collection[int] | None) -> Taken:
        with self.journalled():
            taken = self.tree.exchange.take(delivery, via, is_round=given is not None)
            parts = delivery.updates if given is not None else ()
            self._append(taken, {number for number, _, update in parts if len(update) > LOGGED_BYTES_MAX})
            if given is not None:
                self.documents.came(delivery.arrivals.keys() & set(given))
        if self.documents.awaited:
            self.documents.look_again()
        return taken

    def compact_if_due(self, number: int) -> bool:
        """Begin a fresh epoch of a document in which garbage prevails. False: nothing was done.

        A device that may not write never does: nobody would follow it into that epoch.
        """
        if self.not_allowed is not None:
            return False
        self.require_writable()
        if not self.mended(partial(self.tree.exchange.is_compaction_due, number)):
            return False
        with self.journalled():
            taken = self.tree.exchange.compact(number)
            if taken is not None:
                self._append(taken)
        if taken is not None:
            log.info("a document was compacted", document=number, epoch=self.states()[number].epoch.number)
            self._tell(taken.change)
        return taken is not None

    def show_held(self, inodes: Sequence[InodeId]) -> None:
        """Show held inodes as the documents have them (accepting what the brake held)."""
        self.writability.require()
        with self.journalled():
            taken = self.tree.exchange.release(inodes)
            self._append(taken)
        self._tell(taken.change)

    def _mark_forked(self, clients: Iterable[int]) -> bool:
        """Tell all replicas that two histories seem to write as each of these. False: they know already."""
        known = self.tree.settings()
        names = [name for name in map(fork_setting, sorted(clients)) if name not in known]
        if names:
            with self.change() as transaction:
                for name in names:
                    transaction.group.set_setting(name, b"")
        return bool(names)

    def heal_fork(self, clients: Collection[int] = ()) -> None:
        """Go on as a fresh writer, and call what the present one wrote by a fresh name. Blocking.

        Somebody else wrote as this writer too, so that one name stands for different things; `clients`: so it
        is with these earlier writers of ours. Afterwards rounds join both histories. Nothing is lost; what
        only one of them removed or replaced may be back. The index is made anew.
        """
        self.require_writable()
        present = self.tree.client_id
        forkable = self.tree.exchange.judge.forkable
        forked = [client for client in clients if client != present and slot_of_client(client) in forkable]
        names: dict[Slot, Slot] = {}
        for client in (*forked, present):
            # The last one claimed is the one to write with.
            fresh = self.journal.claim_writer(self.entropy, self.boot.decode())
            names[slot_of_client(client)] = slot_of_client(fresh)
        try:
            with self.journalled():
                taken = self.tree.exchange.rename(fresh, names)
                self._append(taken)
                self.journal.clear_index()
                self.tree.rebuild_index()
                group = self.tree.group()
                for old, new in names.items():
                    group.set_setting(fork_setting(client_of_slot(old)), b"")
                    self.authorship.introduce(group, new)
                    self.journal.put_local(HEALED, old.encode("ascii"), b"")
                mark = group.finish()
                self.journal.append(self.journal.next_group, mark.updates, LOCAL_VIA)
        except BaseException:
            self.tree.exchange.write_as(present)
            raise
        self.slot = slot_of_client(fresh)
        self._own_slots.update(names.values())
        forkable.difference_update(names)
        forkable.update(names.values())
        log.error("another copy of this device has written too; both are kept")
        self._tell(taken.change)

    def claim_writer(self) -> None:
        """Go on as a writer that the journal gives: once this process has one, a fresh one. Blocking."""
        client = self.journal.claim_writer(self.entropy, self.boot.decode())
        self.slot = slot_of_client(client)
        self._own_slots.add(self.slot)
        self.tree.exchange.judge.forkable.add(self.slot)
        self.tree.exchange.write_as(client)

    def _append(self, taken: Taken, whole: Collection[int] = ()) -> None:
        """Write what was taken to the journal; the documents `whole` as they are now."""
        wholes = [part for part in taken.wholes if part[0] not in whole]
        wholes += [(number, *self.tree.snapshot(number)) for number in sorted(whole)]
        for number, epoch, blob in wholes:
            self.journal.put_snapshot(number, epoch, blob)
            self._snapshot_bytes[number] = len(blob)
        for updates, via in ((taken.change.updates, taken.change.via), (taken.own, LOCAL_VIA)):
            logged = [update for update in updates if update[0] not in whole]
            if logged:
                self.journal.append(self.journal.next_group, logged, via)
        record(self.journal, taken.change.effects, self.clock.now_ns())

    def _tell(self, change: Change) -> None:
        for listener in self.listeners:
            listener(change)

    @contextmanager
    def journalled(self, transaction: Transaction | None = None) -> Iterator[None]:
        """A transaction of the journal. If it fails, what memory holds of the tree goes back with it."""
        try:
            with self.journal.transaction():
                yield
        except BaseException as error:
            if transaction is None or transaction.has_group:
                # The documents are ahead of the rolled back rows; nobody has seen those operations.
                self.tree.unload()
            if isinstance(error, (DiskFull, DiskError)):
                self.writability.lost(error)
            if isinstance(error, ShardDamaged):
                self.documents.mend(error)
            raise

    def shorten_log(self, number: int) -> None:
        """Replace what is logged of a shard by a snapshot, once it is longer than the last one."""
        logged = self.journal.log_bytes(number)
        if logged <= max(LOG_BYTES_KEPT, self._snapshot_bytes.get(number, 0)):
            return
        epoch, blob = self.mended(partial(self.tree.snapshot, number))
        with self._translated(), self.journal.transaction():
            self.journal.put_snapshot(number, epoch, blob)
        self._snapshot_bytes[number] = len(blob)

    def rebuild_index(self) -> None:
        """Make the persisted index anew from snapshots and log. Blocking; nothing else runs meanwhile."""
        log.error("the index is damaged and made anew")
        self.renew_index()
        log.error("the index is whole again")

    def renew_index(self) -> None:
        """Make an index of another format anew, which is nothing to worry about. Blocking."""
        with self._translated():
            with self.journal.transaction():
                self.journal.mark_index(partial=True)
            while self.journal.is_index_partial:
                with suppress(ShardDamaged), self.journalled():  # each is set aside in its turn
                    self.journal.clear_index()
                    self.tree.rebuild_index()
                    self.journal.put_meta(INDEX_FORMAT, CURRENT_INDEX)
                    self.journal.mark_index(partial=False)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (DiskFull, DiskError) as error:
            self.writability.lost(error)
            raise

    def mended(self, act: Callable[[], Result]) -> Result:
        """What `act` gives; damage it meets in documents, or once in the index, is mended on the way."""
        is_rebuilt = False
        for _ in range(DOCUMENTS + 1):
            try:
                return act()
            except IndexDamaged:
                if is_rebuilt:
                    raise  # the disk does not keep what is written
                is_rebuilt = True
                self.rebuild_index()
            except DocumentMended:
                continue
        return act()
