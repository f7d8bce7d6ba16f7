"""The tree of one volume: what programs see of it, and what changes from elsewhere do to it.

Pure but for the store and the shard source it is given: no clock, no randomness. One task owns it. All reads
go to the index; a shard document is loaded at its first change. If the store is rolled back, or a method
raises anything but FSError, call `unload`: the next use reads everything again.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

from dittofs.errors import FormatError
from dittofs.ids import ROOT, InodeId, Number, Slot, Stamp, slot_of_client
from dittofs.tree import encoding
from dittofs.tree.display import Display
from dittofs.tree.documents import Documents
from dittofs.tree.effects import effects_of
from dittofs.tree.entry import Attributes, Change, Counts, Effect, Entry
from dittofs.tree.group import Group
from dittofs.tree.hlc import Clock
from dittofs.tree.index import IndexStore, ShardSource
from dittofs.tree.join import join_all
from dittofs.tree.placement import Placement, Touched
from dittofs.tree.record import (
    META_SHARD,
    SHARDS,
    Dot,
    Kind,
    NewVersion,
    Owner,
    Record,
    Ref,
    Version,
    shard_of,
    split_key,
)
from dittofs.tree.rows import Inode, Rows
from dittofs.tree.shard import Epoch
from dittofs.tree.status import Status
from dittofs.tree.update import LIVE, Limits, decode
from dittofs.tree.writing import Writing

__all__ = [
    "Attributes",
    "Change",
    "Counts",
    "Dot",
    "Effect",
    "Entry",
    "Group",
    "Kind",
    "NewVersion",
    "Owner",
    "Ref",
    "Tree",
    "Version",
]

TABLES = (
    "record",
    "links",
    "claim",
    "special",
    "directory",
    "number",
    "displaced",
    "unknown",
    "awaited",
    "own",
    "total",
)


class Tree:
    """See the module. `client_id` is this incarnation's; `greatest` the greatest stamp given or followed."""

    def __init__(
        self,
        store: IndexStore,
        shards: ShardSource,
        *,
        client_id: int,
        own_slots: Callable[[Slot], bool],
        device_label: Callable[[Slot], str],
        now_ns: Callable[[], int],
        greatest: Stamp,
    ) -> None:
        self._store = store
        self._now_ns = now_ns
        self._slot = slot_of_client(client_id)
        self._rows = Rows(store)
        self._documents = Documents(shards, client_id)
        self._placement = Placement(self._rows)
        self._display = Display(self._rows, self._placement, device_label)
        self._status = Status(self._rows, self._display, own_slots)
        self.clock = Clock(now_ns, greatest)
        """Its `greatest` is what a restart must begin from."""

    def initialise(self) -> Change:
        """Begin a volume. Root and lost+found need no record, so this only dates the root on this device."""
        group = self.group()
        group.touch(ROOT, stamp=self.tick())
        return group.finish()

    # -- reading

    def lookup(self, directory: InodeId, name: bytes) -> Entry | None:
        """The entry of a directory that is shown as `name`; None if there is none, or no such directory."""
        return self._display.lookup(directory, name)

    def listing(self, directory: InodeId) -> Sequence[Entry]:
        """All entries of a directory, in no order."""
        return self._display.listing(directory)

    def stat(self, ref: Ref) -> Attributes | None:
        """The attributes of a visible thing. None: it is not visible."""
        return self._status.stat(ref)

    def version(self, ref: Ref) -> Version | None:
        """The content a visible thing shows, sooner than `stat` has it. None: none, or it is not visible."""
        return self._status.version(ref)

    def members(self, directory: InodeId) -> tuple[InodeId, ...]:
        """The directories shown as one with this one; empty if it is not visible."""
        return self._display.members(directory)

    def parent(self, directory: InodeId) -> InodeId:
        """The directory that shows `directory`; the root's is the root."""
        return self._display.parent(directory)

    def names(self, inode: InodeId) -> Sequence[tuple[InodeId, Entry]]:
        """Every visible (directory, entry) of an inode: its names first, then its conflict entries."""
        return self._status.names(inode)

    def by_number(self, number: Number) -> Ref | None:
        """The visible thing with this st_ino, or a merged directory of which it is an alias."""
        return self._status.by_number(number)

    def xattrs(self, inode: InodeId) -> Mapping[bytes, bytes]:
        """The extended attributes of an inode."""
        return self._status.xattrs(inode)

    def versions(self, inode: InodeId) -> Sequence[Version]:
        """The live contents of a file, the shown one first; equal ones once."""
        meaning = self._rows.inode(inode).meaning
        return [] if meaning is None else [content.version for content in meaning.contents]

    def counts(self) -> Counts:
        """How much the volume shows, without counting it."""
        totals = self._rows.totals
        return Counts(totals.files, totals.directories, totals.bytes, totals.conflicts)

    # -- changing

    def tick(self) -> Stamp:
        """A stamp greater than any given or followed before."""
        return self.clock.tick()

    def group(self) -> Group:
        """Begin a group of local changes. One at a time."""
        return Group(
            Writing(
                self._rows,
                self._documents,
                self._placement,
                self.clock,
                self._slot,
                self._status.number,
            ),
            self._display,
            self._status,
        )

    def apply(
        self, updates: Sequence[tuple[int, Epoch, bytes]], via: bytes, *, limits: Limits = LIVE
    ) -> Change:
        """Take in updates made elsewhere, as one step. `via` vouches for them; authorising is the caller's.

        `limits` is `update.STATE` for differences between state vectors.

        Raises FormatError if one of them is not what a shard wrote or does not continue what is known; the
        store has not been changed then.
        """
        del via  # the journal's rows keep it
        decoded = self.check(updates, limits)
        touched = self._placement.touched = Touched()
        changed: dict[int, set[str]] = {}
        try:
            for number, epoch, update in updates:
                shard = self._documents.shard(number)
                if tuple(shard.epoch) != tuple(epoch):
                    raise FormatError(
                        f"an update of epoch {epoch[0]} for shard {number} of {shard.epoch.number}"
                    )
                keys = shard.apply(decode(update, shard.known, limits=limits))
                changed.setdefault(number, set()).update(key.rpartition(":")[0] for key in keys)
        except FormatError:
            self.unload()
            raise
        effects: list[Effect] = []
        now = self._now_ns()
        for number, records in changed.items():
            if number != META_SHARD:
                for inode, links in sorted(_by_inode(number, records).items()):
                    effects.extend(self._take(number, inode, links, now, decoded))
        self._rows.flush()
        return Change(updates, effects, frozenset(touched.inodes), frozenset(touched.names))

    def check(
        self, updates: Iterable[tuple[int, Epoch, bytes]], limits: Limits = LIVE
    ) -> Mapping[bytes, Record]:
        """Raise FormatError if an update is malformed in itself; return its records by their bytes."""
        decoded: dict[bytes, Record] = {}
        for number, _, update in updates:
            if not 0 <= number <= META_SHARD:
                raise FormatError(f"there is no shard {number}")
            for write in decode(update, None, limits=limits).writes:
                if number != META_SHARD:
                    if write.key is not None:
                        _check_key(number, write.key.rpartition(":")[0])
                    if write.value is not None:
                        decoded[write.value] = encoding.decode(write.value)
        return decoded

    def _take(
        self, number: int, inode: InodeId, links: Iterable[str], now: int, decoded: Mapping[bytes, Record]
    ) -> Iterable[Effect]:
        """The index follows the documents for one inode."""
        records: dict[str, Record] = {}
        raw: dict[str, bytes] = {}
        for link in links:
            values = self._documents.slots(number, f"{inode}.{link}" if link else inode)
            if values:
                found = [decoded.get(value) or encoding.decode(value) for value in values.values()]
                records[link] = joined = join_all(found)
                raw[link] = next(iter(values.values())) if len(found) == 1 else encoding.encode(joined)
        if not records:
            return []
        before, after = self._placement.update(inode, records, raw, now)
        stamp = max(record.latest for record in records.values())
        self.clock.observe(stamp)
        slot = _writer_of(before, records.values(), self._slot)
        return effects_of(before, after, stamp, slot)

    def rebuild_index(self) -> None:
        """Make the index anew from all shards. Lost is what this device alone knew: directories' times."""
        self.unload()
        for table in TABLES:
            for key, _ in list(self._store.scan(table, b"")):
                self._store.delete(table, key)
        self._placement.is_rebuilding = True
        explicit: list[InodeId] = []
        try:
            for number in range(SHARDS):
                explicit.extend(self._rebuild_shard(number))
        finally:
            self._placement.is_rebuilding = False
        for inode in explicit:
            record = self._rows.inode(inode).record
            directory = self._rows.directory(inode)
            if record is not None and record.mtime is not None and record.mtime.stamp >= directory.touched:
                directory.mtime = record.mtime.value
                self._rows.put_directory(inode, directory)
        self._rows.flush()

    def _rebuild_shard(self, number: int) -> list[InodeId]:
        """Returns the directories with an explicit mtime."""
        explicit: list[InodeId] = []
        shard = self._documents.shard(number)
        own = 0
        for inode, links in sorted(_by_inode(number, shard.records()).items()):
            records = {}
            for link in links:
                values = shard.get_slots(f"{inode}.{link}" if link else inode)
                records[link] = join_all(encoding.decode(value) for value in values.values())
            raw = {link: encoding.encode(record) for link, record in records.items()}
            places = [record.place.stamp for record in records.values() if record.place is not None]
            removals = [record.removed for record in records.values()]
            self._placement.update(inode, records, raw, max([*places, *removals], default=0))
            self.clock.observe(max(record.latest for record in records.values()))
            own = max(own, *(record.context.get(self._slot, 0) for record in records.values()))
            head = records.get("")
            if head is not None and head.kind is Kind.DIRECTORY and head.mtime is not None:
                explicit.append(inode)
        if own:
            self._rows.put_own_count(number, self._slot, own)
        self._documents.drop([number])
        return explicit

    def loaded_shards(self) -> Sequence[int]:
        """The documents in memory: those changed since the tree was opened or unloaded."""
        return sorted(self._documents.loaded)

    def snapshot(self, number: int) -> tuple[Epoch, bytes]:
        """The whole of one document, for the journal."""
        shard = self._documents.shard(number)
        return shard.epoch, shard.snapshot()

    def unload(self) -> None:
        """Drop every document and cache: the store was rolled back, or memory is short."""
        self._documents.drop()
        self._rows.forget()
        self._display.forget()


def _by_inode(number: int, keys: Iterable[str]) -> dict[InodeId, list[str]]:
    """The links of each inode among record keys."""
    inodes: dict[InodeId, list[str]] = {}
    for key in sorted(keys):
        _check_key(number, key)
        inode, link = split_key(key)
        inodes.setdefault(inode, []).append(link)
    return inodes


def _check_key(number: int, key: str) -> None:
    inode, _ = split_key(key)
    if len(inode) != len(ROOT) or shard_of(inode) != number:
        raise FormatError(f"shard {number} holds a record {key!r}, which is not one of its own")


def _writer_of(before: Inode, records: Iterable[Record], default: Slot) -> Slot:
    """Who made what is new in these records: one of them, if several did."""
    known = before.record.context if before.record is not None else {}
    for record in records:
        for slot, n in sorted(record.context.items()):
            if known.get(slot, 0) < n:
                return slot
    return default
