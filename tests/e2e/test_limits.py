"""Limits of real daemons: bytes on the cable are counted over a time far longer than any burst."""

import os
import time

import pytest

from tests.e2e.network import Device, Network, eventually
from tests.e2e.test_signalling import path_to

pytestmark = pytest.mark.soak

RATE = 1_000_000
COUNTED_S = 40.0
BLOB_BYTES = 150 << 20
SPARE = 1.08
"""What TLS, TCP and IP add, and names and pings."""
PATIENCE_S = 60.0


def sent_within(device: Device, seconds: float) -> float:
    """Bytes a second that leave a device."""
    begun, before = time.monotonic(), device.sent_bytes()
    time.sleep(seconds)
    return (device.sent_bytes() - before) / (time.monotonic() - begun)


@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_limit_holds_on_the_cable_while_a_read_is_served_at_once(
    pair: tuple[Network, Device, Device], direction: str
) -> None:
    _, a, b = pair
    limited = a if direction == "up" else b
    limited.run("limit", direction, "1MB/s")
    eventually(lambda: path_to(a) and path_to(b), PATIENCE_S)
    (a.root / "bulk").write_bytes(os.urandom(BLOB_BYTES))
    eventually(lambda: (b.root / "bulk").exists(), PATIENCE_S)
    wanted = os.urandom(2 << 20)
    (a.root / "wanted").write_bytes(wanted)
    eventually(lambda: (b.root / "wanted").exists(), PATIENCE_S)
    eventually(lambda: sent_within(a, 3.0) > RATE / 2, PATIENCE_S)
    begun = time.monotonic()
    assert (b.root / "wanted").read_bytes() == wanted
    print(f"{direction}: a read of 2 MiB beside bulk: {time.monotonic() - begun:.2f} s")
    time.sleep(5)  # what it took is worked off
    rate = sent_within(a, COUNTED_S)
    print(f"{direction}: {rate:,.0f} bytes a second over {COUNTED_S:g} s")
    assert RATE * 0.9 < rate < RATE * SPARE
    assert (
        f"{'sending' if direction == 'up' else 'receiving'} at most 1 MB/s"
        in limited.run("status", check=False).stdout
    )
    limited.run("unmount", "--force", limited.root)  # what is on its way stays unsent
    limited.end_daemon()
    limited.mount()
    eventually(lambda: path_to(a) and path_to(b), PATIENCE_S)
    eventually(lambda: sent_within(a, 3.0) > RATE / 2, PATIENCE_S)
    assert sent_within(a, 10.0) < RATE * 1.3  # kept over the restart
    limited.run("limit", "clear")
    a.await_in_step(120.0)
    assert (b.root / "bulk").read_bytes() == (a.root / "bulk").read_bytes()


def test_a_bad_line_in_the_file_of_limits_is_told_and_stops_nothing(
    pair: tuple[Network, Device, Device],
) -> None:
    _, a, _ = pair
    a.unmount()
    a.end_daemon()
    (a.home / "limits").write_text("up 1MB/s\nup 5MB/s at fry 08:00-09:00\n")
    a.mount()
    (a.root / "file").write_text("works")
    told = a.run("limit")
    assert "limits:2 is passed over: 'fry' is no day of the week" in told.stderr
    assert told.stdout.startswith("Sending   at most 1 MB/s to all devices together")
    assert "limits:2 is passed over" in a.run("status", check=False).stdout
