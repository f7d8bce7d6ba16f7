"""The members of a volume as this replica knows them: the records, kept in the journal."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from dittofs.disk import Disk, read_whole, replace_whole
from dittofs.errors import FormatError
from dittofs.identity.genesis import Genesis
from dittofs.identity.keys import DeviceId
from dittofs.identity.membership import VOIDS_MAX, Membership
from dittofs.identity.records import Kind, Record, Role, parse_record
from dittofs.journal.journal import Journal
from dittofs.sync.messages import decode_records, encode_records

COPY: Final = "members"
COPY_BYTES_MAX: Final = 64 << 20
HEARD_MAX: Final = 256
"""Records in one message of a device that may do nothing; the others of them it tells another time."""
MEMBER: Final = "member"  # record id -> the record as signed
NAME: Final = "name"  # device id and id of the signer -> the record as signed


class Members:
    """A `Membership` that survives. What is added is in the journal before anybody hears of it."""

    def __init__(self, journal: Journal, genesis: Genesis, disk: Disk | None = None) -> None:
        """FormatError or Damaged if what is stored is not sound.

        On `disk`, if it is given, `save` keeps a second copy: without its members' records a device whose
        journal was lost finds nobody who could give it the volume.
        """
        self._journal = journal
        self._disk = disk
        self.membership = Membership(genesis)
        self.listeners: list[Callable[[], None]] = []
        """Called after records were added."""
        self.is_naming = False
        """Whether names are all that was added last: nobody may do more or less than before."""
        rows = (*journal.scan_local(MEMBER, b""), *journal.scan_local(NAME, b""))
        self.membership.add([record for _, record in rows])
        if not self.membership.records:
            self._take_copy()

    def _take_copy(self) -> None:
        raw = None if self._disk is None else read_whole(self._disk, COPY, COPY_BYTES_MAX)
        with suppress(FormatError):  # it is a copy, and signed: one that is damaged is none
            self.add([] if raw is None else decode_records(raw))

    def save(self) -> None:
        """Blocking: keep a second copy, if there is another disk and something changed."""
        raw = encode_records(self.records())
        if self._disk is not None and read_whole(self._disk, COPY, COPY_BYTES_MAX) != raw:
            replace_whole(self._disk, COPY, raw)

    def hear(self, teller: DeviceId, records: Sequence[bytes]) -> None:
        """Take in what a peer tells. FormatError: none was taken.

        Of one that may do nothing, first what counts of a number of records that are new; and all of them
        if it may do something by that: so a removed owner neither fills the set nor keeps this device busy.
        """
        if self.role(teller) <= Role.STORE:
            known = set(self.records())
            fresh = [record for record in records if record not in known][:HEARD_MAX]
            self.add(fresh, voids_max=0)
        if self.role(teller) > Role.STORE:
            self.add(records)

    def add(self, records: Iterable[bytes], *, voids_max: int = VOIDS_MAX) -> Sequence[bytes]:
        """Take in records; return the ids of those that were new. FormatError: none was taken.

        `voids_max`: how many that do not count a signer may have.
        """
        grown = self.membership.copy()
        added = grown.add(records, voids_max=voids_max)
        if added:
            known = grown.records
            with self._journal.transaction():
                for identity in added:
                    self._put(parse_record(known[identity], grown.genesis.volume_id))
            self.is_naming = len(grown.parsed()) == len(self.membership.parsed())
            self.membership = grown
            for listener in list(self.listeners):
                listener()
        return added

    def _put(self, record: Record) -> None:
        if record.kind == Kind.NAME:
            self._journal.put_local(NAME, record.body.subject + record.body.signer, record.signed)
        else:
            self._journal.put_local(MEMBER, record.id, record.signed)

    def signing_key(self, device: DeviceId) -> Ed25519PublicKey | None:
        """The key that a device signs with, of one that was let in once."""
        return self.membership.signing_key(device)

    def name(self, device: DeviceId) -> str:
        """What a device is called now, also of one that is no member any more; empty: it is not known."""
        return self.membership.name(device)

    def role(self, device: DeviceId) -> Role:
        return self.membership.role(device)

    def records(self) -> list[bytes]:
        """All of them, parents before children, names last."""
        return list(self.membership.records.values())
