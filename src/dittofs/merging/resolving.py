"""Resolving a conflict: one side keeps the name, or both stay as ordinary files, or a merge of them does.

By the operations that people would use (rm, mv), so that it means the same on every device. What gives way
stays in the history. Each step leaves a tree that shows everything that is still undecided.
"""

import errno
from collections.abc import Sequence

from dittofs.errors import FSError
from dittofs.merging.conflicts import Conflict, Conflicts, Side, is_in_use
from dittofs.tree.naming import cut, split_extension
from dittofs.tree.record import NAME_BYTES_MAX, Kind
from dittofs.volume.volume import Volume

NAMES_TRIED_MAX = 1_000


class Unclear(FSError):
    """It is not said, or not to be known, which side is meant."""

    def __init__(self, text: str) -> None:
        super().__init__(errno.EINVAL, text)


def chosen(conflict: Conflict, keep: str) -> Side:
    """The side that `keep` means: "shown", "beside", "mine", "theirs", or the name of a device. Unclear."""
    sides = conflict.sides
    if keep == "shown":
        if conflict.main is None:
            raise Unclear("the name shows nothing: all that is left stands beside it")
        return conflict.main
    if keep == "beside":
        found = list(conflict.asides)
    elif keep == "mine":
        found = [side for side in sides if side.is_mine]
    elif keep == "theirs":
        found = [side for side in sides if not side.is_mine]
    else:
        found = [side for side in sides if side.device == keep]
    if len(found) == 1:
        return found[0]
    devices = ", ".join(sorted({side.device for side in sides}))
    if len(found) > 1 and keep == "beside":
        raise Unclear(f"{len(found)} versions stand beside the name")
    if not found:
        raise Unclear(f"none of the {len(sides)} versions is of {_whose(keep)}; they are of: {devices}")
    raise Unclear(f"{len(found)} of the {len(sides)} versions are of {_whose(keep)}")


def _whose(keep: str) -> str:
    return {"mine": "this device", "theirs": "another device"}.get(keep, keep)


class Resolving:
    """Of one volume."""

    def __init__(self, volume: Volume) -> None:
        self._volume = volume
        self._conflicts = Conflicts(volume.state)

    async def keep(self, conflict: Conflict, side: Side) -> Sequence[Side]:
        """`side` gets the name and all others go. Returns those.

        EBUSY while a program writes one of them, or if a side changed meanwhile: nothing was done. EISDIR for
        a directory and a file that are called the same: a directory keeps its name.
        """
        conflict = await self._settled(conflict)
        main = conflict.main
        if main is not None and side.ref != main.ref and Kind.DIRECTORY in (main.entry.kind, side.entry.kind):
            raise FSError(errno.EISDIR, "a directory keeps its name against a file")
        volume = self._volume
        directory = volume.names.directory(conflict.directory)
        if main is None or side.ref != main.ref:
            waits = volume.renaming.rename(directory, side.name, directory, conflict.name, 0)
            if waits is not None:
                await waits
        gone = [one for one in conflict.sides if one.ref != side.ref]
        for one in gone:
            if main is None or one.ref != main.ref:
                await self._remove(conflict, one)
        return gone

    async def keep_all(self, conflict: Conflict) -> Sequence[tuple[Side, bytes]]:
        """Each side becomes a file of its own, called by its device. Returns which is called what now.

        EBUSY as `keep`.
        """
        conflict = await self._settled(conflict)
        volume = self._volume
        directory = volume.names.directory(conflict.directory)
        named = []
        for side in conflict.asides:
            name = self.free_name(conflict, side)
            waits = volume.renaming.rename(directory, side.name, directory, name, 0)
            if waits is not None:
                await waits
            named.append((side, name))
        return named

    async def _remove(self, conflict: Conflict, side: Side) -> None:
        """Take away what stands aside, if it still holds what was decided about."""
        directory = self._volume.names.directory(conflict.directory)
        entry = self._volume.replica.tree.lookup(conflict.directory, side.name)
        found = None if entry is None else self._volume.replica.tree.version(entry.ref)
        content = None if found is None else found.content
        if entry is None or (side.version is not None and content != side.version.content):
            return  # it is gone already, or is another one by now: nothing was decided about that
        waits = self._volume.names.unlink(directory, side.name)
        if waits is not None:
            await waits

    async def _settled(self, conflict: Conflict) -> Conflict:
        """The conflict, once nothing waits to be published. EBUSY if it is not the same then."""
        volume = self._volume
        volume.replica.require_writable()
        await volume.publisher.drain_all()
        now = self._conflicts.refreshed(conflict)
        if now is None or {one.ref for one in now.sides} != {one.ref for one in conflict.sides}:
            raise FSError(errno.EBUSY, "it has changed just now; nothing was done")
        for side in now.sides:
            if is_in_use(volume.state, side):
                shown = side.name.decode(errors="replace")
                raise FSError(errno.EBUSY, f"a program is writing {shown}; nothing was done")
        return now

    def free_name(self, conflict: Conflict, side: Side) -> bytes:
        """`stem (DEVICE).ext`, or the first of `stem (DEVICE 2).ext` and so on that is free."""
        directory = self._volume.names.directory(conflict.directory)
        device = "".join(c if c.isprintable() and c != "/" else "_" for c in side.device) or "other"
        stem, extension = split_extension(conflict.name)
        for number in range(1, NAMES_TRIED_MAX):
            again = "" if number == 1 else f" {number}"
            tag = f" ({device}{again})".encode("utf-8", "replace")
            name = cut(stem, NAME_BYTES_MAX - len(tag) - len(extension)) + tag + extension
            if self._volume.names.find(directory, name) is None:
                return name
        raise FSError(errno.EEXIST, "every name that it could get is taken")
