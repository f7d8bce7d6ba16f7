"""Devices that nobody waits for any more, and what such a device does when it comes back (decision 0031).

A retired device stays a member: what it wrote still merges. But chunks may have been swept that it takes for
granted. So as long as it is retired it sweeps nothing, answers nobody, believes nothing that others said they
hold, and publishes no edit whose chunks are not all here. It is asked to rejoin: it tells the others that it
is back, and from the answer of all of them on it counts as any other.
"""

from typing import Final

import structlog

from dittofs.clock import DAY_NS, SECOND_NS
from dittofs.errors import ChunkUnavailable
from dittofs.identity.keys import DeviceId
from dittofs.journal.answered import note_answer
from dittofs.replication import garbage_rounds as rounds
from dittofs.replication.custody import HOLD, KEEPER
from dittofs.replication.garbage_rounds import Retired
from dittofs.replication.peers import Peers

log = structlog.get_logger()

ROW: Final = "gc"
KNOWN: Final = b"retired"  # when this device was retired, as far as it has drawn the consequences
REJOINING: Final = b"rejoining"  # the name of the round by which it asked to be waited for again
SEEN: Final = b"seen/"
SEEN_INTERVAL_NS: Final = 600 * SECOND_NS


class Retirement:
    """Of one volume on this device."""

    def __init__(self, peers: Peers, *, after_days: int = 0) -> None:
        """`after_days`: a device that was not connected for so long is retired; 0: never by itself."""
        self._peers = peers
        self._replica = peers.replica
        self._after_ns = after_days * DAY_NS
        peers.retired = lambda: frozenset(self.all)
        self._notice()
        peers.replica.listeners.append(lambda _change: self._notice())

    @property
    def all(self) -> dict[DeviceId, Retired]:
        """Every retired device."""
        return rounds.retired(self._replica.tree.settings())

    @property
    def is_retired(self) -> bool:
        """Whether that is this device."""
        return self._peers.device in self.all

    @property
    def may_borrow(self) -> bool:
        """Whether this device may publish what names chunks that are not here."""
        row = self._replica.journal.get_local(ROW, REJOINING)
        if self.is_retired:
            return False
        if row is None:
            return True
        settings = self._replica.tree.settings()
        if rounds.outstanding(settings, self._peers.device, row, self._peers.writers()):
            return False
        journal = self._replica.journal
        with journal.transaction():
            journal.delete_local(ROW, REJOINING)
            note_answer(journal)  # nobody has waited for it until now
        return True

    def announced(self, name: bytes) -> None:
        """Within the transaction that announces a round: who answers that knows that this device is back."""
        if self._replica.journal.get_local(ROW, REJOINING) is not None:
            self._replica.journal.put_local(ROW, REJOINING, name)

    async def retire(self, device: DeviceId, last_seen_ns: int) -> bool:
        """Wait for a device no more. False: nobody did. ReadOnlyVolume if this one may not say so."""
        if device in self.all:
            return False
        now = self._replica.clock.now_ns()
        name = self._peers.members.membership.name(self._peers.device)
        with self._replica.change() as change:
            change.group.set_setting(
                rounds.RETIRED + device.hex(), rounds.encode(Retired(now, name, last_seen_ns))
            )
        self._peers.custody.recount()
        await self._replica.run_blocking(self._replica.journal.sync)
        log.info("a device was retired", peer=device.hex()[:16])
        return True

    async def rejoin(self) -> bool:
        """Have the others wait for this device again, after it has taken in all they did. False: they do."""
        if not self.is_retired:
            return False
        if not self._peers.open_sessions:
            raise ChunkUnavailable("no other device is connected: this one can rejoin when one is")
        await self._peers.in_step()
        name = self._replica.entropy(rounds.NAME_BYTES)
        own = self._peers.device.hex()
        with self._replica.change() as change:
            change.group.set_setting(rounds.RETIRED + own, None)
            change.group.set_setting(rounds.ROUND + own, rounds.encode(name))
            self._replica.journal.put_local(ROW, REJOINING, name)
        self._peers.custody.recount()
        await self._replica.run_blocking(self._replica.journal.sync)
        return True

    def _notice(self) -> None:
        """This device was retired: nothing is known any more of what others hold."""
        mine = self.all.get(self._peers.device)
        journal = self._replica.journal
        if mine is None or journal.get_local(ROW, KNOWN) == mine.at.to_bytes(8, "big"):
            return
        with journal.transaction():
            for kind in (HOLD, KEEPER):
                for key, _ in list(journal.scan_local(kind, b"")):
                    journal.delete_local(kind, key)
            journal.put_local(ROW, KNOWN, mine.at.to_bytes(8, "big"))
        self._peers.custody.recount()
        log.warning("this device was retired while it was away: it has to rejoin")

    # -- by a stated absence

    def note_connected(self) -> None:
        """Remember when each device was here last."""
        now = self._replica.clock.now_ns()
        for session in self._peers.open_sessions:
            key = SEEN + session.device
            row = self._replica.journal.get_local(ROW, key)
            if row is None or now - int.from_bytes(row, "big") > SEEN_INTERVAL_NS:
                self._put(key, now)

    async def retire_absent(self) -> None:
        """Retire who was not connected for as long as the settings say, if they say so."""
        if not self._after_ns or self.is_retired or self._replica.not_allowed is not None:
            return
        now = self._replica.clock.now_ns()
        for device in self._peers.writers():
            row = self._replica.journal.get_local(ROW, SEEN + device)
            if row is None:
                self._put(SEEN + device, now)  # counted from now on: it may be about to join
            elif now - int.from_bytes(row, "big") > self._after_ns and self._peers.session(device) is None:
                await self.retire(device, int.from_bytes(row, "big"))

    def _put(self, key: bytes, number: int) -> None:
        journal = self._replica.journal
        with journal.transaction():
            journal.put_local(ROW, key, number.to_bytes(8, "big"))
