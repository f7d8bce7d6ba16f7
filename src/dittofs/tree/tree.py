"""The tree of one volume: what programs see of it, and what changes from elsewhere do to it.

Pure but for the store and the shard source it is given: no clock, no randomness. One task owns it. All reads
go to the index; a shard document is loaded at its first change. If the store is rolled back, or a method
raises anything but FSError, call `unload`: the next use reads everything again.
"""

from collections.abc import Callable, Collection, Mapping, Sequence

from dittofs.ids import ROOT, InodeId, Number, Slot, Stamp
from dittofs.tree import encoding
from dittofs.tree.brake import Brake
from dittofs.tree.checking import Compared, compare
from dittofs.tree.display import Display
from dittofs.tree.documents import Documents
from dittofs.tree.effects import whole_of
from dittofs.tree.entry import Attributes, Change, Counts, Effect, Entry
from dittofs.tree.exchange import Exchange
from dittofs.tree.group import Group
from dittofs.tree.hlc import Clock
from dittofs.tree.holds import Holds, LocalRows
from dittofs.tree.index import IndexStore, ShardSource
from dittofs.tree.placement import Placement
from dittofs.tree.record import (
    DOCUMENTS,
    NEVER,
    Dot,
    Kind,
    NewVersion,
    Owner,
    Record,
    Ref,
    Version,
)
from dittofs.tree.rows import Rows
from dittofs.tree.shard import Epoch
from dittofs.tree.status import Status
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
    "state",
    "setting",
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
        device_key: Callable[[Slot], str] | None = None,
        now_ns: Callable[[], int],
        greatest: Stamp,
        local: LocalRows | None = None,
    ) -> None:
        self._store = store
        self._rows = Rows(store)
        self._documents = Documents(shards, self._rows.states, client_id)
        self._placement = Placement(self._rows)
        self._display = Display(self._rows, self._placement, device_label)
        self._status = Status(self._rows, self._display, own_slots)
        self._own_slots = own_slots
        self.clock = Clock(now_ns, greatest)
        """Its `greatest` is what a restart must begin from."""
        self.brake = Brake(
            self._rows,
            self._documents,
            self._placement,
            self.clock,
            Holds(local),
            key=device_key or device_label,
            label=device_label,
            is_own=own_slots,
        )
        """What is held, and shown as it was. Nothing is, until it is given limits."""
        self.exchange = Exchange(self._rows, self._documents, self._placement, self.brake, self.clock, now_ns)
        """What other replicas have to do with this one."""

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

    def asides(self, directory: InodeId) -> Collection[bytes]:
        """The names of a directory that are there for a conflict: versions, and things called the same."""
        return self._display.asides(directory)

    def beside(self, directory: InodeId) -> Mapping[bytes, bytes]:
        """Of each name in `asides` the one that it stands beside."""
        return self._display.beside(directory)

    def conflicted(self) -> Sequence[InodeId]:
        """The directories with names in `asides`. Costs grow with the conflicts, not with the tree."""
        return self._display.conflicted()

    def label(self, slot: Slot) -> str:
        """What the device of a writer was called when it began: conflict entries are named by that."""
        return self._display.label(slot)

    def is_own(self, slot: Slot) -> bool:
        """Whether this device wrote as that writer, now or before."""
        return self._own_slots(slot)

    def writer_of(self, ref: Ref, link: str = "") -> Slot | None:
        """Who wrote what a visible thing shows; of what has no content, who gave it its name."""
        version = self.version(ref)
        if version is not None:
            return version.dot[0]
        inode = self._rows.inode(ref[0])
        record = inode.links.get(link) if link else inode.record
        return None if record is None or record.place is None else record.place.slot

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

    def place(self, directory: InodeId) -> tuple[InodeId, bytes] | None:
        """The parent and name of a directory, visible or not. None: the root, or no known directory."""
        return self._placement.place_of(directory)

    def names(self, inode: InodeId) -> Sequence[tuple[InodeId, Entry]]:
        """Every visible (directory, entry) of an inode: its names first, then its conflict entries."""
        return self._status.names(inode)

    @property
    def is_straight(self) -> bool:
        """Whether every directory is shown alone, and where its own place is."""
        return not (self._rows.totals.merged or self._rows.displaced)

    def by_number(self, number: Number) -> Ref | None:
        """The visible thing with this st_ino, or a merged directory of which it is an alias."""
        return self._status.by_number(number)

    def xattrs(self, inode: InodeId) -> Mapping[bytes, bytes]:
        """The extended attributes of an inode."""
        return self._status.xattrs(inode)

    def whole(self, inode: InodeId) -> bytes | None:
        """All there is to a living inode, as the history keeps it of a removed one (effects.py)."""
        return whole_of(self._rows.inode(inode))

    def claimants(self, directory: InodeId) -> Sequence[InodeId]:
        """Every inode with a name in this very directory, however it is shown."""
        return [
            InodeId(held.key.partition(".")[0])
            for _, claims in self._rows.all_claims(directory)
            for held in claims
        ]

    def kind(self, inode: InodeId) -> Kind | None:
        """What an inode is, visible or not; None: nothing is known of it."""
        record = self._rows.inode(inode).record
        return None if record is None else record.kind

    def inodes(self, prefix: str) -> Sequence[InodeId]:
        """The inodes whose id begins with `prefix`, visible or not."""
        keys = self._store.scan("record", prefix.encode("ascii"))
        return [InodeId(key.decode("ascii")) for key, _ in keys if b"." not in key]

    def versions(self, inode: InodeId) -> Sequence[Version]:
        """The live contents of a file, the shown one first; equal ones once."""
        meaning = self._rows.inode(inode).meaning
        return [] if meaning is None else [content.version for content in meaning.contents]

    def counts(self) -> Counts:
        """How much the volume shows, without counting it."""
        totals = self._rows.totals
        return Counts(totals.files, totals.directories, totals.bytes, totals.conflicts)

    def setting(self, name: str) -> bytes | None:
        """One setting of the volume, None if it has no value."""
        found = self._rows.settings.get(name)
        return None if found is None else found.value

    def set_at(self, name: str) -> Stamp:
        """When a setting was set or removed last; NEVER: it was not."""
        found = self._rows.settings.get(name)
        return NEVER if found is None else found.stamp

    def removed_at(self, inode: InodeId) -> Stamp | None:
        """When what is shown nowhere lost a name last. None: it is shown, or nothing is known of it."""
        if self.names(inode):
            return None
        known = self._rows.inode(inode)
        records = [one for one in (known.record, *known.links.values()) if one is not None]
        stamps = (stamp for one in records for stamp in (one.removed, *(to.stamp for to in one.forwards)))
        return max(stamps, default=None)

    def settings(self) -> Mapping[str, bytes]:
        """The settings of the volume that all replicas share, by name."""
        return self._rows.settings.values()

    @property
    def client_id(self) -> int:
        """Who writes here."""
        return self._documents.client_id

    def recall(self) -> None:
        """Let the clock go on from the stamps in the index, which has been found readable."""
        self.clock.seen(self._rows.states.greatest)

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
                self._status.number,
                self.brake,
            ),
            self._display,
            self._status,
        )

    def rebuild_index(self) -> None:
        """Make the index anew from all shards. Lost is what this device alone knew: directories' times."""
        self.unload()
        for table in TABLES:
            for key, _ in list(self._store.scan(table, b"")):
                self._store.delete(table, key)
        self._placement.is_rebuilding = True
        explicit: list[InodeId] = []
        held = self.brake.by_shard()
        try:
            for number in range(DOCUMENTS):
                explicit.extend(self._rebuild_shard(number, held.get(number, {})))
        finally:
            self._placement.is_rebuilding = False
        for inode in explicit:
            record = self._rows.inode(inode).record
            directory = self._rows.directory(inode)
            if record is not None and record.mtime is not None and record.mtime.stamp >= directory.touched:
                directory.mtime = record.mtime.value
                self._rows.put_directory(inode, directory)
        self._rows.flush(self.clock.greatest)

    def _rebuild_shard(self, number: int, held: Mapping[InodeId, dict[str, Record]]) -> list[InodeId]:
        """Returns the directories with an explicit mtime. `held` are shown as they were."""
        explicit: list[InodeId] = []
        own = 0
        slot = self._documents.slot
        found = self.exchange.follow_all(number)
        for records in found.values():
            self.clock.observe(max(record.latest for record in records.values()))
            own = max(own, *(record.context.get(slot, 0) for record in records.values()))
        for inode, records in sorted({**found, **held}.items()):
            raw = {
                link: encoding.encode(record, encoding.JOINED_BYTES_MAX) for link, record in records.items()
            }
            places = [record.place.stamp for record in records.values() if record.place is not None]
            removals = [record.removed for record in records.values()]
            self._placement.update(inode, records, raw, max([*places, *removals], default=0))
            head = records.get("")
            if head is not None and head.kind is Kind.DIRECTORY and head.mtime is not None:
                explicit.append(inode)
        if own:
            self._rows.states.put_own_count(number, slot, own)
        self._rows.flush(self.clock.greatest)
        self._documents.drop([number])
        return explicit

    def compare(self, number: int) -> Compared:
        """Hold the index against one document, which is loaded for it."""
        is_loaded = number in self._documents.loaded
        compared = compare(number, self._documents.shard(number), self._rows, self.brake.holds.all)
        if not is_loaded:
            self._documents.drop([number])
        return compared

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
        self.brake.forget()
