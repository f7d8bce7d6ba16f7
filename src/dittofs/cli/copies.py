"""`dittofs copies`"""

import argparse
from typing import Final

from dittofs.cli.asking import client, which_volume
from dittofs.cli.guess import did_you_mean
from dittofs.cli.output import counted, escaped, say, say_json
from dittofs.control.faults import EXIT_FINE, Refusal
from dittofs.control.sharing import CopiesRequest, CopiesResult

DESCRIPTION = """\
Show on how many devices each content of a volume should be, or set it, for all devices of the volume. 2 is
the default: what is written on one is sent to one more. `all`: every device holds everything. `on-demand`:
contents go only where somebody opens them."""
EXAMPLE = """\
  dittofs copies
  dittofs copies all
  dittofs copies Photos 3"""

POLICIES: Final = ("all", "on-demand")


def define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "words", metavar="[VOLUME] [N|all|on-demand]", nargs="*", help="what to show, or to set"
    )


def run(arguments: argparse.Namespace) -> int:
    words: list[str] = arguments.words
    if len(words) > 2:
        raise Refusal("usage", "copies takes a volume and a policy, no more", "dittofs copies Shared 3")
    asked = client()
    volumes = asked.status().volumes
    names = {volume.name for volume in volumes}
    if len(words) == 2 and words[0] not in names and words[1] in names:
        words.reverse()  # one cannot be taken for the other
    is_policy = bool(words) and (len(words) == 2 or (is_like_policy(words[0]) and words[0] not in names))
    policy = words[-1] if is_policy else ""
    place = words[0] if len(words) == 2 or (words and not is_policy) else None
    if is_policy and not is_like_policy(policy) and (guess := did_you_mean(policy, POLICIES)):
        raise Refusal("usage", f"{escaped(policy)} is no policy{guess}", "dittofs copies --help")
    instead = (*POLICIES, "a number") if len(words) == 1 else ()
    volume = which_volume(place, volumes, f"dittofs copies VOLUME {policy}".rstrip(), instead=instead)
    result = asked.copies(CopiesRequest(volume=volume, copies=policy))
    if arguments.json:
        say_json(result)
    else:
        say(sentence(result))
    return EXIT_FINE


def is_like_policy(word: str) -> bool:
    """Whether a single word is meant as a policy, not as a volume."""
    return word in POLICIES or word.isdecimal()


def sentence(result: CopiesResult) -> str:
    """What holds now."""
    name = f'"{escaped(result.volume)}"'
    means = {
        "all": f"every device of {name} holds everything",
        "on-demand": f"contents of {name} go only where they are opened",
    }.get(result.copies, f"each content of {name} is held by {result.copies} devices")
    there = f" (there {'is' if result.devices == 1 else 'are'} {counted(result.devices, 'device')})"
    if result.copies.isdecimal() and int(result.copies) > result.devices:
        now = f"all {result.devices}" if result.devices > 1 else "the only one"
        there = f" as soon as there are as many; now on {now}"
    was = f"; before: {result.was}" if result.was and result.was != result.copies else ""
    return f"copies = {result.copies}: {means}{there}{was}.   dittofs status"
