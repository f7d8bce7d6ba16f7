"""What `dittofs pin` and `dittofs unpin` have in common."""

import argparse
from collections.abc import Iterator
from typing import Literal

from dittofs.cli.asking import Place, client, locate
from dittofs.cli.output import say_json
from dittofs.control.paths import path_fields
from dittofs.control.placement import PlaceRequest, PlaceResult


def add_paths(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", metavar="PATH", nargs="+", help="a path below a mount, or VOLUME:PATH")


def placed(
    arguments: argparse.Namespace, action: Literal["pin", "unpin"]
) -> Iterator[tuple[Place, PlaceResult]]:
    """Have it done to each path, and return what came of it; with --json that is printed here instead."""
    asked = client()
    volumes = asked.status().volumes
    for place in [locate(word, volumes) for word in arguments.paths]:
        result = asked.place(PlaceRequest(place.volume, action, **path_fields(place.path)))
        if arguments.json:
            say_json(result)
        else:
            yield place, result
