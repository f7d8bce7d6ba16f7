"""One device of a swarm: a whole stack over a simulated disk, in the trio run of all the others."""

import functools
import math
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import structlog
import trio

from dittofs.blocking import run_inline
from dittofs.chunks.chunker import Chunking
from dittofs.errors import DittoError
from dittofs.history.live_content import LiveContents
from dittofs.identity.generations import unwrap
from dittofs.identity.granting import found_volume, grant
from dittofs.identity.keys import Device, VolumeSecrets, create_device, make_volume_secrets
from dittofs.identity.membership import Membership
from dittofs.identity.publics import make_publics
from dittofs.identity.records import Role
from dittofs.replication import greeting
from dittofs.replication.members import Members
from dittofs.replication.peers import Peers
from dittofs.shared_volume import SharedVolume, keys_of
from dittofs.tree.shard import FIRST_EPOCH
from dittofs.volume.opening import open_replica
from dittofs.volume.volume import Volume
from tests.simulation.disk import SimulatedDisk
from tests.simulation.ledger import Ledger
from tests.simulation.network import Network, SimulatedLink
from tests.simulation.rig import USER, Rig, SeededEntropy
from tests.unit.identity.files import key_files

log = structlog.get_logger()

START_NS: Final = 1_795_000_000 * 10**9
DEVICES_MAX: Final = 32
FREE_BYTES: Final = 1 << 40
CAPACITY: Final = 1 << 40
"""Of a disk that is not full."""
READER: Final = 3
"""The device with this number may only read, in runs that have it."""


@dataclass(frozen=True)
class Family:
    """The devices of a volume, and the records that make each a member, by the number of the device."""

    devices: Sequence[Device]
    secrets: VolumeSecrets
    records: Sequence[Sequence[bytes]]

    @classmethod
    @functools.cache
    def made(cls, readers: int) -> "Family":
        """The same in every run."""
        entropy = SeededEntropy(7)
        devices = [create_device(key_files(SimulatedDisk()), entropy) for _ in range(DEVICES_MAX)]
        secrets = make_volume_secrets(entropy)
        membership = Membership(secrets.genesis)
        records = [found_volume(secrets, devices[0], "device 0")]
        membership.add(records[0])
        secrets = secrets.without_root()
        for number, device in enumerate(devices[1:], 1):
            role = Role.READER if number == READER and readers else Role.OWNER if number == 2 else Role.WRITER
            record = grant(membership, secrets, devices[0], make_publics(device), role, f"device {number}")
            membership.add([record])
            records.append([record])
        return cls(devices, secrets, records)

    def secrets_of(self, number: int) -> VolumeSecrets:
        membership = Membership(self.secrets.genesis)
        membership.add(record for some in self.records for record in some)
        return unwrap(membership, self.devices[number])


class DeviceClock:
    """The run's time as one device sees it. Wall time may jump."""

    def __init__(self) -> None:
        self.skew_s = 0.0
        self._looks = 0

    def now_ns(self) -> int:
        self._looks += 1
        return START_NS + int((trio.current_time() + self.skew_s) * 1e9) + self._looks

    def monotonic(self) -> float:
        return trio.current_time()


