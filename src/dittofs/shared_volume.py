"""A volume in use on this device: what programs see of it, its members, and the sessions with them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Final

import structlog
import trio

from dittofs.blocking import RunBlocking
from dittofs.cache_settings import NO_LIMIT, CacheSettings
from dittofs.chunks.seal import VolumeKeys
from dittofs.clock import Entropy
from dittofs.config import StorageSettings
from dittofs.disk import Disk
from dittofs.errors import Ambiguous, ConfigError, DittoError
from dittofs.history.at import At
from dittofs.history.retention import Retention
from dittofs.history.snapshots import snapshot_roots
from dittofs.identity.authoring import Draft, NotAllowed
from dittofs.identity.generations import mend, unwrap
from dittofs.identity.granting import grant, remove, resign
from dittofs.identity.keys import Device, DeviceId, VolumeSecrets, open_root
from dittofs.identity.membership import Member, Membership
from dittofs.identity.naming import confirm, rename
from dittofs.identity.pairing import Admission, admit
from dittofs.identity.publics import make_publics
from dittofs.identity.records import Role
from dittofs.identity.root import RootKey
from dittofs.ids import VolumeId
from dittofs.labels import is_label
from dittofs.merging.conflicts_view import conflicts_directory
from dittofs.merging.merge import Merging
from dittofs.merging.task import Merger
from dittofs.replication.cache_limit import CacheLimit, Room
from dittofs.replication.collector import Collector
from dittofs.replication.evicting import Evicting
from dittofs.replication.history_cost import HistoryCost
from dittofs.replication.members import Members
from dittofs.replication.peers import Peers
from dittofs.replication.pinning import Pinning
from dittofs.replication.policy import Policy
from dittofs.replication.retirement import Retirement
from dittofs.replication.ruling import Ruling
from dittofs.replication.scrubbing import Scrubbing
from dittofs.replication.upkeep import kept_up
from dittofs.volume.pins import Pins
from dittofs.volume.retained import Retained
from dittofs.volume.usage import Usage
from dittofs.volume.volume import Volume

log = structlog.get_logger()

GOODBYE_S: Final = 5.0
RETRY_S: Final = 10.0
HOUR_S: Final = 3600.0
DEFAULTS: Final = StorageSettings()


def keys_of(secrets: VolumeSecrets) -> VolumeKeys:
    """The part of a volume's secrets that chunks are sealed with."""
    return VolumeKeys(secrets.volume_id, secrets.secret, secrets.generations, secrets.current)


def room_of(volumes: Mapping[str, "SharedVolume"], disk: Disk) -> Room:
    """What the stores of volumes take together, on the disk they lie on."""
    stores = [one.volume.replica.chunks.statistics() for one in volumes.values()]
    stored = sum(one.pack_bytes + one.index_bytes for one in stores)
    return Room(stored, disk.total_bytes(), disk.free_bytes())


