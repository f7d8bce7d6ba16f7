"""Devices for tests, and what admits them."""

import os

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from dittofs.identity.certificate import SERIAL_BYTES, make_certificate
from dittofs.identity.keys import Device, DeviceId
from dittofs.links.link import Admits, Alpn


def new_device() -> Device:
    signing = Ed25519PrivateKey.generate()
    certificate = make_certificate(signing, os.urandom(SERIAL_BYTES))
    return Device(signing, X25519PrivateKey.generate(), certificate)


def only(*devices: Device) -> Admits:
    """Admits these devices, whatever for."""
    ids = {device.id for device in devices}
    return lambda device, _: device in ids


def nobody(_: DeviceId, __: Alpn) -> bool:
    return False


def anybody(_: DeviceId, __: Alpn) -> bool:
    return True
