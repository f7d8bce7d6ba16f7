"""`dittofs list`"""

import argparse
import shlex
import stat
import sys
import time
from collections.abc import Iterator

from dittofs.cli.asking import Place, client, locate
from dittofs.cli.output import counted, escaped, human_size, say, say_json, when
from dittofs.control.faults import EXIT_FINE, Refusal
from dittofs.control.files import ChunkRun, Entry, ListItem, ListRequest
from dittofs.control.paths import path_bytes, path_fields

DESCRIPTION = """\
List files with their size and age. PATH is a path below a mount, or VOLUME:PATH, mounted or not;
without it the volume around the working directory is listed, or the only one."""
EXAMPLE = """\
  dittofs list ~/Shared/photos
  dittofs list -v Shared:letters/aunt.odt     also mode, id and the hashes of its chunks
  dittofs list --missing                      what would have to be fetched from another device
  dittofs list --json | jq -r .path           one JSON object a line"""

_SIGNS = {
    "file": "",
    "directory": "/",
    "symlink": "@",
    "fifo": "|",
    "socket": "=",
    "character": "",
    "block": "",
}
_TYPE_BITS = {
    "file": stat.S_IFREG,
    "directory": stat.S_IFDIR,
    "symlink": stat.S_IFLNK,
    "fifo": stat.S_IFIFO,
    "socket": stat.S_IFSOCK,
    "character": stat.S_IFCHR,
    "block": stat.S_IFBLK,
}


def define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="PATH", nargs="?", help="a path below a mount, or VOLUME:PATH")
    parser.add_argument(
        "-v", action="store_true", dest="verbose", help="also mode, inode number, id and chunk hashes"
    )
    parser.add_argument(
        "--missing", action="store_true", help="only files with bytes that are not on this device"
    )


def run(arguments: argparse.Namespace) -> int:
    asked = client()
    place = locate(arguments.path, asked.status().volumes)
    request = ListRequest(
        volume=place.volume,
        **path_fields(place.path),
        missing=arguments.missing,
        chunks=arguments.verbose,
    )
    now_ns = time.time_ns()
    files = others = size = 0
    for item in _items(asked.list(request), place):
        if arguments.json:
            say_json(item)
        elif isinstance(item, ChunkRun):
            for line in chunk_lines(item):
                say(line)
        else:
            say(entry_line(item, now_ns, verbose=arguments.verbose))
        if isinstance(item, Entry):
            is_file = item.kind == "file"
            files, others = files + is_file, others + (not is_file)
            size += item.size if is_file else 0
    if not arguments.json:
        sys.stdout.flush()
        rest = f", {counted(others, 'other entry', 'other entries')}" if others else ""
        what = " with bytes that are not here" if arguments.missing else ""
        say(f"{counted(files, 'file')}{what}, {human_size(size)}{rest} in {str(place).rstrip(':')}")
    return EXIT_FINE


def _items(items: Iterator[ListItem], place: Place) -> Iterator[ListItem]:
    try:
        yield from items
    except Refusal as refusal:
        mend = refusal.mend or f"What there is:  dittofs list {shlex.quote(place.volume)}:"
        raise Refusal(refusal.code, refusal.message, mend) from refusal


def entry_line(entry: Entry, now_ns: int, *, verbose: bool) -> str:
    """One entry for people: size, age, name, and what is special about it."""
    size = human_size(entry.size) if entry.kind in ("file", "symlink") else "-"
    notes = [
        *(["local only"] if entry.is_local else []),
        *(["pinned"] if entry.is_pinned else []),
        *(["conflict"] if entry.is_conflict else []),
        *(
            [f"{human_size(entry.size - entry.bytes_here)} not here"]
            if entry.bytes_here < entry.size and entry.kind == "file"
            else []
        ),
    ]
    name = escaped(path_bytes(entry)) + _SIGNS[entry.kind] + (f"   [{', '.join(notes)}]" if notes else "")
    line = f"{size:>10}   {when(entry.mtime_ns, now_ns):>12}   {name}"
    if not verbose:
        return line
    return (
        f"{stat.filemode(_TYPE_BITS[entry.kind] | entry.mode)}   {entry.number:>19}   {entry.id:<16}   {line}"
    )


def chunk_lines(run: ChunkRun) -> list[str]:
    """The chunks of a file, one a line."""
    found, offset = [], run.offset
    for identity, size, is_here in zip(run.ids, run.sizes, run.here, strict=True):
        found.append(
            f"    {offset:>14,}   {size:>9,}   {identity or 'hole'}{'' if is_here else '   not here'}"
        )
        offset += size
    return found
