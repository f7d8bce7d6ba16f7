"""`dittofs unpin`"""

import argparse

from dittofs.cli.output import escaped, say
from dittofs.cli.placing import add_paths, placed
from dittofs.control.faults import EXIT_FINE

DESCRIPTION = """\
Take a pin back: the files stay on this device until they are evicted, by hand or for room."""
EXAMPLE = """\
  dittofs unpin ~/Shared/thesis"""


def define(parser: argparse.ArgumentParser) -> None:
    add_paths(parser)


def run(arguments: argparse.Namespace) -> int:
    for place, result in placed(arguments, "unpin"):
        name = escaped(str(place))
        if result.pinned_above:
            say(f"{name} stays pinned with {escaped(result.pinned_above)}.")
        elif result.was_so:
            say(f"{name} was not pinned.")
        else:
            say(f"{name} is pinned no more; it stays here until it is evicted:  dittofs evict {name}")
    return EXIT_FINE
