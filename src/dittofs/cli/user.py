"""`dittofs user`"""

import argparse
import shlex
import time
from typing import Final

from dittofs.cli.output import escaped, listed, say, say_json, when
from dittofs.cli.people import asked_volume, by_what, may, say_changes
from dittofs.control.client import Client
from dittofs.control.faults import EXIT_FINE
from dittofs.control.people import PeopleRequest, PeopleResult, UserRequest, UserStatus

DESCRIPTION = """\
Show the users of a volume, or change whose the devices are. A user is a person: a name for devices that are
given roles together (`dittofs grant`). There are no accounts and no passwords. A device that is made a user's
does what the user may; an owner stays one. To let a new device of a user in: `dittofs share --user NAME`.
Only owners change anything."""
EXAMPLE = """\
  dittofs user list
  dittofs user add ada                       a user without devices yet
  dittofs user add ada phone tablet          and these are the user's
  dittofs user add bob --role reader
  dittofs user leave ada tablet              it is nobody's, and stays
  dittofs user remove ada                    take out every device of the user"""

ACTIONS: Final = ("list", "add", "leave", "remove")


def define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=ACTIONS, nargs="?", default="list")
    parser.add_argument("name", metavar="NAME", nargs="?", help="of the user")
    parser.add_argument("devices", metavar="DEVICE", nargs="*", help="its name, or the beginning of its id")
    parser.add_argument(
        "--role", choices=("reader", "writer"), default="", help="with add: what the user may do"
    )
    parser.add_argument("--volume", metavar="V", help="if there are several")
    parser.add_argument(
        "--force", action="store_true", help="although devices that lose reading alone hold files"
    )


def run(arguments: argparse.Namespace) -> int:
    asked, volume = asked_volume(arguments, "user", arguments.devices, "devices")
    if arguments.action == "list":
        return _list(asked, volume, as_json=arguments.json)
    request = UserRequest(
        volume,
        arguments.action,
        arguments.name,
        tuple(arguments.devices),
        arguments.role,
        arguments.force,
    )
    result = asked.user(request)
    if arguments.json:
        say_json(result)
        return EXIT_FINE
    _tell(request, result)
    return EXIT_FINE


def _list(asked: Client, volume: str, *, as_json: bool) -> int:
    report = asked.people(PeopleRequest(volume))
    if as_json:
        say_json(report)
        return EXIT_FINE
    now_ns = time.time_ns()
    for one in report.users:
        say(_line(one, now_ns))
    if not report.users:
        say(f'"{escaped(volume)}" has no users yet. To make one:  dittofs user add NAME DEVICE')
    say(f"Whoever was given nothing: {report.default}.   Guests: {report.guest}.   dittofs devices")
    return EXIT_FINE


def _line(user: UserStatus, now_ns: int) -> str:
    line = f"{escaped(user.name):<16} {by_what(user.may, user.by, user.by_group):<18} "
    line += listed(user.devices) if user.devices else "no device yet"
    if user.groups:
        line += f"   in {listed(user.groups)}"
    if user.is_online:
        return f"{line}   online"
    return f"{line}   last seen {when(user.last_seen_ns, now_ns)}" if user.last_seen_ns else line


def _tell(request: UserRequest, result: PeopleResult) -> None:
    who, name = escaped(result.name), f'"{escaped(result.volume)}"'
    if request.action == "remove":
        say(f"Removed {who} from {name}, with every device. What those have already they keep;")
        say("what is stored from now on they cannot read.")
    elif not result.is_changed:
        say(f"That is so already: {_having(result)}.")
    elif request.action == "leave":
        verb = "is" if len(request.devices) == 1 else "are"
        say(f"{listed(request.devices)} {verb} nobody's in {name} now.")
    else:
        say(f"{'Made the user ' if result.is_new else ''}{_having(result)}.")
    say_changes(result.changed, result.kept, result.owners)
    if request.action == "add" and result.user is not None and not result.user.devices:
        say(f"To let a device of {who} in:  dittofs share --user {shlex.quote(result.name)}")
    else:
        say("Who is there:  dittofs user list")


def _having(result: PeopleResult) -> str:
    assert result.user is not None
    user = result.user
    devices = listed(user.devices) if user.devices else "no device yet"
    name = f'"{escaped(result.volume)}"'
    return f"{escaped(user.name)}, with {devices}, {may(user.may, name)}"
