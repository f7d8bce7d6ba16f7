"""`dittofs checkout`"""

import argparse
import os

from dittofs.cli.asking import client, shown_directory, which_volume
from dittofs.cli.output import Progress, counted, escaped, human_size, say, say_json, warn
from dittofs.control.faults import EXIT_FAILED, EXIT_FINE, Refusal
from dittofs.control.history import CheckoutDone, CheckoutProgress, CheckoutRequest
from dittofs.control.paths import path_fields

DESCRIPTION = """\
Write a volume, or a path in it, as it was at a time or in a snapshot into a directory. A directory that
holds something is refused; with --force files of the same names are replaced, and others stay. What is
not on this device is fetched."""
EXAMPLE = """\
  dittofs checkout before-the-move /tmp/old
  dittofs checkout 2026-11-21T14:30 /tmp/photos photos
  dittofs checkout yesterday old --volume Shared"""


def define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("version", metavar="SNAPSHOT|TIME", help="a snapshot's name, or a time (UTC)")
    parser.add_argument("directory", metavar="DIR", help="where to write; made if it is not there")
    parser.add_argument("path", metavar="PATH", nargs="?", default="", help="only this, a path in the volume")
    parser.add_argument("--volume", metavar="V", help="needed only if there are several")
    parser.add_argument("--force", action="store_true", help="into a directory that holds something")


def run(arguments: argparse.Namespace) -> int:
    asked = client()
    volume = which_volume(arguments.volume, asked.status().volumes, "--volume VOLUME")
    directory = os.path.abspath(arguments.directory)  # noqa: PTH100 - as it is called
    fields = path_fields(os.fsencode(directory))
    request = CheckoutRequest(
        volume=volume,
        version=arguments.version,
        directory=fields["path"],
        directory_raw=fields["path_raw"],
        force=arguments.force,
        **path_fields(os.fsencode(arguments.path)),
    )
    done: CheckoutDone | None = None
    with Progress(f"Writing {arguments.version}") as progress:
        for item in asked.checkout(request):
            if isinstance(item, CheckoutProgress):
                progress.update(item.bytes, 0, counted(item.files, "file"))
            else:
                done = item
    if done is None:
        raise Refusal("cut_short", "the daemon ended before all was written; what was written stays")
    if arguments.json:
        say_json(done)
        return EXIT_FAILED if done.left_out else EXIT_FINE
    for line in done.left_out:
        warn(f"not written: {escaped(line)}")
    what = f"{counted(done.files, 'file')}, {human_size(done.bytes)}"
    say(f"Wrote {what} as of {escaped(arguments.version)} to {shown_directory(directory)}")
    return EXIT_FAILED if done.left_out else EXIT_FINE
