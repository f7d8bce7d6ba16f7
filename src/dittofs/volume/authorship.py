"""What the writers of this device say of it: which device it is, and what it is called."""

from collections.abc import Callable

from dittofs.identity.keys import Device
from dittofs.ids import Slot, VolumeId
from dittofs.tree.group import Group
from dittofs.volume.writers import device_link, device_setting, writer_setting


class Authorship:
    """Of one volume. `device` None: it signs for nothing, and is known by its label."""

    def __init__(
        self, volume: VolumeId, setting: Callable[[str], bytes | None], label: str, device: Device | None
    ) -> None:
        self._volume = volume
        self._setting = setting
        self._device = device
        self.label = label
        """What this device is called now."""

    @property
    def key(self) -> str:
        """This device, as `Writers.called` knows it."""
        return self.label if self._device is None else self._device.id.hex()

    def introduce(self, group: Group, slot: Slot) -> None:
        """A writer's first change says which device it is of, and what that is called: conflict entries are
        named by it, alike everywhere.
        """
        if self._setting(writer_setting(slot)) is None:
            group.set_setting(writer_setting(slot), self.label.encode())
        if self._device is not None and self._setting(device_setting(slot)) is None:
            group.set_setting(device_setting(slot), device_link(self._device, self._volume, slot))

    def is_of(self, slot: Slot) -> bool:
        """False: the writer began under another name, or as another device. Conflict entries keep the names
        that they have, so a renamed device goes on as another writer.
        """
        label = self._setting(writer_setting(slot))
        if label is not None and label != self.label.encode():
            return False
        link = self._setting(device_setting(slot))
        return link is None or self._device is None or link.startswith(self._device.id)
