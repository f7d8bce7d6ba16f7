"""What one DITTOFS_HOME holds, joined: the device's key, its volumes, their keys, journals and stores."""

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import structlog
import trio

from dittofs.address import Address
from dittofs.blocking import RunBlocking
from dittofs.chunks.chunker import Chunking
from dittofs.clock import SECOND_NS, Clock, Entropy
from dittofs.config import BrakeSettings, Paths, Settings
from dittofs.errors import ConfigError, Damaged, DittoError
from dittofs.history.live_content import LiveContents
from dittofs.history.retention import Keep
from dittofs.home import Home, close_parts
from dittofs.identity.granting import found_volume, grant
from dittofs.identity.keys import DeviceId, VolumeSecrets
from dittofs.identity.pairing import Joined
from dittofs.identity.publics import make_publics
from dittofs.identity.records import Role
from dittofs.ids import VolumeId
from dittofs.journal.rescue import Loss
from dittofs.limits import Limits
from dittofs.merging.drivers import Drivers
from dittofs.pairing_desk import PairingDesk
from dittofs.registry import Registry, VolumeRecord, require_volume_name
from dittofs.replication.members import Members
from dittofs.replication.network import Network
from dittofs.replication.peers import Peers
from dittofs.server_urls import SignalUrl
from dittofs.shared_volume import SharedVolume, room_of
from dittofs.tree import brake
from dittofs.volume.opening import JOURNAL
from dittofs.volume.replica import Replica
from dittofs.volume.volume import Volume

log = structlog.get_logger()

INSTANCE_BYTES = 16


