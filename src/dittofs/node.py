"""What one DITTOFS_HOME holds, joined: the device's key, its volumes, their keys, journals and stores."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import structlog
import trio

from dittofs.blocking import RunBlocking
from dittofs.chunks.chunker import Chunking
from dittofs.chunks.seal import VolumeKeys
from dittofs.clock import Clock, Entropy
from dittofs.config import Paths, Settings
from dittofs.disk import DiskLock
from dittofs.errors import ConfigError, Damaged, DittoError
from dittofs.identity.key_files import KeyFiles, OwnerOnly
from dittofs.identity.keys import (
    DEVICE_FILE,
    Device,
    create_device,
    create_volume_secrets,
    open_device,
    open_volume_secrets,
)
from dittofs.local_disk import LocalDisk
from dittofs.volume.opening import open_replica
from dittofs.volume.volume import Volume

log = structlog.get_logger()

REGISTRY = "volumes.json"
REGISTRY_FORMAT = 1
REGISTRY_BYTES_MAX = 1 << 20
VOLUMES = "volumes"
DAEMON_LOCK = "daemon.lock"
DIRECTORY_BYTES = 8
VOLUME_NAME_BYTES_MAX = 100


class VolumeRecord(msgspec.Struct, frozen=True):
    """A volume this device has a replica of, as the registry keeps it."""

    name: str
    directory: str
    """Below `volumes/` in the state directory."""
    volume_id: str
    """Hexadecimal."""
    path: str = ""
    """Where it was last mounted."""
    options: tuple[str, ...] = ()
    is_mounted: bool = False
    """It was mounted when the daemon last knew, and is mounted again when it comes back."""


class _Registry(msgspec.Struct, frozen=True):
    format: int
    volumes: tuple[VolumeRecord, ...]


@dataclass(slots=True, eq=False)
class OpenVolume:
    """A volume in use."""

    volume: Volume
    scope: trio.CancelScope


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
        self._paths = paths
        self._clock = clock
        self._entropy = entropy
        self._run_blocking = run_blocking
        self._nursery = nursery
        self._records: dict[str, VolumeRecord] = {}
        self._open: dict[str, OpenVolume] = {}
        self._opening = trio.Lock()
        self._saving = trio.Lock()  # held from reading the registry to having replaced it
        self._failures: dict[str, str] = {}
        self._disk: LocalDisk | None = None
        self._lock: DiskLock | None = None
        self._device: Device | None = None

    @property
    def device_id(self) -> bytes:
        assert self._device is not None
        return self._device.id

    def start(self) -> None:
        """Blocking: take the daemon's lock, read keys and registry. InUse, ConfigError, Damaged."""
        self._paths.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        disk = self._disk = LocalDisk(str(self._paths.state))
        self._lock = disk.lock(DAEMON_LOCK)
        files = self._key_files(disk)
        self._device = (
            open_device(files) if files.exists(DEVICE_FILE) else create_device(files, self._entropy)
        )
        self._records = _read_registry(disk, str(self._paths.state / REGISTRY))

    def _key_files(self, disk: LocalDisk) -> KeyFiles:
        return KeyFiles(disk, OwnerOnly(self._paths.state))

    def names(self) -> list[str]:
        """Names of all volumes, sorted."""
        return sorted(self._records)

    def record(self, name: str) -> VolumeRecord:
        return self._records[name]

    def opened(self, name: str) -> OpenVolume | None:
        return self._open.get(name)

    def failure(self, name: str) -> str:
        """Why the volume could not be opened, or empty."""
        return self._failures.get(name, "")

    def volume_at(self, path: str) -> str | None:
        """The volume last mounted on `path`."""
        return next((one.name for one in self._records.values() if one.path == path), None)

    def require_open(self, name: str) -> OpenVolume:
        """The volume `name`. ConfigError if there is none, or it could not be opened."""
        opened = self._open.get(name)
        if opened is not None:
            return opened
        if name not in self._records:
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

    async def open(self, name: str, *, trusts_root: bool) -> OpenVolume:
        """Open a volume, made if this device has none of that name."""
        async with self._opening:
            return await self._open_one(name, trusts_root=trusts_root)

    async def _open_one(self, name: str, *, trusts_root: bool) -> OpenVolume:
        opened = self._open.get(name)
        if opened is not None:
            opened.volume.state.trusts_root = opened.volume.state.trusts_root or trusts_root
            return opened
        record = self._records.get(name)
        try:
            if record is None:
                record = await self._run_blocking(self._create, name)
                async with self._saving:
                    await self._run_blocking(self._save, {**self._records, name: record})
            volume = await self._run_blocking(self._open_volume, record, trusts_root)
        except DittoError as error:
            self._failures[name] = str(error)
            raise
        self._failures.pop(name, None)
        opened = self._open[name] = OpenVolume(volume, trio.CancelScope())
        self._nursery.start_soon(self._run, opened)
        return opened

    async def _run(self, opened: OpenVolume) -> None:
        with opened.scope:
            await opened.volume.run()

    def _create(self, name: str) -> VolumeRecord:
        """Blocking: keys for a volume that did not exist. It does once the registry names it."""
        require_volume_name(name)
        assert self._disk is not None
        directory = self._entropy(DIRECTORY_BYTES).hex()
        place = f"{VOLUMES}/{directory}"
        self._disk.make_directory(place)
        secrets = create_volume_secrets(self._key_files(self._disk), place, self._entropy)
        return VolumeRecord(name=name, directory=directory, volume_id=secrets.volume_id.hex())

    def _open_volume(self, record: VolumeRecord, trusts_root: bool) -> Volume:
        """Blocking: journal, chunks and tree of one volume, recovered."""
        assert self._disk is not None
        place = f"{VOLUMES}/{record.directory}"
        secrets = open_volume_secrets(self._key_files(self._disk), place)
        keys = VolumeKeys(secrets.volume_id, secrets.secret, secrets.generations, secrets.current)
        replica = open_replica(
            LocalDisk(str(self._paths.state / place)),
            keys,
            clock=self._clock,
            entropy=self._entropy,
            run_blocking=self._run_blocking,
            label=self.label,
            machine=_machine(),
        )
        volume = Volume(
            replica,
            uid=os.geteuid(),
            gid=os.getegid(),
            chunking=Chunking.CONTENT_DEFINED,
            volume_id=secrets.volume_id,
            trusts_root=trusts_root,
        )
        volume.recover()
        return volume

    async def remember(self, name: str, path: str, options: Sequence[str], *, is_mounted: bool) -> None:
        """Keep in the registry where a volume is mounted."""
        async with self._saving:
            record = msgspec.structs.replace(
                self._records[name], path=path, options=tuple(options), is_mounted=is_mounted
            )
            await self._run_blocking(self._save, {**self._records, name: record})

    def _save(self, records: dict[str, VolumeRecord]) -> None:
        """Blocking: replace the registry, whole or not at all."""
        assert self._disk is not None
        data = msgspec.json.format(msgspec.json.encode(_Registry(REGISTRY_FORMAT, tuple(records.values()))))
        temporary = f"{REGISTRY}.new"
        file = self._disk.open(temporary, create=True)
        try:
            file.truncate(0)
            file.write(0, data)
            file.sync()
        finally:
            file.close()
        self._disk.rename(temporary, REGISTRY)
        self._disk.sync_directory("")
        self._records = records

    async def close_volume(self, name: str) -> None:
        """Publish and sync everything, and close. Errors are logged: nothing acknowledged depends on it."""
        opened = self._open.pop(name, None)
        if opened is None:
            return
        try:
            await opened.volume.close()
        except DittoError as error:
            log.error("a volume could not be closed cleanly", volume=name, reason=str(error))
        opened.scope.cancel()
        await self._run_blocking(_close_parts, opened.volume)

    async def close(self) -> None:
        """Close all volumes and give the lock back."""
        for name in list(self._open):
            await self.close_volume(name)
        if self._lock is not None:
            self._lock.close()


