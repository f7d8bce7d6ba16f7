"""`dittofs share`"""

import argparse
import shlex

from dittofs.cli.asking import client, which_volume
from dittofs.cli.main import INTERRUPTED
from dittofs.cli.output import Progress, counted, duration, escaped, say, say_json, warn
from dittofs.control.faults import EXIT_FAILED, EXIT_FINE, Refusal
from dittofs.control.sharing import Invitation, ShareEnded, ShareRequest, ShareWaiting

DESCRIPTION = """\
Invite one other device to a volume: print the command to run there, and wait until it has joined. The
ticket in it works once, for ten minutes. Only owners invite. Ctrl-C ends the waiting, not the invitation."""
EXAMPLE = """\
  dittofs share
  dittofs share Photos --role reader       the other device may look, and change nothing
  dittofs share --json | jq -r .command    for a program: the ticket, at once"""


def define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "volume", metavar="VOLUME", nargs="?", help="a volume, or a directory it is mounted on"
    )
    parser.add_argument(
        "--role", choices=("owner", "writer", "reader"), default="writer", help="default: writer"
    )
    parser.add_argument("--bind", metavar="ADDRESS", default="", help="listen on this address alone")
    parser.add_argument("--port", type=int, default=-1, help="listen on this port; 0 is any that is free")
    parser.add_argument("--wait", action="store_true", help="with --json: wait, one object a line")


def run(arguments: argparse.Namespace) -> int:
    asked = client()
    volumes = asked.status().volumes
    volume = which_volume(arguments.volume, volumes, "dittofs share VOLUME")
    contents = how_contents_come(next(one.copies for one in volumes if one.name == volume))
    if not -1 <= arguments.port <= 65535:
        raise Refusal("usage", f"{arguments.port} is not a port: that is a number from 0 to 65535")
    request = ShareRequest(volume=volume, role=arguments.role, bind=arguments.bind, port=arguments.port)
    items = asked.share(request)
    invitation = next(items)
    assert isinstance(invitation, Invitation)
    if arguments.json:
        say_json(invitation)
        if not arguments.wait:
            items.close()
            return EXIT_FINE
    else:
        say(f"On the other computer, run:\n\n  {escaped(invitation.command)}\n")
        say(f"The ticket works once, for {duration(invitation.expires_in_s)}.   Waiting...")
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
            "\nNo longer waiting. The ticket still works until its time is up; see who came:  dittofs devices"
        )
        return INTERRUPTED
    if ended is None:
        raise Refusal("cut_short", "the daemon ended, and the invitation with it", "dittofs share")
    if arguments.json:
        say_json(ended)
    return _tell(volume, ended, contents, as_json=arguments.json)


def how_contents_come(copies: str) -> str:
    """What follows on the names, by the volume's policy."""
    return "contents come when they are opened" if copies == "on-demand" else "contents follow"


def _tell(volume: str, ended: ShareEnded, contents: str, *, as_json: bool) -> int:
    if ended.how == "joined":
        if not as_json:
            path = f" ({ended.path})" if ended.path else ""
            who, name = f"{escaped(ended.name)}{path}", f'"{escaped(volume)}"'
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
    why = (
        "nobody came within ten minutes"
        if ended.how == "late"
        else "somebody tried the ticket with a wrong token, so it is void; nobody was let in"
    )
    warn(f"dittofs: {why}\nInvite again:  dittofs share {shlex.quote(volume)}")
    return EXIT_FAILED