class SharedVolume:
    """See the module. `run` until `close`."""

    def __init__(
        self,
        name: str,
        volume: Volume,
        device: Device,
        secrets: VolumeSecrets,
        members: Members,
        peers: Peers,
        *,
        entropy: Entropy,
        run_blocking: RunBlocking,
        save_secrets: Callable[[VolumeSecrets], None],
        storage: StorageSettings = DEFAULTS,
        cache: CacheSettings = NO_LIMIT,
        is_ephemeral: bool = False,
    ) -> None:
        """`is_ephemeral`: this device leaves the volume soon: nobody lets anything go because it has it."""
        self.name = name
        self.volume = volume
        self.members = members
        self.peers = peers
        self._scope = trio.CancelScope()
        self._ended = trio.Event()
        self._device = device
        self._label = peers.label
        self._secrets = secrets
        self._entropy = entropy
        self._run_blocking = run_blocking
        self._save_secrets = save_secrets
        self._is_keeping = trio.Lock()
        self._duties = trio.Event()
        self._duties.set()
        volume.state.source = peers.fetcher
        volume.reserved.add(At)
        volume.reserved.add(conflicts_directory)
        self.retention = Retention(volume.replica)
        self.merging = Merging(volume)
        self._merger = Merger(volume, self.merging)
        retained = Retained(volume.state, partial(snapshot_roots, volume.replica))
        self.retirement = Retirement(peers, after_days=storage.retire_after_days)
        self.collector = Collector(
            peers, retained, self.retirement, grace_s=storage.garbage_grace_hours * HOUR_S
        )
        self.ruling = Ruling(peers)
        self.pins = Pins(volume.state)
        self.pinning = Pinning(
            peers, lambda inode: self.pins.of(inode) is not None, lambda: len(self.pins) > 0
        )
        self._usage = Usage(volume.state, self.pins)
        self.evicting = Evicting(peers, retained, self._usage.why_kept)
        self.evicting.on_gone = volume.holdings.note
        used = volume.state.used = {} if cache.is_set else None
        self.cache_limit = CacheLimit(
            peers,
            self.evicting,
            cache,
            used={} if used is None else used,
            make_room=partial(self.collector.make_room, is_tight=True),
        )
        peers.proving.keeps = lambda: not (is_ephemeral or self._is_leaving or self.retirement.is_retired)
        self.history_cost = HistoryCost(self.collector, volume.replica.journal.history)
        self.scrubbing = Scrubbing(
            peers,
            bytes_per_second=storage.scrub_bytes_per_second,
            is_busy=lambda: not volume.publisher.is_idle,
            report=self._found_damage,
        )
        self.on_damage: Callable[[], None] = lambda: None
        """Told when something was found to be lost, and no other device has it."""
        documents = volume.replica.documents
        documents.on_awaited, documents.on_lost = self._pull_all, self._found_damage
        documents.others = self._others_that_count
        volume.state.may_borrow = lambda: self.retirement.may_borrow
        members.listeners.append(self._members_changed)
        self._is_leaving = False
        self._judge_self()
        self._call_self()

    @property
    def id(self) -> VolumeId:
        return self._secrets.volume_id

    @property
    def membership(self) -> Membership:
        return self.members.membership

    @property
    def role(self) -> Role:
        """What this device may do."""
        return self.members.role(self._device.id)

    @property
    def secrets(self) -> VolumeSecrets:
        return self._secrets

    async def run(self) -> None:
        """Serve programs and peers until cancelled."""
        try:
            await self._run()
        finally:
            self._ended.set()

    async def _run(self) -> None:
        with self._scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.volume.run)
                nursery.start_soon(self.retention.run)
                nursery.start_soon(self.peers.run)
                nursery.start_soon(kept_up, self._do_duties, self._members_changed)
                nursery.start_soon(self._follow_sessions)
                nursery.start_soon(kept_up, self._merger.run)
                nursery.start_soon(kept_up, self.collector.run)
                nursery.start_soon(kept_up, self.scrubbing.run)
                nursery.start_soon(kept_up, self.history_cost.run)
                nursery.start_soon(kept_up, self.pinning.run, self.pinning.look_again)
                nursery.start_soon(kept_up, self.cache_limit.run)
                nursery.start_soon(kept_up, self.ruling.run)

    def _found_damage(self, sentence: str) -> None:
        self.volume.note_damage(sentence)
        self.on_damage()

    def _others_that_count(self) -> list[DeviceId]:
        """The other devices that may publish, and are waited for."""
        gone = self.retirement.all
        return [device for device in self.peers.writers() if device not in gone]

    def _pull_all(self) -> None:
        """Something that others have was lost here."""
        for session in self.peers.open_sessions:
            session.rounds.begin()

    async def _follow_sessions(self) -> None:
        while True:
            await self.peers.changed.wait()
            self.volume.source_changed()
            self.pinning.connected()
            self._merger.look_again()

    # -- members

    def _members_changed(self) -> None:
        self._judge_self()
        self._call_self()
        self._duties.set()

    def _call_self(self) -> None:
        """What is made here from now on has the name that this device has now."""
        name = self.membership.name(self._device.id)
        self.volume.replica.authorship.label = name if is_label(name) else self._label

    def _judge_self(self) -> None:
        """What the members' records let this device do."""
        replica = self.volume.replica
        if self._is_leaving:
            replica.refused = "this device is leaving the volume"
        elif self.role >= Role.WRITER:
            replica.refused = None
        elif self.role > Role.NONE:
            replica.refused = "this device may read the volume, and not change it"
        else:
            replica.refused = "this device is not a member of the volume any more"

    async def _do_duties(self) -> None:
        """After each change of the members: take up generations; an owner gives what it owes the others."""
        while True:
            await self._duties.wait()
            self._duties = trio.Event()
            try:
                async with self._is_keeping:
                    await self._take_up_generations()
                    if (confirmed := confirm(self.membership, self._device)) is not None:
                        await self._keep([confirmed], self._secrets)
                    await self._run_blocking(self.members.save)
                    if self.role is Role.OWNER:
                        records, secrets = mend(self.membership, self._secrets, self._device, self._entropy)
                        await self._keep(records, secrets)
            except NotAllowed as error:
                log.info("this device may not do an owner's duties", reason=str(error))
            except DittoError as error:
                log.error("the volume's secrets could not be brought up to date", reason=str(error))
                self._duties.set()
                await trio.sleep(RETRY_S)

    async def _take_up_generations(self) -> None:
        if self.role < Role.READER:
            return
        fresh = unwrap(self.membership, self._device, self._secrets)
        if fresh.generations != self._secrets.generations or fresh.current != self._secrets.current:
            await self._keep((), fresh)

    async def _keep(self, records: Sequence[bytes], secrets: VolumeSecrets) -> None:
        """Records are durable before a generation they begin seals anything: others can open it, or will."""
        if records:
            self.members.add(records)
            await self._run_blocking(self.volume.replica.journal.sync)
        if secrets != self._secrets:
            await self._run_blocking(self._save_secrets, secrets)
            self._secrets = secrets
            self.volume.replica.chunks.renew_keys(keys_of(secrets))

    async def admit(self, admission: Admission) -> None:
        """Make a device a member, durably. NotAllowed or PairingRefused if it cannot be."""
        async with self._is_keeping:
            records = admit(self.membership, self._secrets, self._device, admission)
            await self._keep(records, self._secrets)

    async def remove_member(self, device: DeviceId) -> list[Member]:
        """Take a device out and begin a generation it cannot open; return whom it had invited.

        NotAllowed says why not. What the device has already it keeps.
        """
        invited = self.membership.granted_by(device)
        async with self._is_keeping:
            records, secrets = remove(self.membership, self._secrets, self._device, device, self._entropy)
            await self._keep(records, secrets)
        return invited

    async def decide(self, write: Callable[[Draft], None]) -> None:
        """Sign what `write` drafts, and what is owed then, durably. What it raises changes nothing.

        What a device wrote and did not send before it hears that it may only read stays there, and goes out
        if it may write again.
        """
        async with self._is_keeping:
            draft = Draft(self.membership, self._device)
            write(draft)
            owed, secrets = mend(draft.membership, self._secrets, self._device, self._entropy)
            await self._keep([*draft.signed, *owed], secrets)

    def would_end(self, write: Callable[[Draft], None]) -> list[Member]:
        """Who could read no more once it is said what `write` drafts. Raises what that raises."""
        draft = Draft(self.membership, self._device)
        write(draft)
        return [one for one in self.membership.readers() if draft.membership.role(one.device) < Role.READER]

    async def rename_member(self, member: Member, name: str) -> None:
        """Call a member otherwise, durably. NotAllowed says why not, FormatError why nobody is called so."""
        if name == member.name:
            return
        async with self._is_keeping:
            await self._keep([rename(self.membership, self._device, member.device, name)], self._secrets)

    def require_another_owner(self) -> None:
        """NotAllowed if this is the last owner of a volume that others are members of."""
        if self.role is Role.OWNER and len(self.membership.owners()) == 1 and self.peers.others:
            raise NotAllowed(
                "this is the last owner of the volume: without one nobody can invite or remove a device"
            )

    async def resign(self) -> None:
        """End this device's own membership, and tell who is connected. NotAllowed for the last owner."""
        self.require_another_owner()
        async with self._is_keeping:
            await self._keep([resign(self.membership, self._device)], self._secrets)
        with trio.move_on_after(GOODBYE_S):
            for session in self.peers.open_sessions:
                await session.outbox.flushed()
        self.peers.close()

    @contextmanager
    def leaving(self) -> Iterator[None]:
        """Until the block ends this device changes nothing: what it has is all that can be lost here."""
        self._is_leaving = True
        self._judge_self()
        try:
            yield
        finally:
            self._is_leaving = False
            self._judge_self()

    def find_member(self, text: str) -> Member:
        """Who is called `text`, or has an id that begins so. ConfigError if none is, Ambiguous if several."""
        found = self.membership.called(text)
        if len(found) == 1:
            return found[0]
        known = ", ".join(one.name for one in self.membership.all_admitted())
        if found:
            several = self.membership.names().several(text, (one.device.hex() for one in found))
            raise Ambiguous(several)
        raise ConfigError(f'no device of "{self.name}" is called {text!r}; there are: {known}')

    # -- recovery words

    async def take_root(self, root: RootKey) -> None:
        """The owner key, back from paper: this device keeps it, and is an owner by its word.

        FormatError if it is another volume's.
        """
        open_root(root.secret, self._secrets.genesis)
        async with self._is_keeping:
            await self._keep((), replace(self._secrets, root=root))
            if self.role is not Role.OWNER:
                name = self.membership.name(self._device.id) or self._label
                granted = grant(
                    self.membership, self._secrets, root, make_publics(self._device), Role.OWNER, name
                )
                await self._keep([granted], self._secrets)

    async def erase_root(self) -> None:
        """The owner key is written down: this device forgets it."""
        async with self._is_keeping:
            await self._keep((), self._secrets.without_root())

    # -- policy

    @property
    def copies(self) -> Policy:
        """How many devices hold each content that no rule is about."""
        return self.peers.copies.policy

    async def close(self) -> None:
        """Publish and sync everything; sessions end last, so that what was written can still leave."""
        await self.volume.close()
        with trio.move_on_after(GOODBYE_S):
            await self.peers.told()
        self.peers.close()

    async def ended(self) -> None:
        """End everything that uses the replica; nothing does when this returns. After `close`."""
        with trio.move_on_after(GOODBYE_S):
            await self.peers.closed()
        self._scope.cancel()
        await self._ended.wait()
