"""Two devices behind a router each, and an internet between them: network namespaces, nftables, coturn.

What comes unasked from outside a router drops, as routers of homes do. A *symmetric* one gives each
destination another port, so that what STUN tells is of no use to anybody else.
"""

import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.e2e.network import NAMESPACES, Device, Network, ip
from tests.e2e.node import COMMAND_S

CREDENTIALS: Final = "ditto:secret-of-turn"
TURN_PORT: Final = 3478
OUTSIDE: Final = ("198.51.100", "203.0.113")
"""Networks of the two routers, of which the internet has .1 and they have .2."""
_RULES: Final = """\
table ip nat {
  chain out { type nat hook postrouting priority 100; oifname "wan" masquerade%s; }
}
table inet filter {
  chain known { ct state established,related accept; iifname "wan" drop; }
  chain in { type filter hook input priority 0; jump known; }
  chain through { type filter hook forward priority 0; jump known; }
}
"""


@dataclass(frozen=True)
class Space:
    """A network namespace without a device."""

    name: str

    @property
    def inside(self) -> tuple[str, ...]:
        """What makes a command run there."""
        return ("nsenter", f"--net={NAMESPACES / self.name}")

    def run(self, *words: str, given: str = "") -> None:
        done = subprocess.run(
            [*self.inside, *words], input=given, capture_output=True, text=True, timeout=COMMAND_S
        )
        assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"


@dataclass(frozen=True)
class Internet:
    """What lies between, with the two devices."""

    space: Space
    devices: tuple[Device, Device]

    @property
    def address(self) -> str:
        """Where its servers are reached from everywhere."""
        return f"{OUTSIDE[0]}.1"


@contextmanager
def behind_routers(net: Network, *, is_symmetric: bool) -> Iterator[Internet]:
    """Two devices, each behind a router."""
    a, b = net.device("alder"), net.device("birch")
    with ExitStack() as stack:
        inet = stack.enter_context(_space(f"{a.space}-i"))
        for number, device in enumerate((a, b)):
            router = stack.enter_context(_space(f"{a.space}-r{number}"))
            _wire(router.name, "lan", "10.0.0.1/24", device.space, "eth0", "10.0.0.2/24")
            _wire(
                router.name,
                "wan",
                f"{OUTSIDE[number]}.2/24",
                inet.name,
                f"w{number}",
                f"{OUTSIDE[number]}.1/24",
            )
            ip("-n", device.space, "route", "add", "default", "via", "10.0.0.1")
            ip("-n", router.name, "route", "add", "default", "via", f"{OUTSIDE[number]}.1")
            router.run("nft", "-f", "-", given=_RULES % (" fully-random" if is_symmetric else ""))
        ip("-n", inet.name, "route", "add", "default", "via", f"{OUTSIDE[0]}.2")  # coturn looks for one
        yield Internet(inet, (a, b))


@contextmanager
def relaying(internet: Internet, directory: Path) -> Iterator[None]:
    """coturn, on TURN_PORT of the internet's address, once it listens."""
    options = ("-n", "-L", internet.address, "-E", internet.address, "-p", str(TURN_PORT), "-u", CREDENTIALS)
    quiet = ("-a", "-r", "ditto", "--no-tls", "--no-dtls", "--no-cli", "--log-file", "stdout", "--simple-log")
    places = ("--pidfile", str(directory / "turn.pid"), "--userdb", str(directory / "turn.db"))
    log = (directory / "turn.log").open("wb")
    process = subprocess.Popen(
        [*internet.space.inside, "turnserver", *options, *quiet, *places], stdout=log, stderr=log
    )
    try:
        deadline = time.monotonic() + COMMAND_S
        probe = f"</dev/tcp/{internet.address}/{TURN_PORT}"
        while subprocess.run([*internet.space.inside, "bash", "-c", probe], capture_output=True).returncode:
            assert process.poll() is None, (directory / "turn.log").read_text()
            assert time.monotonic() < deadline, "coturn does not listen"
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(COMMAND_S)
        log.close()


@contextmanager
def _space(name: str) -> Iterator[Space]:
    ip("netns", "add", name)
    try:
        ip("-n", name, "link", "set", "lo", "up")
        space = Space(name)
        space.run("sysctl", "-q", "-w", "net.ipv4.ip_forward=1")
        yield space
    finally:
        ip("netns", "delete", name)


def _wire(one: str, end: str, address: str, other: str, other_end: str, other_address: str) -> None:
    ip("-n", one, "link", "add", end, "type", "veth", "peer", "name", other_end, "netns", other)
    for space, name, own in ((one, end, address), (other, other_end, other_address)):
        ip("-n", space, "address", "add", own, "dev", name)
        ip("-n", space, "link", "set", name, "up")
