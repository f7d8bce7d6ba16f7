"""`dittofs unmount`"""

import argparse
import os

from dittofs.cli.asking import shown_directory
from dittofs.cli.output import escaped, say, say_json, warn
from dittofs.config import Paths
from dittofs.control.client import Client
from dittofs.control.faults import EXIT_FINE, Refusal
from dittofs.control.holders import holders
from dittofs.control.mountpoint import canonical, detach, inspect, mounted_at, mounts
from dittofs.control.paths import path_bytes, path_fields
from dittofs.control.protocol import Unmounted, UnmountRequest, UnmountResult

DESCRIPTION = """\
Take a mount away. It returns when everything written to it is safe on this device's disk. It is refused
while files are on this device alone and others should hold them. What was there before is untouched,
and `dittofs mount DIR` brings the volume back."""
EXAMPLE = """\
  dittofs unmount ~/Shared
  dittofs unmount --all
  dittofs unmount --force ~/Shared     although programs still use it, or files are only here"""

_HOLDERS_SHOWN = 10


def define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", metavar="DIR", nargs="?", help="the directory, or the name of the volume")
    parser.add_argument("--all", action="store_true", help="every mount of this daemon")
    parser.add_argument(
        "--force", action="store_true", help="at once, although programs use it or files are only here"
    )


def run(arguments: argparse.Namespace) -> int:
    if bool(arguments.target) == arguments.all:
        text = "unmount takes one directory, or --all"
        raise Refusal("usage", text, "What is mounted:  dittofs status")
    client = Client(Paths.find().socket)
    if arguments.all:
        result = _unmount_all(client, force=arguments.force)
    else:
        result = _unmount_one(client, arguments.target, force=arguments.force)
    if arguments.json:
        say_json(result)
        return EXIT_FINE
    for gone in result.unmounted:
        lazily = " Programs that use it keep their open files." if gone.is_lazy else ""
        say(f"Unmounted {shown_directory(path_bytes(gone))}.{lazily}")
        if gone.has_left:
            volume = escaped(gone.volume)
            say(f'Left "{volume}": this device is no member any more, and nothing of it stays here.')
    if not result.unmounted:
        say("Nothing was mounted.")
    return EXIT_FINE


def _unmount_all(client: Client, *, force: bool) -> UnmountResult:
    try:
        return client.unmount(UnmountRequest(all=True, force=force))
    except Refusal as refusal:
        if refusal.code == "no_daemon":
            return UnmountResult(unmounted=())
        if refusal.code == "busy":
            for volume in client.status().volumes:
                if volume.state == "mounted":
                    explain_busy(os.fsdecode(path_bytes(volume)))
        raise


def _unmount_one(client: Client, target: str, *, force: bool) -> UnmountResult:
    path = canonical(target)
    mount = mounted_at(path, mounts())
    if mount is None and "/" not in target:
        request = UnmountRequest(volume=target, force=force)
    else:
        request = UnmountRequest(**path_fields(os.fsencode(path)), force=force)
    try:
        client.health()  # a daemon that hangs is known in seconds; saving may take as long as it needs
        return client.unmount(request)
    except Refusal as refusal:
        if refusal.code == "busy":
            explain_busy(path)
        if refusal.code in ("no_daemon", "no_answer", "not_found"):
            return _unmount_without_daemon(path, target, refusal, force=force)
        raise


def _unmount_without_daemon(path: str, target: str, refusal: Refusal, *, force: bool) -> UnmountResult:
    """A mount that its daemon left behind, or, by force, one whose daemon does not answer."""
    mount = mounted_at(path, mounts())
    if mount is None:
        raise Refusal("not_found", f"nothing is mounted at {target}", "dittofs status") from refusal
    is_hanging = refusal.code in ("no_daemon", "no_answer") and mount.is_ours and force
    if not is_hanging and inspect(path).state != "stale":
        raise refusal
    detach(path, lazy=True)
    return UnmountResult(unmounted=(Unmounted(volume="", **path_fields(os.fsencode(path)), is_lazy=True),))


def explain_busy(path: str) -> None:
    """Say on stderr which processes use the mount, as far as this user may see."""
    found = holders(path)
    for holder in found[:_HOLDERS_SHOWN]:
        warn(f"  {escaped(holder.name)} (process {holder.pid}) {' and '.join(holder.how)}")
    if len(found) > _HOLDERS_SHOWN:
        warn(f"  and {len(found) - _HOLDERS_SHOWN} more")
    if not found:
        warn("  A process that you may not look into uses it; as root: fuser -vm " + shown_directory(path))
