"""Sixteen devices with one volume: they come to the same, and say little while nothing happens."""

import time
from typing import Any

import pytest

from dittofs.replication.liveness import PING_S
from tests.e2e.alike import are_alike
from tests.e2e.network import Device, Network, eventually

pytestmark = pytest.mark.soak

COUNT = 16
IDLE_S = 120.0
SETTLED_S = 60.0
KEEPALIVE_BYTES_MAX = 64
PATIENCE_S = 300.0


def others(device: Device) -> list[dict[str, Any]]:
    """The other devices of the volume, as this one sees them."""
    (volume,) = device.json("devices")
    return [one for one in volume["devices"] if not one["is_this"]]


def is_with_all(device: Device) -> bool:
    return sum(bool(one["is_online"] and one["is_up_to_date"]) for one in others(device)) == COUNT - 1


def test_sixteen_devices_converge_and_a_keepalive_takes_64_bytes_at_most(net: Network) -> None:
    devices = [net.device(f"device {number}") for number in range(COUNT)]
    net.switch(devices)
    devices[0].found()
    devices[0].share_with(*devices[1:])
    for device in devices:
        eventually(lambda device=device: is_with_all(device), PATIENCE_S)  # type: ignore[misc]
    for number, device in enumerate(devices):
        (device.root / f"of {number}").write_text(f"by {device.label}")
        (device.root / "everybody's").write_text(f"by {device.label}")
    eventually(lambda: are_alike(*devices), PATIENCE_S)
    time.sleep(SETTLED_S)
    before = [{one["id"]: one["bytes_sent"] for one in others(device)} for device in devices]
    begun = time.monotonic()
    time.sleep(IDLE_S)
    after = [{one["id"]: one["bytes_sent"] for one in others(device)} for device in devices]
    keepalives = (time.monotonic() - begun) / PING_S
    spent = [
        (then[one] - now[one]) / keepalives for now, then in zip(before, after, strict=True) for one in now
    ]
    print(f"{COUNT} devices, bytes to one peer a keepalive: {min(spent):.1f} to {max(spent):.1f}")
    assert 0 < max(spent) <= KEEPALIVE_BYTES_MAX
