"""`dittofs grant`"""

import argparse
import shlex
from typing import Final

from dittofs.cli.asking import client, which_volume
from dittofs.cli.output import escaped, say, say_json
from dittofs.control.faults import EXIT_FINE
from dittofs.control.sharing import GrantRequest

DESCRIPTION = """\
Give a device of a volume another role. A reader sees everything and changes nothing, a writer changes
everything, an owner also invites and removes devices. The others enforce it. Only owners can do this, and
an owner can be given less only by one who stands above it: who invited it, or the recovery words."""
EXAMPLE = """\
  dittofs grant tablet reader
  dittofs grant phone writer Photos      of one volume among several
  dittofs devices                        who may do what"""
MAY: Final = {
    "reader": "may read it, and not change it",
    "writer": "may read and change it",
    "owner": "may read and change it, and invite and remove devices",
}


def define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("device", metavar="DEVICE", help="its name, or the beginning of its id")
    parser.add_argument("role", metavar="ROLE", choices=tuple(MAY), help=", ".join(MAY))
    parser.add_argument("volume", metavar="VOLUME", nargs="?", help="if there are several")


def run(arguments: argparse.Namespace) -> int:
    asked = client()
    command = f"dittofs grant {shlex.quote(arguments.device)} {arguments.role} VOLUME"
    volume = which_volume(arguments.volume, asked.status().volumes, command)
    result = asked.grant(GrantRequest(volume, arguments.device, arguments.role))
    if arguments.json:
        say_json(result)
        return EXIT_FINE
    who, name = escaped(result.device), f'"{escaped(volume)}"'
    if result.was == result.role:
        say(f"{who} was {result.role} of {name} already.")
        return EXIT_FINE
    say(f"{who} is now {result.role} of {name} (was {result.was}): it {MAY[result.role]}.")
    if result.role == "reader":
        say("What it has written and not sent before it hears of this stays there, and only there.")
    say("Who may do what:  dittofs devices")
    return EXIT_FINE
