"""`dittofs share`"""

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from dittofs.cli.asking import which_volume
from dittofs.cli.invitation import fingerprint, qr_lines
from dittofs.cli.main import INTERRUPTED
from dittofs.cli.mount import tell, warn_of
from dittofs.cli.output import Progress, counted, duration, escaped, say, say_json, warn
from dittofs.cli.starting import ensure_daemon
from dittofs.config import Paths
from dittofs.control.client import Client
from dittofs.control.faults import EXIT_FAILED, EXIT_FINE, Refusal
from dittofs.control.invitations import read_signal
from dittofs.control.mountpoint import canonical, mounted_around, mounts, require_fuse
from dittofs.control.paths import path_fields
from dittofs.control.protocol import MountRequest, VolumeStatus
from dittofs.control.sharing import Invitation, ShareEnded, ShareRequest, ShareWaiting

DESCRIPTION = """\
Invite one other device to a volume: print the command to run there, and wait until it has joined. The code
in it works once, for ten minutes; one wrong word ends it. PATH is a volume, a directory it is mounted on, or
an empty or new directory, which becomes one. Only owners invite. Ctrl-C ends the waiting alone."""
EXAMPLE = """\
  dittofs share
  dittofs share ~/Photos                   make it a volume if it is none, and invite
  dittofs share Photos --ro                the other device may look, and change nothing
  dittofs share --user ada                 it is ada's, and does what ada may
  dittofs share --guest                    it may look, until guests may do something else
  dittofs share --json | jq -r .command    for a program: the invitation, at once"""


def define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("volume", metavar="PATH", nargs="?", help="a volume, or a directory")
    parser.add_argument("--name", default="", help="of the volume, if a directory becomes one")
    role = parser.add_mutually_exclusive_group()
    role.add_argument(
        "--role",
        choices=("owner", "writer", "reader"),
        default="",
        help="of its own; without: as its user or the default says, which is writer at first",
    )
    role.add_argument(
        "--ro", action="store_const", dest="role", const="reader", help="the same as --role reader"
    )
    whose = parser.add_mutually_exclusive_group()
    whose.add_argument("--user", metavar="NAME", default="", help="the device will be this user's")
    whose.add_argument(
        "--guest", action="store_const", dest="user", const="guest", help="it may do what guests may: read"
    )
    parser.add_argument("--bind", metavar="ADDRESS", default="", help="listen on this address alone")
    parser.add_argument("--port", type=int, default=-1, help="listen on this port; 0 is any that is free")
    parser.add_argument(
        "--signal", metavar="URL", default="", help="let the code work by way of this signalling server too"
    )
    waiting = parser.add_mutually_exclusive_group()
    waiting.add_argument("--daemon", action="store_true", help="do not wait: the daemon lets the device in")
    waiting.add_argument("--wait", action="store_true", help="with --json: wait, one object a line")


def run(arguments: argparse.Namespace) -> int:
    if not -1 <= arguments.port <= 65535:
        raise Refusal("usage", f"{arguments.port} is not a port: that is a number from 0 to 65535")
    signal = str(read_signal(arguments.signal)) if arguments.signal else ""
    asked = Client(Paths.find().socket)
    if arguments.volume is not None and _is_to_become_one(arguments.volume, _volumes(asked)):
        _mount(asked, arguments.volume, arguments.name, as_json=arguments.json)
    volumes = asked.status().volumes
    volume = which_volume(arguments.volume, volumes, "dittofs share VOLUME")
    if arguments.name not in ("", volume):
        text = f'it is the volume "{escaped(volume)}" already, which was not renamed'
        raise Refusal("refused", text, "Leave --name out")
    request = ShareRequest(
        volume=volume,
        role=arguments.role,
        bind=arguments.bind,
        port=arguments.port,
        signal=signal,
        user=arguments.user,
    )
    items = asked.share(request)
    invitation = next(items)
    assert isinstance(invitation, Invitation)
    if arguments.json:
        say_json(invitation)
    else:
        _show(invitation, is_waiting=not arguments.daemon)
    if arguments.daemon or (arguments.json and not arguments.wait):
        items.close()
        return EXIT_FINE
    sys.stdout.flush()
    ended: ShareEnded | None = None
    try:
        with Progress("Waiting") as progress:
            for item in items:
                match item:
                    case ShareWaiting():
                        progress.note(f"{duration(item.expires_in_s)} left")
                    case ShareEnded():
                        ended = item
    except KeyboardInterrupt:
        warn(
            "\nNo longer waiting. The invitation stays open until its time is up; "
            "see who came:  dittofs devices"
        )
        return INTERRUPTED
    if ended is None:
        raise Refusal("cut_short", "the daemon ended, and the invitation with it", "dittofs share")
    if arguments.json:
        say_json(ended)
    contents = how_contents_come(next(one.copies for one in volumes if one.name == volume))
    return _tell(volume, ended, contents, as_json=arguments.json)


