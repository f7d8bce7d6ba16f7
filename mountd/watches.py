"""Which inodes of a file system programs watch: what /proc says of inotify and fanotify (proc(5), fdinfo)."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

WATCHING: Final = ("anon_inode:inotify", "anon_inode:[fanotify]")
MINOR_BITS: Final = 20  # of the kernel's own form of a device number (linux/kdev_t.h)


def watched_inodes(device: int) -> frozenset[int]:
    """Blocking: numbers of inodes on `device` (st_dev) that a process we may look at watches."""
    wanted = f"{os.major(device) << MINOR_BITS | os.minor(device):x}"
    return frozenset(number for information in _information() for number in _numbers(information, wanted))


def _information() -> Iterator[str]:
    for process in os.scandir("/proc"):
        if not process.name.isdigit():
            continue
        with suppress(OSError):  # it ended, or is not ours to look at
            for descriptor in os.scandir(f"{process.path}/fd"):
                with suppress(OSError):
                    if os.readlink(descriptor.path) in WATCHING:  # noqa: PTH115 - for all of a machine
                        yield Path(f"{process.path}/fdinfo/{descriptor.name}").read_text()


def _numbers(information: str, device: str) -> Iterator[int]:
    for line in information.splitlines():
        words = dict(word.partition(":")[::2] for word in line.split())
        if words.get("sdev") == device and "ino" in words:
            yield int(words["ino"], 16)
