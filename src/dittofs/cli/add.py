"""`dittofs add`"""

import argparse
import os
import shlex
import stat
from collections.abc import Iterator
from typing import BinaryIO

from dittofs.cli.asking import Place, client, locate
from dittofs.cli.output import Progress, escaped, human_size, say, say_json
from dittofs.control.client import PART_BYTES, Client
from dittofs.control.faults import EXIT_FINE, Refusal
from dittofs.control.files import AddRequest, AddResult
from dittofs.control.paths import path_fields

DESCRIPTION = """\
Copy files into a volume, whether it is mounted or not. Each is there, whole and safe from a power
cut, when its line is printed. For a whole directory: cp -a DIR into the mount."""
EXAMPLE = """\
  dittofs add letter.odt                          into the only volume
  dittofs add *.jpg --to Shared:photos/2026       into a directory of a volume; made if missing
  dittofs add --replace letter.odt --to ~/Shared  a new version of a file that is there"""


def define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", metavar="FILE", nargs="+", help="a file to copy")
    parser.add_argument("--to", metavar="DIR", help="a directory below a mount, or VOLUME:DIR")
    parser.add_argument("--replace", action="store_true", help="a file of that name gets the new content")


def run(arguments: argparse.Namespace) -> int:
    asked = client()
    place = locate(arguments.to, asked.status().volumes)
    for name in arguments.files:
        result = _add(asked, place, name, to=arguments.to, replace=arguments.replace)
        if arguments.json:
            say_json(result)
        else:
            did = "Replaced" if result.was_replaced else "Added"
            target = Place(place.volume, _target(place, name))
            say(f"{did} {target}   {human_size(result.size)}")
    return EXIT_FINE


def _target(place: Place, name: str) -> bytes:
    base = os.path.basename(os.path.abspath(os.fsencode(name)))  # noqa: PTH100, PTH119 - bytes
    return b"/".join(part for part in (place.path, base) if part)


def _add(asked: Client, place: Place, name: str, *, to: str | None, replace: bool) -> AddResult:
    # Without O_NONBLOCK a pipe would hold the command up before it can be told from a file.
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        where = shlex.quote(os.path.dirname(name) or ".")  # noqa: PTH120 - as it was typed
        text = f"{name}: {error.strerror}; it was not added"
        raise Refusal("not_found", text, f"What is there:  ls {where}") from error
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        os.close(descriptor)
        what = "a directory" if stat.S_ISDIR(found.st_mode) else "not a regular file"
        raise Refusal("usage", f"{name} is {what}; it was not added", "cp -a copies such things into a mount")
    with open(descriptor, "rb", buffering=0) as file, Progress(escaped(name)) as progress:
        request = AddRequest(
            volume=place.volume,
            **path_fields(_target(place, name)),
            size=found.st_size,
            mode=stat.S_IMODE(found.st_mode) & 0o777,
            mtime_ns=found.st_mtime_ns,
            replace=replace,
        )
        try:
            return asked.add(request, file_parts(file, name, found.st_size, progress))
        except Refusal as refusal:
            if refusal.code == "exists":
                where = f" --to {shlex.quote(to)}" if to else ""
                mend = f"Give it a new version:  dittofs add --replace {shlex.quote(name)}{escaped(where)}"
                raise Refusal("exists", refusal.message, mend) from refusal
            raise


def file_parts(file: BinaryIO, name: str, size: int, progress: Progress) -> Iterator[bytes]:
    """The file's first `size` bytes, though it may grow. Refuses if it shrinks: no half file is added."""
    done = 0
    while done < size:
        part = file.read(min(PART_BYTES, size - done))
        if not part:
            raise Refusal(
                "failed", f"{name} became shorter while it was read; it was not added", "Try again."
            )
        yield part
        done += len(part)
        progress.update(done, size)
