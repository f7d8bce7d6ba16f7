"""Devices and a volume with members, made from counted entropy: the same in every run but for wraps."""

from dittofs.identity.granting import found_volume, grant
from dittofs.identity.keys import Device, VolumeSecrets, create_device, make_volume_secrets
from dittofs.identity.membership import Membership
from dittofs.identity.publics import make_publics
from dittofs.identity.records import Role
from tests.simulation.disk import SimulatedDisk
from tests.unit.identity.files import Counted, key_files

ENTROPY = Counted()
LAPTOP, DESKTOP, NAS, PHONE, STRANGER, PUPPET = (
    create_device(key_files(SimulatedDisk()), ENTROPY) for _ in range(6)
)


class Share:
    """A volume that the laptop founded, with the secrets its owner has."""

    def __init__(self) -> None:
        self.secrets: VolumeSecrets = make_volume_secrets(ENTROPY)
        self.membership = Membership(self.secrets.genesis)
        self.membership.add(found_volume(self.secrets, LAPTOP, "laptop"))

    def admit(self, device: Device, role: Role, name: str, author: Device = LAPTOP) -> bytes:
        record = grant(self.membership, self.secrets, author, make_publics(device), role, name)
        self.membership.add([record])
        return record
