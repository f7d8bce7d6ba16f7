"""One large file on one device, and how it comes to others that all want it, over uplinks of a given rate."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.e2e.network import Device, Network, eventually

COME_S = 300.0
PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Spread:
    """What it took."""

    took_s: tuple[float, ...]
    """Of each receiver, from the last close on the first device until all bytes lay there."""
    sent: tuple[float, ...]
    """Of each device, the first one first: what it sent, as multiples of the file."""
    cpu_s: float
    """Of all of them."""


def four(net: Network, rate: str) -> list[Device]:
    """Devices with uplinks of that rate, that all keep everything."""
    devices = [net.device(label) for label in ("alder", "birch", "cedar", "dogwood")]
    net.switch(devices, rate=rate)
    seed = devices[0]
    seed.found()
    seed.run("copies", "all")
    seed.share_with(*devices[1:])
    for device in devices:
        device.await_in_step()
    for device in devices:
        eventually(lambda device=device: reaches(device) == len(devices) - 1, 60.0)  # type: ignore[misc]
    return devices


def reaches(device: Device) -> int:
    """With how many others it is connected."""
    return sum(
        bool(one.get("path")) for one in device.status()["volumes"][0]["members"] if not one["is_this"]
    )


def spread(devices: Sequence[Device], size: int) -> Spread:
    """Write noise of that size on the first device and wait until every one has all of it."""
    seed, receivers = devices[0], devices[1:]
    data = b"".join(Random(place).randbytes(PIECE_BYTES) for place in range(0, size, PIECE_BYTES))
    before = [device.sent_bytes() for device in devices]
    stored = {device.label: packs_bytes(device) for device in receivers}
    spent_s = sum(cpu_s(device) for device in devices)
    (seed.root / "large").write_bytes(data)
    closed = time.monotonic()
    took: dict[str, float] = {}

    def have_all() -> bool:
        for device in receivers:
            if device.label not in took and packs_bytes(device) - stored[device.label] >= size:
                took[device.label] = time.monotonic() - closed
        return len(took) == len(receivers)

    eventually(have_all, COME_S)
    sent = [(device.sent_bytes() - one) / size for device, one in zip(devices, before, strict=True)]
    spent_s = sum(cpu_s(device) for device in devices) - spent_s
    for device in receivers:
        assert (device.root / "large").read_bytes() == data
    return Spread(tuple(took[device.label] for device in receivers), tuple(sent), spent_s)


def packs_bytes(device: Device) -> int:
    """What its store holds. Noise is stored as it is, and a little beside it."""
    return sum(path.stat().st_size for path in device.home.rglob("*.pack"))


def cpu_s(device: Device) -> float:
    """What its daemon has spent."""
    fields = Path(f"/proc/{device.daemon_pid()}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100
