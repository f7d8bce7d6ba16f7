"""Which processes use a mount, as far as this user may see. Nothing of the mount itself is touched."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dittofs.control.mountpoint import mounted_at, mounts

PROC: Final = Path("/proc")


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that keeps a mount busy."""

    pid: int
    name: str
    how: tuple[str, ...]
    """Sentences' ends: "works in it", "has N files open", "has files mapped"."""


def holders(directory: str, proc: Path = PROC) -> list[Holder]:
    """The processes with a working directory, open files or mapped files at or below `directory`, by pid."""
    mount = mounted_at(directory, mounts())
    device = mount.device if mount else ""
    found = []
    for entry in sorted(
        (entry for entry in proc.iterdir() if entry.name.isdigit()), key=lambda one: int(one.name)
    ):
        how = tuple(_uses(entry, directory, device))
        if how:
            found.append(Holder(int(entry.name), _name(entry), how))
    return found


def _uses(process: Path, directory: str, device: str) -> Iterator[str]:
    if _is_below(_target(process / "cwd"), directory):
        yield "works in it"
    if _is_below(_target(process / "root"), directory):
        yield "has its root there"
    count = sum(_is_below(_target(link), directory) for link in _entries(process / "fd"))
    if count:
        yield f"has {count} file{'s' if count > 1 else ''} open"
    if _is_below(_target(process / "exe"), directory):
        yield "runs a program from it"
    elif device and _maps(process / "maps", device):
        yield "has files mapped"


def _is_below(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def _target(link: Path) -> str:
    try:
        return os.readlink(link)  # noqa: PTH115 - text is compared; a Path would cost a scan its speed
    except OSError:
        return ""  # gone meanwhile, or another user's


def _entries(directory: Path) -> Iterable[Path]:
    try:
        return list(directory.iterdir())
    except OSError:
        return ()


def _maps(path: Path, device: str) -> bool:
    """Whether a file of the device (major:minor, decimal) is mapped (proc_pid_maps(5): hexadecimal)."""
    major, minor = map(int, device.split(":"))
    wanted = f" {major:02x}:{minor:02x} ".encode()
    try:
        return any(wanted in line for line in path.read_bytes().splitlines())
    except OSError:
        return False


def _name(process: Path) -> str:
    try:
        return (process / "comm").read_text(errors="replace").strip()
    except OSError:
        return "?"
