"""`dittofs restore`"""

import argparse
import os
import shlex
import sys
from pathlib import Path

from dittofs.cli.asking import Place, client, locate
from dittofs.cli.get import say_written, write_download
from dittofs.cli.output import counted, escaped, human_size, say, say_json
from dittofs.control.client import Client
from dittofs.control.faults import EXIT_FINE, Refusal
from dittofs.control.history import HistoryFileRequest, RestoredItem, RestoreRequest
from dittofs.control.paths import path_bytes, path_fields

DESCRIPTION = """\
Set a file, or a directory with all that was in it, back to what it was. VERSION is what `dittofs log`
shows: a time (UTC) or an id; any time does, such as 2026-11-21T14:30, 3h or yesterday, and for a
directory the name of a snapshot. Removed files come back. What is there now stays in the history, and
what came since stays where it is. No bytes are copied: what is not on this device is fetched when it is
read."""
EXAMPLE = """\
  dittofs restore ~/Shared/letter.odt@2026-11-21T14:02:07Z
  dittofs restore Shared:letter.odt@3h -o old.odt         into a file of its own; - is stdout
  dittofs restore Shared:photos@yesterday --dry-run       what would be done"""


def define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "target", metavar="PATH@VERSION", help="a path below a mount, or VOLUME:PATH, @ what it was"
    )
    parser.add_argument(
        "-o", metavar="FILE", dest="output", help="write a file's bytes there, and restore nothing"
    )
    parser.add_argument("--force", action="store_true", help="with -o: replace the file if it exists")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done")


def run(arguments: argparse.Namespace) -> int:
    path, at, version = arguments.target.rpartition("@")
    if not at or not version:
        text = "it is not said to which version"
        of = path if at else arguments.target
        mend = f"Which there are:  dittofs log {escaped(shlex.quote(of)) if of else ''}".rstrip()
        raise Refusal("usage", text, mend)
    asked = client()
    place = locate(path, asked.status().volumes)
    if arguments.output:
        return _into_file(asked, place, version, arguments)
    request = RestoreRequest(
        volume=place.volume, **path_fields(place.path), version=version, dry_run=arguments.dry_run
    )
    return tell(asked, request, as_json=arguments.json)


def tell(asked: Client, request: RestoreRequest, *, as_json: bool) -> int:
    """Have it done, and say what was."""
    files = size = missing = 0
    last: RestoredItem | None = None
    for item in asked.restore(request):
        last = item
        if item.what != "same" and item.kind != "directory":
            files, size, missing = files + 1, size + item.size, missing + item.missing_bytes
        if as_json:
            say_json(item)
        else:
            say(_line(item, dry_run=request.dry_run))
    if as_json:
        return EXIT_FINE
    sys.stdout.flush()
    done = "would be restored" if request.dry_run else "restored"
    here = f"; {human_size(missing)} of it {_whence(asked, request)}" if missing else ""
    if last is None or (not files and last.what == "same"):
        say("Nothing had to be done: it is so already.")
        return EXIT_FINE
    say(f"{counted(files, 'file')} {done}, {human_size(size)}{here}.")
    if not request.dry_run:
        name = shlex.quote(f"{request.volume}:{request.path}")
        say(f"What was there before is in the history:  dittofs log {escaped(name)}")
    return EXIT_FINE


def _whence(asked: Client, request: RestoreRequest) -> str:
    """Where what is not here can come from."""
    members = [one.members for one in asked.status().volumes if one.name == request.volume]
    if members and len(members[0]) <= 1:
        return "are damaged or missing here, and no other device has this volume: they cannot be read"
    when = (
        "have to be fetched, now or when they are read"
        if request.dry_run
        else "are fetched when they are read"
    )
    return f"are not here and {when}"


def _line(item: RestoredItem, *, dry_run: bool) -> str:
    will = "would be " if dry_run else ""
    what = {"same": "is so already", "version": f"{will}set back", "back": f"{will}back"}[item.what]
    notes = [human_size(item.size)] if item.kind == "file" else []
    if item.version:
        notes.append(f"version {item.version}")
    if item.is_renamed:
        notes.append("under another name: something else has its own")
    sign = "/" if item.kind == "directory" else ""
    return f"{escaped(path_bytes(item))}{sign}   {what}" + (f"   ({', '.join(notes)})" if notes else "")


def _into_file(asked: Client, place: Place, version: str, arguments: argparse.Namespace) -> int:
    output = Path(arguments.output)
    if arguments.dry_run:
        raise Refusal("usage", "-o changes nothing in the volume; --dry-run says nothing with it")
    if arguments.output != "-" and os.path.lexists(output) and not arguments.force:
        text = f"{output} exists; it was left as it is"
        raise Refusal("exists", text, "Replace it with --force, or name another file with -o")
    request = HistoryFileRequest(volume=place.volume, **path_fields(place.path), version=version)
    download = asked.history_file(request)
    write_download(download, arguments.output, f"{place}@{version}")
    if arguments.output != "-":
        say_written(output, download.size, as_json=arguments.json)
    return EXIT_FINE
