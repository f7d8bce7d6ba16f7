"""Transactions of local operations: one shard, one update, one step of the index."""

import base64
import binascii
import dataclasses
import errno
import hashlib
from collections.abc import Callable, Container, Iterable, Mapping
from typing import Protocol

from dittofs.errors import FormatError, FSError
from dittofs.ids import INODE_ID_BYTES, InodeId, Number, Slot, Stamp, inode_id
from dittofs.tree import encoding
from dittofs.tree.documents import Documents
from dittofs.tree.effects import effects_of
from dittofs.tree.entry import Change, Effect
from dittofs.tree.hlc import Clock, later
from dittofs.tree.join import join_contexts
from dittofs.tree.placement import Placement, Touched
from dittofs.tree.record import META_SHARD, NEVER, Dot, Record, key_of, shard_of
from dittofs.tree.rows import Inode, Rows
from dittofs.tree.settings import Setting, encode_setting
from dittofs.tree.shard import Epoch


class Transaction:
    """Changed copies of records of one shard, with the dot (slot, n). Nothing happens before `commit`."""

    def __init__(self, rows: Rows, shard: int, slot: Slot) -> None:
        self._rows = rows
        self.shard = shard
        self.slot = slot
        self.n = rows.states.own_count(shard, slot) + 1
        self.records: dict[InodeId, dict[str, Record]] = {}

    def edit(self, inode: InodeId, link: str = "") -> Record:
        """A copy of a known record to change; it has seen this transaction."""
        known = self._rows.inode(inode)
        record = known.record if not link else known.links[link]
        assert record is not None
        copy = dataclasses.replace(record, context={**record.context, self.slot: self.n})
        return self.add(inode, link, copy)

    def add(self, inode: InodeId, link: str, record: Record) -> Record:
        """Write a record."""
        assert shard_of(inode) == self.shard
        self.records.setdefault(inode, {})[link] = record
        return record

    def fresh_context(self) -> dict[Slot, int]:
        """What a record made by this transaction has seen."""
        return {self.slot: self.n}

    def link_id(self) -> str:
        """A link id that nothing else has: at most one per transaction and inode."""
        digest = hashlib.blake2b(f"{self.slot}/{self.n}".encode("ascii"), digest_size=6).digest()
        return base64.urlsafe_b64encode(digest).decode("ascii")

    def sibling(self, inode: InodeId) -> InodeId:
        """A fresh inode id in this shard, made of what makes this transaction the only one."""
        count = 0
        seed = f"{inode}/{self.slot}/{self.n}".encode("ascii")
        while True:
            digest = hashlib.blake2b(seed + b"/%d" % count, digest_size=INODE_ID_BYTES).digest()
            made = inode_id(digest)
            if shard_of(made) == self.shard:
                return made
            count += 1


class HeldInodes(Protocol):
    """The inodes that are not shown as the documents have them (brake.py)."""

    @property
    def holds(self) -> Container[InodeId]: ...

    def take_back(self, writing: "Writing", inode: InodeId) -> None:
        """Make one again what is shown of it."""

    def changed(self, inode: InodeId) -> None:
        """An inode that is not held was changed here."""


class Writing:
    """Commits transactions one after the other and collects what a group did."""

    def __init__(
        self,
        rows: Rows,
        documents: Documents,
        placement: Placement,
        clock: Clock,
        shown_number: Callable[[Inode, Dot | None], Number],
        held: HeldInodes,
    ) -> None:
        self.rows = rows
        self.shown_number = shown_number
        self.placement = placement
        self._documents = documents
        self._clock = clock
        self._held = held
        self._updates: list[tuple[int, Epoch, bytes]] = []
        self._effects: list[Effect] = []
        self._touched = placement.touched = Touched()

    def is_held(self, inode: InodeId) -> bool:
        """Whether an inode is shown as it was."""
        return inode in self._held.holds

    def begin(self, inode: InodeId) -> Transaction:
        """A transaction in the shard of `inode`.

        One that is held is first made again what is shown of it: whoever changes it here wants it so.
        """
        if inode in self._held.holds:
            self._held.take_back(self, inode)
        return Transaction(self.rows, shard_of(inode), self._documents.slot)

    def commit(self, transaction: Transaction, stamp: Stamp, *, touched: int | None = None) -> None:
        """Write the transaction to its document and follow it in the index.

        `touched` is the time, in nanoseconds, at which directories' entries changed; the stamp by default.
        Raises FSError, having changed nothing: ENOSPC if a record would become too large, EINVAL if it would
        hold what nobody could read back.
        """
        raw: dict[InodeId, dict[str, bytes]] = {}
        greatest = stamp
        for inode, records in transaction.records.items():
            for record in records.values():
                latest = record.latest
                if stamp > latest:
                    record.changed = latest = stamp
                greatest = max(greatest, latest)
            raw[inode] = {link: _readable(record) for link, record in records.items()}
        values = {key_of(inode, link): value for inode, links in raw.items() for link, value in links.items()}
        epoch, update = self._documents.write(transaction.shard, values)
        self._updates.append((transaction.shard, epoch, update))
        self.rows.states.put_own_count(transaction.shard, transaction.slot, transaction.n)
        self._clock.observe(greatest)
        for inode, records in transaction.records.items():
            self._held.changed(inode)
            at = int(stamp) if touched is None else touched
            before, after = self.placement.update(inode, records, raw[inode], at)
            for one, other in ((before, after), *self.placement.take_awaited()):
                self._effects.extend(effects_of(one, other, stamp, transaction.slot))

    def tell(self, effects: Iterable[Effect]) -> None:
        """Something else that the group did."""
        self._effects.extend(effects)

    def set(self, name: str, value: bytes | None) -> None:
        """Set a setting of the volume; None removes it."""
        known = self.rows.settings.get(name)
        stamp = later(self._clock.tick(), known.stamp if known is not None else NEVER)
        self._clock.observe(stamp)
        setting = Setting(stamp, encoding.pack_id(self._documents.slot), value)
        epoch, update = self._documents.write(META_SHARD, {name: encode_setting(setting)})
        self._updates.append((META_SHARD, epoch, update))
        self.rows.settings.put(name, setting)

    def finish(self) -> Change:
        """Everything the group did."""
        self.rows.flush(self._clock.greatest)
        touched = self._touched
        return Change(
            tuple(self._updates), tuple(self._effects), frozenset(touched.inodes), frozenset(touched.names)
        )


def _readable(record: Record) -> bytes:
    """The bytes of a record. One that is written and cannot be read would stop every device for good."""
    try:
        value = encoding.encode(record)
        encoding.decode(value)
    except encoding.RecordTooLarge as error:
        raise FSError(errno.ENOSPC, str(error)) from None
    except (FormatError, OverflowError, binascii.Error) as error:
        raise FSError(errno.EINVAL, str(error)) from None
    return value


def seen_by(inode: Inode, also: Mapping[Slot, int]) -> dict[Slot, int]:
    """What all records of an inode have seen, and `also`."""
    context = dict(also)
    for record in (inode.record, *inode.links.values()):
        if record is not None:
            context = join_contexts(context, record.context)
    return context
