"""Where the devices of each volume were last reached, in a file: found again without a network's help."""

from typing import Final

import msgspec
import structlog
import trio

from dittofs.address import Address
from dittofs.blocking import RunBlocking
from dittofs.disk import Disk, read_whole, replace_whole
from dittofs.errors import DittoError, FormatError
from dittofs.identity.keys import DeviceId
from dittofs.ids import VolumeId

log = structlog.get_logger()

FILE: Final = "peers.json"
FILE_BYTES_MAX: Final = 4 << 20
ADDRESSES_KEPT: Final = 4
SAVE_S: Final = 5.0


class KnownAddresses:
    """Hints only: a file that cannot be read is begun anew."""

    def __init__(self, disk: Disk) -> None:
        """Blocking."""
        self._disk = disk
        self._known = _read(disk)
        self._saving = trio.Lock()
        self.is_changed = False

    def of(self, volume: VolumeId) -> list[tuple[DeviceId, Address]]:
        """What is known of a volume, the latest of each device last."""
        found = []
        for device, addresses in self._known.get(volume.hex(), {}).items():
            for text in addresses:
                try:
                    found.append((DeviceId(bytes.fromhex(device)), Address.parse(text)))
                except (ValueError, FormatError):
                    continue
        return found

    def note(self, volume: VolumeId, device: DeviceId, address: Address) -> None:
        """A device was reached there, or probably can be."""
        known = self._known.setdefault(volume.hex(), {}).setdefault(device.hex(), [])
        text = str(address)
        if known and known[-1] == text:
            return
        if text in known:
            known.remove(text)
        known.append(text)
        del known[:-ADDRESSES_KEPT]
        self.is_changed = True

    def forget(self, volume: VolumeId) -> None:
        """The volume is not on this device any more."""
        self.is_changed = self._known.pop(volume.hex(), None) is not None or self.is_changed

    async def keep(self, run_blocking: RunBlocking) -> None:
        """For ever: save what changes, not too often."""
        while True:
            await trio.sleep(SAVE_S)
            await self.save_changes(run_blocking)

    async def save_changes(self, run_blocking: RunBlocking) -> None:
        """Save what has changed. If that fails it is logged: only hints are lost."""
        async with self._saving:  # two at once would take each other's new file away
            if self.is_changed:
                self.is_changed = False
                try:
                    await run_blocking(replace_whole, self._disk, FILE, msgspec.json.encode(self._known))
                except DittoError as error:
                    log.error("where other devices are could not be saved", reason=str(error))


def _read(disk: Disk) -> dict[str, dict[str, list[str]]]:
    data = read_whole(disk, FILE, FILE_BYTES_MAX)
    if data is None:
        return {}
    try:
        return msgspec.json.decode(data, type=dict[str, dict[str, list[str]]])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        log.error("where other devices are was lost; they are looked for", reason=str(error))
        return {}
