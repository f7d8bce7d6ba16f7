"""`dittofs mount`"""

import argparse
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from dittofs.cli.asking import shown_directory
from dittofs.cli.output import escaped, say, say_json, warn
from dittofs.cli.places import mounted_before
from dittofs.cli.starting import ensure_daemon, is_answering
from dittofs.cli.status import is_outside, why_outside
from dittofs.cli.unmount import explain_busy
from dittofs.config import Paths
from dittofs.control.client import Client
from dittofs.control.faults import EXIT_ATTENTION, EXIT_FAILED, EXIT_FINE, Refusal
from dittofs.control.mountpoint import NotEmpty, canonical, inspect, mounted_at, mounts, require_fuse
from dittofs.control.options import FRONT_END_DEFAULT, FRONT_ENDS, parse_options, split_options
from dittofs.control.paths import path_fields
from dittofs.control.protocol import MountRequest, MountResult, UnmountRequest, VolumeStatus

DESCRIPTION = """\
Mount a volume on the directory DIR and return when it is usable. A volume that does not exist yet
is made, and so is DIR; the daemon is started if none runs. Running it again changes nothing, and
replaces a mount that a crash has left behind."""
EXAMPLE = """\
  dittofs mount ~/Shared                    a volume named "Shared"
  dittofs mount ~/Photos --name Pictures    one named otherwise
  dittofs mount ~/Shared -o ro,noatime      read-only, without access times
  sudo dittofs mount /srv/shared -o allow_other"""


def define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", metavar="DIR", help="an empty directory, or one that does not exist yet")
    parser.add_argument(
        "--name", default="", help="of the volume; otherwise the one last mounted on DIR, or DIR's name"
    )
    parser.add_argument(
        "-o",
        metavar="OPTIONS",
        action="append",
        default=[],
        dest="options",
        help="FUSE options, separated by commas: ro rw allow_other allow_root exec noexec noatime relatime "
        "nodiratime sync dirsync fsname=NAME max_read=BYTES, and for root dev suid",
    )
    parser.add_argument(
        "--frontend",
        choices=FRONT_ENDS,
        default="",
        help=f"what speaks with the kernel ({FRONT_END_DEFAULT}); the same as -o frontend=",
    )
    parser.add_argument(
        "--foreground", action="store_true", help="stay until it is unmounted; Ctrl-C unmounts it"
    )


def run(arguments: argparse.Namespace) -> int:
    options = tuple(word for text in arguments.options for word in split_options(text))
    options += (f"frontend={arguments.frontend}",) if arguments.frontend else ()
    parse_options(options)
    paths = Paths.find()
    path = canonical(arguments.directory)
    client = Client(paths.socket)
    try:
        site = inspect(path)
    except NotEmpty as refusal:
        raise (refusal.of_unmounted() if _was_mounted_at(paths, path) else refusal) from None
    if site.state == "live":
        if not is_answering(client):
            text = (
                f"{path} is mounted already, and no daemon of this DITTOFS_HOME runs: it belongs to another"
            )
            raise Refusal("refused", text, "Choose another directory, or set DITTOFS_HOME to the other one")
    else:
        require_fuse()
    was_started = ensure_daemon(paths)
    request = MountRequest(**path_fields(os.fsencode(path)), name=arguments.name, options=options)
    with _interrupts() if arguments.foreground else _as_it_is():
        result = client.mount(request)
        if arguments.json:
            say_json(result)
        else:
            was_there = result.was_mounted and not was_started and site.state != "stale"
            tell(result, path, was_there=was_there, was_stale=result.was_stale or site.state == "stale")
        if mounted_at(path, mounts()) is None:
            warn("It is not to be seen from here: the daemon runs in another mount namespace.")
            return EXIT_ATTENTION
        if arguments.foreground:
            sys.stdout.flush()
            return _stay(client, result.volume.name, path)
    return EXIT_FINE


def _was_mounted_at(paths: Paths, path: str) -> bool:
    """Whether a volume of this device was last mounted there."""
    return path in mounted_before(paths)


def warn_of(result: MountResult) -> None:
    """What the daemon says against it, beside the output."""
    for warning in result.warnings:
        warn(f"Warning: {escaped(warning)}")


def tell(
    result: MountResult, path: str, *, was_there: bool, was_stale: bool, is_inviting: bool = False
) -> None:
    """What mounting did, and what else there is to know; when inviting, not how to invite."""
    shown, name = shown_directory(path), escaped(result.volume.name)
    warn_of(result)
    if was_there:
        say(f'Volume "{name}" is already mounted at {shown}. Nothing was changed.')
        return
    if result.is_new_directory:
        say(f"Made the directory {shown}.")
    if was_stale:
        say("Replaced a mount that a crash had left there.")
    if result.is_new_volume:
        say(f'Created share "{name}" on this device ({escaped(result.device)}).')
    if is_outside(result.volume):
        quoted = shlex.quote(result.volume.name)
        word, mend = why_outside(result.volume)
        warn(
            f'{word}: this device may do nothing with "{name}" now. What it has stays readable, and '
            f"nothing is sent.\nTo end that: {mend}\n"
            f"Leave:  dittofs leave --force {quoted}"
        )
        say(f"Mounted at {shown}, read-only.   See it:  dittofs status")
        return
    if result.volume.read_only:
        warn(f"Read-only: {escaped(result.volume.read_only)}")
    others = other_devices(result.volume)
    if is_inviting:
        say(f"Mounted at {shown}.")
    elif others:
        say(f"Mounted at {shown}.   Other devices: {others}.   See it:  dittofs status")
    else:
        say(f"Mounted at {shown}.   Other devices: none yet. To add one, run here:  dittofs share")


def other_devices(volume: VolumeStatus) -> str:
    """Names and whether they are online; empty if there are none."""
    others = [member for member in volume.members if not member.is_this]
    return ", ".join(
        f"{escaped(member.name)} ({'online' if member.is_online else 'offline'})" for member in others
    )


class _Ended(Exception):
    """SIGINT, SIGTERM or SIGHUP came."""


@contextmanager
def _as_it_is() -> Iterator[None]:
    yield


@contextmanager
def _interrupts() -> Iterator[None]:
    def end(_number: int, _frame: FrameType | None) -> None:
        raise _Ended

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, end) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _stay(client: Client, volume: str, path: str) -> int:
    """Until the mount is gone, the daemon ends, or a signal asks for it to be unmounted."""
    try:
        for _ in client.events():
            if mounted_at(path, mounts()) is None:
                return EXIT_FINE
    except _Ended:
        try:
            client.unmount(UnmountRequest(**path_fields(os.fsencode(path))))
        except Refusal as refusal:
            if refusal.code != "busy":
                raise
            warn(f"dittofs: {escaped(refusal.message)}; it stays mounted")
            explain_busy(path)
            return EXIT_FAILED
        return EXIT_FINE
    except Refusal as refusal:
        if refusal.code != "cut_short":
            raise
    if mounted_at(path, mounts()) is None:
        return EXIT_FINE
    raise Refusal(
        "failed", f'the daemon ended while "{volume}" was mounted', f"dittofs mount {shown_directory(path)}"
    )
