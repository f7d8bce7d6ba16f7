"""`dittofs version`"""

import argparse
import platform

from dittofs import __version__
from dittofs.cli.asking import client
from dittofs.cli.output import say, say_json, warn
from dittofs.control.faults import EXIT_FINE, Refusal
from dittofs.control.protocol import API_VERSION

DESCRIPTION = "Show the version of this command and of the daemon that runs, if one does."
EXAMPLE = "  dittofs version --json"


def define(parser: argparse.ArgumentParser) -> None:
    del parser


def run(arguments: argparse.Namespace) -> int:
    try:
        daemon = client().health().version
    except Refusal:
        daemon = ""
    if arguments.json:
        say_json(
            {
                "version": __version__,
                "daemon": daemon,
                "api": API_VERSION,
                "python": platform.python_version(),
            }
        )
        return EXIT_FINE
    say(f"dittofs {__version__}   daemon {daemon or 'not running'}   Python {platform.python_version()}")
    if daemon not in ("", __version__):
        warn("The daemon is of another version. Restart it:  dittofs daemon --stop")
    return EXIT_FINE
