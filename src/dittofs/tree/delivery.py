"""What arrives from elsewhere, judged before anything is changed.

A delivery is made whole or refused: every update is decoded, every record in it too, and what each will do to
its document is known. Then journal and documents may take it without a doubt left.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from dittofs.errors import Behind, Contradiction, Forked, FormatError
from dittofs.ids import ROOT, InodeId, Slot, client_of_slot, slot_of_client
from dittofs.tree import encoding
from dittofs.tree.brake import Brake
from dittofs.tree.documents import Documents
from dittofs.tree.encoding import JOINED_BYTES_MAX
from dittofs.tree.epochs import is_beyond
from dittofs.tree.heads import Heads, Preview
from dittofs.tree.join import join, slots_of_difference
from dittofs.tree.record import DOCUMENTS, META_SHARD, Record, shard_of, split_key
from dittofs.tree.rows import Rows
from dittofs.tree.settings import decode_setting, is_setting_name
from dittofs.tree.shard import Epoch, Shard, check_epoch
from dittofs.tree.states import Difference
from dittofs.tree.update import GENESIS_CLIENT, LIVE, STATE, DecodedUpdate, Limits, decode

RECORDS_KEPT_MAX = 4_096
"""So many decoded records are kept from judging to taking; a large round decodes the others twice."""
FORK_SETTING = "fork/"
"""Then a client id, 12 hexadecimal digits: two histories wrote as this client."""

Update = tuple[int, Epoch, bytes]
"""Document, epoch, update."""


@dataclass(slots=True)
class Arrival:
    """New updates of one document."""

    updates: list[DecodedUpdate]
    preview: Preview
    whole: Epoch | None = None
    """The epoch that they begin, in place of the document we have."""
    left: Shard | None = None
    """The document of an epoch that was left here, if it says more than ours does."""


@dataclass(slots=True)
class Delivery:
    """What is new of all that arrived. Valid until the next change of any kind."""

    updates: list[Update] = field(default_factory=list)
    """For the log, in order."""
    wholes: list[Update] = field(default_factory=list)
    """Snapshots that begin an epoch."""
    arrivals: dict[int, Arrival] = field(default_factory=dict)
    records: dict[bytes, Record] = field(default_factory=dict)
    """Some of the records, by their bytes."""

    @property
    def is_new(self) -> bool:
        return bool(self.updates or self.wholes) or any(one.left for one in self.arrivals.values())


@dataclass(slots=True)
class _Chain:
    """The parts of one document in a round, in their order."""

    whole: Update | None = None
    """Of a higher epoch than ours."""
    since: list[Update] = field(default_factory=list)
    """What came to that one, or to ours."""
    left: list[Update] = field(default_factory=list)
    """Of an epoch that was left here: the whole document, and what came to it."""


class Judge:
    """Makes deliveries. It changes nothing, but may load documents."""

    def __init__(self, rows: Rows, documents: Documents, brake: Brake) -> None:
        self._rows = rows
        self._brake = brake
        self._documents = documents
        self.forkable: set[Slot] = {documents.slot}
        """Slots of ours that still stand for one history only, as far as is known."""

    def group(self, updates: Sequence[Update]) -> Delivery:
        """A group as its writer made it. `Behind`, `Forked` or FormatError if it cannot be taken whole."""
        delivery = Delivery()
        for number, epoch, _ in updates:
            _check_document(number, epoch)
            if epoch != self._rows.states.epoch(number):
                raise Behind(f"an update of epoch {epoch[0]} of document {number}")
        self._judge(delivery, updates, LIVE)
        return delivery

    def round(self, parts: Sequence[Difference]) -> Delivery:
        """The parts of a round, those of one document in order; of an epoch we left what ours lacks."""
        delivery = Delivery()
        chains: dict[int, _Chain] = {}
        for number, epoch, update, is_whole in sorted(parts, key=_meta_first):
            _check_document(number, epoch)
            chain = chains.setdefault(number, _Chain())
            reached = chain.whole[1] if chain.whole is not None else self._rows.states.epoch(number)
            part = number, Epoch(*epoch), update
            if epoch == reached:
                chain.since.append(part)
            elif is_whole and epoch > reached:
                chains[number] = _Chain(part)  # it has all that came before it
            elif is_whole:
                chain.left = [part]
            elif chain.left and epoch == chain.left[0][1]:
                chain.left.append(part)
            else:
                raise Behind(f"a difference of epoch {epoch[0]} of document {number}, which is not here")
        for number, chain in chains.items():
            if chain.whole is not None:
                self._judge_whole(delivery, chain.whole, chain.since)
            else:
                self._judge(delivery, chain.since, STATE)
            if chain.left:
                self._judge_left(delivery, number, chain.left)
        return delivery

    def would_write(self, part: Difference) -> bool:
        """Whether taking a whole document would make us write: what it lacks, or if it is of an epoch that
        we left what ours lacks.

        Raises FormatError if it is none.
        """
        number, epoch = part.document, self._rows.states.epoch(part.document)
        if not part.is_whole or part.epoch == epoch:
            return False
        theirs = Shard.load(part.epoch, part.update, (), self._documents.client_id)
        ours = self._documents.shard(number)
        return is_beyond(theirs, ours, number) if part.epoch > epoch else is_beyond(ours, theirs, number)

    def _judge(self, delivery: Delivery, updates: Iterable[Update], limits: Limits) -> None:
        found: dict[int, list[DecodedUpdate]] = {}
        ahead: dict[int, dict[int, int]] = {}
        for number, epoch, raw in updates:
            update = decode(raw, None, limits=limits)
            if self._is_new(number, update, ahead.setdefault(number, {})):
                found.setdefault(number, []).append(update)
                delivery.updates.append((number, epoch, raw))
        for number, fresh in found.items():
            shard = self._documents.shard(number)
            preview = shard.preview(fresh)
            if shard.empties(preview):
                known = self._rows.states.known(number)
                writers = {client for update in fresh for client in update.ranges if client in known}
                raise Contradiction(writers, "an update leaves nothing of a record")
            self._judge_records(delivery, number, preview)
            delivery.arrivals[number] = Arrival(fresh, preview)

    def _is_new(self, number: int, update: DecodedUpdate, ahead: dict[int, int]) -> bool:
        """Whether an update holds an operation that is not known, nor `ahead` of this one in the delivery.

        One that holds none says nothing, whatever it deletes: what is deleted follows from the operations.
        """
        known = self._rows.states.known(number)
        is_new = False
        for client, (_, end) in update.ranges.items():
            if end > known.get(client, 0) and end > ahead.get(client, 0):
                if client == GENESIS_CLIENT:
                    raise FormatError("an update adds to what compaction wrote")
                if client == self._documents.client_id:
                    raise Forked(client, "an update holds operations of this writer that it did not make")
                ahead[client] = end
                is_new = True
        return is_new

    def _judge_whole(self, delivery: Delivery, whole: Update, since: Sequence[Update]) -> None:
        """A document of a higher epoch, and what came to it afterwards."""
        number, epoch, _ = whole
        updates = [decode(raw, None, limits=STATE) for _, _, raw in (whole, *since)]
        try:
            preview = Heads().preview(updates)
        except Behind as error:
            raise FormatError(f"a snapshot is not whole: {error}") from None
        client = self._documents.client_id
        if any(client in update.ranges for update in updates):
            raise Forked(client, f"this writer wrote in epoch {epoch.number}, in which it never was")
        if any(GENESIS_CLIENT in update.ranges for update in updates[1:]):
            raise FormatError("an update adds to what compaction wrote")
        self._judge_records(delivery, number, preview)
        delivery.wholes.append(whole)
        delivery.updates += since
        delivery.arrivals[number] = Arrival(updates, preview, epoch)

    def _judge_left(self, delivery: Delivery, number: int, parts: Sequence[Update]) -> None:
        """A document of an epoch that was left here, whose holder has not followed yet.

        What it alone knows is joined in, as its holder will do when it follows. Without that, what its holder
        said later would be known before it (decision 0021).
        """
        updates = [decode(raw, None, limits=STATE) for _, _, raw in parts]
        try:
            preview = Heads().preview(updates)
        except Behind as error:
            raise FormatError(f"a snapshot is not whole: {error}") from None
        self._judge_records(delivery, number, preview)
        left = Shard(parts[0][1], self._documents.client_id)
        left.take(updates, preview)
        if is_beyond(self._documents.shard(number), left, number):
            arrival = delivery.arrivals.setdefault(number, Arrival([], Preview({}, {}, {}, 0)))
            arrival.left = left
        else:
            self._documents.joined(number, left.epoch, left.known)

    def _judge_records(self, delivery: Delivery, number: int, preview: Preview) -> None:
        slot = self._documents.slot
        mine = self._rows.states.own_count(number, slot)
        for key, value in preview.changes.items():
            name = key.rpartition(":")[0]
            if number == META_SHARD:
                self._judge_setting(name, value)
                continue
            check_key(number, name)
            if value is None:
                continue
            record = encoding.decode(value)
            if record.context.get(slot, 0) > mine:
                client = self._documents.client_id
                raise Forked(client, "a record has seen changes of this writer that it did not make")
            if self._rows.states.known(number):
                self._compare(name, record)
            if len(delivery.records) < RECORDS_KEPT_MAX:
                delivery.records[value] = record

    def _compare(self, key: str, record: Record) -> None:
        """A record that has seen nothing which ours has not must say nothing which ours does not.

        Unless it is known whose history forked: what that one did was told anew under other names.
        """
        inode, link = split_key(key)
        if inode in self._brake.holds:  # the index has it as it was
            ours = self._brake.truth(inode).get(link)
        else:
            known = self._rows.inode(inode)
            ours = known.links.get(link) if link else known.record
        if ours is None or any(ours.context.get(slot, 0) < n for slot, n in record.context.items()):
            return
        joined = join(ours, record)
        if encoding.encode(joined, JOINED_BYTES_MAX) != encoding.encode(ours, JOINED_BYTES_MAX):
            detail = f"a record contradicts what its writers did to {key}"
            slots = slots_of_difference(joined, ours) | slots_of_difference(joined, record)
            for slot in sorted(slots & self.forkable):
                raise Forked(client_of_slot(slot), detail)
            clients = map(client_of_slot, slots)
            unknown = [one for one in clients if self._rows.settings.get(fork_setting(one)) is None]
            if unknown:
                raise Contradiction(unknown, detail)

    def _judge_setting(self, name: str, value: bytes | None) -> None:
        if not is_setting_name(name):
            raise FormatError("the meta document holds what is no setting")
        if value is not None:
            decode_setting(value)
            client = _forked_client(name)
            if client is not None and slot_of_client(client) in self.forkable:
                raise Forked(client, "another replica found that two histories wrote as this one")


def fork_setting(client_id: int) -> str:
    """The setting that says that two histories wrote as this client."""
    return f"{FORK_SETTING}{client_id:012x}"


def _forked_client(name: str) -> int | None:
    number = name.removeprefix(FORK_SETTING)
    is_client = number != name and len(number) == 12 and set(number) <= set("0123456789abcdef")
    return int(number, 16) if is_client else None


def by_inode(number: int, keys: Iterable[str]) -> Mapping[InodeId, list[str]]:
    """The links of each inode among record keys, both in order."""
    inodes: dict[InodeId, list[str]] = {}
    for key in sorted(keys):
        check_key(number, key)
        inode, link = split_key(key)
        inodes.setdefault(inode, []).append(link)
    return inodes


def check_key(number: int, key: str) -> None:
    """Raise FormatError unless a record of this key belongs into this shard."""
    inode, _ = split_key(key)
    if len(inode) != len(ROOT) or shard_of(inode) != number:
        raise FormatError(f"shard {number} holds a record {key!r}, which is not one of its own")


def _check_document(number: int, epoch: Epoch) -> None:
    if not 0 <= number < DOCUMENTS:
        raise FormatError(f"there is no document {number}")
    check_epoch(epoch)


def _meta_first(part: Difference) -> tuple[bool, int]:
    return part.document != META_SHARD, part.document
