"""`dittofs join`"""

import argparse
import os
from typing import Final

from msgspec.structs import replace

from dittofs.address import Address
from dittofs.cli.asking import shown_directory
from dittofs.cli.invitation import confirmed_code
from dittofs.cli.mount import other_devices
from dittofs.cli.output import Progress, counted, escaped, human_size, say, say_json, warn
from dittofs.cli.share import how_contents_come
from dittofs.cli.starting import ensure_daemon, is_answering
from dittofs.config import Paths
from dittofs.control.client import Client
from dittofs.control.faults import EXIT_ATTENTION, EXIT_FINE, Refusal
from dittofs.control.invitations import read_code, read_signal, read_ticket
from dittofs.control.mountpoint import (
    canonical,
    for_join,
    inspect,
    mounted_at,
    mounts,
    require_fuse,
)
from dittofs.control.options import parse_options, split_options
from dittofs.control.paths import path_bytes, path_fields
from dittofs.control.sharing import JoinProgress, JoinRequest, JoinResult, MeetRequest
from dittofs.errors import FormatError
from dittofs.identity.codes import is_like_code

DESCRIPTION = """\
Use an invitation from `dittofs share`: this device becomes a member of the volume, and DIR shows it; without
DIR, a directory in your home that is called like the volume. All names and sizes come first, contents follow.
A code finds the other device on the local network; HOST:PORT asks for the code once the fingerprint of the
device there was compared. `connect` is the same command. Running it again changes nothing."""
EXAMPLE = """\
  dittofs join 7-cabin-velvet
  dittofs join 7-cabin-velvet ~/Work --name Work      call the volume otherwise here
  dittofs join CODE --signal ws://HOST:7348           across the internet
  dittofs join 192.168.1.7:7347                       where devices do not hear each other
  dittofs join 'dittofs://join/1?d=...&a=...&k=...'   the same by a ticket
  dittofs join CODE DIR --ro --ephemeral              for one job of a build server"""

TIMEOUT_MAX_S: Final = 86_400.0
STEPS = {
    "looking": "looking for the device that shows the code",
    "pairing": "reaching the inviting device",
    "connecting": "waiting for the connection",
    "names": "names are coming",
    "mounting": "mounting",
}


def define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "invitation", metavar="CODE", help="what `dittofs share` shows: a code, a ticket, or HOST:PORT"
    )
    parser.add_argument(
        "directory", metavar="DIR", nargs="?", help="an empty directory, or one that does not exist yet"
    )
    parser.add_argument(
        "--name", default="", help="of the volume on this device; otherwise that of the other"
    )
    parser.add_argument(
        "--timeout",
        type=float,
        metavar="S",
        default=30.0,
        help="look for the other device so long; default: 30",
    )
    parser.add_argument(
        "--signal",
        metavar="URL",
        default="",
        help="look for it by way of this signalling server too, and meet it there from now on",
    )
    parser.add_argument("--fingerprint", metavar="F", default="", help="with HOST:PORT: of the device there")
    parser.add_argument("--ro", action="store_true", help="mount it read-only, the same as -o ro")
    parser.add_argument(
        "--ephemeral",
        action="store_true",
        help="leave the volume, and keep nothing of it, when it is unmounted",
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
    options += ("ro",) if arguments.ro else ()
    parse_options(options)
    if not 0 <= arguments.timeout <= TIMEOUT_MAX_S:
        raise Refusal("usage", f"--timeout takes seconds, from 0 to {TIMEOUT_MAX_S:g}")
    signal = str(read_signal(arguments.signal)) if arguments.signal else ""
    invitation = arguments.invitation
    address = _address(invitation)
    if address is None and arguments.fingerprint:
        raise Refusal("usage", "--fingerprint goes with HOST:PORT", "dittofs join HOST:PORT")
    if is_like_code(invitation):
        read_code(invitation)  # a slip is told before anything is started
    elif address is None:
        read_ticket(invitation)
    paths = Paths.find()
    path = None if arguments.directory is None else canonical(arguments.directory)
    client = Client(paths.socket)
    if path is None:
        require_fuse()
    else:
        _require_place(path, client, invitation)
    ensure_daemon(paths)
    place = path or canonical(os.path.expanduser("~"))  # noqa: PTH111 - Path.home raises where none is known
    request = JoinRequest(
        invitation=invitation,
        **path_fields(os.fsencode(place)),
        is_parent=path is None,
        name=arguments.name,
        options=options,
        timeout_s=arguments.timeout,
        signal=signal,
        is_ephemeral=arguments.ephemeral,
    )
    if address is not None:
        met = client.meet(MeetRequest(address))
        code = confirmed_code(met, arguments.fingerprint)
        request = replace(request, invitation=code, address=met.address, inviter=met.id)
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
    shown = path or os.fsdecode(path_bytes(result.volume))
    if arguments.json:
        say_json(result)
    else:
        _tell(result, shown)
    if mounted_at(shown, mounts()) is None:
        warn("It is not to be seen from here: the daemon runs in another mount namespace.")
        return EXIT_ATTENTION
    return EXIT_FINE


def _require_place(path: str, client: Client, invitation: str) -> None:
    """Refuse a directory that cannot be mounted on."""
    try:
        site = inspect(path)
    except Refusal as refusal:
        raise for_join(refusal, invitation) from refusal
    if site.state != "live":
        require_fuse()
    elif not is_answering(client):
        text = f"{path} is mounted already, by another daemon; the invitation was not used"
        raise Refusal("refused", text, "Choose another directory, or set DITTOFS_HOME to the other one")


def _address(word: str) -> str | None:
    """HOST:PORT in its one spelling; None if `word` is something else."""
    if "/" in word or is_like_code(word):
        return None
    try:
        return str(Address.parse(word))
    except FormatError:
        return None


def _tell(result: JoinResult, path: str) -> None:
    shown, volume = shown_directory(path), result.volume
    name = escaped(volume.name)
    for warning in result.warnings:
        warn(f"Warning: {escaped(warning)}")
    if result.is_new_directory:
        say(f"Made the directory {shown}.")
    if result.was_member and result.was == "none" and not result.note:
        say(f'This device ({escaped(result.device)}) has joined "{name}" again, as {result.role}.')
    elif result.was_member and result.was not in ("none", result.role):
        say(f'This device ({escaped(result.device)}) is now {result.role} of "{name}" (was {result.was}).')
    elif result.was_member:
        say(f'This device ({escaped(result.device)}) is a member of "{name}" already, as {result.role}.')
    else:
        say(
            f'Joined "{name}" as {result.role}, invited by {escaped(result.inviter)}. '
            f"This device is called {escaped(result.device)}."
        )
    if result.note:
        say(f"The invitation was not needed: {escaped(result.note)}.")
    if volume.read_only:
        warn(f"Read-only: {escaped(volume.read_only)}")
    sizes = f"{counted(volume.files, 'file')}, {human_size(volume.bytes)}"
    if result.is_complete and volume.bytes_here is not None and volume.bytes_here >= volume.bytes:
        say(f"{sizes}{', all here' if volume.files else ''}.")
    elif result.is_complete:
        say(f"{sizes}; {how_contents_come(volume.copies)}.")
    else:
        say(f"{sizes} by now: the rest of the names follows while the daemon runs.")
    said = "It is mounted already" if result.was_mounted else "Mounted"
    others = other_devices(volume) or "none yet"
    say(f"{said} at {shown}.   Other devices: {others}.   dittofs status")
