"""Who belongs to a volume: the grow-only set of its member and generation records, and its meaning."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from types import MappingProxyType

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from dittofs.errors import FormatError
from dittofs.identity.genesis import Genesis
from dittofs.identity.keys import DeviceId
from dittofs.identity.lookup import Names
from dittofs.identity.people import People, Standing
from dittofs.identity.publics import Publics
from dittofs.identity.record_set import RecordSet, View
from dittofs.identity.records import Kind, Record, Role, parse_record
from dittofs.identity.root import derive

RECORDS_MAX = 4096
VOIDS_MAX = 64
"""Records of one signer that do not count: a removed owner can make any number of them."""
NAMES_MAX = 1 << 16
"""Of one set of records that comes in at once: of each device one by itself and one by each owner."""


@dataclass(frozen=True, slots=True)
class Member:
    """A device that belongs to the volume."""

    device: DeviceId
    name: str
    role: Role
    publics: Publics = field(repr=False)

    @property
    def signing(self) -> bytes:
        """Ed25519 public key, 32 bytes."""
        return self.publics.signing_key().public_bytes_raw()

    @property
    def wrapping(self) -> bytes:
        """X25519 public key, 32 bytes."""
        return self.publics.wrapping


@dataclass(frozen=True, slots=True)
class Generation:
    """One age of the volume's key."""

    name: bytes
    """8 bytes."""
    record: Record | None
    """The record that began it; None for the first, which the genesis began."""
    depth: int
    """How many records its maker knew."""