def require_volume_name(name: str) -> None:
    """ConfigError unless `name` can be given to a volume. A colon would make VOLUME:PATH mean two things."""
    is_short = len(name.encode(errors="surrogateescape")) <= VOLUME_NAME_BYTES_MAX
    is_plain = name.isprintable() and not {"/", ":"} & set(name) and name.strip() == name
    if not is_short or not is_plain or name in ("", ".", ".."):
        raise ConfigError(
            f"{name!r} cannot name a volume: that takes 1 to {VOLUME_NAME_BYTES_MAX} printable bytes, "
            "no / and no : among them, and no space at the ends"
        )


def _close_parts(volume: Volume) -> None:
    replica = volume.replica
    try:
        replica.chunks.close()
    finally:
        replica.journal.close(replica.tree.tick())


def _read_registry(disk: LocalDisk, place: str) -> dict[str, VolumeRecord]:
    try:
        file = disk.open(REGISTRY, read_only=True)
    except FileNotFoundError:
        return {}
    try:
        data = file.read(0, REGISTRY_BYTES_MAX)
    finally:
        file.close()
    try:
        registry = msgspec.json.decode(data, type=_Registry)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Damaged(place, f"not a list of volumes: {error}") from error
    if registry.format != REGISTRY_FORMAT:
        raise Damaged(place, f"its format is {registry.format}, not {REGISTRY_FORMAT}")
    return {record.name: record for record in registry.volumes}


def _machine() -> str:
    """This machine and its boot, so that a state directory that was copied or survived a power cut shows."""
    parts = [Path(path) for path in ("/etc/machine-id", "/proc/sys/kernel/random/boot_id")]
    return "/".join(path.read_text().strip() if path.exists() else "unknown" for path in parts)
