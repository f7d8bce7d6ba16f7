"""A fresh identity for a device: for one that was copied, or that shall not be known by its old one."""

from dittofs.clock import Entropy
from dittofs.disk import Disk
from dittofs.identity.key_files import KeyFiles
from dittofs.identity.keys import DEVICE_FILE, Device, create_device, open_device


def renew_device(disk: Disk, files: KeyFiles, entropy: Entropy) -> tuple[Device, Device, str]:
    """Give the device another key; return the old and the new one, and the file that keeps the old. Blocking.

    The caller holds the daemon's lock. Errors as `open_device`. A crash leaves the old one, or none: then
    the next start makes a new one, which is what was wanted.
    """
    old = open_device(files)
    kept = f"device-{old.id.hex()[:16]}.key.old"
    disk.rename(DEVICE_FILE, kept)
    disk.sync_directory("")
    return old, create_device(files, entropy), kept
