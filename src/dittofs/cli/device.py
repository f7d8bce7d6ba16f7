"""`dittofs device`"""

import argparse

from dittofs.cli.output import counted, escaped, listed, say, say_json, warn
from dittofs.config import Paths
from dittofs.control.client import Client
from dittofs.control.faults import EXIT_FINE, Refusal

DESCRIPTION = """\
Give this device a fresh identity: for a machine or a state directory that was copied, since two devices
with one key cannot both share a volume. All data is kept. The daemon must not run.

Where this device still has the owner key of a volume (see `dittofs recovery`) it is an owner again at once.
Of every other volume it is no member any more: it shows it, read-only, until it is invited again."""
EXAMPLE = """\
  dittofs daemon --stop
  dittofs device new           say what that would mean
  dittofs device new --yes     do it"""


def define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=("new",), help="make a new identity")
    parser.add_argument("--yes", action="store_true", help="do it, although memberships end")


def run(arguments: argparse.Namespace) -> int:
    paths = Paths.find()
    _require_no_daemon(Client(paths.socket))
    # What follows needs the keys, not the daemon: only here is that much imported.
    from dittofs.clock import system_entropy
    from dittofs.disk import InUse
    from dittofs.home import DAEMON_LOCK
    from dittofs.identity.key_files import KeyFiles, OwnerOnly
    from dittofs.identity.keys import DEVICE_FILE
    from dittofs.identity.renewal import renew_device
    from dittofs.local_disk import LocalDisk
    from dittofs.registry import FILE, read_registry

    if not (paths.state / DEVICE_FILE).exists():
        raise Refusal("not_found", "this device has no identity yet; nothing was done", "dittofs mount DIR")
    disk = LocalDisk(str(paths.state))
    try:
        lock = disk.lock(DAEMON_LOCK)
    except InUse as error:
        raise Refusal("refused", f"{error}; nothing was changed", "dittofs daemon --stop") from error
    try:
        volumes = sorted(read_registry(disk, str(paths.state / FILE)))
        if not arguments.yes:
            what = f"{counted(len(volumes), 'volume')} ({listed(volumes)})" if volumes else "no volume"
            text = f"this would end this device's membership of {what}; nothing was changed"
            raise Refusal("refused", text, "Do it:  dittofs device new --yes")
        old, new, kept = renew_device(disk, KeyFiles(disk, OwnerOnly(paths.state)), system_entropy)
    finally:
        lock.close()
    if arguments.json:
        say_json(
            {"id": new.id.hex(), "was": old.id.hex(), "volumes": volumes, "kept": str(paths.state / kept)}
        )
        return EXIT_FINE
    say(f"This device has a new identity ({new.id.hex()[:16]}). All data is kept.")
    for volume in volumes:
        say(
            f'  "{escaped(volume)}": unless this device has its owner key, run on an owner  '
            "dittofs share  and here  dittofs join TICKET DIR"
        )
    warn(f"The old key is kept in {paths.state / kept}; remove it when you are sure.")
    say("On an owner, remove the old one from the list:  dittofs devices remove NAME")
    return EXIT_FINE


def _require_no_daemon(client: Client) -> None:
    try:
        pid = client.health().pid
    except Refusal as refusal:
        if refusal.code == "no_daemon":
            return
        raise
    text = f"the daemon (process {pid}) uses the identity; nothing was changed"
    raise Refusal("refused", text, "dittofs daemon --stop")
