"""Devices that can only talk over cables: network namespaces joined by veth pairs, pulled and plugged.

A cable is a subnet of its own, so devices in a row reach their neighbours alone. Needs root.
"""

import json
import os
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.e2e.node import COMMAND_S, Node

NAMESPACES: Final = Path("/var/run/netns")
TICK_S: Final = 0.02
LOOK_S: Final = 0.002
NOBODY: Final = "02:00:00:00:00:01"
"""An address of no interface."""


def ip(*arguments: str) -> None:
    """Run ip(8)."""
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, timeout=COMMAND_S)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"


def eventually(condition: Callable[[], object], patience_s: float, what: str = "") -> float:
    """Wait for other processes until `condition` holds; seconds it took. AssertionError if it never does."""
    begun = time.monotonic()
    while True:
        looked = time.monotonic()
        try:
            if condition():
                return time.monotonic() - begun
        except OSError:
            pass
        assert time.monotonic() - begun < patience_s, f"not within {patience_s:g} s: {what or condition}"
        # Who looks at a whole tree, or runs a command to look, takes the time of those that are waited for.
        time.sleep(max(LOOK_S, time.monotonic() - looked))


def await_next_second() -> None:
    """Return in another second of the clock: what is told to the second is told apart.

    Also by time(2), and so by gmtime(3), which follow only with the kernel's next tick.
    """
    time.sleep(1.0 + TICK_S - time.time() % 1.0)