class SwarmDevice(Rig):
    """See the module. `live` is one process from its start to its end; the disk outlives it."""

    disk: SimulatedDisk
    clock: DeviceClock  # type: ignore[assignment]

    def __init__(
        self,
        number: int,
        family: Family,
        network: Network,
        ledger: Ledger,
        *,
        seed: int,
        known: int,
    ) -> None:
        """`known`: of so many devices the records are there from the start."""
        self.number = number
        self.family = family
        self.device = family.devices[number]
        self.network = network
        self.ledger = ledger
        self.chance = random.Random(seed)
        self.disk = SimulatedDisk()
        self.machine = f"machine-{number}/boot-0"
        self.label = f"device {number}"
        self.clock = DeviceClock()
        self.entropy = SeededEntropy(seed)
        self.known = known
        self.boots = 0
        self.is_up = False
        self.is_dead = False
        """The process has ended, whatever of it still runs: nothing it does counts."""
        self.scope = trio.CancelScope()
        self.nursery: trio.Nursery | None = None
        self.shared: SharedVolume
        self.peers: Peers
        self.dialling: set[int] = set()
        self._left: int | None = None
        self.is_power_cut = False
        """How the last process ended, if it did not end by itself."""
        self.is_away = False
        """It does not start again for now."""
        self.disk_fails_since = math.inf
        """What was synced from then on may not have been."""
        self.mend_disk: Callable[[], None] | None = None
        """Ends what is wrong with the disk."""
        self._after: SimulatedDisk | None = None
        self._is_leaving = False
        self._writers: set[int] = set()
        self._is_clean = True
        self.secrets = family.secrets_of(number)
        """As the file beside the journal has them: what a power cut leaves of it is another test's."""
        self.on_open: Callable[[SwarmDevice], None] = lambda _device: None

    # -- a process

    def open(self) -> Volume:
        """Everything that a daemon makes of what lies on the disk."""
        family, secrets = self.family, self.secrets
        replica = open_replica(
            self.disk,
            keys_of(secrets),
            clock=self.clock,
            entropy=self.entropy,
            run_blocking=run_inline,
            label=self.label,
            machine=self.machine,
        )
        members = Members(replica.journal, secrets.genesis)
        members.add(record for some in family.records[: self.known] for record in some)
        self.volume = Volume(
            replica,
            uid=USER.uid,
            gid=USER.gid,
            chunking=Chunking.CONTENT_DEFINED,
            volume_id=secrets.volume_id,
            trusts_root=False,
        )
        self.peers = Peers(
            replica,
            LiveContents(replica),
            members,
            device=self.device.id,
            volume=secrets.volume_id,
            label=self.label,
            instance=self.entropy(16),
            port=lambda: 0,
            free_bytes=lambda: FREE_BYTES,
            on_event=lambda _what, _device: None,
        )
        self.shared = SharedVolume(
            "swarm",
            self.volume,
            self.device,
            secrets,
            members,
            self.peers,
            entropy=self.entropy,
            run_blocking=run_inline,
            save_secrets=self._save_secrets,
        )
        self.volume.recover()
        return self.volume

    def _save_secrets(self, secrets: VolumeSecrets) -> None:
        if not self.is_dead:
            self.secrets = secrets
            self.ledger.renew_keys(keys_of(secrets))

    async def live(self, users: Callable[["SwarmDevice"], Awaitable[None]]) -> None:
        """One process, from its start until `end` or a planned death."""
        self.scope = trio.CancelScope()
        self.is_dead, self._after, self._left = False, None, None
        self._is_leaving = False
        self.disk.hook = None
        self.mend()  # nothing begins on a disk without room, or that does not work
        self.disk.capacity = CAPACITY  # that of a copy, too
        self.open()
        writer = self.volume.replica.tree.client_id
        assert self._is_clean or writer not in self._writers, "a writer goes on after a crash"
        self._writers.add(writer)
        self._is_clean = False
        self.disk.hook = self._on_disk
        self.dialling.clear()
        self.is_up = True
        self.on_open(self)
        try:
            with self.scope:
                async with trio.open_nursery() as nursery:
                    self.nursery = nursery
                    nursery.start_soon(self.shared.run)
                    nursery.start_soon(users, self)
        finally:
            self.is_up, self.nursery = False, None
            self.disk.hook = None
            if self._is_leaving and not self.is_dead:
                self._end()
            self._bury()

    async def leave(self) -> None:
        """End the process as the daemon does, cleanly."""
        try:
            await self.shared.close()
        except DittoError as error:
            log.info("not closed cleanly", reason=str(error))
        if not self.is_dead:
            self._left = None
            self._is_leaving = True
            self.network.die(self.device.id)
            self.scope.cancel()

    def _end(self) -> None:
        """The last thing a process does that ends cleanly: all its tasks have ended."""
        self.ledger.gather(self.volume.replica.chunks)
        with suppress(DittoError):
            self.volume.replica.chunks.close()
        try:
            self.volume.replica.journal.close(self.volume.replica.tree.tick())
        except DittoError as error:
            log.info("not closed cleanly", reason=str(error))
            self.is_power_cut = False
            self.die()
        else:
            self.is_dead = True
            self._after, self._is_clean = self.disk, True

    def go_back(self, disk: SimulatedDisk) -> None:
        """The process is killed, and starts again from what another disk held."""
        self.is_power_cut = False
        self.die()
        self._after = disk.fork()

    def mend(self) -> None:
        """The disk works again."""
        if self.mend_disk is not None:
            self.mend_disk()
            self.mend_disk = None

    def calm(self) -> None:
        """Nothing that was planned happens any more."""
        self._left = None
        self.is_away = False
        self.mend()

    def die_after(self, events: int, *, is_power_cut: bool) -> None:
        """Let the process end at the disk's next event but `events`, or the whole machine."""
        self._left, self.is_power_cut = events, is_power_cut

    def die(self) -> None:
        """The process is no more, at this very instant."""
        self.is_dead = True
        self._after = self.disk.fork()
        if self.is_power_cut:
            self._after.crash(self.chance.randrange(1 << 30))
            self.boots += 1
            self.machine = f"machine-{self.number}/boot-{self.boots}"
        else:
            self._after.kill()
        self.network.die(self.device.id)
        self.scope.cancel()

    def _on_disk(self, _event: str) -> None:
        if self._left is not None and not self.is_dead:
            self._left -= 1
            if self._left < 0:
                self.die()

    def _bury(self) -> None:
        """Let go of what the dead process held; the disk it leaves is the one of its last instant."""
        if self._after is not self.disk:
            self.disk.hook = None
            with suppress(DittoError):  # closed by a process that could not end cleanly, and gathered then
                self.ledger.gather(self.volume.replica.chunks)
                self.volume.replica.chunks.close()
            self.volume.replica.journal.abandon()
            self.disk = self._after or self.disk

    # -- links

    def dial(self, other: "SwarmDevice") -> None:
        """Try to have a session with another device."""
        if self.nursery is not None and not self.is_dead:
            self.dialling.add(other.number)
            self.nursery.start_soon(self._dial, other)

    async def _dial(self, other: "SwarmDevice") -> None:
        try:
            await trio.sleep(self.chance.uniform(0.0, 0.2))
            if other.nursery is None or other.is_dead or self.is_dead:
                return
            near, far = self.network.link(self.device, other.device)
            other.nursery.start_soon(other.answer, far)
            try:
                await greeting.dialled(near, self.peers)
            finally:
                await near.aclose()
        except DittoError as error:
            log.info("no session", reason=str(error))
        finally:
            self.dialling.discard(other.number)

    async def answer(self, link: SimulatedLink) -> None:
        """Serve a link that another device began."""
        try:
            if self.peers.knows(link.peer):
                found = await greeting.accepted(
                    link, lambda volume: self.peers if volume == self.peers.volume else None
                )
                await greeting.answered(link, *found)
        except DittoError as error:
            log.info("a link was not used", reason=str(error))
        finally:
            await link.aclose()

    def is_connected(self, other: "SwarmDevice") -> bool:
        return self.peers.session(other.device.id) is not None

    # -- what may happen at any time

    def compact(self) -> None:
        """Begin a fresh epoch of a document, due or not."""
        replica = self.volume.replica
        numbers = [number for number, state in enumerate(replica.states()) if state != (FIRST_EPOCH, b"\0")]
        if replica.not_allowed is not None or replica.read_only is not None or not numbers:
            return
        number = self.chance.choice(numbers)
        with replica.journalled():
            taken = replica.tree.exchange.compact(number)
            if taken is not None:
                replica._append(taken)
        if taken is not None:
            replica._tell(taken.change)

    async def _with_publisher(self, act: Callable[[], Any]) -> Any:
        """Wait as the program would: the publisher runs beside."""
        answer = act()
        return await answer if isinstance(answer, Awaitable) else answer