class Node:
    """The device and its volumes. One per daemon; the daemon's lock is held from `start` to `close`."""

    def __init__(
        self,
        paths: Paths,
        settings: Settings,
        *,
        clock: Clock,
        entropy: Entropy,
        run_blocking: RunBlocking,
        nursery: trio.Nursery,
    ) -> None:
        self.label = settings.label
        self.on_state: Callable[[str], None] = lambda _name: None
        """Told the name of a volume whose state changed."""
        self.on_open: Callable[[SharedVolume], None] = lambda _volume: None
        """Told of each volume that was opened."""
        self.on_peer: Callable[[str, DeviceId, bool], None] = lambda _name, _device, _is_up: None
        """Told that a device of a volume connected or disconnected."""
        self.network: Network | None = None
        self.desk: PairingDesk | None = None
        self.limits = Limits(paths.config, clock)
        self._paths = paths
        self.clock = clock
        self._entropy = entropy
        self.run_blocking = run_blocking
        self._nursery = nursery
        self._settings = settings
        self._open: dict[str, SharedVolume] = {}
        self._opening = trio.Lock()
        self._making_room = trio.Lock()
        self._failures: dict[str, DittoError] = {}
        self._opened_home: Home | None = None
        self._instance = entropy(INSTANCE_BYTES)
        self._is_networked = False
        self._networking = trio.CancelScope()

    @property
    def _home(self) -> Home:
        assert self._opened_home is not None, "the node has started"
        return self._opened_home

    @property
    def _volumes(self) -> Registry:
        return self._home.registry

    @property
    def state_directory(self) -> Path:
        """What must not be lost lies here."""
        return self._paths.state

    @property
    def device_id(self) -> bytes:
        return self._home.device.id

    def start(self) -> None:
        """Blocking: take the daemon's lock, read keys and registry. InUse, ConfigError, Damaged."""
        home = self._opened_home = Home(
            self._paths.state,
            clock=self.clock,
            entropy=self._entropy,
            run_blocking=self.run_blocking,
            label=self.label,
        )
        self.limits.read()
        self.network = Network(
            home.device,
            clock=self.clock,
            entropy=self._entropy,
            bind=self._settings.bind or None,
            port=self._settings.port,
            static=self._settings.peers,
            uses_mdns=self._settings.uses_mdns,
            signal=self._settings.signal,
            ice=self._settings.ice,
            bluetooth=self._settings.bluetooth,
        )
        self.network.on_looking = self._join_networks
        self.network.connector.on_address = home.known_addresses.note
        self.desk = PairingDesk(
            home.device,
            self.network,
            entropy=self._entropy,
            label=self.label,
            find=self.volume_with_id,
            nursery=self._nursery,
        )

    def require_desk(self) -> PairingDesk:
        """Where devices are invited and join. The node has started."""
        assert self.desk is not None, "the node has started"
        return self.desk

    def place(self, name: str) -> Path:
        """The directory that holds a volume's keys and data."""
        return self._home.place(self._volumes.records[name])

    def names(self) -> list[str]:
        """Names of all volumes, sorted."""
        return sorted(self._volumes.records)

    def record(self, name: str) -> VolumeRecord:
        return self._volumes.records[name]

    def opened(self, name: str) -> SharedVolume | None:
        return self._open.get(name)

    def volume_with_id(self, identity: VolumeId) -> SharedVolume | None:
        """The open volume with this id."""
        return next((volume for volume in self._open.values() if volume.id == identity), None)

    def name_of(self, identity: VolumeId) -> str | None:
        """What this device calls a volume, open or not; None if it has none of that id."""
        return self._volumes.name_of(identity)

    def failure(self, name: str) -> str:
        """Why the volume could not be opened, or empty."""
        error = self._failures.get(name)
        return "" if error is None else str(error)

    def is_journal_damaged(self, name: str) -> bool:
        """Whether the volume could not be opened because its journal is damaged: no passing reason."""
        error = self._failures.get(name)
        return isinstance(error, Damaged) and error.what.startswith(JOURNAL)

    def volume_at(self, path: str) -> str | None:
        """The volume last mounted on `path`."""
        return self._volumes.name_at(path)

    def require_open(self, name: str) -> SharedVolume:
        """The volume `name`. ConfigError if there is none, or it could not be opened."""
        opened = self._open.get(name)
        if opened is not None:
            return opened
        if name not in self._volumes.records:
            known = ", ".join(self.names()) or "none yet"
            raise ConfigError(f'there is no volume "{name}" on this device; known: {known}')
        raise ConfigError(f'the volume "{name}" is not open: {self.failure(name) or "still opening"}')

    async def open_all(self) -> None:
        """Open every volume of this device; one that fails is logged, shown by `status`, and left alone."""
        for name in self.names():
            try:
                await self.open(name, trusts_root=False)
            except DittoError as error:
                log.error("a volume cannot be opened", volume=name, reason=str(error))

    async def rescue(self, name: str) -> list[Loss]:
        """Make a damaged journal of a volume that is not open one that can be opened, and open it.

        Returns what is lost. A damaged file is kept.
        """
        async with self._opening:
            lost = await self.run_blocking(self._home.rescue, self._volumes.records[name])
            log.error(
                "a journal was made anew of what could be read in it",
                volume=name,
                lost=[one.detail for one in lost],
            )
            await self._open_one(name, trusts_root=False)
        return lost

    async def open(self, name: str, *, trusts_root: bool) -> SharedVolume:
        """Open a volume, made if this device has none of that name."""
        async with self._opening:
            return await self._open_one(name, trusts_root=trusts_root)

    async def _open_one(self, name: str, *, trusts_root: bool) -> SharedVolume:
        opened = self._open.get(name)
        if opened is not None:
            opened.volume.state.trusts_root = opened.volume.state.trusts_root or trusts_root
            return opened
        record = self._volumes.records.get(name)
        try:
            if record is None:
                record = await self.run_blocking(self._home.create, name)
                await self._volumes.put(record)
            replica, secrets, members = await self.run_blocking(self._home.open_replica, record)
            opened = await self.run_blocking(self._join_parts, record, replica, secrets, members, trusts_root)
        except DittoError as error:
            self._failures[name] = error
            raise
        self._failures.pop(name, None)
        self._open[name] = opened
        opened.on_damage = lambda: self.on_state(name)
        self._nursery.start_soon(opened.run)
        self.on_open(opened)
        self._connect(opened)
        return opened

    def _connect(self, opened: SharedVolume) -> None:
        assert self.network is not None
        known = self._home.known_addresses.of(opened.id)
        if server := self._volumes.records[opened.name].signal:
            self.network.switchboard.use(opened.id, SignalUrl.parse(server))
        self.network.connector.add(opened.peers, opened.secrets.secret, known)
        self._join_networks()

    def _join_networks(self) -> None:
        """Once, when there is a volume, or one to be looked for."""
        if not self._is_networked and self.network is not None:
            self._is_networked = True
            self._nursery.start_soon(self._be_on_networks, self.network)

    async def _be_on_networks(self, network: Network) -> None:
        """Until `close`."""
        with self._networking:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(network.run)
                nursery.start_soon(self._home.known_addresses.keep, self.run_blocking)

    async def join(self, joined: Joined, name: str, *, is_ephemeral: bool = False) -> SharedVolume:
        """Take up a volume that pairing gave, as `name`; one that is here already gets the new records."""
        present = self.name_of(joined.secrets.volume_id)
        if present is not None:
            opened = await self.open(present, trusts_root=False)
            opened.members.add(joined.records)
        else:
            require_volume_name(name)
            if name in self._volumes.records:
                raise ConfigError(f'this device has another volume called "{name}": give another --name')
            async with self._opening:
                create = partial(self._home.create_joined, joined, name, is_ephemeral=is_ephemeral)
                record = await self.run_blocking(create)
                await self._volumes.put(record)
                opened = await self._open_one(name, trusts_root=False)
        assert self.network is not None
        addresses = [Address.parse(text) for text in joined.addresses]
        self.network.connector.tell(opened.id, joined.inviter, addresses)
        for address in reversed(addresses):
            self._home.known_addresses.note(opened.id, joined.inviter, address)
        await self._home.known_addresses.save_changes(self.run_blocking)
        return opened

    async def use_signal(self, opened: SharedVolume, server: SignalUrl) -> None:
        """Meet a volume's devices by way of that server too, from now on."""
        assert self.network is not None
        self.network.switchboard.use(opened.id, server)
        await self._volumes.use_signal(opened.name, str(server))

    async def forget(self, name: str) -> None:
        """Close a volume and take it out of the registry. What lies on the disk stays there."""
        await self.close_volume(name)
        await self._unname(name)

    async def erase(self, name: str) -> None:
        """Close a volume and remove all of it. Once that has begun it goes on at the next start, if need be.

        DiskError: some of it stays until then, named by nothing.
        """
        await self.close_volume(name)
        record = self._volumes.records[name]
        await self.run_blocking(self._home.set_aside, record)
        await self._unname(name)
        await self.run_blocking(self._home.remove_aside, record)

    async def _unname(self, name: str) -> None:
        self._home.known_addresses.forget(VolumeId(bytes.fromhex(self._volumes.records[name].volume_id)))
        await self._volumes.remove(name)

    def _join_parts(
        self,
        record: VolumeRecord,
        replica: Replica,
        secrets: VolumeSecrets,
        members: Members,
        trusts_root: bool,
    ) -> SharedVolume:
        """Blocking: a volume that works, recovered, of its replica. Closes the replica if that fails."""
        try:
            if not members.membership.records:
                if secrets.root is None and not replica.documents.awaited:
                    raise Damaged(record.name, "the records of its members are missing")
                if secrets.root is not None:
                    members.add(found_volume(secrets, self._home.device, self.label))
            elif secrets.root is not None and members.membership.deciding(self._home.device.id) is None:
                # A fresh identity of the device that keeps the owner key.
                publics = make_publics(self._home.device)
                members.add(
                    [grant(members.membership, secrets, secrets.root, publics, Role.OWNER, self.label)]
                )
            volume = Volume(
                replica,
                uid=os.geteuid(),
                gid=os.getegid(),
                chunking=Chunking.CONTENT_DEFINED,
                volume_id=secrets.volume_id,
                trusts_root=trusts_root,
            )
            peers = Peers(
                replica,
                LiveContents(replica),
                members,
                device=self._home.device.id,
                volume=secrets.volume_id,
                label=self.label,
                instance=self._instance,
                port=self._port,
                free_bytes=replica.disk.free_bytes,
                on_event=partial(self._on_peer, record.name),
                allowance=self.limits.allowances.of,
            )
            opened = SharedVolume(
                record.name,
                volume,
                self._home.device,
                secrets,
                members,
                peers,
                entropy=self._entropy,
                run_blocking=self.run_blocking,
                save_secrets=partial(self._home.save_secrets, record),
                storage=self._settings.storage,
                cache=self._settings.cache,
                is_ephemeral=record.is_ephemeral,
            )
            opened.cache_limit.room = partial(room_of, self._open, replica.disk)
            opened.cache_limit.turn = self._making_room
            opened.merging.drivers = Drivers(dict(self._settings.merge_programs))
            replica.tree.brake.limits = _limits(self._settings.brake)
            opened.retention.keep = Keep.chosen(self._settings.history)
            volume.recover()
        except BaseException:
            replica.chunks.close()
            replica.journal.abandon()
            raise
        return opened

    def _port(self) -> int:
        return self.network.port if self.network is not None else 0

    def _on_peer(self, name: str, event: str, device: DeviceId) -> None:
        self.on_peer(name, device, event == "up")

    async def remember(self, name: str, path: str, options: Sequence[str], *, is_mounted: bool) -> None:
        """Keep in the registry where a volume is mounted, if it is still on this device."""
        await self._volumes.remember(name, path, tuple(options), is_mounted=is_mounted)

    async def close_volume(self, name: str) -> None:
        """Publish and sync everything, and close. Errors are logged: nothing acknowledged depends on it."""
        opened = self._open.pop(name, None)
        if opened is None:
            return
        try:
            await opened.close()
        except DittoError as error:
            log.error("a volume could not be closed cleanly", volume=name, reason=str(error))
        assert self.network is not None
        self.network.connector.remove(opened.id)
        self.network.switchboard.use(opened.id, None)
        await opened.ended()
        await self.run_blocking(close_parts, opened.volume.replica)

    async def close(self) -> None:
        """Close all volumes and give the lock back."""
        for name in list(self._open):
            await self.close_volume(name)
        self._networking.cancel()
        if self._opened_home is not None:
            await self._home.known_addresses.save_changes(self.run_blocking)
            self._opened_home.close()


def _limits(chosen: BrakeSettings) -> brake.Limits:
    return brake.Limits(chosen.is_on, chosen.share, chosen.files, chosen.least, chosen.seconds * SECOND_NS)
