"""What BlueZ says there is: controllers and the devices that each has seen. Pure.

BlueZ names things by paths: `/org/bluez/hci0`, and what that has seen `…/hci0/dev_00_11_22_33_44_55`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from dittofs.errors import DittoError

SERVICE: Final = "2828af16-3656-4cbf-9c73-e56a7956a82d"
"""By what devices with DittoFS know each other. Chosen at random, once."""
TRANSPORT: Final = "bluetooth"
"""The first word of such a link's description."""
NAME: Final = "org.bluez"
ADAPTER: Final = f"{NAME}.Adapter1"
DEVICE: Final = f"{NAME}.Device1"
PROFILE: Final = f"{NAME}.Profile1"

_PATH: Final = re.compile(r"(/org/bluez/hci[0-9]+)/dev_((?:[0-9A-F]{2}_){5}[0-9A-F]{2})")
_ADDRESS: Final = re.compile(r"(?:[0-9A-F]{2}:){5}[0-9A-F]{2}")

Objects = Mapping[str, Mapping[str, Mapping[str, tuple[str, Any]]]]
"""As `GetManagedObjects` tells them: path -> interface -> property -> (type, value)."""


class NoController(DittoError):
    """Bluetooth cannot be used now; the message says why."""


@dataclass(frozen=True, slots=True)
class Controller:
    """One Bluetooth adapter of this machine, switched on."""

    path: str
    address: str
    is_discoverable: bool
    is_discovering: bool
    neighbours: frozenset[str]
    """Addresses of devices that it has seen and that have DittoFS."""

    def device(self, address: str) -> str:
        """The path of a device."""
        return f"{self.path}/dev_{address.replace(':', '_')}"


def find_controller(objects: Objects, wanted: str) -> Controller:
    """The controller to use: `wanted` (`hci1`), or the first that is on if that is empty. NoController."""
    found = {
        path: interfaces[ADAPTER]
        for path, interfaces in sorted(objects.items())
        if ADAPTER in interfaces and (not wanted or path == f"/org/bluez/{wanted}")
    }
    if not found:
        raise NoController(f"there is no Bluetooth controller {wanted} on this machine".replace("  ", " "))
    on = [path for path, properties in found.items() if _is_set(properties, "Powered")]
    if not on:
        names = ", ".join(path.rpartition("/")[2] for path in found)
        raise NoController(f"the Bluetooth controller {names} is switched off")
    path, properties = on[0], found[on[0]]
    address = str(properties.get("Address", ("s", ""))[1])
    if not _ADDRESS.fullmatch(address):
        raise NoController(f"the Bluetooth controller {path.rpartition('/')[2]} tells no address")
    neighbours = {
        place[1]
        for device, interfaces in objects.items()
        if DEVICE in interfaces
        and SERVICE in interfaces[DEVICE].get("UUIDs", ("as", []))[1]
        and (place := parse_device(device)) is not None
        and place[0] == path
    }
    return Controller(
        path,
        address,
        _is_set(properties, "Discoverable"),
        _is_set(properties, "Discovering"),
        frozenset(neighbours),
    )


def parse_device(path: str) -> tuple[str, str] | None:
    """The controller's path and the device's address; None if it is no device's path."""
    found = _PATH.fullmatch(path)
    return None if found is None else (found[1], found[2].replace("_", ":"))


def _is_set(properties: Mapping[str, tuple[str, Any]], name: str) -> bool:
    return properties.get(name, ("b", False))[1] is True
