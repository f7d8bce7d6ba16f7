"""`dittofs evict`"""

import argparse
import shlex
from collections.abc import Iterator

from dittofs.cli.asking import client, locate
from dittofs.cli.output import counted, escaped, human_size, say, say_json
from dittofs.control.faults import EXIT_FAILED, EXIT_FINE
from dittofs.control.paths import path_bytes, path_fields
from dittofs.control.placement import PlaceRequest, PlaceResult

DESCRIPTION = """\
Free the room that files take on this device. Names, sizes and times stay; bytes are fetched when a program
reads them. Only what other devices have just proven to have goes: as many of them as `copies` asks for, with
--force one. The last copy never goes, nor what is pinned, open, or not published yet."""
EXAMPLE = """\
  dittofs evict ~/Shared/films
  dittofs evict Shared:films/old.mkv --force       although fewer than `copies` have it then
  dittofs evict Shared: --dry-run                  how much there is that may go"""


def define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", metavar="PATH", nargs="+", help="a path below a mount, or VOLUME:PATH")
    parser.add_argument("--force", action="store_true", help="below the number of copies; never the last one")
    parser.add_argument("--dry-run", action="store_true", help="say how much may go, and do nothing")


def run(arguments: argparse.Namespace) -> int:
    asked = client()
    volumes = asked.status().volumes
    code = EXIT_FINE
    for place in [locate(word, volumes) for word in arguments.paths]:
        result = asked.place(
            PlaceRequest(
                place.volume,
                "evict",
                **path_fields(place.path),
                is_forced=arguments.force,
                is_dry=arguments.dry_run,
            )
        )
        if arguments.json:
            say_json(result)
        else:
            for line in lines(result, is_dry=arguments.dry_run):
                say(line)
        if result.kept_files:
            code = EXIT_FAILED
    return code


def lines(result: PlaceResult, *, is_dry: bool) -> Iterator[str]:
    """What went and what stays, for people."""
    for one in result.kept:
        yield f"  kept   {escaped(path_bytes(one))}: {escaped(one.reason)}"
    if result.kept_files > len(result.kept):
        yield f"  kept   {result.kept_files - len(result.kept)} more"
    what = f"{counted(result.files, 'file')}, {human_size(result.bytes)}"
    if is_dry and (result.files or not result.kept_files):
        yield f"{what} may go from this device, if other devices prove that they have them."
    elif result.files:
        room = human_size(result.room_bytes)
        yield f"Freed {what}: other devices have them. {room} given back to the disk."
    if not result.kept_files:
        if not (result.files or is_dry):
            yield "Nothing had to go: nothing of it is on this device."
        return
    stays = f"{counted(result.kept_files, 'file')}, {human_size(result.kept_bytes)}"
    yield f"Would be kept here: {stays}." if is_dry else f"Kept here: {stays}. Nothing was lost."
    name = escaped(shlex.quote(f"{result.volume}:"))
    if any("copies = " in one.reason for one in result.kept):
        yield f"Below the number of copies, never the last:  dittofs evict --force {name}PATH"
    elif any("pinned" in one.reason for one in result.kept):
        yield f"What is pinned:  dittofs unpin {name}PATH"
