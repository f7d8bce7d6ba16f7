"""`dittofs pin`"""

import argparse

from dittofs.cli.output import counted, escaped, human_size, say
from dittofs.cli.placing import add_paths, placed
from dittofs.control.faults import EXIT_FINE

DESCRIPTION = """\
Keep files or folders on this device, whole: what is missing is fetched, also what comes into a folder later,
and nothing of it goes by itself or with `dittofs evict`. They can be read without any other device. Other
devices have pins of their own."""
EXAMPLE = """\
  dittofs pin ~/Shared/thesis
  dittofs pin Shared:                     the whole volume
  dittofs list Shared:thesis              shows what is pinned"""


def define(parser: argparse.ArgumentParser) -> None:
    add_paths(parser)


def run(arguments: argparse.Namespace) -> int:
    for place, result in placed(arguments, "pin"):
        files = counted(result.files, "file")
        left = (
            f"{human_size(result.bytes)} are fetched as devices that have them are connected:  dittofs status"
            if result.bytes
            else "all of it is here"
        )
        was = "was pinned already" if result.was_so else "is kept on this device from now on"
        say(f"{escaped(str(place))} {was}. {files} by now; {left}.")
    return EXIT_FINE
