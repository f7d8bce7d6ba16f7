"""Who wrote what: a writer is of the device that signed for it, whatever that is called."""

from collections.abc import Mapping

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from dittofs.identity.keys import Device, DeviceId
from dittofs.ids import GENESIS_SLOT, VolumeId, slot_of_client
from dittofs.volume.authorship import Authorship
from dittofs.volume.writers import NAMELESS, Writers, device_link, device_setting, writer_setting
from tests.simulation.disk import SimulatedDisk
from tests.simulation.rig import KEYS, Rig
from tests.unit.identity.devices import DESKTOP, LAPTOP

VOLUME = VolumeId(b"v" * 32)
SLOT, OTHER = slot_of_client(77), slot_of_client(78)


class Known:
    """Two devices and their present names."""

    names: Mapping[bytes, str] = {LAPTOP.id: "laptop now", DESKTOP.id: "desktop now"}

    def signing_key(self, device: DeviceId) -> Ed25519PublicKey | None:
        found = {one.id: one.signing.public_key() for one in (LAPTOP, DESKTOP)}
        return found.get(device)

    def name(self, device: DeviceId) -> str:
        return self.names.get(device, "")


def writers(link: bytes | None, known: Known | None) -> Writers:
    said = {writer_setting(SLOT): b"laptop then"}
    if link is not None:
        said[device_setting(SLOT)] = link
    return Writers(VOLUME, said.get, known)


def test_a_writer_has_the_present_name_of_its_device_and_conflicts_keep_the_one_it_began_with() -> None:
    found = writers(device_link(LAPTOP, VOLUME, SLOT), Known())
    assert (found.name(SLOT), found.label(SLOT), found.key(SLOT)) == (
        "laptop now",
        "laptop then",
        LAPTOP.id.hex(),
    )
    assert found.called(found.key(SLOT)) == "laptop now"


@pytest.mark.parametrize(
    "link",
    [
        b"",
        b"\x01" * 40,
        device_link(LAPTOP, VOLUME, OTHER),
        device_link(LAPTOP, VolumeId(b"w" * 32), SLOT),
        DESKTOP.id + device_link(LAPTOP, VOLUME, SLOT)[32:],
        device_link(LAPTOP, VOLUME, SLOT)[:-1] + b"\x00",
    ],
    ids=["empty", "short", "another writer", "another volume", "another device", "altered"],
)
def test_a_link_that_its_device_did_not_sign_for_this_writer_says_nothing(link: bytes) -> None:
    found = writers(link, Known())
    assert (found.name(SLOT), found.key(SLOT)) == ("laptop then", "laptop then")
    assert found.name_or(SLOT, "as it was") == "as it was"


def test_without_devices_or_a_link_the_label_is_all_there_is() -> None:
    assert writers(None, Known()).name(SLOT) == "laptop then"
    assert writers(device_link(LAPTOP, VOLUME, SLOT), None).name(SLOT) == "laptop then"
    assert writers(None, Known()).name(GENESIS_SLOT) == NAMELESS


def own(rig: Rig, device: Device | None, label: str) -> Authorship:
    replica = rig.volume.replica
    replica.authorship = Authorship(KEYS.volume_id, replica.tree.setting, label, device)
    return replica.authorship


async def test_a_renamed_device_goes_on_as_another_writer_and_says_which_device_it_is() -> None:
    rig = Rig(SimulatedDisk(), label="laptop")
    authorship, replica = own(rig, LAPTOP, "laptop"), rig.volume.replica
    rig.mkdir("one")
    first = replica.slot
    authorship.label = "renamed"
    rig.mkdir("two")
    assert replica.slot != first
    labels = [replica.writers.label(slot) for slot in (first, replica.slot)]
    assert labels == ["laptop", "renamed"]
    for slot in (first, replica.slot):
        assert replica.tree.setting(device_setting(slot)) == device_link(LAPTOP, KEYS.volume_id, slot)
    second = replica.slot
    rig.mkdir("three")
    assert replica.slot == second
    own(rig, DESKTOP, "renamed")
    rig.mkdir("four")
    assert replica.slot != second, "another device never writes as the one before"


def test_a_writer_from_before_it_said_which_device_it_is_says_so_with_its_next_change() -> None:
    rig = Rig(SimulatedDisk(), label="laptop")
    rig.mkdir("one")
    slot = rig.volume.replica.slot
    own(rig, LAPTOP, "laptop")
    rig.mkdir("two")
    assert rig.volume.replica.slot == slot
    assert rig.volume.replica.tree.setting(device_setting(slot)) is not None


def test_nobody_passes_for_another_device_by_calling_himself_by_its_id() -> None:
    said = {writer_setting(SLOT): LAPTOP.id.hex().encode()}
    known = Writers(VOLUME, said.get, Known())
    assert known.key(SLOT) == known.name(SLOT) == NAMELESS
