"""`dittofs undo`"""

import argparse
import os
import shlex
import time
from collections.abc import Iterable
from typing import Final

from dittofs.cli.asking import Place, client, locate
from dittofs.cli.output import counted, escaped, human_size, listed, say, say_json, warn
from dittofs.clock import SECOND_NS
from dittofs.control.faults import EXIT_ATTENTION, EXIT_FINE, Refusal
from dittofs.control.paths import path_bytes, path_fields
from dittofs.control.undoing import StepKind, UndoDone, UndoRequest, UndoStep
from dittofs.history.times import parse_time

DESCRIPTION = """\
Take back what one device did since a time: what it removed comes back at its names, what it moved goes back,
contents and attributes become what they were before, and what it made goes to the trash. These are new
changes like any other, for all devices; nothing that another device did since is undone, and what was is in
the history. Run it again, and it does what was left to do."""
EXAMPLE = """\
  dittofs undo --device laptop --since 1h --dry-run
  dittofs undo --device laptop --since 2026-11-21T14:00 --until 2026-11-21T14:30
  dittofs undo --device laptop --since yesterday ~/Shared/photos"""

SHOWN: Final = 8
_SAYS: Final[dict[StepKind, tuple[str, str]]] = {
    "back": ("comes back", "brought back"),
    "content": ("gets its content of before", "set to the content of before"),
    "name": ("goes back to its names", "back at the names of before"),
    "attributes": ("gets its mode, owner, time and attributes of before", "with mode and times of before"),
    "trash": ("goes to the trash", "in the trash"),
    "refused": ("was held by the brake, and is refused", "held by the brake, and refused"),
    "left": ("is left as it is", "left as they are"),
}


def define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", nargs="?", metavar="PATH", help="only what is at and below it; or VOLUME:")
    parser.add_argument("--device", required=True, metavar="D", help="the name of the device, as in `log`")
    parser.add_argument(
        "--since", required=True, metavar="T", help="3h, 2d, yesterday, 2026-11-21T14:02 (UTC)"
    )
    parser.add_argument("--until", metavar="T", help="now, if it is not given")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    parser.add_argument("-v", action="store_true", dest="verbose", help="name every file")


def run(arguments: argparse.Namespace) -> int:
    now = time.time_ns()
    since, until = _time(arguments.since, now), now
    if since % SECOND_NS == SECOND_NS - 1:
        since -= SECOND_NS - 1  # a second is meant from its beginning
    if arguments.until is not None:
        until = _time(arguments.until, now)
        if until <= since:
            raise Refusal("usage", f"{arguments.until} is not after {arguments.since}", "dittofs undo --help")
    asked = client()
    place = locate(arguments.path, asked.status().volumes, "dittofs undo VOLUME: --device D --since T")
    if arguments.path is None:
        place = Place(place.volume, b"")
    request = UndoRequest(
        volume=place.volume,
        device=arguments.device,
        since_ns=since,
        until_ns=until if arguments.until is not None else -1,
        dry_run=arguments.dry_run,
        **path_fields(place.path),
    )
    steps: list[UndoStep] = []
    done: UndoDone | None = None
    for item in asked.undo(request):
        if isinstance(item, UndoDone):
            done = item
            continue
        steps.append(item)
    steps.sort(key=path_bytes)
    assert done is not None, "the daemon's last line"
    left = [step for step in steps if step.kind == "left" or step.reason]
    others = [step for step in steps if not (step.kind == "left" or step.reason)]
    steps = [*left, *others]
    if arguments.json:
        say_json({"steps": steps, "done": done})
    else:
        shown = steps if arguments.verbose else [*left, *others[:SHOWN]]
        for step in shown:
            say(_step_line(step))
        if len(shown) < len(steps):
            say(f"... and {counted(len(steps) - len(shown), 'other')}: -v names them all")
        for line in summary(steps, done):
            say(line)
        _tell_left(left, done)
        say(_next(steps, done, arguments, place))
    return EXIT_ATTENTION if left else EXIT_FINE


def _time(text: str, now: int) -> int:
    at = parse_time(text, now)
    if at is None:
        raise Refusal("usage", f"{escaped(text)!r} is no time", "Write it like  3h, 2d or 2026-11-21T14:02")
    return at


def _step_line(step: UndoStep) -> str:
    slash = "/" if step.is_directory else ""
    size = "" if step.is_directory or not step.size else f"   {human_size(step.size)}"
    fetch = f", {human_size(step.missing)} of it not on this device" if step.missing else ""
    reason = f": {escaped(step.reason)}" if step.reason else ""
    return f"  {escaped(path_bytes(step))}{slash}   {_SAYS[step.kind][0]}{size}{fetch}{reason}"


def summary(steps: Iterable[UndoStep], done: UndoDone) -> list[str]:
    """What was, or would be, done, by kind with files and bytes."""
    lines = []
    found = list(steps)
    for kind, (_, says) in _SAYS.items():
        ones = [step for step in found if step.kind == kind]
        if not ones:
            continue
        directories = sum(step.is_directory for step in ones)
        what = [counted(len(ones) - directories, "file")] if len(ones) > directories else []
        what += [counted(directories, "directory", "directories")] if directories else []
        size = sum(step.size for step in ones if not step.is_directory)
        sized = f", {human_size(size)}" if size and kind not in ("name", "attributes") else ""
        lines.append(f"{listed(what)}{sized} {says}")
    if not lines:
        return []
    if all(step.kind == "left" for step in found):
        begin = "Would undo nothing of" if done.is_dry_run else "Undid nothing of"
    else:
        begin = "Would undo" if done.is_dry_run else "Undid"
    return [f"{begin} what {escaped(done.device)} did:", *(f"  {line}" for line in lines)]


def _tell_left(left: Iterable[UndoStep], done: UndoDone) -> None:
    missing = [step for step in left if step.missing]
    if missing and not done.is_reachable:
        size = human_size(sum(step.missing for step in missing))
        warn(
            f"{counted(len(missing), 'file')}, {size}: what was there before is not here, "
            "and no other device is connected"
        )


def _next(steps: list[UndoStep], done: UndoDone, arguments: argparse.Namespace, place: Place) -> str:
    if not steps:
        return f"Nothing to undo: {escaped(done.device)} did nothing in that time that is not undone already."
    words = ["dittofs", "undo", "--device", arguments.device, "--since", arguments.since]
    if arguments.until is not None:
        words += ["--until", arguments.until]
    if arguments.path is not None:
        words.append(arguments.path)
    again = escaped(shlex.join(words))
    if done.is_dry_run:
        return f"Nothing was changed. Do it:  {again}"
    if any(step.missing for step in steps):
        return "What is not on this device comes when it is read. On which devices it is:  dittofs status"
    if all(step.kind == "left" for step in steps):
        return "Nothing was changed. For each that is left:  dittofs log PATH,  dittofs restore PATH"
    log = shlex.quote(f"{place.volume}:{os.fsdecode(place.path)}")
    return f"Done, for all devices. To see it:  dittofs log {escaped(log)}"
