"""`dittofs grant`"""

import argparse
import shlex
from typing import Final

from dittofs.cli.asking import client, which_volume
from dittofs.cli.output import escaped, say, say_json
from dittofs.cli.people import may, say_changes
from dittofs.control.faults import EXIT_FINE
from dittofs.control.people import GrantRequest, GrantResult

DESCRIPTION = """\
Give a device, a user or a group of a volume another role. A reader sees everything and changes nothing, a
writer changes everything, an owner, which only a device can be, also invites and removes devices. The others
enforce it. What a device was given itself stands before what its user and the user's groups were given, and
of those the greatest counts; "inherit" takes away what was given. NAME "default" is whoever was given
nothing, "guest" the guests. Only owners can do this, and an owner can be given less only by one who stands
above it: who invited it, or the recovery words."""
EXAMPLE = """\
  dittofs grant tablet reader
  dittofs grant ada writer Photos        all devices of the user, of one volume among several
  dittofs grant family reader            all users of the group
  dittofs grant default reader           whoever was given nothing
  dittofs grant tablet inherit           the tablet does what its user may
  dittofs devices                        who may do what"""
ROLES: Final = ("reader", "writer", "owner", "inherit")


def define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name", metavar="NAME", help="a device, or the beginning of its id, a user or a group"
    )
    parser.add_argument("role", metavar="ROLE", choices=ROLES, help=", ".join(ROLES))
    parser.add_argument("volume", metavar="VOLUME", nargs="?", help="if there are several")
    parser.add_argument(
        "--force", action="store_true", help="although devices that lose reading alone hold files"
    )


def run(arguments: argparse.Namespace) -> int:
    asked = client()
    command = f"dittofs grant {shlex.quote(arguments.name)} {arguments.role} VOLUME"
    volume = which_volume(arguments.volume, asked.status().volumes, command)
    result = asked.grant(GrantRequest(volume, arguments.name, arguments.role, arguments.force))
    if arguments.json:
        say_json(result)
        return EXIT_FINE
    if result.kind == "device":
        _tell_device(result)
    else:
        tell_people(result)
    say("Who may do what:  dittofs devices")
    return EXIT_FINE


def _tell_device(result: GrantResult) -> None:
    who, name = escaped(result.name), f'"{escaped(result.volume)}"'
    if result.was == result.role:
        own = "had no role of its own in" if result.role == "inherit" else f"was {result.role} of"
        say(f"{who} {own} {name} already.")
        return
    was = next((one.was for one in result.changed), result.may)
    because = " as its user, groups or the default say" if result.role == "inherit" else ""
    say(f"{who} is now {result.may} of {name}{because} (was {was}): it {may(result.may)}.")
    if result.may == "reader" and was in ("writer", "owner"):
        say("What it has written and not sent before it hears of this stays there, and only there.")


def tell_people(result: GrantResult) -> None:
    """What a user, a group or the default may do now, and which devices that changes."""
    name = f'"{escaped(result.volume)}"'
    if result.was == result.role:
        say(f"{_called(result)} had that role of {name} already.")
    elif result.role == "inherit" and result.kind == "group":
        say(f"{_called(result)} gives no role of {name} any more (was {result.was}).")
    elif result.by_group and result.role in ("reader", "writer"):
        group, user = escaped(result.by_group), escaped(result.name)
        leave = f"dittofs group leave {shlex.quote(result.by_group)} {shlex.quote(result.name)}"
        say(f"{result.role} was noted, but {group} makes {user} a {result.may} of {name}:  {leave}")
    else:
        was = "" if result.was == "inherit" else f" (was {result.was})"
        says = ", as at first" if result.kind == "default" else ", as the groups or the default say"
        because = says if result.role == "inherit" else ""
        say(f"{_called(result)} {may(result.may, name)}{because}{was}.")
    say_changes(result.changed, result.kept, result.owners)


def _called(result: GrantResult) -> str:
    match result.kind:
        case "group":
            return f"Whoever is in {escaped(result.name)}"
        case "default":
            return "Whoever was given nothing"
        case _:
            return escaped(result.name)