def how_contents_come(copies: str) -> str:
    """What follows on the names, by the volume's policy."""
    return "contents come when they are opened" if copies == "on-demand" else "contents follow"


def _is_to_become_one(word: str, volumes: Sequence[VolumeStatus]) -> bool:
    """Whether `word` is a directory, there or not yet, in which nothing of DittoFS is mounted."""
    if any(volume.name == word for volume in volumes):
        return False
    if not ("/" in word or word in (".", "..") or Path(word).is_dir()):
        return False
    around = mounted_around(canonical(word), mounts())
    return around is None or not around.is_ours


def _volumes(asked: Client) -> Sequence[VolumeStatus]:
    """None while no daemon runs."""
    try:
        return asked.status().volumes
    except Refusal as refusal:
        if refusal.code != "no_daemon":
            raise
        return ()


def _mount(asked: Client, word: str, name: str, *, as_json: bool) -> None:
    path = canonical(word)
    require_fuse()
    ensure_daemon(Paths.find())
    done = asked.mount(MountRequest(**path_fields(os.fsencode(path)), name=name))
    if as_json:
        warn_of(done)
    else:
        tell(done, path, was_there=done.was_mounted, was_stale=done.was_stale, is_inviting=True)


def _show(invitation: Invitation, *, is_waiting: bool) -> None:
    for line in qr_lines(invitation.ticket) if invitation.ticket else ():
        say(line)
    say(f"On the other computer, run:\n\n  {escaped(invitation.command)}\n")
    if invitation.addresses:
        _show_addresses(invitation)
    else:
        say("This computer has no network, so the other one must be near, with Bluetooth in its settings.\n")
    if invitation.warning:
        warn(f"Warning: {escaped(invitation.warning)}")
    if invitation.user or invitation.role != "writer":
        whose = f", of {escaped(invitation.user)}" if invitation.user else ""
        say(f"The device will be {invitation.role} of {escaped(invitation.volume)}{whose}.")
    said = f"Each works once, for {duration(invitation.expires_in_s)}."
    say(f"{said}   Waiting..." if is_waiting else f"{said}   See who came:  dittofs devices")


def _show_addresses(invitation: Invitation) -> None:
    by_address = f"  dittofs join {invitation.addresses[0]}     fingerprint: {fingerprint(invitation.id)}"
    if invitation.command == invitation.ticket_command:  # this device is not to be heard of
        say(f"Or this, and type the code {invitation.code} there:\n\n{by_address}\n")
    else:
        say("If it does not hear this one, either of these:\n")
        say(f"  {escaped(invitation.ticket_command)}\n{by_address}\n")


def _tell(volume: str, ended: ShareEnded, contents: str, *, as_json: bool) -> int:
    if ended.how == "joined":
        if not as_json:
            path = f" ({ended.path})" if ended.path else ""
            whose = f", of {escaped(ended.user)}" if ended.user else ""
            who, name = f"{escaped(ended.name)}{path}{whose}", f'"{escaped(volume)}"'
            if ended.was not in ("none", ended.role):
                say(f"{who} is now {ended.role} of {name} (was {ended.was}).   dittofs devices")
            elif ended.was == ended.role:
                say(f"{who} was {ended.role} of {name} already.   dittofs devices")
            else:
                names = (
                    f"{counted(ended.names, 'name')} to be sent; {contents}"
                    if ended.names
                    else "It is empty yet"
                )
                say(f"{who} joined {name} as {ended.role}. {names}.   dittofs status")
        return EXIT_FINE
    if ended.how == "refused":
        warn(f"dittofs: somebody came and was not let in: {escaped(ended.reason)}")
        return EXIT_FAILED
    why = (
        "nobody came within ten minutes"
        if ended.how == "late"
        else "somebody tried a wrong code or ticket, so the invitation is void; nobody was let in"
    )
    warn(f"dittofs: {why}\nInvite again:  dittofs share {shlex.quote(volume)}")
    return EXIT_FAILED
