"""`dittofs revoke`"""

import argparse
import shlex

from dittofs.cli.asking import client, which_volume
from dittofs.cli.grant import tell_people
from dittofs.cli.output import escaped, listed, say, say_json
from dittofs.control.faults import EXIT_FINE
from dittofs.control.people import GrantRequest

DESCRIPTION = """\
Take away what a device, a user, a group or the default may do. A device is taken out of the volume, as by
`devices remove`. All devices of a user may do nothing until the user is granted a role again; a group gives
nothing, and who is in it and was given nothing else may do nothing. Every other device that has heard of it
refuses them, and they cannot read what is stored from then on; what they have already they keep."""
EXAMPLE = """\
  dittofs revoke phone
  dittofs revoke --force phone       it was stolen: whatever it alone holds is given up
  dittofs revoke ada                 until  dittofs grant ada writer
  dittofs revoke family Photos       of one volume among several
  dittofs revoke default             whoever was given nothing may do nothing"""


def define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name", metavar="NAME", help="a device, or the beginning of its id, a user or a group"
    )
    parser.add_argument("volume", metavar="VOLUME", nargs="?", help="if there are several")
    parser.add_argument(
        "--force", action="store_true", help="although devices that lose reading alone hold files"
    )


def run(arguments: argparse.Namespace) -> int:
    asked = client()
    command = f"dittofs revoke {shlex.quote(arguments.name)} VOLUME"
    volume = which_volume(arguments.volume, asked.status().volumes, command)
    result = asked.grant(GrantRequest(volume, arguments.name, "none", arguments.force))
    if arguments.json:
        say_json(result)
    elif result.kind == "device":
        say_removed(result.name, volume, result.invited)
    else:
        tell_people(result)
        say("Who may do what:  dittofs devices")
    return EXIT_FINE


def say_removed(device: str, volume: str, invited: tuple[str, ...]) -> None:
    """That a device is out, and whom it had let in."""
    say(
        f'Removed {escaped(device)} from "{escaped(volume)}". What it has already it keeps; '
        "what is stored from now on it cannot read."
    )
    if invited:
        say(f"It had invited {listed(invited)}, who stay. Look at them:  dittofs devices")
    else:
        say("Who is left:  dittofs devices")