class Membership:
    """The records of one volume, and every set of them has one meaning.

    Those of members and generations are never forgotten, of names the last are kept. Each record's parents
    are in the set before it. `records` is in such an order, so that a part of it from the start, of any
    length, can be added elsewhere.
    """

    def __init__(self, genesis: Genesis) -> None:
        self.genesis = genesis
        self._root_key = Ed25519PublicKey.from_public_bytes(genesis.root_sign)
        self._set = RecordSet()

    def copy(self) -> "Membership":
        """A membership of the same records that grows by itself."""
        twin = Membership(self.genesis)
        twin._set = self._set
        return twin

    def add(self, records: Iterable[bytes], *, voids_max: int = VOIDS_MAX) -> list[bytes]:
        """Take up `records`, in any order; return the ids of those that are new, parents first.

        Those that do not count, and that nothing that counts descends from, are left out where their signer
        has `voids_max` already: whoever has them tells them again when they may count.
        `FormatError`, and nothing is added, if one is malformed or forged, names a parent that is neither
        known nor among them, or is signed by a device that had no say (wire.md), or if they become too many.
        """
        fresh: dict[bytes, Record] = {}
        for signed in records:
            record = parse_record(signed, self.genesis.volume_id)
            if record.id not in self._set.index or self.record(record.id).signed != signed:
                fresh[record.id] = record
            if len(fresh) > RECORDS_MAX + NAMES_MAX:
                raise FormatError(f"a volume has at most {RECORDS_MAX} member records")
        wanted = self._without_voids(fresh, voids_max)
        grown = self._set.copy()
        added = []
        for identity in wanted:
            if grown.admit(fresh[identity], self._root_key, self.genesis.volume_id):
                added.append(identity)
        kept = {record.id for record in grown.names}
        added = [identity for identity in added if identity in grown.index or identity in kept]
        if added:
            self._set = grown
        return added

    def _without_voids(self, fresh: Mapping[bytes, Record], voids_max: int) -> list[bytes]:
        """Which of them to take up, parents first. No signature is checked here: that is dear.

        A forged one that does not count may be left out; one that counts is not, and found out then.
        """
        ordered = list(_parents_first(fresh))
        placed = [fresh[identity] for identity in ordered if fresh[identity].kind != Kind.NAME]
        if not placed:
            return ordered
        trial = self._set.copy()
        for record in placed:
            trial.place(record, self.genesis.volume_id)
        left_out = trial.surplus(len(self._set.records), self.genesis.volume_id, voids_max)
        if len(trial.records) - len(left_out) > RECORDS_MAX:
            raise FormatError(f"a volume has at most {RECORDS_MAX} member records")
        return [identity for identity in ordered if identity not in left_out]

    @property
    def records(self) -> Mapping[bytes, bytes]:
        """Id -> record as it was signed, parents first, names last."""
        return MappingProxyType(
            {record.id: record.signed for record in (*self._set.records, *self._set.names)}
        )

    def parsed(self) -> Sequence[Record]:
        """All records of members and generations, parents first."""
        return self._set.records

    def counted(self) -> list[Record]:
        """The records that count, parents first."""
        return [record for record in self._set.records if self.counts(record.id)]

    def counts(self, identity: bytes) -> bool:
        """Whether the record `identity`, one of this set, counts."""
        return self._view.ranks[self._set.index[identity]] is not None

    def heads(self) -> list[bytes]:
        """Ids of the records that are no record's parent, ascending."""
        parents = {parent for record in self._set.records for parent in record.body.parents}
        return sorted(self._set.index.keys() - parents)

    def knew(self, identity: bytes, other: bytes) -> bool:
        """Whether `other` is an ancestor of `identity`: whoever signed the one knew the other."""
        return bool(self._set.ancestors[self._set.index[identity]] >> self._set.index[other] & 1)

    def digest(self) -> bytes:
        """32 bytes, equal exactly for equal sets of the same volume."""
        ids = (*sorted(self._set.index), *(record.id for record in self._set.names))
        return derive("membership", self.genesis.volume_id + b"".join(ids))

    def record(self, identity: bytes) -> Record:
        """The record `identity`, one of this set."""
        return self._set.records[self._set.index[identity]]

    def deciding(self, device: DeviceId) -> Record | None:
        """The record that let `device` in, or took it out; None if none that counts is about it."""
        return self._view.deciding.get(device)

    @property
    def people(self) -> People:
        """Whose the devices are, and what that lets them do."""
        return self._view.people

    def role(self, device: DeviceId) -> Role:
        """What `device` may do."""
        return self.standing(device).role

    def standing(self, device: DeviceId) -> Standing:
        """What `device` may do, and what says so."""
        return self._view.people.standing(device)

    def admitted(self, device: DeviceId) -> Member | None:
        """The device, if it was let in and not taken out since; its role may be none."""
        deciding = self._view.deciding.get(device)
        if deciding is None or deciding.publics is None:
            return None
        return Member(device, self.name(device), self.role(device), deciding.publics)

    def all_admitted(self) -> list[Member]:
        """All devices that were let in and not taken out since, by name. Some may do nothing now."""
        found = (self.admitted(DeviceId(device)) for device in self._view.deciding)
        return sorted((one for one in found if one), key=lambda one: (one.name, one.device))

    def called(self, text: str) -> list[Member]:
        """Those of them who may be meant by `text`, a name or the beginning of an id."""
        meant = self.names().meant(text)
        return [one for one in self.all_admitted() if one.device.hex() in meant]

    def names(self) -> Names:
        """What they are called."""
        return Names({one.device.hex(): one.name for one in self.all_admitted()})

    def members(self) -> list[Member]:
        """All devices that have a role, by name."""
        return [one for one in self.all_admitted() if one.role > Role.NONE]

    def owners(self) -> list[Member]:
        """The members who may invite and remove."""
        return [one for one in self.members() if one.role == Role.OWNER]

    def readers(self) -> list[Member]:
        """The members who may have the volume's secrets."""
        return [one for one in self.members() if one.role >= Role.READER]

    def name(self, device: DeviceId) -> str:
        """The last name of `device`, also of one that has no role any more; empty if there was none."""
        naming = self.naming(device)
        deciding = naming or self._view.deciding.get(device)
        if deciding is not None and deciding.body.name:
            return deciding.body.name
        given = [record for record in self.about(device) if record.body.name]
        last = max(given, key=lambda record: (self._depth(record.id), record.id), default=None)
        return last.body.name if last else ""

    def naming(self, device: DeviceId) -> Record | None:
        """The record that says what the device is called, if it was named after it was let in."""
        return self._set.names.of(device, self._may_name)

    def own_name(self, device: DeviceId) -> Record | None:
        """The record by which the device named itself last."""
        return self._set.names.own(device)

    def _may_name(self, signer: bytes) -> bool:
        return signer == self.genesis.volume_id or self.role(DeviceId(signer)) == Role.OWNER

    def signing_key(self, device: DeviceId) -> Ed25519PublicKey | None:
        """The key that the device signs with, of one that was let in once."""
        return self._set.signing_key(device)

    def about(self, device: DeviceId) -> list[Record]:
        """The counted records about `device`, parents first."""
        return [
            record
            for record in self.counted()
            if record.kind == Kind.MEMBER and record.body.subject == device
        ]

    def granted_by(self, device: DeviceId) -> list[Member]:
        """The members whose role `device` decided: whoever removes it will want to look at them."""
        deciding = self._view.deciding
        return [one for one in self.members() if deciding[one.device].body.signer == device]

    def generations(self) -> list[Generation]:
        """All generations that count, the current one first."""
        begun = [
            Generation(record.generation, record, self._depth(record.id))
            for record in self.counted()
            if record.kind == Kind.GENERATION
        ]
        begun.sort(key=lambda one: (-one.depth, one.record.id if one.record else b""))
        return [*begun, Generation(self.genesis.generation, None, 0)]

    @property
    def current(self) -> Generation:
        """The generation that seals what is stored from now on: of those whose makers knew most, one."""
        return self.generations()[0]

    def _depth(self, identity: bytes) -> int:
        return self._set.ancestors[self._set.index[identity]].bit_count()

    @property
    def _view(self) -> View:
        return self._set.view(self.genesis.volume_id)


def _parents_first(records: Mapping[bytes, Record]) -> Iterable[bytes]:
    """Names come last: what they are about, and who may give them, the others say."""
    waits_for = {
        identity: [parent for parent in record.body.parents if parent in records]
        for identity, record in sorted(records.items())
        if record.kind != Kind.NAME
    }
    names = sorted(records.keys() - waits_for.keys())
    return [*TopologicalSorter(waits_for).static_order(), *names]  # ids are hashes: there is no cycle
