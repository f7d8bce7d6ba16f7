"""`dittofs trash`"""

import argparse
import shlex
import sys
import time

from dittofs.cli.asking import client, locate
from dittofs.cli.log import limit_of
from dittofs.cli.output import counted, escaped, human_size, say, say_json, when
from dittofs.cli.restore import tell
from dittofs.control.client import Client
from dittofs.control.faults import EXIT_FINE, Refusal
from dittofs.control.history import EmptyTrashRequest, RestoreRequest, TrashRequest
from dittofs.control.paths import path_bytes, path_fields

DESCRIPTION = """\
Removed files: list them, have them back under their names, or forget them for good. Whoever removed a
file, it can be had back here as long as the history keeps it. `empty` is about this device alone: other
devices keep theirs."""
EXAMPLE = """\
  dittofs trash list
  dittofs trash restore ~/Shared/letter.odt        a file, or all that was removed below a directory
  dittofs trash empty --dry-run                    how much it would free
  dittofs trash empty Shared:tmp --yes"""


def define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("list", "restore", "empty"), nargs="?", default="list")
    parser.add_argument("path", metavar="PATH", nargs="?", help="a path below a mount, or VOLUME:PATH")
    parser.add_argument(
        "--limit", metavar="N", type=limit_of, default=50, help="list so many at most; 0: all"
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done")
    parser.add_argument("--yes", action="store_true", help="empty: do not ask")


def run(arguments: argparse.Namespace) -> int:
    asked = client()
    place = locate(arguments.path, asked.status().volumes)
    match arguments.action:
        case "restore":
            if not place.path:
                text = "it is not said what is to come back"
                raise Refusal("usage", text, "Everything that was removed:  dittofs trash list")
            request = RestoreRequest(
                volume=place.volume, **path_fields(place.path), dry_run=arguments.dry_run
            )
            return tell(asked, request, as_json=arguments.json)
        case "empty":
            return _empty(asked, place.volume, place.path, arguments)
    now_ns, shown, size = time.time_ns(), 0, 0
    asks = TrashRequest(place.volume, **path_fields(place.path), limit=arguments.limit)
    for item in asked.trash(asks):
        shown, size = shown + 1, size + item.size
        if arguments.json:
            say_json(item)
        else:
            here = f"   [{human_size(item.missing_bytes)} not here]" if item.missing_bytes else ""
            age = when(item.removed_ns, now_ns)
            who = f"removed {age:>12} by {escaped(item.device):<12}"
            say(f"{human_size(item.size):>10}   {who}   {escaped(path_bytes(item))}{here}")
    if not arguments.json:
        say(f"{counted(shown, 'removed file')}, {human_size(size)}")
        if shown:
            say(f"Have one back:  dittofs trash restore {shlex.quote(place.volume)}:PATH")
    return EXIT_FINE


def _empty(asked: Client, volume: str, path: bytes, arguments: argparse.Namespace) -> int:
    fields = path_fields(path)
    would = asked.empty_trash(EmptyTrashRequest(volume, **fields, dry_run=True))
    what = f"{counted(would.files, 'removed file')}, {human_size(would.bytes)}"
    if arguments.dry_run or not would.files:
        if arguments.json:
            say_json(would)
        else:
            say(f"{what} would be forgotten." if would.files else "There is nothing in the trash.")
        return EXIT_FINE
    if not arguments.yes:
        if not sys.stdin.isatty():
            raise Refusal("usage", f"{what} would be gone for good; nothing was done", "To do it:  add --yes")
        answer = input(f"{what} will be gone for good on this device. Go on? [y/N] ")
        if answer.strip().lower() not in ("y", "yes"):
            say("Nothing was done.")
            return EXIT_FINE
    done = asked.empty_trash(EmptyTrashRequest(volume, **fields))
    if arguments.json:
        say_json(done)
        return EXIT_FINE
    snapshots = counted(done.kept_by_snapshots, "snapshot")
    verb = "names" if done.kept_by_snapshots == 1 else "name"
    kept = f" What {snapshots} {verb} stays." if done.kept_by_snapshots else ""
    say(f"Forgot {counted(done.files, 'removed file')}, {human_size(done.bytes)}.{kept}")
    say("This is about this device alone: another device may still have them, until it empties its own.")
    say("Their room comes back with the next collection:  dittofs cache gc")
    return EXIT_FINE
