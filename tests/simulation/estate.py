"""A volume with something of every kind in it, for tests that damage it and look what is left."""

import contextlib
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from dittofs.disk import Disk
from dittofs.errors import DittoError
from dittofs.journal.damage import IndexDamaged
from dittofs.tree.record import Kind
from tests.simulation.rig import Rig

MACHINE = "machine/boot-1"
INTERRUPTED = {"new small", "new big", "file 3", "file 4", "file 9"}
"""Files with content that was closed and not yet published when the process died."""
Shown = dict[str, bytes]


@dataclass
class Estate:
    """What was acknowledged: for each path its bytes now, and every earlier version."""

    now: Shown = field(default_factory=dict)
    earlier: dict[str, list[bytes]] = field(default_factory=dict)

    def put(self, path: str, data: bytes) -> None:
        self.earlier.setdefault(path, []).append(self.now.get(path, b""))
        self.now[path] = data


@dataclass
class Verdict:
    """What came of looking at everything after damage."""

    refused: str = ""
    """Why the volume did not open."""
    right: set[str] = field(default_factory=set)
    errors: dict[str, str] = field(default_factory=dict)
    """path -> the error that reading it gave."""
    gone: set[str] = field(default_factory=set)
    outdated: set[str] = field(default_factory=set)
    wrong: set[str] = field(default_factory=set)
    """Paths that read as something they never held."""
    strangers: set[str] = field(default_factory=set)
    """Names nobody made."""
    named: tuple[str, ...] = ()
    """Damage that the volume itself tells of."""

    @property
    def is_whole(self) -> bool:
        lost = self.errors or self.gone or self.outdated or self.wrong or self.strangers
        return not (self.refused or lost)


async def settle(disk: Disk) -> Estate:
    """Files published, in shards of their own, of one chunk and of many; the end is a clean one."""
    estate, chance = Estate(), random.Random(5)
    rig = Rig(disk, seed=5, machine=MACHINE)
    rig.mkdir("d")
    rig.mkdir("d/deep")
    sizes = [10, 900, 5_000, 70_000, 200_000]
    for number, size in enumerate(sizes * 3):
        path = f"{('', 'd/', 'd/deep/')[number % 3]}file {number}"
        for version in range(1 + number % 2):
            data = b"%d.%d " % (number, version) + chance.randbytes(size)
            await rig.write(path, data)
            estate.put(path, data)
            await rig.publish()
    rig.symlink("file 0", "link")
    rig.link("file 0", "d/other name")
    estate.now["d/other name"] = estate.now["file 0"]
    await rig.close()
    return estate


async def interrupt(disk: Disk, estate: Estate) -> None:
    """More content, closed and not yet published, of every kind of staging; then the process dies."""
    chance = random.Random(6)
    rig = Rig(disk, seed=6, machine=MACHINE)
    for path, size in (("new small", 500), ("new big", 500_000), ("file 3", 2_000), ("file 4", 400_000)):
        data = path.encode() + chance.randbytes(size)
        await rig.write(path, data)
        estate.put(path, data)
    handle = rig.open_file("file 9", os.O_RDWR)
    await rig.write_at(handle, 50_000, b"#" * 9_000)
    rig.close_file(handle)
    old = estate.now["file 9"]
    estate.put("file 9", old[:50_000] + b"#" * 9_000 + old[59_000:])
    await rig.volume.files.sync()
    rig.abandon()


def paths(rig: Rig, directory: str = "") -> list[str]:
    """Every file of a volume."""
    found: list[str] = []
    for name in rig.listing(directory):
        path = f"{directory}/{name}" if directory else name
        kind = rig.walk(path).kind
        if kind is Kind.DIRECTORY:
            found += paths(rig, path)
        elif kind is Kind.FILE:
            found.append(path)
    return found


def mended(rig: Rig, act: Callable[[], object]) -> object:
    """Do it as a front end does: a damaged index is made anew before anybody sees an error."""
    try:
        return act()
    except IndexDamaged:
        rig.volume.replica.rebuild_index()
        return act()


def judge(disk: Disk, estate: Estate, *, machine: str = MACHINE) -> Verdict:
    """Open the volume and read everything there should be, and whatever else there is."""
    try:
        rig = Rig(disk, seed=77, machine=machine)
    except DittoError as error:
        return Verdict(refused=str(error) or type(error).__name__)
    try:
        return look(rig, estate)
    finally:
        with contextlib.suppress(DittoError):
            rig.abandon()


def look(rig: Rig, estate: Estate) -> Verdict:
    """Read everything in an open volume."""
    verdict = Verdict()
    for path, wanted in sorted(estate.now.items()):
        try:
            if not mended(rig, lambda path=path: rig.exists(path)):  # type: ignore[misc]
                verdict.gone.add(path)
                continue
            found = mended(rig, lambda path=path: rig.read(path))  # type: ignore[misc]
        except DittoError as error:
            verdict.errors[path] = str(error)
            continue
        if found == wanted:
            verdict.right.add(path)
        elif found in estate.earlier.get(path, ()):
            verdict.outdated.add(path)
        else:
            verdict.wrong.add(path)
    with contextlib.suppress(DittoError):
        verdict.strangers = {path for path in paths(rig) if path not in estate.now}
        # Bytes that lost their name are kept under another: that is a rescue and no intrusion.
        kept = [path for path in verdict.strangers if "(recovered, " in path]
        verdict.strangers -= {path for path in kept if rig.read(path) in estate.now.values()}
    verdict.named = rig.volume.summary().damage
    return verdict
