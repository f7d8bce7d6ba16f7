"""`dittofs limit`"""

import argparse
from collections.abc import Iterator
from typing import Final

from dittofs.cli.asking import client
from dittofs.cli.guess import did_you_mean
from dittofs.cli.output import escaped, human_size, say, say_json, warn
from dittofs.control.faults import EXIT_FINE, Refusal
from dittofs.control.limiting import DirectionName, LimitReport, LimitRequest, LimitRule

DESCRIPTION = """\
Show how fast this device sends (up) and receives (down), or limit it: for all other devices together, or for
one with --device; always, or at times with --at (this machine's local time). Of the limits about the same
that hold at a time the last one counts; one without --at takes the place of all before it. What is waited
for (reading a file that is elsewhere, names, changes) is never held up: it counts, and the rest waits."""
EXAMPLE = """\
  dittofs limit
  dittofs limit up 2MB/s
  dittofs limit up 500kB/s --at "mon-fri 08:00-18:00"
  dittofs limit up off --at "22:00-06:00"          at night as fast as it goes
  dittofs limit down 20Mbit/s --device nas
  dittofs limit down off                           no limit any more
  dittofs limit clear                              none at all"""

WORDS: Final = ("up", "down", "clear")


def define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "words", metavar="[up|down RATE|off | clear]", nargs="*", help="as in the examples; RATE like 2MB/s"
    )
    parser.add_argument("--device", metavar="NAME", help="with this device alone")
    parser.add_argument("--at", metavar="WHEN", help='only then, like "mon-fri 08:00-18:00" or "sat,sun"')


def run(arguments: argparse.Namespace) -> int:
    report = client().limit(_request(arguments))
    if arguments.json:
        say_json(report)
        return EXIT_FINE
    for line in lines(report):
        say(line)
    for problem in report.problems:
        warn(f"dittofs: {escaped(problem)}")
    return EXIT_FINE


def _request(arguments: argparse.Namespace) -> LimitRequest:
    words: list[str] = arguments.words
    if words and words[0] not in WORDS:
        text = f"'{escaped(words[0])}' is none of {', '.join(WORDS)}{did_you_mean(words[0], WORDS)}"
        raise Refusal("usage", f"{text}; nothing was changed", "dittofs limit --help")
    if words[:1] in ([], ["clear"]):
        if len(words) > 1 or arguments.device or arguments.at:
            text = "to set a limit say up or down and a rate; nothing was changed"
            raise Refusal("usage", text, "dittofs limit up 2MB/s")
        return LimitRequest("clear" if words else "show")
    direction: DirectionName = "up" if words[0] == "up" else "down"
    if not 2 <= len(words) <= 3:  # 2 MB/s is two words
        text = f"limit {direction} takes one rate, or off; nothing was changed"
        raise Refusal("usage", text, f"dittofs limit {direction} 2MB/s")
    for name in ("device", "at"):
        if getattr(arguments, name) == "":
            raise Refusal("usage", f"--{name} is empty; nothing was changed", "dittofs limit --help")
    return LimitRequest("set", direction, "".join(words[1:]), arguments.device or "", arguments.at or "")


def lines(report: LimitReport) -> Iterator[str]:
    """The rules for people, what counts now first."""
    for direction, verb, rate in (("up", "Sending", report.up), ("down", "Receiving", report.down)):
        others = [one for one in report.rules if one.direction == direction and one.id and one.counts_now]
        limited = [f"{_who(one)} {_rate(one.rate)}" for one in others if one.rate]
        text = f"at most {_rate(rate)} to all devices together" if rate else "as fast as it goes"
        if direction == "down":
            text = text.replace(" to all", " from all")
        yield f"{verb}   {text}" + (f"; {', '.join(limited)}" if limited else "")
    for rule in report.rules:
        text = _rate(rule.rate) if rule.rate else "off"
        device = f"   {_who(rule)}" if rule.id else ""
        at = f"   {rule.at}" if rule.at else ""
        yield f"  {rule.direction:<4} {text}{device}{at}{'   (now)' if rule.counts_now else ''}"
    if report.rules:
        yield "To take one away:  dittofs limit up off     all of them:  dittofs limit clear"
    else:
        yield "To limit it:  dittofs limit up 2MB/s"


def _who(rule: LimitRule) -> str:
    return escaped(rule.device) or rule.id[:16]


def _rate(rate: int) -> str:
    return f"{human_size(rate)}/s"


def bounds(up: int, down: int) -> str:
    """What is limited now, in a few words; empty: nothing is."""
    parts = [f"{word} at most {_rate(rate)}" for word, rate in (("sending", up), ("receiving", down)) if rate]
    return ", ".join(parts)
