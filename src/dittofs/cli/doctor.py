"""`dittofs doctor`"""

import argparse

from dittofs.cli.examination import Check, examine
from dittofs.cli.output import counted, harmless, say, say_json
from dittofs.config import Paths
from dittofs.control.faults import EXIT_ATTENTION, EXIT_FINE

DESCRIPTION = """\
Look at everything a mount needs and say, for each thing, whether it is well and what mends it.
Nothing is changed. A tick is well, an exclamation mark is worth knowing, a cross stands in the way."""
EXAMPLE = """\
  dittofs doctor
  dittofs doctor --json | jq '.[] | select(.state == "cross")'"""

_SIGNS = {"tick": "✓", "warning": "!", "cross": "✗"}


def define(parser: argparse.ArgumentParser) -> None:
    del parser


def run(arguments: argparse.Namespace) -> int:
    checks = list(examine(Paths.find()))
    crosses = sum(check.state == "cross" for check in checks)
    if arguments.json:
        say_json([check._asdict() for check in checks])
    else:
        for check in checks:
            for line in lines(check):
                say(line)
        say(f"{counted(crosses, 'thing')} to mend." if crosses else "Nothing stands in the way.")
    return EXIT_ATTENTION if crosses else EXIT_FINE


def lines(check: Check) -> list[str]:
    """A check for people: what was found, and the command that mends it."""
    found = [f"{_SIGNS[check.state]} {check.name:<12} {harmless(check.says)}"]
    if check.mend and check.state != "tick":
        found.append(f"{'':<15}{harmless(check.mend)}")
    return found
