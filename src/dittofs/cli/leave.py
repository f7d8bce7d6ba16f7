"""`dittofs leave`"""

import argparse

from dittofs.cli.asking import client, shown_directory, which_volume
from dittofs.cli.output import escaped, say, say_json, warn
from dittofs.cli.unmount import explain_busy
from dittofs.control.faults import EXIT_FINE, Refusal
from dittofs.control.paths import path_bytes
from dittofs.control.sharing import LeaveRequest

DESCRIPTION = """\
End this device's membership of a volume: unmount it, tell the others, forget it here. It is refused while
anything of the volume may be on this device alone. The others keep everything."""
EXAMPLE = """\
  dittofs leave Shared
  dittofs leave --force Shared     give up what is only here"""


def define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("volume", metavar="VOLUME", help="a volume, or a directory it is mounted on")
    parser.add_argument(
        "--force",
        action="store_true",
        help="although files are only here, programs use it, or nobody else owns it",
    )


def run(arguments: argparse.Namespace) -> int:
    asked = client()
    volumes = asked.status().volumes
    volume = which_volume(arguments.volume, volumes, "dittofs leave VOLUME")
    try:
        result = asked.leave(LeaveRequest(volume=volume, force=arguments.force))
    except Refusal as refusal:
        if refusal.code == "busy":
            for one in volumes:
                if one.name == volume:
                    explain_busy(shown_directory(path_bytes(one)))
        raise
    if arguments.json:
        say_json(result)
        return EXIT_FINE
    for gone in result.unmounted:
        say(f"Unmounted {shown_directory(path_bytes(gone))}.")
    say(f'This device has left "{escaped(volume)}".')
    if not result.was_member:
        warn("The other devices had ended its membership before.")
    elif not result.is_resigned:
        warn("The other devices still count it as a member: remove it there with `dittofs devices remove`.")
    say(f"Its keys and data are left in {shown_directory(result.place)}; to free the room, remove that.")
    return EXIT_FINE
