"""Paths between devices that are cut, change, or are better than the one in use: left, found again, used.

How soon is printed. It is five seconds that are promised; nothing here fails for a slow machine.
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

import pytest

from tests.e2e.network import Device, Network, eventually, ip
from tests.e2e.node import COMMAND_S
from tests.e2e.test_signalling import path_to

pytestmark = pytest.mark.soak

PATIENCE_S = 60.0
STOPPED_S = 20.0
BLOB_BYTES = 192 << 20
DROP = """\
table inet cut {
  chain in { type filter hook input priority 0; drop; }
  chain out { type filter hook output priority 0; drop; }
}
"""


def nft(device: Device, rules: str) -> None:
    """Run nft(8) in a device's network."""
    done = subprocess.run(
        [*device.inside, "nft", "-f", "-"], input=rules, capture_output=True, text=True, timeout=COMMAND_S
    )
    assert done.returncode == 0, done.stderr


@contextmanager
def cut(*devices: Device) -> Iterator[None]:
    """Lose every packet of some devices, without a word to anybody."""
    for device in devices:
        nft(device, DROP)
    try:
        yield
    finally:
        for device in devices:
            nft(device, "delete table inet cut")


def is_reached(a: Device, b: Device) -> bool:
    return bool(path_to(a) and path_to(b))


def shows(device: Device, name: str, text: str) -> bool:
    return (device.root / name).read_text() == text


def left_at(device: Device) -> float:
    """When the daemon last let go of a link, by its own log."""
    log = (device.home / "state/daemon.log").read_text()
    line = next(one for one in reversed(log.splitlines()) if "event='peer disconnected'" in one)
    stamp = line.partition("timestamp='")[2].partition("'")[0]
    return datetime.fromisoformat(stamp).timestamp()


def says_when_left(what: str, a: Device, b: Device) -> None:
    """Wait until both have left the path that was just cut."""
    begun = time.time()
    eventually(lambda: not (path_to(a) or path_to(b)), PATIENCE_S)
    says(f"{what}, left", max(left_at(a), left_at(b)) - begun)


def says(what: str, seconds: float) -> None:
    print(f"{what}: {seconds:.2f} s")


def test_a_path_that_is_cut_is_noticed_and_used_again_when_it_is_back(
    pair: tuple[Network, Device, Device],
) -> None:
    _, a, b = pair
    (a.root / "before").write_text("before")
    a.await_in_step()
    for is_used in (False, True):
        eventually(lambda: is_reached(a, b), PATIENCE_S)
        time.sleep(3)  # the link is idle
        what = "in use" if is_used else "idle"
        with cut(b):
            if is_used:
                (a.root / "of alder").write_text("alder")
            says_when_left(f"cut while {what}", a, b)
            time.sleep(12)
        back_s = eventually(lambda: is_reached(a, b), PATIENCE_S)
        says(f"cut while {what}, used again", back_s)
    eventually(lambda: shows(b, "of alder", "alder"), PATIENCE_S)


def test_a_transfer_goes_on_where_it_was_when_its_path_was_cut(pair: tuple[Network, Device, Device]) -> None:
    _, a, b = pair
    data = os.urandom(BLOB_BYTES)
    (a.root / "blob").write_bytes(data)
    eventually(lambda: (b.root / "blob").stat().st_size == BLOB_BYTES, PATIENCE_S)
    with cut(b):
        says_when_left("cut while a file comes", a, b)
    says("used again", eventually(lambda: is_reached(a, b), PATIENCE_S))
    a.await_in_step()
    assert (b.root / "blob").read_bytes() == data


def test_a_device_with_another_address_is_found_there(pair: tuple[Network, Device, Device]) -> None:
    _, a, b = pair
    (a.root / "before").write_text("before")
    a.await_in_step()
    (old,) = a.addresses
    new = old.rpartition(".")[0] + ".77"
    for device in (a, b):  # or link-local addresses stay, and are used
        silent = "net.ipv6.conf.c1.disable_ipv6=1"
        subprocess.run([*device.inside, "sysctl", "-q", "-w", silent], check=True, timeout=COMMAND_S)
    eventually(lambda: is_reached(a, b), PATIENCE_S)
    ip("-n", a.space, "address", "delete", f"{old}/24", "dev", "c1")
    (b.root / "meanwhile").write_text("meanwhile")
    time.sleep(3)
    ip("-n", a.space, "address", "add", f"{new}/24", "dev", "c1")
    says("another address, used", eventually(lambda: shows(a, "meanwhile", "meanwhile"), PATIENCE_S))
    eventually(lambda: is_reached(a, b), PATIENCE_S)


def test_a_daemon_that_stood_still_is_back(pair: tuple[Network, Device, Device]) -> None:
    """As a machine that was suspended: nothing answers for twenty seconds, then everything goes on."""
    _, a, b = pair
    (a.root / "before").write_text("before")
    a.await_in_step()
    pid = a.daemon_pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        (b.root / "meanwhile").write_text("meanwhile")
        time.sleep(STOPPED_S)
    finally:
        os.kill(pid, signal.SIGCONT)
    says("stopped for 20 s, back", eventually(lambda: shows(a, "meanwhile", "meanwhile"), PATIENCE_S))
    eventually(lambda: is_reached(a, b), PATIENCE_S)
