"""The members of a volume as this replica knows them: the records, kept in the journal."""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from dittofs.identity.genesis import Genesis
from dittofs.identity.keys import DeviceId
from dittofs.identity.membership import Membership
from dittofs.identity.records import Role
from dittofs.journal.journal import Journal

MEMBER: Final = "member"  # record id -> the record as signed


class Members:
    """A `Membership` that survives. What is added is in the journal before anybody hears of it."""

    def __init__(self, journal: Journal, genesis: Genesis) -> None:
        """FormatError or Damaged if what is stored is not sound."""
        self._journal = journal
        self.membership = Membership(genesis)
        self.membership.add([record for _, record in journal.scan_local(MEMBER, b"")])
        self.listeners: list[Callable[[], None]] = []
        """Called after records were added."""

    def add(self, records: Iterable[bytes]) -> Sequence[bytes]:
        """Take in records; return the ids of those that were new. FormatError: none was taken."""
        grown = self.membership.copy()
        added = grown.add(records)
        if added:
            known = grown.records
            with self._journal.transaction():
                for identity in added:
                    self._journal.put_local(MEMBER, identity, known[identity])
            self.membership = grown
            for listener in list(self.listeners):
                listener()
        return added

    def role(self, device: DeviceId) -> Role:
        return self.membership.role(device)

    def records(self) -> list[bytes]:
        """All of them, parents before children."""
        return list(self.membership.records.values())
