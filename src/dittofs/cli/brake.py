"""`dittofs brake`"""

import argparse
import shlex
import time
from typing import Final, Literal

from dittofs.cli.asking import client, which_volume
from dittofs.cli.held import held_line
from dittofs.cli.output import Progress, counted, escaped, human_size, say, say_json, when
from dittofs.control.faults import EXIT_ATTENTION, EXIT_FINE
from dittofs.control.protocol import VolumeStatus
from dittofs.control.undoing import BrakeDone, BrakeProgress, BrakeRequest

DESCRIPTION = """\
When one device removes or rewrites a large part of a volume at once, this device goes on to show the files as
they were, until somebody here decides. Other devices decide for themselves. Nothing else waits meanwhile.

  dittofs brake [list] [VOLUME]       what is held, exit code 5 if anything is
  dittofs brake accept [VOLUME]       the device meant it: show what it did
  dittofs brake reject [VOLUME]       it did not: make it undone, on all devices

How much is too much: [brake] in config.toml (docs/how-to/undo.md)."""
EXAMPLE = """\
  dittofs brake
  dittofs brake reject --device laptop
  dittofs brake accept Shared --dry-run"""

Action = Literal["list", "accept", "reject"]
ACTIONS: Final = ("list", "accept", "reject")


def define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", nargs="*", metavar="ACTION VOLUME", help="list, accept or reject; a volume")
    parser.add_argument("--device", default="", metavar="D", help="only what this device did")
    parser.add_argument("--dry-run", action="store_true", help="say what it is about, and decide nothing")
    parser.add_argument("-v", action="store_true", dest="verbose", help="name the first 100 files")


def run(arguments: argparse.Namespace) -> int:
    words = list(arguments.words)
    action: Action = "list"
    if words and words[0] in ACTIONS:
        action = words.pop(0)
    asked = client()
    volumes = asked.status().volumes
    if words or action != "list":
        usage = f"dittofs brake {action} VOLUME"
        word = words[0] if words else _held_one(volumes)
        names = [which_volume(word, volumes, usage, instead=() if arguments.words[0] in ACTIONS else ACTIONS)]
    else:
        names = [volume.name for volume in volumes if volume.state != "failed" or volume.members]
    done = []
    for name in names:
        request = BrakeRequest(
            volume=name,
            action=action,
            device=arguments.device,
            dry_run=arguments.dry_run,
            paths=arguments.verbose or arguments.json,
        )
        with Progress("deciding") as progress:
            for item in asked.brake(request):
                if isinstance(item, BrakeProgress):
                    progress.update(item.done, item.total)
                elif isinstance(item, BrakeDone):
                    done.append(item)
    if arguments.json:
        say_json(done if action == "list" else done[0])
    else:
        for one in done:
            for line in lines(one, verbose=arguments.verbose):
                say(line)
        say(_next(action, done, dry_run=arguments.dry_run))
    is_held = any(one.batches for one in done) and (action == "list" or arguments.dry_run)
    return EXIT_ATTENTION if is_held else EXIT_FINE


def _held_one(volumes: tuple[VolumeStatus, ...]) -> str | None:
    """The only volume in which something is held."""
    names = [volume.name for volume in volumes if volume.held]
    return names[0] if len(names) == 1 else None


def lines(done: BrakeDone, *, verbose: bool) -> list[str]:
    """What is held in a volume, or was decided about."""
    found = []
    for batch in done.batches:
        at = when(batch.last_ns, time.time_ns())
        found.append(f"{escaped(done.volume)}   {held_line(batch)}, {at}")
        if verbose:
            found += [f"    {escaped(path)}" for path in batch.paths]
    return found


def _next(action: Action, done: list[BrakeDone], *, dry_run: bool) -> str:
    batches = [batch for one in done for batch in one.batches]
    if not batches:
        return "Nothing is held."
    volume = escaped(shlex.quote(batches[0].volume))
    reject, accept = f"dittofs brake reject {volume}", f"dittofs brake accept {volume}"
    if action == "list":
        return f"Shown here as before.   Bring it back everywhere:  {reject}   It was meant:  {accept}"
    files = sum(batch.removed + batch.rewritten for batch in batches)
    size = human_size(sum(batch.bytes for batch in batches))
    if dry_run:
        says = "would come back on all devices" if action == "reject" else "would go here too"
        again = f"Nothing was changed.   Do it:  dittofs brake {action} {volume}"
        return f"{counted(files, 'file')}, {size} {says}. {again}"
    if action == "reject":
        return f"{counted(files, 'file')}, {size} as before, for all devices.   Who has what:  dittofs status"
    device = escaped(shlex.quote(batches[0].known_as or batches[0].device))
    return f"Accepted. To have it back after all:  dittofs undo --device {device} --since TIME"
