"""Damaged documents of the tree: made anew from the index, or awaited from another device.

The index says, record for record, what the documents say, and changes with them. So it is as good as a
compaction of them: a document made of it begins the next epoch, which others adopt, and nothing is lost.
Where the index cannot be believed either, or this device may not begin an epoch, what is left is set aside
and the document awaited: nothing of the volume is changed here until another device has given it.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, Protocol

import structlog
import trio

from dittofs.errors import Damaged
from dittofs.journal.damage import ShardDamaged
from dittofs.journal.journal import Journal
from dittofs.tree.record import META_SHARD
from dittofs.tree.tree import Tree

log = structlog.get_logger()

AWAITED: Final = "awaited"
"""Kind of the local rows, by document, that say why it is awaited from another device."""
Stored = tuple[tuple[int, bytes], bytes | None, Sequence[bytes]]


class DocumentMended(Damaged):
    """A document was damaged and is whole again: do it once more."""


class Writers(Protocol):
    """What this needs of the replica."""

    tree: Tree
    refused: str | None
    """Why the members' records do not let this device change the volume, or None."""

    def claim_writer(self) -> None: ...


class Documents:
    """Where the tree has its documents from: the journal, mended where it is damaged. Part of a `Replica`."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._replica: Writers | None = None
        self._awaited: dict[int, str] = {}
        self.arrived = trio.Event()
        """Set, and another made, when another device gave some of them."""
        self.look_again()

        self.on_awaited: Callable[[], None] = lambda: None
        """Told when another device has to give a document."""
        self.others: Callable[[], Collection[bytes]] = lambda: ()
        """The devices that may know more: what none of them has of a document, nobody has."""
        self.on_lost: Callable[[str], None] = lambda _sentence: None
        """Told what nobody has any more."""
        self._heard: dict[int, set[bytes]] = {}
        """Of each awaited document the devices that have nothing of it which is not here."""

    def belong_to(self, replica: Writers) -> None:
        """Said once, before the first document is asked for."""
        self._replica = replica

    @property
    def awaited(self) -> Mapping[int, str]:
        """The documents that another device must give, and why."""
        return self._awaited

    @property
    def refusal(self) -> str | None:
        """Why nothing can be changed while documents are awaited, or None."""
        if not self._awaited:
            return None
        number, reason = next(iter(self._awaited.items()))
        return (
            f"{len(self._awaited)} of the volume's documents are damaged and awaited from another device"
            f" (document {number}: {reason}); nothing can be changed until then"
        )

    def load(self, shard: int) -> Stored:
        """As `Journal.load`. Within a transaction a damaged document is mended on the way, as part of it.

        Outside it is mended durably and DocumentMended raised: what was known of its state is over.
        ShardDamaged if the transaction has to end first.
        """
        try:
            return self._journal.load(shard)
        except ShardDamaged as error:
            if self._journal.is_in_transaction:
                return self._remade(error)
            self.mend(error)
            raise DocumentMended(error.what, "it was damaged, and is whole again") from error

    def mend(self, error: ShardDamaged) -> None:
        """Make a document anew, or set it aside and await it. Durable with the next sync."""
        try:
            with self._journal.transaction():
                self._remade(error)
        except ShardDamaged:
            self._replica_of().tree.unload()
            self._lose(error)
        except BaseException:
            self._replica_of().tree.unload()
            raise

    def _remade(self, error: ShardDamaged) -> Stored:
        replica = self._replica_of()
        if self._journal.is_index_partial or replica.refused is not None:
            raise error
        whole = replica.tree.exchange.remade(error.shard)
        if whole is None:
            raise error
        _, epoch, blob = whole
        self._journal.discard_shard(error.shard, f"{error.detail}; made anew from the index, nothing is lost")
        self._journal.put_snapshot(error.shard, epoch, blob)
        log.error("a document was damaged and made anew from the index", what=error.what, reason=error.detail)
        return epoch, blob, ()

    def _lose(self, error: ShardDamaged) -> None:
        """Set aside what is damaged. A fresh writer: nobody knows how much the present one wrote there."""
        replica, journal = self._replica_of(), self._journal
        detail = f"{error.what}: {error.detail}"
        with journal.transaction():
            if not journal.is_index_partial:  # it goes on showing what it shows
                journal.discard_shard(error.shard, error.detail)
                replica.tree.exchange.lost(error.shard)
            elif error.is_tail:
                journal.drop_tail(error.shard)
            else:
                journal.discard_shard(error.shard, error.detail)
            journal.put_local(AWAITED, _key(error.shard), detail.encode())
        self._heard.pop(error.shard, None)
        self.look_again()
        replica.claim_writer()
        self.on_awaited()
        log.error(
            "a document is damaged and awaited from another device", what=error.what, reason=error.detail
        )

    def await_all(self, reason: str) -> None:
        """Nothing is left: another device has to give everything. Its settings come in the first round."""
        with self._journal.transaction():
            self._journal.put_local(AWAITED, _key(META_SHARD), reason.encode())

    def came(self, numbers: Collection[int]) -> None:
        """Another device gave all it has of these documents. Within a transaction; then `look_again`."""
        for number in numbers:
            if number in self._awaited:
                self._journal.delete_local(AWAITED, _key(number))

    def has_no_more(self, device: bytes, numbers: Collection[int]) -> None:
        """A device has nothing of these documents that is not here. Once no other device has, what is missing
        is nowhere, and awaited no more. Never of the settings: where they are lost, all is.
        """
        others = set(self.others())
        for number in sorted(self._awaited.keys() & set(numbers) - {META_SHARD}):
            heard = self._heard.setdefault(number, set())
            heard.add(device)
            if not others or not others <= heard:
                continue
            reason = self._awaited[number]
            with self._journal.transaction():
                self.came([number])
            self.look_again()
            log.error("what is lost of a document is on no device", document=number, reason=reason)
            self.on_lost(
                f"{reason}: no other device has more of it, so its latest names are lost. What was set aside"
                " stays in journal.db, in the table `damaged`"
            )

    async def all_came(self) -> None:
        """Return when no document is awaited any more."""
        while self._awaited:
            await self.arrived.wait()

    def look_again(self) -> None:
        """Rows may have changed."""
        known = len(self._awaited)
        rows = self._journal.scan_local(AWAITED, b"")
        self._awaited = {int.from_bytes(key, "big"): reason.decode() for key, reason in rows}
        if len(self._awaited) < known:
            self.arrived.set()
            self.arrived = trio.Event()

    def give_up(self) -> list[str]:
        """Go on without what is awaited; returns what that was. The bytes stay aside in the journal.

        Never without the settings: where they are lost, all is.
        """
        numbers = [number for number in self._awaited if number != META_SHARD]
        lost = [self._awaited[number] for number in numbers]
        with self._journal.transaction():
            self.came(numbers)
        self.look_again()
        return lost

    def _replica_of(self) -> Writers:
        assert self._replica is not None, "a document is read before the replica is made"
        return self._replica


def _key(number: int) -> bytes:
    return number.to_bytes(2, "big")