class Device(Node):
    """A node in a network namespace of its own."""

    def __init__(self, directory: Path, space: str, label: str) -> None:
        super().__init__(directory)
        self.space = space
        self.label = label
        self.addresses: list[str] = []
        self.brakes = False
        """Whether the brake is on. Tests do in seconds what people do in days, so it is off by default."""
        self.configure()

    def configure(self, network: str = "") -> None:
        """Write the settings; they count from the daemon's next start."""
        self.home.mkdir(parents=True, exist_ok=True)
        text = f'[device]\nlabel = "{self.label}"\n[network]\n{network}\n'
        if not self.brakes:
            text += "[brake]\non = false\n"
        (self.home / "config.toml").write_text(text)

    @property
    def inside(self) -> tuple[str, ...]:
        """What makes a command run in this device's network."""
        return ("nsenter", f"--net={NAMESPACES / self.space}")

    def run(
        self,
        *arguments: str | Path,
        check: bool = True,
        timeout_s: float = COMMAND_S,
        prefix: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        return super().run(
            *arguments,
            check=check,
            timeout_s=timeout_s,
            prefix=(*self.inside, *prefix),
            environment=environment,
        )

    def found(self, name: str = "Shared") -> None:
        """Make a volume and mount it."""
        self.root = self.directory / name
        self.mount()

    def invite(self, *options: str) -> str:
        """A ticket for this device's volume."""
        done = self.run("share", "--json", *options)
        return str(json.loads(done.stdout)["ticket"])

    def join(self, ticket: str, name: str = "Shared") -> float:
        """Join and mount; the seconds it took."""
        self.root = self.directory / name
        begun = time.monotonic()
        self.run("join", ticket, self.root)
        return time.monotonic() - begun

    def share_with(self, *others: "Device", role: str = "writer") -> None:
        """Invite the others, one after the other."""
        for other in others:
            other.join(self.invite("--role", role))

    def await_in_step(self, patience_s: float = 30.0) -> None:
        """Return when everybody reachable has everything and enough copies are kept."""
        self.run("sync", "--timeout", str(patience_s), timeout_s=patience_s + COMMAND_S)

    def sent_bytes(self, interface: str = "") -> int:
        """What left this device's cables, or one of them, since they were plugged."""
        done = subprocess.run(
            [*self.inside, "ip", "-j", "-s", "link"], capture_output=True, text=True, check=True
        )
        links: list[dict[str, Any]] = json.loads(done.stdout)
        return sum(
            int(one["stats64"]["tx"]["bytes"])
            for one in links
            if one["ifname"] == interface or not (interface or one["ifname"] == "lo")
        )


@dataclass(frozen=True)
class Cable:
    """Two ends of one name, and a subnet of that number."""

    name: str
    number: int
    one: Device
    other: Device

    def ends(self) -> list[tuple[Device, str, str]]:
        """Each device, its interface, and the address at the other end."""
        return [
            (self.one, self.name, f"10.77.{self.number}.2"),
            (self.other, self.name, f"10.77.{self.number}.1"),
        ]

    def switch(self, state: str) -> None:
        """Both interfaces `up` or `down`."""
        for device, name, _ in self.ends():
            ip("-n", device.space, "link", "set", name, state)


class Network:
    """Devices and cables."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._unique = secrets.token_hex(3)
        self._cables: dict[frozenset[str], Cable] = {}
        self._switches: list[str] = []
        self.devices: list[Device] = []

    def device(self, label: str) -> Device:
        """A device without cables."""
        space = f"ditto-{self._unique}-{len(self.devices)}"
        ip("netns", "add", space)
        ip("-n", space, "link", "set", "lo", "up")
        device = Device(self._directory / label, space, label)
        self.devices.append(device)
        return device

    def cable(self, one: Device, other: Device) -> None:
        """Join two devices."""
        number = len(self._cables) + 1
        name = f"c{number}"
        ip("-n", one.space, "link", "add", name, "type", "veth", "peer", "name", name, "netns", other.space)
        self._cables[frozenset((one.space, other.space))] = Cable(name, number, one, other)
        for last, device in enumerate((one, other), 1):
            address = f"10.77.{number}.{last}"
            device.addresses.append(address)
            ip("-n", device.space, "address", "add", f"{address}/24", "dev", name)
            ip("-n", device.space, "link", "set", name, "up")

    def switch(self, devices: Sequence[Device], number: int = 200, *, rate: str = "") -> None:
        """Join devices by a switch, each with a cable of its own that takes no more than `rate` of what it
        sends (tc(8), such as `200mbit`; empty: what the machine can).
        """
        space = f"ditto-{self._unique}-s{number}"
        ip("netns", "add", space)
        self._switches.append(space)
        ip("-n", space, "link", "add", "switch", "type", "bridge")
        ip("-n", space, "link", "set", "switch", "up")
        for last, device in enumerate(devices, 1):
            name, port = f"s{number}", f"port{last}"
            ip("-n", space, "link", "add", port, "type", "veth", "peer", "name", name, "netns", device.space)
            ip("-n", space, "link", "set", port, "master", "switch", "up")
            address = f"10.77.{number}.{last}"
            device.addresses.append(address)
            ip("-n", device.space, "address", "add", f"{address}/24", "dev", name)
            ip("-n", device.space, "link", "set", name, "up")
            if rate:
                self.shape(device, name, rate)

    @staticmethod
    def up(number: int, devices: Sequence[Device], *, is_up: bool) -> None:
        """Plug devices' cables to a switch, or pull them."""
        for device in devices:
            ip("-n", device.space, "link", "set", f"s{number}", "up" if is_up else "down")

    @staticmethod
    def shape(device: Device, interface: str, rate: str) -> None:
        """An interface sends no more than this from now on; what comes faster waits its turn."""
        shaped = ["tbf", "rate", rate, "burst", "128kb", "latency", "50ms"]
        command = ["tc", "-n", device.space, "qdisc", "replace", "dev", interface, "root", *shaped]
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_S)
        assert done.returncode == 0, done.stderr

    def pull(self, one: Device, other: Device) -> None:
        """Cut the cable between two devices: the interfaces at both ends go down."""
        self._between(one, other).switch("down")

    def plug(self, one: Device, other: Device) -> None:
        """Mend it."""
        self._between(one, other).switch("up")

    def pull_all(self) -> None:
        """Every device is alone."""
        for cable in self._cables.values():
            cable.switch("down")

    def plug_all(self) -> None:
        """Mend all cables."""
        for cable in self._cables.values():
            cable.switch("up")

    def lose(self, one: Device, other: Device) -> None:
        """Lose every packet between two devices, without their interfaces noticing."""
        for device, name, there in self._between(one, other).ends():
            silent = f"net.ipv6.conf.{name}.disable_ipv6=1"
            subprocess.run([*device.inside, "sysctl", "-q", "-w", silent], check=True, timeout=COMMAND_S)
            far = (there, "dev", name, "lladdr", NOBODY, "nud", "permanent")
            ip("-n", device.space, "neigh", "replace", *far)

    def find(self, one: Device, other: Device) -> None:
        """Deliver packets again."""
        for device, name, there in self._between(one, other).ends():
            ip("-n", device.space, "neigh", "delete", there, "dev", name)

    def _between(self, one: Device, other: Device) -> "Cable":
        return self._cables[frozenset((one.space, other.space))]

    def close(self) -> None:
        """End all daemons, and take the namespaces away."""
        problems = []
        for device in self.devices:
            try:
                device.close()
            except AssertionError as error:
                problems.append(f"{device.label}: {error}")
        for device in self.devices:
            ip("netns", "delete", device.space)
        for space in self._switches:
            ip("netns", "delete", space)
        assert not problems, "\n".join(problems)


@contextmanager
def network(directory: Path) -> Iterator[Network]:
    """A network that is gone afterwards."""
    assert os.geteuid() == 0, "network namespaces need root: run the suite as root, or with -m 'not e2e'"
    made = Network(directory)
    try:
        yield made
    finally:
        made.close()
