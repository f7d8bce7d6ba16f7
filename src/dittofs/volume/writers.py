"""The writers of a volume: what the device of each was called when it began, and which device that is.

Conflict entries are named by the first, alike everywhere and for good. Everything else that says who did
something says what the device is called now.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Final, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from dittofs.identity.keys import Device, DeviceId
from dittofs.ids import GENESIS_SLOT, Slot, VolumeId, client_of_slot, slot_of_client
from dittofs.labels import is_label

NAMELESS: Final = "another device"
DEVICE_ID_BYTES: Final = 32
NAMES_CACHED_MAX: Final = 1024
_SETTING: Final = re.compile(r"writer/([0-9a-f]{12})")
_KEY: Final = re.compile(r"[0-9a-f]{64}")
_SIGNED_PREFIX: Final = b"dittofs/1 writer\0"


class KnownDevices(Protocol):
    """The devices that were ever let into the volume."""

    def signing_key(self, device: DeviceId) -> Ed25519PublicKey | None:
        """The key that a device signs with; None: it is not known."""

    def name(self, device: DeviceId) -> str:
        """What a device is called now; empty: it is not known."""


@lru_cache(maxsize=NAMES_CACHED_MAX)
def writer_setting(slot: Slot) -> str:
    """The setting that says what the device of a writer was called when it began."""
    return f"writer/{client_of_slot(slot):012x}"


@lru_cache(maxsize=NAMES_CACHED_MAX)
def device_setting(slot: Slot) -> str:
    """The setting that says which device a writer is of: its id, and its signature of that."""
    return f"device/{client_of_slot(slot):012x}"


def device_link(device: Device, volume: VolumeId, slot: Slot) -> bytes:
    """What `device_setting` holds of a writer of `device`."""
    return device.id + device.signing.sign(_signed(volume, slot, device.id))


def writers_in(settings: Iterable[str]) -> Iterator[Slot]:
    """The writers that settings of these names are about."""
    for name in settings:
        found = _SETTING.fullmatch(name)
        if found is not None:
            yield slot_of_client(int(found[1], 16))


class Writers:
    """Of one volume."""

    def __init__(
        self,
        volume: VolumeId,
        setting: Callable[[str], bytes | None],
        known: KnownDevices | None = None,
    ) -> None:
        """`known` None: writers are known by what they call themselves."""
        self._volume = volume
        self._setting = setting
        self._known = known
        self._proven: dict[Slot, tuple[bytes, DeviceId | None]] = {}

    def label(self, slot: Slot) -> str:
        """What the device of a writer was called when it began: a label among writers, not a proof.

        Never what looks like the id of a device: nobody passes for another by calling himself so.
        """
        if slot == GENESIS_SLOT:
            return NAMELESS
        label = (self._setting(writer_setting(slot)) or b"").decode("utf-8", "replace")
        return label if is_label(label) and not _KEY.fullmatch(label) else NAMELESS

    def key(self, slot: Slot) -> str:
        """Who a writer is, by whatever name: the id of the device that signed for it, else its label."""
        device = self._device(slot)
        return self.label(slot) if device is None else device.hex()

    def name(self, slot: Slot) -> str:
        """What the device of a writer is called now."""
        return self.called(self.key(slot))

    def name_or(self, slot: Slot, label: str) -> str:
        """What the device of a writer is called now; `label` if no device signed for it."""
        device = self._device(slot)
        return label if device is None else self.called(device.hex())

    def called(self, key: str) -> str:
        """What the device is called now that `key` names."""
        if self._known is not None and _KEY.fullmatch(key):
            return self._known.name(DeviceId(bytes.fromhex(key))) or key
        return key

    def _device(self, slot: Slot) -> DeviceId | None:
        """The device that signed for a writer."""
        raw = None if slot == GENESIS_SLOT else self._setting(device_setting(slot))
        if raw is None or self._known is None:
            return None
        proven = self._proven.get(slot)
        if proven is not None and proven[0] == raw:
            return proven[1]
        device = DeviceId(raw[:DEVICE_ID_BYTES])
        key = self._known.signing_key(device)
        if key is None:
            return None
        found: DeviceId | None = device
        try:
            key.verify(raw[DEVICE_ID_BYTES:], _signed(self._volume, slot, device))
        except InvalidSignature:
            found = None
        self._proven[slot] = (raw, found)
        return found


def _signed(volume: VolumeId, slot: Slot, device: DeviceId) -> bytes:
    return _SIGNED_PREFIX + volume + client_of_slot(slot).to_bytes(6, "big") + device
