"""`dittofs get`"""

import argparse
import os
import re
import shlex
import sys
import tempfile
from pathlib import Path
from typing import BinaryIO, Final

from dittofs.cli.asking import client, locate
from dittofs.cli.output import Progress, escaped, human_size, say, say_json
from dittofs.control.client import Download
from dittofs.control.faults import EXIT_FINE, Refusal
from dittofs.control.files import ChunksRequest, FileRequest
from dittofs.control.paths import path_fields

DESCRIPTION = """\
Copy a file out of a volume, whether it is mounted or not; or put chunks together by their hashes,
as `dittofs list -v` shows them. The output appears whole or not at all."""
EXAMPLE = """\
  dittofs get Shared:letters/aunt.odt          into the working directory
  dittofs get --file Shared:letters/aunt.odt -o aunt.odt
  dittofs get --file Shared:log.txt -o - | tail
  dittofs get --hashes 5f1c…,9ab0… -o part.bin"""

_HASH: Final = re.compile(r"[0-9a-f]{64}")


def define(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", nargs="?", help="the same as --file NAME")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--file", metavar="P", help="a path below a mount, or VOLUME:PATH")
    what.add_argument("--hashes", metavar="H,...", help="chunk hashes, separated by commas")
    parser.add_argument(
        "-o", metavar="O", dest="output", help="the file to write; - is stdout; default: of a file its name"
    )
    parser.add_argument(
        "--volume", default=None, help="whose chunks; needed only if there are several volumes"
    )
    parser.add_argument("--force", action="store_true", help="replace the output if it exists")


def run(arguments: argparse.Namespace) -> int:
    asks = [one for one in (arguments.name, arguments.file, arguments.hashes) if one is not None]
    if len(asks) != 1:
        raise Refusal(
            "usage", "get takes one file, or --hashes", "dittofs get --file Shared:letter.odt -o letter.odt"
        )
    path = arguments.name if arguments.name is not None else arguments.file
    arguments.output = arguments.output or _own_name(path)
    is_stream = arguments.output == "-"
    if is_stream and arguments.json:
        text = "--json and -o - both want stdout; give one of them"
        raise Refusal("usage", text, "dittofs get --help")
    output = Path(arguments.output)
    if not is_stream and os.path.lexists(output) and not arguments.force and not _is_special(output):
        raise Refusal(
            "exists",
            f"{output} exists; it was left as it is",
            "Replace it with --force, or name another file with -o",
        )
    asked = client()
    volumes = asked.status().volumes
    if path is not None:
        place = locate(path, volumes)
        label = str(place)
        try:
            download = asked.get_file(FileRequest(volume=place.volume, **path_fields(place.path)))
        except Refusal as refusal:
            mend = refusal.mend or f"What there is:  dittofs list {shlex.quote(place.volume)}:"
            said = refusal.message.removeprefix(f"{os.fsdecode(place.path)}: ")  # it is named once
            raise Refusal(refusal.code, f"{label}: {said}", mend) from refusal
    else:
        volume = arguments.volume or locate(None, volumes, "--volume VOLUME").volume
        hashes = tuple(one.strip().lower() for one in arguments.hashes.split(",") if one.strip())
        if not hashes:
            raise Refusal("usage", "--hashes names no chunk", "dittofs list -v shows them")
        for one in hashes:
            if not _HASH.fullmatch(one):
                text = f"{escaped(one)} is not the hash of a chunk, which has 64 digits from 0 to f"
                raise Refusal("usage", text, "dittofs list -v shows them")
        download = asked.get_chunks(ChunksRequest(volume=volume, ids=hashes))
        label = f"{len(hashes)} chunks"
    write_download(download, arguments.output, label)
    if not is_stream:
        say_written(output, download.size, as_json=arguments.json)
    return EXIT_FINE


def say_written(output: Path | str, size: int, *, as_json: bool) -> None:
    """Which file was written."""
    if as_json:
        say_json({**path_fields(os.fsencode(output)), "size": size})
    else:
        say(f"Wrote {escaped(os.fsencode(output))}   {human_size(size)}")


def write_download(download: Download, output: str, label: str) -> None:
    """Write what the daemon sends to a file, whole or not at all, or to stdout ("-")."""
    if output == "-":
        _copy(download, sys.stdout.buffer, label)
    else:
        _write(download, Path(output), label)


def _own_name(path: str | None) -> str:
    """Where a file goes that was given no output. Refuses ("usage") chunks, which have no name."""
    name = (path or "").rstrip("/").rpartition("/")[2].rpartition(":")[2]
    if not name:
        raise Refusal("usage", "it is not said which file to write", "Add  -o FILE   or  -o -  for stdout")
    return name


def _is_special(output: Path) -> bool:
    return output.exists() and not output.is_file()


def _write(download: Download, output: Path, label: str) -> None:
    """Write beside the target and rename, so that it is never seen half; keep the time it was written."""
    if _is_special(output):  # a pipe or a device: there is nothing to rename
        with output.open("wb") as file:
            _copy(download, file, label)
        return
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{output.name[:200]}.", dir=output.parent)
    except OSError as error:  # it names the temporary file, which nobody asked for
        raise OSError(error.errno, error.strerror, os.fspath(output)) from error
    try:
        with open(descriptor, "wb") as file:
            _copy(download, file, label)
            file.flush()
            umask = os.umask(0)
            os.umask(umask)
            os.fchmod(file.fileno(), ((download.mode & 0o777) or 0o666) & ~umask)
            if download.mtime_ns:
                os.utime(file.fileno(), ns=(download.mtime_ns, download.mtime_ns))
        Path(temporary).replace(output)
    except BaseException:
        Path(temporary).unlink()
        raise


def _copy(download: Download, file: BinaryIO, label: str) -> None:
    done = 0
    with Progress(label) as progress:
        for part in download:
            file.write(part)
            done += len(part)
            progress.update(done, download.size)
