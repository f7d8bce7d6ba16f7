"""What a measurement is made on, and what the kernel says about a process."""

import os
import platform
import re
from pathlib import Path
from typing import Final

TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
DROP_CACHES: Final = Path("/proc/sys/vm/drop_caches")
MOUNTS: Final = Path("/proc/self/mountinfo")


def describe() -> str:
    """One line: processor, cores, memory, kernel, interpreter, and how busy the machine was already."""
    cpu = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.M)
    memory_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return (
        f"{cpu[1] if cpu else platform.machine()}, {os.cpu_count()} cores, {memory_bytes / 2**30:.0f} GiB, "
        f"Linux {platform.release().split('-')[0]}, Python {platform.python_version()}, "
        f"load {os.getloadavg()[0]:.1f} before"
    )


def file_system(path: Path) -> str:
    """The type of the file system that holds `path`."""
    best, kind = "", "unknown"
    wanted = str(path.resolve())
    for line in MOUNTS.read_text().splitlines():
        fields, _, tail = line.partition(" - ")
        place = fields.split()[4]
        is_above = wanted == place or wanted.startswith(place.rstrip("/") + "/")
        if is_above and len(place) >= len(best):
            best, kind = place, tail.split()[0]
    return kind


def is_mounted(path: Path) -> bool:
    """Whether something is mounted exactly here."""
    return any(line.split()[4] == str(path) for line in MOUNTS.read_text().splitlines())


def cpu_s(pid: int) -> float:
    """Seconds of processor time, user and system, that a process and its ended threads have used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def resident_bytes(pid: int) -> int:
    """Memory of a process that is in RAM, shared libraries included."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def can_drop_caches() -> bool:
    """Only root may empty the kernel's caches."""
    return os.access(DROP_CACHES, os.W_OK)


def drop_caches() -> None:
    """Write dirty pages back, then empty the page, entry and inode caches, as far as we may."""
    os.sync()
    if can_drop_caches():
        DROP_CACHES.write_text("3")
