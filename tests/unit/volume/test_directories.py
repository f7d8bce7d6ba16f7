"""Listing directories while they change."""

import os
import random
from collections.abc import Sequence

from dittofs.errors import FSError
from dittofs.ids import InodeId
from dittofs.tree.entry import Entry
from dittofs.volume.directories import Directories, DirectoryHandle
from tests.simulation.rig import Rig

PAGE = 7


def names_after(rig: Rig, handle: DirectoryHandle, after: int = 2) -> list[tuple[int, bytes, int]]:
    """All lines of an open directory, page by page."""
    found: list[tuple[int, bytes, int]] = []
    while listed := rig.volume.directories.read(handle, after, PAGE):
        found += [(line.cookie, line.name, line.inode.number) for line in listed]
        after = listed[-1].cookie
    return found


def names_afresh(rig: Rig, path: str) -> list[tuple[int, bytes, int]]:
    """The same, as somebody sees it who has just opened the directory."""
    volume = rig.volume
    afresh = Directories(volume.state, volume.names, rig.volume._volume_id)
    handle = afresh.open(rig.walk(path))
    lines = afresh.read(handle, 2, 1_000_000)
    afresh.release(handle)
    volume.state.local.listeners.pop()
    volume.replica.listeners.pop()
    return [(line.cookie, line.name, line.inode.number) for line in lines]


async def test_an_open_listing_follows_every_change_of_its_directory(rig: Rig) -> None:
    chance = random.Random(3)
    await rig.write(".dittoignore", b"*.o\n")
    for directory in ("d", "e", "d/below"):
        rig.mkdir(directory)
    handles = {path: rig.volume.directories.open(rig.walk(path)) for path in ("", "d", "e")}
    names = [f"{directory}/{name}" for directory in ("d", "e") for name in ("a", "b", "c.o", "sub", "x", "y")]
    names += ["a", "z.o"]
    for _ in range(600):
        one, other = chance.sample(names, 2)
        try:
            match chance.randrange(8):
                case 0 | 1:
                    await rig.write(one, b"content")
                case 2:
                    await rig.unlink(one)
                case 3:
                    rig.mkdir(one)
                case 4:
                    await rig.rmdir(one)
                case 5:
                    await rig.rename(one, other, chance.choice((0, 0, 1, 2)))
                case 6:
                    rig.link(one, other)
                case 7:
                    await rig.publish()
        except FSError:
            pass  # what is refused changes nothing
        for path, handle in handles.items():
            assert names_after(rig, handle) == names_afresh(rig, path)
    for handle in handles.values():
        rig.volume.directories.release(handle)


async def test_a_directory_is_read_once_however_long_the_listing_and_whatever_is_removed(rig: Rig) -> None:
    rig.mkdir("d")
    for number in range(200):
        await rig.write(f"d/{number}", b"")
    await rig.publish()
    tree = rig.volume.replica.tree
    listing, read = tree.listing, []

    def counted(directory: InodeId) -> Sequence[Entry]:
        read.append(directory)
        return listing(directory)

    tree.listing = counted  # type: ignore[method-assign]
    handle = rig.volume.directories.open(rig.walk("d"))
    after, removed = 2, 0
    while listed := rig.volume.directories.read(handle, after, PAGE):
        after = listed[-1].cookie
        for line in listed:
            await rig.unlink(f"d/{os.fsdecode(line.name)}")
            removed += 1
    rig.volume.directories.release(handle)
    assert removed == 200
    assert read == [handle.directory]
