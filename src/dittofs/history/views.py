"""A whole volume as it was, to be looked at: of a time, from the history; of a snapshot, from its listing."""

import errno
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Protocol

import trio

from dittofs.errors import FSError
from dittofs.history.past import PastEntry, Pasts
from dittofs.ids import ROOT, InodeId
from dittofs.tree.record import Kind, Owner
from dittofs.volume.replica import Replica

ENTRIES_AT_ONCE = 256
"""A larger directory is read in slices, so that others have their turn."""
ENTRIES_IN_A_ROW = 32
MODE_OF_FILES = 0o644
MODE_OF_DIRECTORIES = 0o755


@dataclass(frozen=True, slots=True)
class ViewEntry:
    """Something as it was."""

    name: bytes
    kind: Kind
    inodes: tuple[InodeId, ...]
    """Of a directory all that were shown as one."""
    mode: int
    owner: Owner | None
    mtime: int
    birth: int
    size: int = 0
    root: bytes = b""
    """Of a file its content root, of a symbolic link its target, of a directory of a snapshot its listing."""
    nlink: int = 1
    rdev: int = 0
    xattrs: Mapping[bytes, bytes] = field(default_factory=dict)
    is_aside: bool = False
    """A conflict entry."""


Entries = dict[bytes, ViewEntry]


class View(Protocol):
    """A volume at one time."""

    @property
    def at(self) -> int:
        """Nanoseconds since 1970."""

    def top(self) -> ViewEntry:
        """The root directory."""

    def entries(self, directory: ViewEntry) -> Entries | Coroutine[Any, Any, Entries]:
        """What a directory held, by name; a coroutine if that has to be fetched."""


class TimeView:
    """What this device showed at a time. As many entries as a directory has are in memory, no more."""

    def __init__(self, replica: Replica, at: int) -> None:
        self._pasts = Pasts(replica)
        self._at = at

    @property
    def at(self) -> int:
        return self._at

    def top(self) -> ViewEntry:
        return self._made(PastEntry(b"", Kind.DIRECTORY, (ROOT,)))

    def entries(self, directory: ViewEntry) -> Entries | Coroutine[Any, Any, Entries]:
        if self._pasts.size(directory.inodes) > ENTRIES_AT_ONCE:
            return self._entries_slowly(directory)
        return self.entries_at_once(directory)

    def entries_at_once(self, directory: ViewEntry) -> Entries:
        """As `entries`, however large the directory is."""
        found = self._pasts.entries(directory.inodes, self._at)
        return {name: self._made(entry) for name, entry in sorted(found.items())}

    async def _entries_slowly(self, directory: ViewEntry) -> Entries:
        steps, found = self._pasts.steps(directory.inodes, self._at), dict[bytes, PastEntry]()
        for number in count(1):
            try:
                next(steps)
            except StopIteration as end:
                found = end.value
                break
            if number % ENTRIES_IN_A_ROW == 0:
                await trio.lowlevel.checkpoint()
        made: Entries = {}
        for number, (name, entry) in enumerate(sorted(found.items()), 1):
            made[name] = self._made(entry)
            if number % ENTRIES_IN_A_ROW == 0:
                await trio.lowlevel.checkpoint()
        return made

    def _made(self, entry: PastEntry) -> ViewEntry:
        past = entry.past or self._pasts.of(entry.inodes[0], self._at)
        if past is None:
            raise FSError(errno.ESTALE)  # the history was thinned meanwhile
        content = entry.content
        is_directory = entry.kind is Kind.DIRECTORY
        usual = MODE_OF_DIRECTORIES if is_directory else MODE_OF_FILES
        if is_directory:
            mtime = self._pasts.directory_mtime(entry.inodes, past, self._at)
        else:
            mtime = content.mtime if content is not None else past.mtime or past.birth or 0
        return ViewEntry(
            entry.name,
            entry.kind,
            entry.inodes,
            past.mode if past.mode is not None else usual,
            past.owner,
            mtime,
            past.birth or 0,
            content.size if content is not None else 0,
            content.root if content is not None else b"",
            sum(name.is_plain for name in past.names.values()) if not (is_directory or entry.is_aside) else 1,
            past.rdev,
            past.xattrs,
            entry.is_aside,
        )


async def settled(entries: Entries | Coroutine[Any, Any, Entries]) -> Entries:
    """The entries, waited for if need be."""
    return entries if isinstance(entries, dict) else await entries
