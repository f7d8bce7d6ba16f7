"""What runs in the virtual machine: two homes with a controller each and no network share a volume.

Prints what is typed and answered, and at the end either what is to be compared, or why it failed.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import trio
from jeepney import DBusAddress, MessageType, Properties, new_method_call
from jeepney.io.blocking import open_dbus_connection

from tests.e2e.bluetooth_relay import Relay
from tests.links.bus_program import message_bus_daemon

DITTOFS = Path(sys.executable).with_name("dittofs")
SYSTEM_BUS = "unix:path=/run/dbus/system_bus_socket"
CONTROLLERS = ("hci0", "hci1")
COMMAND_S = 600.0
WAIT_S = 300.0
SHOWN = "the machine says: "
SIZE = 300_000


def say(text: str) -> None:
    for line in text.splitlines():
        print(f"{SHOWN}{line}", flush=True)


def have_controllers() -> bool:
    """Whether both are there; they are switched on then."""
    with open_dbus_connection(SYSTEM_BUS) as connection:
        bluez = DBusAddress("/", "org.bluez", "org.freedesktop.DBus.ObjectManager")
        answer = connection.send_and_get_reply(new_method_call(bluez, "GetManagedObjects"), timeout=WAIT_S)
        paths = [f"/org/bluez/{one}" for one in CONTROLLERS]
        if answer.header.message_type is MessageType.error or not set(paths) <= set(answer.body[0]):
            return False
        for path in paths:
            controller = DBusAddress(path, "org.bluez", "org.bluez.Adapter1")
            on = Properties(controller).set("Powered", "b", True)
            done = connection.send_and_get_reply(on, timeout=WAIT_S)
            assert done.header.message_type is not MessageType.error, done.body
    return True


def await_controllers() -> subprocess.Popen[bytes]:
    """Two virtual controllers, switched on. Where the emulator is too slow for the kernel: again."""
    began = time.monotonic()
    while time.monotonic() - began < WAIT_S:
        emulator = subprocess.Popen(["btvirt", "-l2"])
        until = time.monotonic() + 15
        while time.monotonic() < until:
            if have_controllers():
                return emulator
            time.sleep(0.5)
        emulator.kill()
        emulator.wait()
    raise AssertionError("no two controllers")


class Home:
    """One DITTOFS_HOME in a network namespace where there is no network, with one controller."""

    def __init__(self, name: str, controller: str, bus: str) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix=name))
        self.root = self.directory / "Shared"
        self._name = name
        home = self.directory / "home"
        home.mkdir()
        (home / "config.toml").write_text(
            f'[device]\nlabel = "{name}"\n[network]\nbluetooth = "{controller}"\n'
        )
        self._environment = {
            **os.environ,
            "DITTOFS_HOME": str(home),
            "HOME": str(self.directory),
            "DBUS_SYSTEM_BUS_ADDRESS": bus,
        }

    def start(self) -> None:
        """Begin a daemon in a network namespace of its own, without a network; return when it answers."""
        with (self.directory / "daemon.txt").open("wb") as said:
            subprocess.Popen(
                ["unshare", "--net", str(DITTOFS), "daemon"],
                env=self._environment,
                stdout=said,
                stderr=said,
            )
        eventually(lambda: self._answers("status"), f"the daemon of {self._name} answers")

    def _answers(self, *words: str) -> bool:
        command = [str(DITTOFS), *words]
        done = subprocess.run(
            command, env=self._environment, capture_output=True, timeout=COMMAND_S, check=False
        )
        return done.returncode == 0

    def run(self, *words: str) -> str:
        """What the command says."""
        done = subprocess.run(
            [str(DITTOFS), *words],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )
        say(f"{self._name}$ dittofs {' '.join(words)}\n{done.stdout}{done.stderr}")
        assert done.returncode == 0, f"dittofs {words[0]} on {self._name}: {done.returncode}"
        return done.stdout

    def log(self) -> str:
        found = [self.directory / "daemon.txt", self.directory / "home/state/daemon.log"]
        return "\n".join(one.read_text()[-6000:] for one in found if one.exists())


def eventually(holds: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < until, what
        time.sleep(0.5)


def scenario(alder: Home, birch: Home) -> None:
    """Share, join by the code, read on the other side, and back."""
    for home in (alder, birch):
        home.start()
    alder.run("mount", str(alder.root))
    (alder.root / "hello.txt").write_text("hello over the air\n")
    began = time.monotonic()
    invitation = json.loads(alder.run("share", "--daemon", "--json"))
    assert invitation["addresses"] == [], invitation
    birch.run("join", invitation["code"], str(birch.root), "--timeout", "300")
    assert (birch.root / "hello.txt").read_text() == "hello over the air\n"
    say(f"from share to the file: {time.monotonic() - began:.1f} s")
    began = time.monotonic()
    back = os.urandom(SIZE)
    (birch.root / "back.bin").write_bytes(back)
    eventually(lambda: (alder.root / "back.bin").is_file(), "the name of back.bin came")
    assert (alder.root / "back.bin").read_bytes() == back
    say(f"{SIZE} bytes back: {time.monotonic() - began:.1f} s")
    devices = json.loads(alder.run("devices", "--json"))
    assert '"bluetooth 00:AA:01:' in json.dumps(devices), devices
    alder.run("devices", "-v")
    birch.run("status", "-v")
    for home in (alder, birch):
        home.run("unmount", str(home.root))


def bluetoothd_log() -> str:
    """What it said last."""
    return Path("/tmp/bluetoothd.txt").read_text()[-8000:]


async def main() -> None:
    emulator = await trio.to_thread.run_sync(await_controllers)
    async with AsyncExitStack() as stack:
        homes, buses = [], {}
        for name, controller in zip(("alder", "birch"), CONTROLLERS, strict=True):
            place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            buses[f"/org/bluez/{controller}"] = bus = await stack.enter_async_context(
                message_bus_daemon(place)
            )
            homes.append(Home(name, controller, bus))
        async with trio.open_nursery() as nursery:
            await nursery.start(Relay(SYSTEM_BUS, buses).run)
            try:
                await trio.to_thread.run_sync(scenario, homes[0], homes[1])
            except BaseException:
                for home in homes:
                    say(home.log())
                say(f"the emulator's status: {emulator.poll()}\n{bluetoothd_log()}")
                raise
            nursery.cancel_scope.cancel()
    say("ALL IS WELL")


if __name__ == "__main__":
    trio.run(main)
