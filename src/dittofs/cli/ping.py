"""`dittofs ping`"""

import argparse
import math
from typing import Final

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

COUNT_MAX: Final = 1_000_000
INTERVAL_MIN_S: Final = 0.01
INTERVAL_MAX_S: Final = 3600.0
PATIENCE_MAX_S: Final = 60.0


def define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("device", metavar="DEVICE", help="its name, or the beginning of its id")
    parser.add_argument(
        "volume", metavar="VOLUME", nargs="?", help="a volume, or a directory it is mounted on"
    )
    parser.add_argument(
        "-c", type=_count, metavar="N", dest="count", default=4, help="ask so often; default: 4"
    )
    parser.add_argument(
        "-i",
        type=_interval,
        metavar="S",
        dest="interval_s",
        default=1.0,
        help="seconds between two; default: 1",
    )
    parser.add_argument(
        "-W", type=_patience, metavar="S", dest="patience_s", default=2.0, help="seconds to wait for each; 2"
    )


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 7 and 1 <= int(text) <= COUNT_MAX):
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to {COUNT_MAX:,}")
    return int(text)


def _interval(text: str) -> float:
    return _seconds(text, INTERVAL_MIN_S, INTERVAL_MAX_S)


def _patience(text: str) -> float:
    return _seconds(text, INTERVAL_MIN_S, PATIENCE_MAX_S)


def _seconds(text: str, least: float, most: float) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not least <= seconds <= most:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds from {least:g} to {most:g}")
    return seconds


def run(arguments: argparse.Namespace) -> int:
    asked = client()
    volume = which_volume(arguments.volume, asked.status().volumes, "dittofs ping DEVICE VOLUME")
    request = PingRequest(
        volume, arguments.device, arguments.count, arguments.interval_s, arguments.patience_s
    )
    took: list[float] = []
    asked_for = 0
    done: PingDone | None = None
    is_interrupted = False
    try:
        for item in asked.ping(request):
            if arguments.json:
                say_json(item)
            match item:
                case PingReply(round_trip_s=None):
                    asked_for = item.number
                    why = "no answer in time" if item.path else "not connected"
                    _say(arguments, f"{item.number}   {why}")
                case PingReply(round_trip_s=float(seconds)):
                    asked_for = item.number
                    took.append(seconds)
                    _say(arguments, f"{item.number}   {seconds * 1000:.2f} ms   {escaped(item.path)}")
                case PingDone():
                    done = item
    except KeyboardInterrupt:  # as with other programs of that name, this is how one ends it
        is_interrupted = True
        _say(arguments, "")
    if done is None and is_interrupted:
        done = PingDone(arguments.device, "", asked_for, len(took))
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
