"""`dittofs join`"""

import argparse
import os

from dittofs.cli.asking import shown_directory
from dittofs.cli.mount import other_devices
from dittofs.cli.output import Progress, counted, escaped, human_size, say, say_json, warn
from dittofs.cli.share import how_contents_come
from dittofs.cli.starting import ensure_daemon, is_answering
from dittofs.config import Paths
from dittofs.control.client import Client
from dittofs.control.faults import EXIT_ATTENTION, EXIT_FINE, Refusal
from dittofs.control.mountpoint import (
    canonical,
    for_join,
    inspect,
    mounted_at,
    mounts,
    require_fuse,
)
from dittofs.control.options import parse_options, split_options
from dittofs.control.paths import path_fields
from dittofs.control.sharing import JoinProgress, JoinRequest, JoinResult

DESCRIPTION = """\
Use an invitation from `dittofs share`: this device becomes a member of the volume, and DIR shows it. All
names and sizes come first, contents follow. Running it again changes nothing."""
EXAMPLE = """\
  dittofs join 'dittofs://join/1?d=...&a=...&k=...' ~/Shared
  dittofs join TICKET ~/Work --name Work      call the volume otherwise here"""

STEPS = {
    "pairing": "reaching the inviting device",
    "connecting": "waiting for the connection",
    "names": "names are coming",
    "mounting": "mounting",
}


def define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("ticket", metavar="TICKET", help="what `dittofs share` printed, in quotes")
    parser.add_argument("directory", metavar="DIR", help="an empty directory, or one that does not exist yet")
    parser.add_argument(
        "--name", default="", help="of the volume on this device; otherwise that of the other"
    )
    parser.add_argument(
        "-o",
        metavar="OPTIONS",
        action="append",
        default=[],
        dest="options",
        help="FUSE options, as of `dittofs mount`",
    )


def run(arguments: argparse.Namespace) -> int:
    options = tuple(word for text in arguments.options for word in split_options(text))
    parse_options(options)
    paths = Paths.find()
    path = canonical(arguments.directory)
    client = Client(paths.socket)
    try:
        site = inspect(path)
    except Refusal as refusal:
        raise for_join(refusal, arguments.ticket) from refusal
    if site.state == "live":
        if not is_answering(client):
            text = f"{path} is mounted already, by another daemon; the ticket was not used"
            raise Refusal("refused", text, "Choose another directory, or set DITTOFS_HOME to the other one")
    else:
        require_fuse()
    ensure_daemon(paths)
    request = JoinRequest(
        ticket=arguments.ticket,
        **path_fields(os.fsencode(path)),
        name=arguments.name,
        options=options,
    )
    result: JoinResult | None = None
    with Progress("Joining") as progress:
        for item in client.join(request):
            match item:
                case JoinProgress():
                    came = f", {counted(item.names, 'name')}, {human_size(item.bytes_received)}"
                    progress.note(STEPS.get(item.step, item.step) + (came if item.step == "names" else ""))
                case JoinResult():
                    result = item
    if result is None:
        raise Refusal("cut_short", "the daemon ended before this device had joined", "Run the same command")
    if arguments.json:
        say_json(result)
    else:
        _tell(result, path)
    if mounted_at(path, mounts()) is None:
        warn("It is not to be seen from here: the daemon runs in another mount namespace.")
        return EXIT_ATTENTION
    return EXIT_FINE


def _tell(result: JoinResult, path: str) -> None:
    shown, volume = shown_directory(path), result.volume
    name = escaped(volume.name)
    for warning in result.warnings:
        warn(f"Warning: {escaped(warning)}")
    if result.is_new_directory:
        say(f"Made the directory {shown}.")
    if result.was_member and result.was not in ("none", result.role):
        say(f'This device ({escaped(result.device)}) is now {result.role} of "{name}" (was {result.was}).')
    elif result.was_member:
        say(f'This device ({escaped(result.device)}) is a member of "{name}" already, as {result.role}.')
    else:
        say(
            f'Joined "{name}" as {result.role}, invited by {escaped(result.inviter)}. '
            f"This device is called {escaped(result.device)}."
        )
    if result.note:
        say(f"The ticket was not needed: {escaped(result.note)}.")
    if volume.read_only:
        warn(f"Read-only: {escaped(volume.read_only)}")
    sizes = f"{counted(volume.files, 'file')}, {human_size(volume.bytes)}"
    if result.is_complete:
        say(f"{sizes}; {how_contents_come(volume.copies)}.")
    else:
        say(f"{sizes} by now: the rest of the names follows while the daemon runs.")
    said = "was mounted" if result.was_mounted else "Mounted"
    others = other_devices(volume) or "none yet"
    say(
        f"{'It ' if result.was_mounted else ''}{said} at {shown}.   Other devices: {others}.   dittofs status"
    )
