"""The names that devices were given after they were let in: of each signer the last one of each device.

Equal on all replicas that have seen the same, in whatever order.
"""

from collections.abc import Callable, Iterator

from dittofs.identity.records import Record


class DeviceNames:
    """Records of kind name whose signatures hold."""

    def __init__(self) -> None:
        self._of: dict[bytes, dict[bytes, Record]] = {}

    def copy(self) -> "DeviceNames":
        twin = DeviceNames()
        twin._of = {subject: dict(given) for subject, given in self._of.items()}
        return twin

    def __iter__(self) -> Iterator[Record]:
        """All of them, by id."""
        every = (record for given in self._of.values() for record in given.values())
        return iter(sorted(every, key=lambda record: record.id))

    def take(self, record: Record) -> bool:
        """Take up a name. False: it is here, or a later one of the same signer is."""
        given = self._of.setdefault(record.body.subject, {})
        known = given.get(record.body.signer)
        if known is not None and (record.body.number, record.id) <= (known.body.number, known.id):
            return False
        given[record.body.signer] = record
        return True

    def own(self, subject: bytes) -> Record | None:
        """The name a device gave itself last."""
        return self._of.get(subject, {}).get(subject)

    def of(self, subject: bytes, is_owner: Callable[[bytes], bool]) -> Record | None:
        """The name that counts: the highest number of what it and present owners say; an owner's of equals.

        So a device that takes the highest number there is cannot keep its owners from naming it.
        """
        given = self._of.get(subject, {})
        counted = [
            (record.body.number, signer != subject, record.id, record)
            for signer, record in given.items()
            if signer == subject or is_owner(signer)
        ]
        return max(counted, key=lambda one: one[:3])[3] if counted else None
