"""`dittofs ping`"""

import argparse
import math

from dittofs.cli.asking import client, which_volume
from dittofs.cli.output import escaped, say, say_json
from dittofs.control.faults import EXIT_FAILED, EXIT_FINE, Refusal
from dittofs.control.sharing import PingDone, PingReply, PingRequest

DESCRIPTION = """\
Ask another device of a volume for answers, over the connection that is there: how long each takes, and which
way it goes. It ends with 0 if one came, with 1 if none did."""
EXAMPLE = """\
  dittofs ping nas
  dittofs ping nas Photos -c 100 -i 0.1"""


def define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("device", metavar="DEVICE", help="its name, or the beginning of its id")
    parser.add_argument(
        "volume", metavar="VOLUME", nargs="?", help="a volume, or a directory it is mounted on"
    )
    parser.add_argument("-c", type=int, metavar="N", dest="count", default=4, help="ask so often; default: 4")
    parser.add_argument(
        "-i", type=float, metavar="S", dest="interval_s", default=1.0, help="seconds from one to the next; 1"
    )
    parser.add_argument(
        "-W", type=float, metavar="S", dest="patience_s", default=2.0, help="seconds to wait for each; 2"
    )


def run(arguments: argparse.Namespace) -> int:
    if not 1 <= arguments.count <= 1_000_000:
        raise Refusal("usage", "-c takes a number from 1 to 1,000,000")
    if not 0.01 <= arguments.interval_s <= 3600 or not 0 < arguments.patience_s <= 60:
        raise Refusal("usage", "-i takes seconds from 0.01 to 3600, and -W seconds up to 60")
    asked = client()
    volume = which_volume(arguments.volume, asked.status().volumes, "dittofs ping DEVICE VOLUME")
    request = PingRequest(
        volume, arguments.device, arguments.count, arguments.interval_s, arguments.patience_s
    )
    took: list[float] = []
    done: PingDone | None = None
    for item in asked.ping(request):
        if arguments.json:
            say_json(item)
        match item:
            case PingReply(round_trip_s=None):
                why = "no answer in time" if item.path else "not connected"
                _say(arguments, f"{item.number}   {why}")
            case PingReply(round_trip_s=float(seconds)):
                took.append(seconds)
                _say(arguments, f"{item.number}   {seconds * 1000:.2f} ms   {escaped(item.path)}")
            case PingDone():
                done = item
    if done is None:
        raise Refusal("cut_short", "the daemon ended before this was known", "dittofs status")
    _say(arguments, summary(done, took))
    return EXIT_FINE if took else EXIT_FAILED


def summary(done: PingDone, took: list[float]) -> str:
    """The last line: how many came, and how long they took."""
    said = f"{escaped(done.device)}: {done.received} of {done.sent} answered"
    if not took:
        return f"{said}.   dittofs devices"
    mean = sum(took) / len(took)
    deviation = math.sqrt(sum((one - mean) ** 2 for one in took) / len(took))
    figures = (min(took), mean, max(took), deviation)
    shown = " / ".join(f"{seconds * 1000:.2f}" for seconds in figures)
    return f"{said}; least / mean / most / deviation {shown} ms"


def _say(arguments: argparse.Namespace, line: str) -> None:
    if not arguments.json:
        say(line)
