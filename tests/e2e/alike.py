"""Whether devices show the same tree, in every respect that devices share."""

import os
import stat
from pathlib import Path
from typing import NamedTuple

from tests.e2e.network import Device


class Seen(NamedTuple):
    """What every device must show alike. (Of a directory the number and the times are each device's own.)"""

    mode: int
    links: int
    owner: int
    size: int
    number: int
    mtime_ns: int
    ctime_ns: int
    xattrs: tuple[tuple[str, bytes], ...]
    target: str


def seen(directory: Path) -> dict[str, Seen]:
    """Names and attributes of all that is below a directory."""
    found = {}
    for path in directory.rglob("*"):
        status = path.lstat()
        is_directory = stat.S_ISDIR(status.st_mode)
        names = [] if path.is_symlink() else sorted(os.listxattr(path))
        found[str(path.relative_to(directory))] = Seen(
            status.st_mode,
            status.st_nlink,
            status.st_uid,
            0 if is_directory else status.st_size,
            0 if is_directory else status.st_ino,
            0 if is_directory else status.st_mtime_ns,
            0 if is_directory else status.st_ctime_ns,
            tuple((name, os.getxattr(path, name)) for name in names),
            os.readlink(path) if path.is_symlink() else "",
        )
    return found


def contents(directory: Path) -> dict[str, bytes]:
    """Every file's bytes."""
    files = (path for path in directory.rglob("*") if path.is_file() and not path.is_symlink())
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


def assert_alike(*devices: Device, has_numbers: bool = True) -> None:
    """All devices show the same tree, with the same bytes.

    Not `has_numbers`: a file may have a number of its own here as long as programs know something else, that
    is no more or is written to, by the number it has elsewhere.
    """
    first, *others = ((seen(device.root), contents(device.root)) for device in devices)
    if not has_numbers:
        for names, _ in (first, *others):
            names.update({name: one._replace(number=0) for name, one in names.items()})
    for names, data in others:
        differing = {
            name: (first[0].get(name), names.get(name))
            for name in first[0].keys() | names.keys()
            if first[0].get(name) != names.get(name)
        }
        assert not differing, differing
        assert data == first[1]


def are_alike(*devices: Device) -> bool:
    first, *others = (seen(device.root) for device in devices)
    return all(other == first for other in others)
