"""`dittofs copies`"""

import argparse
import os
from collections.abc import Sequence
from typing import Final

from dittofs.cli.asking import Place, client, locate, which_volume
from dittofs.cli.guess import did_you_mean
from dittofs.cli.output import counted, escaped, say, say_json
from dittofs.control.faults import EXIT_FINE, Refusal
from dittofs.control.paths import path_bytes, path_fields
from dittofs.control.protocol import VolumeStatus
from dittofs.control.sharing import CopiesRequest, CopiesResult

DESCRIPTION = """\
Show on how many devices each content should be, or set it, for all devices of the volume. 2 is the default:
what is written on one is sent to one more. `all`: every device holds everything. `on-demand`: contents go
only where somebody opens them. A file or folder may have a number of its own: it is about all below the
folder, but for what has another one, and goes along when that is renamed. `inherit` takes it away."""
EXAMPLE = """\
  dittofs copies
  dittofs copies all
  dittofs copies 3 Photos                 a volume
  dittofs copies all ~/Shared/thesis      all below a folder
  dittofs copies on-demand Shared:films
  dittofs copies inherit Shared:films"""

POLICIES: Final = ("all", "on-demand", "inherit")


def define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "words",
        metavar="[N|all|on-demand|inherit] [PATH|VOLUME]",
        nargs="*",
        help="what to set; a volume, a path below a mount, or VOLUME:PATH",
    )


def run(arguments: argparse.Namespace) -> int:
    words: list[str] = arguments.words
    if len(words) > 2:
        raise Refusal(
            "usage", "copies takes a number and a path or volume, no more", "dittofs copies 3 Shared"
        )
    asked = client()
    volumes = asked.status().volumes
    policy, word = _meant(words, {volume.name for volume in volumes})
    place = _place(word, policy, volumes, is_one=len(words) == 1)
    request = CopiesRequest(place.volume, policy, **path_fields(place.path))
    result = asked.copies(request)
    if arguments.json:
        say_json(result)
        return EXIT_FINE
    say(sentence(result))
    if policy and result.is_file and not result.is_inherited:
        say(
            "The number belongs to this file, not to another that a program puts in its place; a folder's is "
            "about all that comes there."
        )
    for rule in result.rules:
        say(f"  {escaped(rule.copies):<10} {escaped(path_bytes(rule))}")
    return EXIT_FINE


def _meant(words: Sequence[str], names: set[str]) -> tuple[str, str | None]:
    """The policy, empty if none is set, and the word for the place. A volume may be called like a policy."""
    if len(words) < 2:
        is_policy = bool(words) and is_like_policy(words[0]) and words[0] not in names
        return (words[0], None) if is_policy else ("", words[0] if words else None)
    first, second = words
    if is_like_policy(first) and not (first in names and is_like_policy(second)):
        return first, second
    if not is_like_policy(second) and (guess := did_you_mean(first, POLICIES)):
        raise Refusal("usage", f"{escaped(first)} is no policy{guess}", "dittofs copies --help")
    if not is_like_policy(second) and (guess := did_you_mean(second, POLICIES)):
        raise Refusal("usage", f"{escaped(second)} is no policy{guess}", "dittofs copies --help")
    if not is_like_policy(second):
        wrong = second if first in names else first
        text = f"copies is all, on-demand, inherit, or a number from 2, not '{escaped(wrong)}'"
        raise Refusal("usage", f"{text}; nothing was changed", "dittofs copies --help")
    return second, first


def _place(word: str | None, policy: str, volumes: Sequence[VolumeStatus], *, is_one: bool) -> Place:
    """What is meant: a volume by its name, else a path."""
    command = f"dittofs copies {policy} VOLUME".replace("  ", " ")
    is_name = word is None or any(volume.name == word for volume in volumes)
    is_guess = is_one and word is not None and not (os.path.lexists(word) or "/" in word or ":" in word)
    if is_name or is_guess or not volumes:
        instead = (*POLICIES, "a number") if is_guess else ()
        return Place(which_volume(word, volumes, command, instead=instead), b"")
    return locate(word, volumes, command)


def is_like_policy(word: str) -> bool:
    """Whether a single word is meant as a policy, not as a volume or a path."""
    return word in POLICIES or word.isdecimal()


def sentence(result: CopiesResult) -> str:
    """What holds now."""
    name = f'"{escaped(result.volume)}"'
    what = f"{escaped(path_bytes(result))} in {name}" if result.path else name
    means = {
        "all": f"every device of {name} holds everything"
        if not result.path
        else f"every device holds {what}",
        "on-demand": f"contents of {what} go only where they are opened",
    }.get(result.copies, f"each content of {what} is held by {result.copies} devices")
    there = f" (there {'is' if result.devices == 1 else 'are'} {counted(result.devices, 'device')})"
    if result.copies.isdecimal() and int(result.copies) > result.devices:
        now = f"all {result.devices}" if result.devices > 1 else "the only one"
        there = f" as soon as there are as many; now on {now}"
    whence = ""
    if result.is_inherited:
        above = escaped(result.inherited_from) if result.inherited_from else "the volume"
        whence = f", as {above} has it"
    was = f"; before: {result.was}" if result.was and result.was != result.copies else ""
    return f"copies = {result.copies}: {means}{there}{whence}{was}.   dittofs status"
