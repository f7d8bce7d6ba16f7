"""`dittofs group`"""

import argparse
import shlex
from typing import Final

from dittofs.cli.output import escaped, listed, say, say_json
from dittofs.cli.people import asked_volume, say_changes
from dittofs.control.client import Client
from dittofs.control.faults import EXIT_FINE
from dittofs.control.people import GroupRequest, PeopleRequest, PeopleResult

DESCRIPTION = """\
Show the groups of a volume, or change who is in them. A group is a name for users that are given roles
together (`dittofs grant`). A user has the greatest of what the user and the groups were given. Only owners
change anything."""
EXAMPLE = """\
  dittofs group list
  dittofs group add family ada bob --role reader
  dittofs group join family eve
  dittofs group leave family bob
  dittofs group remove family            who was in it stays, without what it gave"""

ACTIONS: Final = ("list", "add", "join", "leave", "remove")


def define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=ACTIONS, nargs="?", default="list")
    parser.add_argument("name", metavar="NAME", nargs="?", help="of the group")
    parser.add_argument("users", metavar="USER", nargs="*")
    parser.add_argument("--role", choices=("reader", "writer"), default="", help="with add: what it gives")
    parser.add_argument("--volume", metavar="V", help="if there are several")
    parser.add_argument(
        "--force", action="store_true", help="although devices that lose reading alone hold files"
    )


def run(arguments: argparse.Namespace) -> int:
    asked, volume = asked_volume(arguments, "group", arguments.users, "users")
    if arguments.action == "list":
        return _list(asked, volume, as_json=arguments.json)
    request = GroupRequest(
        volume,
        arguments.action,
        arguments.name,
        tuple(arguments.users),
        arguments.role,
        arguments.force,
    )
    result = asked.group(request)
    if arguments.json:
        say_json(result)
        return EXIT_FINE
    _tell(result)
    return EXIT_FINE


def _list(asked: Client, volume: str, *, as_json: bool) -> int:
    groups = asked.people(PeopleRequest(volume)).groups
    if as_json:
        say_json(groups)
        return EXIT_FINE
    for one in groups:
        users = listed(one.users) if one.users else "no user yet"
        say(f"{escaped(one.name):<16} {_gives(one.role):<18} {users}")
    if not groups:
        say(f'"{escaped(volume)}" has no groups yet. To make one:  dittofs group add NAME USER')
    else:
        say("Who may do what:  dittofs devices")
    return EXIT_FINE


def _gives(role: str) -> str:
    return {"inherit": "gives no role", "none": "revoked"}.get(role, role)


def _tell(result: PeopleResult) -> None:
    who, name = escaped(result.name), f'"{escaped(result.volume)}"'
    if result.group is None:
        say(f"{who} is no group of {name} any more. Who was in it stays.")
    else:
        group = result.group
        gives = {"inherit": "It gives no role yet", "none": "It is revoked"}.get(group.role)
        head = "Made the group " if result.is_new else "" if result.is_changed else "That is so already: "
        users = listed(group.users) if group.users else "nobody yet"
        say(f"{head}{who} of {name}, with {users}. {gives or f'It makes them {group.role}s'}.")
    say_changes(result.changed, result.kept)
    if result.group is not None and result.group.role == "inherit":
        say(f"To give it one:  dittofs grant {shlex.quote(result.name)} reader")
    else:
        say("Who may do what:  dittofs devices")
