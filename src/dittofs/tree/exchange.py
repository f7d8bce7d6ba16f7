"""The tree and other replicas: what each has seen, what one lacks, and taking in what comes from elsewhere.

Judging a delivery changes nothing (delivery.py); taking it changes documents, index and rows together. If the
store is rolled back after `take`, `compact`, `rename` or an error in one of them, unload the tree.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from dittofs.ids import InodeId, Slot, Stamp, client_of_slot
from dittofs.tree import encoding
from dittofs.tree.brake import Brake
from dittofs.tree.delivery import (
    Arrival,
    Delivery,
    Judge,
    Update,
    by_inode,
)
from dittofs.tree.documents import Documents
from dittofs.tree.effects import effects_of
from dittofs.tree.entry import Change, Effect
from dittofs.tree.epochs import compacted, join_into
from dittofs.tree.hlc import Clock
from dittofs.tree.holds import decoded, encoded
from dittofs.tree.join import join_all
from dittofs.tree.placement import Placement, Touched
from dittofs.tree.record import DOCUMENTS, META_SHARD, Record, key_of, shard_of, split_key
from dittofs.tree.rows import Inode, Rows
from dittofs.tree.settings import decode_setting, encode_setting, join_settings
from dittofs.tree.shard import EPOCHS_MAX, FIRST_EPOCH, Shard
from dittofs.tree.states import Difference, DocumentState, exceeds
from dittofs.tree.update import RECORD_BYTES_MAX, decode_state_vector

WRITERS_MAX = 128
"""Clients in one state vector, before a fresh epoch forgets them. A restart may make a new one."""


@dataclass(slots=True)
class Taken:
    """What became of a delivery, a compaction or a renaming."""

    change: Change
    wholes: list[Update] = field(default_factory=list)
    """Snapshots that begin an epoch, for the journal."""
    own: list[Update] = field(default_factory=list)
    """What this replica wrote itself in taking it, after the snapshots."""


class Exchange:
    """See the module. Part of a `Tree`."""

    def __init__(
        self,
        rows: Rows,
        documents: Documents,
        placement: Placement,
        brake: Brake,
        clock: Clock,
        now_ns: Callable[[], int],
    ) -> None:
        self._rows = rows
        self._documents = documents
        self._placement = placement
        self._brake = brake
        self._clock = clock
        self._now_ns = now_ns
        self.judge = Judge(rows, documents, brake)

    # -- what is known

    def states(self) -> Sequence[DocumentState]:
        """What every document has seen, by number. Loads none."""
        return self._rows.states.all()

    def root_digest(self) -> bytes:
        """32 bytes that are equal for equal states."""
        return self._rows.states.root_digest()

    def digests(self) -> list[bytes]:
        """8 bytes of each document's state, by number."""
        return self._rows.states.digests()

    def difference(self, number: int, theirs: DocumentState) -> Difference | None:
        """What a replica in the state `theirs` lacks of a document; None: nothing that we have.

        Raises FormatError if their vector is none.
        """
        known = decode_state_vector(theirs.vector)
        states = self._rows.states
        epoch = states.epoch(number)
        is_whole = theirs.epoch != epoch
        ours = states.known(number)
        if not is_whole and not exceeds(ours, known):
            return None
        with self._documents.reading(number) as shard:
            update = shard.snapshot() if is_whole else shard.diff(theirs.vector)
        return Difference(number, epoch, update, is_whole)

    def lacks(self, number: int, theirs: DocumentState) -> bool:
        """Whether who is in the state `theirs` may know something of a document that we do not.

        Raises FormatError if their vector is none.
        """
        known, states = decode_state_vector(theirs.vector), self._rows.states
        if theirs.epoch > states.epoch(number):
            return True
        is_left = theirs.epoch < states.epoch(number)
        return exceeds(known, self._documents.left(number, theirs.epoch) if is_left else states.known(number))

    def is_fork(self, theirs: Iterable[tuple[int, DocumentState]]) -> bool:
        """Whether somebody knows more of the present writer than it has written.

        Raises FormatError if a vector is none.
        """
        client = self._documents.client_id
        for number, (epoch, vector) in theirs:
            if not 0 <= number < DOCUMENTS:
                continue
            ours = self._rows.states.epoch(number)
            if epoch >= ours:
                written = self._rows.states.known(number).get(client, 0) if epoch == ours else 0
                if decode_state_vector(vector).get(client, 0) > written:
                    return True
        return False

    # -- what comes from elsewhere

    def take(self, delivery: Delivery, via: bytes, *, is_round: bool) -> Taken:
        """Take in what was judged; nothing may have changed since."""
        touched = self._placement.touched = Touched()
        effects: list[Effect] = []
        own: list[Update] = []
        # The settings first: they say what the device of a writer is called, in its first group too.
        for number, arrival in sorted(delivery.arrivals.items(), key=lambda one: one[0] != META_SHARD):
            if arrival.whole is None:
                shard = self._documents.take(number, arrival.updates, arrival.preview)
                changed: Collection[str] = {key.rpartition(":")[0] for key in arrival.preview.changes}
            else:
                shard, changed, joined = self._adopt(number, arrival)
                own.extend((number, shard.epoch, update) for update in joined)
            if arrival.left is not None:
                updates, _, added = join_into(shard, arrival.left, number)
                own.extend((number, shard.epoch, update) for update in updates)
                changed = {*changed, *added}
                self._rows.states.moved(number, shard.epoch, shard.known)
                self._documents.joined(number, arrival.left.epoch, arrival.left.known)
            effects.extend(self._follow(number, shard, changed, arrival.preview.changes, delivery.records))
        effects = self._settle(effects)
        self._rows.flush(self._clock.greatest)
        change = Change(
            delivery.updates,
            effects,
            frozenset(touched.inodes),
            frozenset(touched.names),
            via,
            is_round or bool(delivery.wholes),
        )
        return Taken(change, delivery.wholes, own)

    def _settle(self, effects: list[Effect]) -> list[Effect]:
        """Hold what was too much: its effects are nothing that anybody sees."""
        held = self._brake.settle()
        if not held:
            return effects
        unseen = {one.after.id for one in held if one.is_fresh}
        effects = [effect for effect in effects if effect.inode not in unseen]
        stamp = self._clock.tick()
        for one in held:
            effects.extend(effects_of(one.before, one.after, stamp, self._documents.slot))
        return effects

    def release(self, inodes: Iterable[InodeId]) -> Taken:
        """Show held inodes as the documents have them. Nothing is written."""
        touched = self._placement.touched = Touched()
        now = self._now_ns()
        effects = [effect for inode in inodes for effect in self._brake.release(inode, now)]
        self._rows.flush(self._clock.greatest)
        return Taken(
            Change((), effects, frozenset(touched.inodes), frozenset(touched.names), is_unasked=True)
        )

    def _adopt(self, number: int, arrival: Arrival) -> tuple[Shard, Collection[str], list[bytes]]:
        assert arrival.whole is not None
        fresh = Shard(arrival.whole, self._documents.client_id)
        fresh.take(arrival.updates, arrival.preview)
        joined: list[bytes] = []
        changed: Collection[str]
        if self._rows.states.known(number):
            joined, changed, _ = join_into(fresh, self._documents.shard(number), number)
        else:
            changed = set(fresh.records())
        self._documents.succeed(number, fresh)
        return fresh, changed, joined

    def _follow(
        self,
        number: int,
        shard: Shard,
        changed: Collection[str],
        fresh: Mapping[str, bytes | None],
        decoded: Mapping[bytes, Record],
    ) -> Iterable[Effect]:
        """The index follows a document."""
        if number == META_SHARD:
            self.follow_settings(shard, changed)
            return
        now = self._now_ns()
        for inode, links in sorted(by_inode(number, changed).items()):
            yield from self._follow_inode(shard, inode, links, now, fresh, decoded)

    def _follow_inode(
        self,
        shard: Shard,
        inode: InodeId,
        links: Iterable[str],
        now: int,
        fresh: Mapping[str, bytes | None],
        decoded: Mapping[bytes, Record],
    ) -> Iterable[Effect]:
        records: dict[str, Record] = {}
        raw: dict[str, bytes] = {}
        for link in links:
            values = shard.get_slots(key_of(inode, link), fresh)
            if values:
                found = [decoded.get(value) or encoding.decode(value) for value in values.values()]
                records[link] = joined = join_all(found)
                raw[link] = (
                    next(iter(values.values()))
                    if len(found) == 1
                    else encoding.encode(joined, encoding.JOINED_BYTES_MAX)
                )
        if not records:
            return []
        if inode in self._brake.holds:
            known = self._brake.follow(inode, records)
            if known is None:
                self._clock.observe(max(record.latest for record in records.values()))
                return []
            records, raw = known, encoded(known)
        before, after = self._placement.update(inode, records, raw, now, made=_names_made(records.values()))
        stamp = max(record.latest for record in records.values())
        self._clock.observe(stamp)
        slot = _writer_of(before, records.values(), self._documents.slot)
        self._brake.note(before, after, slot)
        changed = [(before, after), *self._placement.take_awaited()]
        return [effect for one, other in changed for effect in effects_of(one, other, stamp, slot)]

    def follow_all(self, number: int) -> dict[InodeId, dict[str, Record]]:
        """The joined records of a shard, by inode and link, for an index made anew."""
        shard = self._documents.stored(number)
        if shard is None:
            return {}
        self._rows.states.moved(number, shard.epoch, shard.known)
        if number == META_SHARD:
            self.follow_settings(shard, list(shard.records()))
            return {}
        return {
            inode: {
                link: join_all(map(encoding.decode, shard.get_slots(key_of(inode, link)).values()))
                for link in links
            }
            for inode, links in sorted(by_inode(number, shard.records()).items())
        }

    def follow_settings(self, shard: Shard, names: Iterable[str]) -> None:
        """The index follows the meta document."""
        for name in sorted(names):
            values = shard.get_slots(name)
            if values:
                setting = join_settings(map(decode_setting, values.values()))
                self._clock.observe(setting.stamp)
                self._rows.settings.put(name, setting)
        # Conflict entries are called after devices, and the settings say what those are called.
        self._placement.generation += 1

    # -- documents that are damaged

    def remade(self, number: int) -> Update | None:
        """A document whose stored form is lost, of what the index says of it: the next epoch, as compaction
        would have begun it. None: that cannot be done.

        For the journal, in one transaction with what the index says. The document must not be loaded.
        """
        epoch = self._rows.states.epoch(number).number + 1
        joined = self._settings() if number == META_SHARD else self._records(number)
        if epoch >= EPOCHS_MAX or any(len(value) > RECORD_BYTES_MAX for value in joined.values()):
            return None
        fresh = Shard.begin(epoch, joined, self._documents.client_id)
        self._rows.states.moved(number, fresh.epoch, fresh.known)
        self._rows.flush(self._clock.greatest)
        return number, fresh.epoch, fresh.snapshot()

    def _settings(self) -> dict[str, bytes]:
        return {name: encode_setting(one) for name, one in self._rows.settings.registers().items()}

    def _records(self, number: int) -> dict[str, bytes]:
        """What the index has of a document, and of what is held what the documents had last."""
        held = self._brake.holds
        found: dict[str, Record] = {}
        for raw, row in self._rows.raw_records():
            key = raw.decode("ascii")
            inode, _ = split_key(key)
            if shard_of(inode) == number and inode not in held:
                found[key] = encoding.decode(row[1:], encoding.JOINED_BYTES_MAX)
        for inode in held.all:
            hold = held.get(inode)
            if hold is not None and shard_of(inode) == number:
                found.update({key_of(inode, link): one for link, one in decoded(hold.known).items()})
        return {key: encoding.encode(one, encoding.JOINED_BYTES_MAX) for key, one in found.items()}

    def lost(self, number: int) -> None:
        """A document is empty from now on, until another replica gives it. The index shows what it showed."""
        self._documents.drop([number])
        self._rows.states.moved(number, FIRST_EPOCH, {})
        self._rows.flush(self._clock.greatest)

    # -- fresh epochs

    def is_compaction_due(self, number: int) -> bool:
        """Whether garbage prevails in a document, or its state vector has grown long."""
        shard = self._documents.shard(number)
        is_due = shard.garbage().is_excessive or len(shard.known) > WRITERS_MAX
        return is_due and shard.epoch.number + 1 < EPOCHS_MAX

    def compact(self, number: int) -> Taken | None:
        """Begin a fresh epoch of a document. None: a record of it does not fit into one value."""
        fresh = compacted(self._documents.shard(number), number)
        if fresh is None:
            return None
        self._documents.succeed(number, fresh)
        self._rows.flush(self._clock.greatest)
        wholes = [(number, fresh.epoch, fresh.snapshot())]
        return Taken(Change((), (), frozenset(), frozenset(), is_round=True), wholes)

    def rename(self, client_id: int, names: Mapping[Slot, Slot]) -> Taken:
        """Write as `client_id` from now on; what slots of ours wrote is called by other `names`.

        Every document that they wrote in or that speaks of them begins a fresh epoch, so that the others'
        records of that name and ours meet as what they are: changes of two writers. Nothing of it is in the
        index yet: it is made anew once the journal has the snapshots, for what was seen may not be any more.
        """
        self.write_as(client_id)
        self._brake.rename(names)
        wholes: list[Update] = []
        spoken_of = self._speaking_of(names)
        clients = {client_of_slot(slot) for slot in names}
        numbers = {shard_of(inode) for inode in spoken_of}
        numbers.update(n for n in range(DOCUMENTS) if not clients.isdisjoint(self._rows.states.known(n)))
        for number in sorted(numbers):
            shard = self._documents.shard(number)
            fresh = compacted(shard, number, names) if shard.epoch.number + 1 < EPOCHS_MAX else None
            if fresh is not None:
                self._documents.replace(number, fresh)
                wholes.append((number, fresh.epoch, fresh.snapshot()))
        found = (self._rows.inode(inode).meaning for inode in spoken_of)
        shown = {(one.place.parent, one.place.name) for meaning in found if meaning for one in meaning.names}
        touched = spoken_of | {parent for parent, _ in shown}
        return Taken(Change((), (), frozenset(touched), frozenset(shown), is_round=True), wholes)

    def write_as(self, client_id: int) -> None:
        """Write as another client from now on."""
        self._documents.drop()
        self._documents.client_id = client_id

    def _speaking_of(self, slots: Iterable[Slot]) -> set[InodeId]:
        """The inodes with a record that names one of `slots`."""
        needles = [encoding.pack_id(slot) for slot in slots]
        return self._brake.speaking_of(needles) | {
            split_key(key.decode("ascii"))[0]
            for key, row in self._rows.raw_records()
            if any(needle in row for needle in needles)
        }


def _names_made(records: Iterable[Record]) -> Stamp:
    """When the names of an inode were last given or removed."""
    places = [record.place.stamp for record in records if record.place is not None]
    return max([*places, *(record.removed for record in records)], default=Stamp(0))


def _writer_of(before: Inode, records: Iterable[Record], default: Slot) -> Slot:
    """Who made what is new in these records: one of them, if several did."""
    known = before.record.context if before.record is not None else {}
    for record in records:
        for slot, n in sorted(record.context.items()):
            if known.get(slot, 0) < n:
                return slot
    return default
