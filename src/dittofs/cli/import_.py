"""`dittofs import`"""

import argparse
import os
import shlex

from dittofs.cli.asking import Place, client, locate
from dittofs.cli.output import Progress, counted, escaped, human_size, say, say_json
from dittofs.control.conflicts import ImportDone, ImportNote, ImportProgress, ImportRequest
from dittofs.control.faults import EXIT_CONFLICTS, EXIT_FAILED, EXIT_FINE, Refusal
from dittofs.control.paths import path_bytes, path_fields

DESCRIPTION = """\
Add a filled directory to what a volume has. Files with the same content stay as the volume has them, what is
absent is added with all its attributes, and what differs is kept beside the volume's, as a conflict. Nothing
is overwritten and DIR is left as it is. It can be interrupted, and done again: it goes on."""
EXAMPLE = """\
  dittofs import ~/old-backup --dry-run          what would happen, in files and bytes
  dittofs import ~/old-backup                    into the only volume
  dittofs import /media/stick/photos Shared:photos"""

_NOTES_SHOWN = 20


def define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", metavar="DIR", help="the local directory; it is only read")
    parser.add_argument(
        "place", metavar="VOLUME:PATH", nargs="?", help="where its entries go; default: the top of the volume"
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")


def run(arguments: argparse.Namespace) -> int:
    asked = client()
    volumes = asked.status().volumes
    word: str | None = arguments.place
    if word is not None and any(volume.name == word for volume in volumes):
        word += ":"
    place = locate(word, volumes, f"dittofs import {shlex.quote(arguments.directory)} VOLUME:")
    if arguments.place is None:
        place = Place(place.volume, b"")
    source = path_fields(os.fsencode(os.path.abspath(arguments.directory)))  # noqa: PTH100 - a link may be meant
    request = ImportRequest(
        volume=place.volume,
        source=source["path"],
        source_raw=source["path_raw"],
        dry_run=arguments.dry_run,
        **path_fields(place.path),
    )
    done: ImportDone | None = None
    notes: dict[str, int] = {}
    with Progress(escaped(arguments.directory)) as progress:
        for item in asked.import_tree(request):
            match item:
                case ImportProgress():
                    step = "counting" if item.step == "counting" else ""
                    progress.update(item.bytes_done, item.bytes_total, step)
                case ImportNote():
                    notes[item.what] = notes.get(item.what, 0) + 1
                    _tell(item, notes[item.what], as_json=arguments.json)
                case ImportDone():
                    done = item
    if done is None:
        raise Refusal("cut_short", "the daemon ended before this was done; run it again", "dittofs status")
    if arguments.json:
        say_json(done)
    else:
        for line in lines(place, done):
            say(line)
    if done.failed:
        return EXIT_FAILED
    return EXIT_CONFLICTS if done.conflicts else EXIT_FINE


def _tell(note: ImportNote, number: int, *, as_json: bool) -> None:
    if as_json:
        say_json(note)
    elif number <= _NOTES_SHOWN:
        say(f"{note.what:<9}   {escaped(path_bytes(note))}: {escaped(note.detail)}")
    elif number == _NOTES_SHOWN + 1:
        say(f"{note.what:<9}   and more; --json names all")


def lines(place: Place, done: ImportDone) -> list[str]:
    """What was done, for people."""
    name = escaped(place.volume)
    would = done.dry_run
    more = f", {counted(done.directories, 'directory', 'directories')}" if done.directories else ""
    did = "Would add" if would else "Added"
    found = [
        f"{did} {counted(done.added, 'file')}, {human_size(done.added_bytes)}{more}",
        f"The same already: {counted(done.same, 'file')}, {human_size(done.same_bytes)}",
    ]
    if done.conflicts:
        kept = "would be kept beside" if would else "kept beside"
        size = human_size(done.conflict_bytes)
        found.append(f"Different: {counted(done.conflicts, 'file')}, {size}, {kept} what the volume has")
    if done.left_out:
        found.append(f"Left out: {counted(done.left_out, 'entry', 'entries')}, by the rules named above")
    if done.failed:
        found.append(
            f"Not taken: {counted(done.failed, 'entry', 'entries')}; run it again when that is mended"
        )
    if would:
        found.append(f"Nothing was done. Without --dry-run {name} gets that.")
    else:
        found.append("dittofs conflicts" if done.conflicts else f"dittofs list {shlex.quote(str(place))}")
    return found
