"""What one DITTOFS_HOME has on the disk: the device's key, its volumes, their keys, journals and stores."""

import shutil
from pathlib import Path

import structlog

from dittofs.blocking import RunBlocking
from dittofs.clock import Clock, Entropy
from dittofs.errors import DittoError
from dittofs.identity.key_files import KeyFiles, OwnerOnly
from dittofs.identity.keys import (
    DEVICE_FILE,
    VolumeSecrets,
    create_device,
    create_volume_secrets,
    open_device,
    open_volume_secrets,
    replace_volume_secrets,
    write_volume_secrets,
)
from dittofs.identity.pairing import Joined
from dittofs.journal.journal import Journal
from dittofs.journal.rescue import Loss
from dittofs.known_addresses import KnownAddresses
from dittofs.local_disk import LocalDisk, translated
from dittofs.registry import FILE as REGISTRY
from dittofs.registry import Registry, VolumeRecord, require_volume_name
from dittofs.replication.members import Members
from dittofs.shared_volume import keys_of
from dittofs.volume.opening import open_replica, rescue_replica
from dittofs.volume.replica import Replica

log = structlog.get_logger()

VOLUMES = "volumes"
GONE = "gone-"
"""Before the name of a volume's directory: it is being removed, whatever the registry says."""
DAEMON_LOCK = "daemon.lock"
DIRECTORY_BYTES = 8


class Home:
    """One per daemon: its lock is held until `close`. All but `close` blocks."""

    def __init__(
        self, state: Path, *, clock: Clock, entropy: Entropy, run_blocking: RunBlocking, label: str
    ) -> None:
        """Take the daemon's lock, read keys and registry. InUse, ConfigError, Damaged."""
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._state = state
        self._clock = clock
        self._entropy = entropy
        self._run_blocking = run_blocking
        self._label = label
        self._disk = LocalDisk(str(state))
        self._lock = self._disk.lock(DAEMON_LOCK)
        try:
            self._files = KeyFiles(self._disk, OwnerOnly(state))
            self.device = (
                open_device(self._files)
                if self._files.exists(DEVICE_FILE)
                else create_device(self._files, entropy)
            )
            self.registry = Registry(self._disk, str(state / REGISTRY), run_blocking)
            self.known_addresses = KnownAddresses(self._disk)
            self._end_removals()
        except BaseException:
            self._lock.close()
            raise

    def close(self) -> None:
        """Give the lock back."""
        self._lock.close()

    def place(self, record: VolumeRecord) -> Path:
        """The directory that holds a volume's keys and data."""
        return self._state / VOLUMES / record.directory

    def set_aside(self, record: VolumeRecord) -> None:
        """Blocking: begin to remove a closed volume, durably: it is not here at the next start."""
        self._disk.rename(f"{VOLUMES}/{record.directory}", f"{VOLUMES}/{GONE}{record.directory}")
        self._disk.sync_directory(VOLUMES)

    def remove_aside(self, record: VolumeRecord) -> None:
        """Blocking: remove what was set aside. DiskError: the next start goes on."""
        self._remove(GONE + record.directory)

    def _end_removals(self) -> None:
        """What a crash left of volumes that were being removed, in the registry too."""
        gone = [name for name in self._disk.listdir(VOLUMES) if name.startswith(GONE)]
        self.registry.drop({name.removeprefix(GONE) for name in gone})
        for name in gone:
            try:
                self._remove(name)
            except DittoError as error:
                log.warning("what is left of a volume could not be removed", reason=str(error))

    def _remove(self, name: str) -> None:
        place = self._state / VOLUMES / name
        try:
            shutil.rmtree(place)
        except OSError as error:
            raise translated(error, f"removing {place}") from error

    def save_secrets(self, record: VolumeRecord, secrets: VolumeSecrets) -> None:
        """Keep other secrets of a volume than before."""
        replace_volume_secrets(self._files, f"{VOLUMES}/{record.directory}", secrets)

    def create(self, name: str) -> VolumeRecord:
        """Blocking: keys for a volume that did not exist. It does once the registry names it."""
        require_volume_name(name)
        directory = self._entropy(DIRECTORY_BYTES).hex()
        place = f"{VOLUMES}/{directory}"
        self._disk.make_directory(place)
        secrets = create_volume_secrets(self._files, place, self._entropy)
        return VolumeRecord(name=name, directory=directory, volume_id=secrets.volume_id.hex())

    def open_replica(self, record: VolumeRecord) -> tuple[Replica, VolumeSecrets, Members]:
        """Blocking: journal, chunks and tree of one volume, and its members."""
        place = f"{VOLUMES}/{record.directory}"
        secrets = open_volume_secrets(self._files, place)
        disk = LocalDisk(str(self._state / place))
        found: list[Members] = []

        def members_in(journal: Journal) -> Members:
            found.append(Members(journal, secrets.genesis, disk))
            return found[-1]

        replica = open_replica(
            disk,
            keys_of(secrets),
            clock=self._clock,
            entropy=self._entropy,
            run_blocking=self._run_blocking,
            label=self._label,
            machine=_machine(),
            device=self.device,
            known=members_in,
        )
        return replica, secrets, found[-1]

    def rescue(self, record: VolumeRecord) -> list[Loss]:
        """Blocking: make a volume's damaged journal one that can be opened; returns what is lost."""
        return rescue_replica(LocalDisk(str(self.place(record))))

    def create_joined(self, joined: Joined, name: str, *, is_ephemeral: bool) -> VolumeRecord:
        """Blocking: keys and records of a volume that others made. It is here once the registry names it."""
        directory = self._entropy(DIRECTORY_BYTES).hex()
        place = f"{VOLUMES}/{directory}"
        self._disk.make_directory(place)
        write_volume_secrets(self._files, place, joined.secrets)
        record = VolumeRecord(
            name=name,
            directory=directory,
            volume_id=joined.secrets.volume_id.hex(),
            is_ephemeral=is_ephemeral,
        )
        replica, _, members = self.open_replica(record)
        try:
            members.add(joined.records)
        finally:
            close_parts(replica)
        return record


def close_parts(replica: Replica) -> None:
    """Blocking: everything is durable when this returns."""
    try:
        replica.chunks.close()
    finally:
        replica.journal.close(replica.tree.tick())


def _machine() -> str:
    """This machine and its boot, so that a state directory that was copied or survived a power cut shows."""
    parts = [Path(path) for path in ("/etc/machine-id", "/proc/sys/kernel/random/boot_id")]
    return "/".join(path.read_text().strip() if path.exists() else "unknown" for path in parts)
