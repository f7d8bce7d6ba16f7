"""`dittofs demo`"""

import argparse
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final

from dittofs.cli.output import counted, say, say_json, warn
from dittofs.control.faults import EXIT_FINE, Refusal
from dittofs.control.mountpoint import require_fuse

DESCRIPTION = """\
Make several devices on this machine, each with a daemon and a mount of its own, all sharing one volume, in
one temporary directory. Ctrl-C takes everything away. Your own volumes are not touched."""
EXAMPLE = """\
  dittofs demo
  dittofs demo --nodes 2"""

NAMES: Final = ("laptop", "desktop", "nas", "phone", "tablet", "attic", "office", "boat")
COMMAND_S: Final = 120.0
GREETING: Final = "Written on {name}. Change this file on any device.\n"
SETTINGS: Final = """\
[device]
label = "{name}"
[network]
bind = "127.0.0.1"
port = 0
mdns = false
"""


@dataclass(frozen=True, slots=True)
class Device:
    """One of the demonstration."""

    name: str
    home: Path
    mount: Path

    def run(self, *words: str) -> str:
        """What a command of this device prints. Refuses if it fails."""
        done = subprocess.run(
            [sys.executable, "-m", "dittofs.cli.main", *words],
            env={**os.environ, "DITTOFS_HOME": str(self.home)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )
        if done.returncode:
            said = done.stderr.strip() or done.stdout.strip()
            raise Refusal("failed", f"{self.name}: dittofs {words[0]}: {said.removeprefix('dittofs: ')}")
        return done.stdout


class _Ended(Exception):
    """A signal asks for the end."""


def define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--nodes", type=int, default=3, help=f"how many devices, 2 to {len(NAMES)}; default: 3"
    )
    parser.add_argument("--once", action="store_true", help="show that it works, and take everything away")


def run(arguments: argparse.Namespace) -> int:
    if not 2 <= arguments.nodes <= len(NAMES):
        raise Refusal("usage", f"--nodes takes a number from 2 to {len(NAMES)}", "dittofs demo")
    require_fuse()
    with _signals(), ExitStack() as stack:
        top = Path(tempfile.mkdtemp(prefix="dittofs-demo-"))
        stack.callback(shutil.rmtree, top, ignore_errors=True)
        devices = []
        try:
            for name in NAMES[: arguments.nodes]:
                device = Device(name, top / f"home-{name}", top / name)
                stack.callback(_end, device)
                devices.append(device)
                _begin(device, devices[0])
            _show(devices)
            if arguments.json:
                say_json(
                    [{"name": one.name, "home": str(one.home), "mount": str(one.mount)} for one in devices]
                )
            else:
                for line in proof(devices) if arguments.once else lines(devices):
                    say(line)
            sys.stdout.flush()
            while not arguments.once:
                signal.pause()
        except (_Ended, KeyboardInterrupt):
            pass
        warn("Taking everything away...")
    return EXIT_FINE


def _begin(device: Device, first: Device) -> None:
    warn(f"Starting {device.name}...")
    device.home.mkdir(mode=0o700)
    (device.home / "config.toml").write_text(SETTINGS.format(name=device.name))
    if device is first:
        device.run("mount", str(device.mount), "--name", "Demo")
    else:
        role = ("--role", "owner")
        ticket = json.loads(first.run("share", *role, "--json"))["ticket"]
        device.run("join", ticket, str(device.mount))


def _show(devices: list[Device]) -> None:
    """A file of the first device, read on the last."""
    text = GREETING.format(name=devices[0].name)
    (devices[0].mount / "hello.txt").write_text(text)
    devices[0].run("sync", "--timeout", "30")
    found = (devices[-1].mount / "hello.txt").read_text()
    if found != text:
        raise Refusal("failed", f"{devices[-1].name} shows other bytes than {devices[0].name} wrote")


def _end(device: Device) -> None:
    """Whatever it has come to."""
    for words in (("unmount", "--all", "--force"), ("daemon", "--stop")):
        try:
            device.run(*words)
        except (Refusal, subprocess.TimeoutExpired) as error:
            warn(str(error))


def proof(devices: list[Device]) -> list[str]:
    """What was seen, when nothing of it stays."""
    first, last = devices[0], devices[-1]
    return [
        f"{counted(len(devices), 'device')} shared the volume Demo.",
        f"It works: what {first.name} wrote was read, byte for byte, on {last.name}.",
    ]


def lines(devices: list[Device]) -> list[str]:
    """Where everything is, and what to try."""
    first, last = devices[0], devices[-1]
    width = max(len(device.name) for device in devices)
    return [
        f"{counted(len(devices), 'device')} share the volume Demo:",
        *(f"  {device.name:<{width}}   {device.mount}" for device in devices),
        "Try, in another terminal:",
        f"  cat {shlex.quote(str(last.mount / 'hello.txt'))}",
        f"  cp -r ~/Documents {shlex.quote(str(first.mount))} && ls -R {shlex.quote(str(last.mount))}",
        f"  DITTOFS_HOME={shlex.quote(str(last.home))} dittofs status",
        "Ctrl-C takes everything away.",
    ]


@contextmanager
def _signals() -> Iterator[None]:
    def end(_number: int, _frame: FrameType | None) -> None:
        raise _Ended

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
