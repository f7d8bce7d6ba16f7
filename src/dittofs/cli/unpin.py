"""`dittofs unpin`"""

import argparse

from dittofs.cli.asking import client, locate
from dittofs.cli.output import escaped, say, say_json
from dittofs.control.faults import EXIT_FINE
from dittofs.control.paths import path_fields
from dittofs.control.placement import PlaceRequest

DESCRIPTION = """\
Take a pin back: the files stay on this device until they are evicted, by hand or for room."""
EXAMPLE = """\
  dittofs unpin ~/Shared/thesis"""


def define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", metavar="PATH", nargs="+", help="a path below a mount, or VOLUME:PATH")


def run(arguments: argparse.Namespace) -> int:
    asked = client()
    volumes = asked.status().volumes
    for place in [locate(word, volumes) for word in arguments.paths]:
        result = asked.place(PlaceRequest(place.volume, "unpin", **path_fields(place.path)))
        if arguments.json:
            say_json(result)
            continue
        name = escaped(str(place))
        if result.pinned_above:
            say(f"{name} stays pinned with {escaped(result.pinned_above)}.")
        elif result.was_so:
            say(f"{name} was not pinned.")
        else:
            say(f"{name} is pinned no more; it stays here until it is evicted:  dittofs evict {name}")
    return EXIT_FINE
