"""A set of member records, each with its ancestors in it, as values that grow by copying."""

import functools
import operator
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from dittofs.errors import FormatError
from dittofs.identity.device_names import DeviceNames
from dittofs.identity.people import People, Subject, severity, subject_of
from dittofs.identity.ranks import rank_records
from dittofs.identity.records import Kind, Record, Role


@dataclass(frozen=True, slots=True)
class View:
    """What a set adds up to."""

    ranks: list[int | None]
    deciding: Mapping[bytes, Record]
    """Device -> the record that lets it in, or took it out."""
    people: People
    """What follows of them and of what was said of users and groups."""


class RecordSet:
    """Records with their ancestry; `admit` is the only way in."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.index: dict[bytes, int] = {}
        self._parents: list[list[int]] = []
        self.ancestors: list[int] = []
        self._grants: dict[bytes, tuple[int, ...]] = {}
        self._view: View | None = None
        self.names = DeviceNames()

    def copy(self) -> "RecordSet":
        twin = RecordSet()
        twin.records, twin.index = list(self.records), dict(self.index)
        twin._parents, twin.ancestors = list(self._parents), list(self.ancestors)
        twin._grants = dict(self._grants)
        twin.names = self.names.copy()
        return twin

    def admit(self, record: Record, root_key: Ed25519PublicKey, root: bytes) -> bool:
        """Add `record`, whose signature must hold. False if it is here already. `FormatError` as `add`."""
        if record.kind == Kind.NAME:
            record.verify(root_key if record.body.signer == root else self._key_of_namer(record))
            return self.names.take(record)
        parents, ancestors = self._ancestry(record)
        record.verify(root_key if record.body.signer == root else self._key_of(record, ancestors))
        return self._append(record, parents, ancestors)

    def place(self, record: Record, root: bytes) -> None:
        """Add what is no name without looking at its signature, to see what it would do. Else as `admit`."""
        parents, ancestors = self._ancestry(record)
        if record.body.signer != root:
            self._key_of(record, ancestors)
        self._append(record, parents, ancestors)

    def surplus(self, known: int, root: bytes, voids_max: int) -> frozenset[bytes]:
        """Which records after the first `known` do not count, and are too many of their signer.

        None that something else descends from that is no surplus: a record's ancestors are in its set.
        """
        ranks = self.view(root).ranks
        voids = Counter(
            record.body.signer for record, rank in zip(self.records, ranks, strict=True) if rank is None
        )
        needed = 0
        surplus = []
        for index in reversed(range(known, len(self.records))):
            record = self.records[index]
            if ranks[index] is None and not needed >> index & 1 and voids[record.body.signer] > voids_max:
                voids[record.body.signer] -= 1
                surplus.append(record.id)
            else:
                needed |= self.ancestors[index]
        return frozenset(surplus)

    def _ancestry(self, record: Record) -> tuple[list[int], int]:
        """Indices of the parents, and bits of all ancestors."""
        try:
            parents = [self.index[parent] for parent in record.body.parents]
        except KeyError as error:
            raise FormatError("a member record whose parents are not known") from error
        ancestors = 0
        for parent in parents:
            ancestors |= self.ancestors[parent] | 1 << parent
        return parents, ancestors

    def _append(self, record: Record, parents: list[int], ancestors: int) -> bool:
        if record.id in self.index:
            return False
        index = self.index[record.id] = len(self.records)
        self.records.append(record)
        self._parents.append(parents)
        self.ancestors.append(ancestors)
        if record.is_grant:
            self._grants[record.body.subject] = (*self._grants.get(record.body.subject, ()), index)
        return True

    def view(self, root: bytes) -> View:
        if self._view is None:
            ranks = rank_records(self.records, self._parents, self.ancestors, root)
            last = self._deciding(ranks)
            devices = {
                subject.device: record for subject, record in last.items() if subject.kind == Kind.MEMBER
            }
            self._view = View(ranks, devices, People(last))
        return self._view

    def _key_of(self, record: Record, ancestors: int) -> Ed25519PublicKey:
        """The key of the signer, who was made an owner before, or resigns from the grant that is the parent.

        Whether that ownership counted is not asked here: that may change, and belonging to the set may not.
        Whoever was no owner can sign one resignation for each grant it had, so that it cannot fill the set.
        """
        for index in self._grants.get(record.body.signer, ()):
            grant = self.records[index]
            has_say = grant.role == Role.OWNER or (
                record.is_resignation and record.body.parents == [grant.id]
            )
            if has_say and ancestors >> index & 1 and grant.publics:
                return grant.publics.signing_key()
        raise FormatError("a member record signed by a device that had no say")

    def _key_of_namer(self, record: Record) -> Ed25519PublicKey:
        """The key of who names a device that was let in once: the device itself, or one that was an owner.

        Whether an owner's word still counts is not asked here, as for members. Of each signer one name of
        each device is kept, so that nobody can fill the set.
        """
        if record.body.subject in self._grants:
            is_self = record.body.signer == record.body.subject
            for index in self._grants.get(record.body.signer, ()):
                grant = self.records[index]
                if (is_self or grant.role == Role.OWNER) and grant.publics:
                    return grant.publics.signing_key()
        raise FormatError("a name signed by a device that had no say")

    def signing_key(self, device: bytes) -> Ed25519PublicKey | None:
        """The key of a device that was let in once."""
        for index in self._grants.get(device, ()):
            publics = self.records[index].publics
            if publics is not None:
                return publics.signing_key()
        return None

    def _deciding(self, ranks: Sequence[int | None]) -> dict[Subject, Record]:
        """Of the last records about one thing: a resignation, else the lowest rank, then `severity`."""
        about: dict[Subject, list[int]] = {}
        for index, record in enumerate(self.records):
            subject = subject_of(record)
            if subject is not None and ranks[index] is not None:
                about.setdefault(subject, []).append(index)
        deciding = {}
        for subject, indices in about.items():
            earlier = functools.reduce(operator.or_, (self.ancestors[index] for index in indices))
            last = [index for index in indices if not earlier >> index & 1]
            best = min(
                last,
                key=lambda index: (ranks[index], severity(self.records[index]), self.records[index].id),
            )
            deciding[subject] = self.records[best]
        return deciding
