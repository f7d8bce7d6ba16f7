"""`dittofs pin`"""

import argparse

from dittofs.cli.asking import client, locate
from dittofs.cli.output import counted, escaped, human_size, say, say_json
from dittofs.control.faults import EXIT_FINE
from dittofs.control.paths import path_fields
from dittofs.control.placement import PlaceRequest

DESCRIPTION = """\
Keep files or folders on this device, whole: what is missing is fetched, also what comes into a folder later,
and nothing of it goes by itself or with `dittofs evict`. They can be read without any other device. Other
devices have pins of their own."""
EXAMPLE = """\
  dittofs pin ~/Shared/thesis
  dittofs pin Shared:                     the whole volume
  dittofs list Shared:thesis              shows what is pinned"""


def define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", metavar="PATH", nargs="+", help="a path below a mount, or VOLUME:PATH")


def run(arguments: argparse.Namespace) -> int:
    asked = client()
    volumes = asked.status().volumes
    for place in [locate(word, volumes) for word in arguments.paths]:
        result = asked.place(PlaceRequest(place.volume, "pin", **path_fields(place.path)))
        if arguments.json:
            say_json(result)
            continue
        files = counted(result.files, "file")
        left = (
            f"{human_size(result.bytes)} are fetched as devices that have them are connected:  dittofs status"
            if result.bytes
            else "all of it is here"
        )
        was = "was pinned already" if result.was_so else "is kept on this device from now on"
        say(f"{escaped(str(place))} {was}. {files} by now; {left}.")
    return EXIT_FINE
