"""`.dittofs/at/`: the volume as it was, for any program. A directory for each snapshot, and for any time.

Snapshots and some times are listed; every other time can be named (times.py). Nothing is made before
somebody looks, and of the directories that were looked at only the last few are in memory.
"""

import errno
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from dittofs.clock import DAY_NS, SECOND_NS
from dittofs.errors import FSError
from dittofs.history.snapshots import SnapshotView, find_snapshot, snapshots_of
from dittofs.history.times import parse_time, time_name
from dittofs.history.views import Entries, TimeView, View, ViewEntry
from dittofs.ids import InodeId, Number
from dittofs.tree.record import Kind
from dittofs.volume.inodes import Inode, PastShown, Stat, VirtualFile, virtual_number
from dittofs.volume.published import UNBORN, Published
from dittofs.volume.state import DIRECTORY_BYTES, SET_ID_BITS, State, gid_of, uid_of

NAME: Final = b"at"
HOURS_LISTED: Final = 6
DAYS_LISTED: Final = 7
LISTINGS_MAX: Final = 64
"""Directories of all views that are kept in memory."""
NAMES_MAX: Final = 256
KEPT_NS: Final = 600 * SECOND_NS
"""`1h` means the same so long after it was used last: who copies it sees one time."""
_HOUR_NS: Final = 3600 * SECOND_NS


@dataclass(slots=True, eq=False)
class ViewDirectory:
    """A directory of a view, behind an inode."""

    name: bytes
    at: "At"
    view: View
    key: str
    """What distinguishes the view."""
    entry: ViewEntry
    number: Number
    above: Number

    def content(self) -> bytes:
        return b""

    def prepare(self) -> Coroutine[Any, Any, None] | None:
        return self.at.read(self)

    def children(self, start: int, count: int) -> Sequence[Inode]:
        entries = islice(self.at.entries(self).values(), start, start + count)
        return [self.at.shown(self, entry) for entry in entries]

    def lookup(self, name: bytes) -> Inode | None:
        found = self.at.entries(self).get(name)
        return None if found is None else self.at.shown(self, found)

    def parent(self) -> Inode | None:
        return self.at.above(self.above)


class At:
    """The directory itself. `name`, `content`, `children` and `lookup` are those of any virtual thing."""

    def __init__(self, state: State, inode: Inode) -> None:
        self.name = NAME
        self._state = state
        self._inode = inode
        self._times: dict[str, tuple[int, int]] = {}
        self._listings: dict[tuple[str, object], Entries] = {}

    def content(self) -> bytes:
        return b""

    def prepare(self) -> None:
        return None

    def parent(self) -> Inode | None:
        return None

    def children(self, start: int, count: int) -> Sequence[Inode]:
        """Snapshots, the last full hours and the last midnights."""
        replica = self._state.replica
        now, first = replica.clock.now_ns(), replica.journal.history.first_at()
        hours = [now - now % _HOUR_NS - back * _HOUR_NS for back in range(HOURS_LISTED)]
        days = [now - now % DAY_NS - back * DAY_NS for back in range(DAYS_LISTED)]
        times = [time_name(at)[:16] for at in hours] + [time_name(at)[:10] for at in days]
        known = [
            one for one, at in zip(times, hours + days, strict=True) if first is not None and at >= first
        ]
        names = dict.fromkeys([*(one.name for one in snapshots_of(replica)), *known])
        found = (self.lookup(name.encode()) for name in names)
        return list(islice((one for one in found if one is not None), start, start + count))

    def lookup(self, name: bytes) -> Inode | None:
        """A snapshot, or a time that is neither in the future nor before all that is known."""
        replica = self._state.replica
        text = name.decode("ascii", "replace")
        snapshot = find_snapshot(replica, text)
        if snapshot is not None:
            view: View = SnapshotView(self._state, snapshot)
            key = f"snapshot {snapshot.root.hex()} {snapshot.at}"
        else:
            at, first = self._time(text), replica.journal.history.first_at()
            if at is None or first is None or not first <= at <= replica.clock.now_ns():
                return None
            view, key = TimeView(replica, at), f"time {at}"
        return self._made(name, view, key, view.top(), self._inode, is_top=True)

    def _time(self, text: str) -> int | None:
        now = self._state.replica.clock.now_ns()
        known = self._times.pop(text, None)
        at = known[0] if known is not None and now - known[1] < KEPT_NS else parse_time(text, now)
        if at is not None:
            self._times[text] = at, now
            if len(self._times) > NAMES_MAX:
                del self._times[next(iter(self._times))]
        return at

    # -- in a view

    def read(self, directory: ViewDirectory) -> Coroutine[Any, Any, None] | None:
        """Have what a directory held in memory; a coroutine if it has to be fetched."""
        listing = (directory.key, directory.entry.inodes or directory.entry.root)
        known = self._listings.pop(listing, None)
        if known is None:
            found = directory.view.entries(directory.entry)
            if not isinstance(found, dict):
                return self._fetch(listing, found)
            known = found
        self._keep(listing, known)
        return None

    async def _fetch(self, listing: tuple[str, object], found: Coroutine[Any, Any, Entries]) -> None:
        self._keep(listing, await found)

    def _keep(self, listing: tuple[str, object], entries: Entries) -> None:
        self._listings[listing] = entries
        if len(self._listings) > LISTINGS_MAX:
            del self._listings[next(iter(self._listings))]

    def entries(self, directory: ViewDirectory) -> Entries:
        """What a directory held. EAGAIN if it has to be fetched: `prepare` first."""
        listing = (directory.key, directory.entry.inodes or directory.entry.root)
        waiting = self.read(directory)
        if waiting is not None:
            waiting.close()
            if not isinstance(directory.view, TimeView):
                raise FSError(errno.EAGAIN)
            self._keep(listing, directory.view.entries_at_once(directory.entry))  # nobody prepared it
        return self._listings[listing]

    def shown(self, directory: ViewDirectory, entry: ViewEntry) -> Inode:
        """The inode of something in a directory of a view."""
        above = self._state.inodes.get(directory.number) or self._inode
        return self._made(entry.name, directory.view, directory.key, entry, above)

    def _made(
        self, name: bytes, view: View, key: str, entry: ViewEntry, above: Inode, *, is_top: bool = False
    ) -> Inode:
        what = ",".join(entry.inodes) or entry.root.hex()
        aside = name.hex() if entry.is_aside else ""
        number = virtual_number(f"{key}/{what}/{aside}".encode())
        known = self._state.inodes.get(number)
        if known is not None and known.virtual is not None and known.virtual.name == name:
            return known
        inode = known or Inode(number, (InodeId(f".past.{number}"), None), entry.kind)
        if entry.kind is Kind.DIRECTORY:
            inode.virtual = ViewDirectory(name, self, view, key, entry, number, above.number)
        else:
            inode.virtual = VirtualFile(name)
        inode.past = self._past(inode, entry, is_lasting=not is_top)
        self._state.inodes.add(inode)
        return inode

    def above(self, number: Number) -> Inode:
        """The directory above, or the nearest that is still known."""
        return self._state.inodes.get(number) or self._inode

    def _past(self, inode: Inode, entry: ViewEntry, *, is_lasting: bool) -> PastShown:
        state, owner = self._state, entry.owner
        is_directory = entry.kind is Kind.DIRECTORY
        mode = entry.mode if is_directory or state.trusts_root else entry.mode & ~SET_ID_BITS
        stat = Stat(
            number=inode.number,
            kind=entry.kind,
            mode=mode,
            nlink=2 if is_directory else entry.nlink,
            uid=uid_of(owner) if owner else state.uid,
            gid=gid_of(owner) if owner else state.gid,
            rdev=0,
            size=DIRECTORY_BYTES if is_directory else entry.size,
            atime=entry.mtime,
            mtime=entry.mtime,
            ctime=entry.mtime,
            birth=entry.birth,
        )
        is_file = entry.kind is Kind.FILE
        shown = Published(entry.root, entry.size, ()) if is_file else UNBORN
        target = entry.root if entry.kind is Kind.SYMLINK else b""
        return PastShown(stat, shown, target, entry.xattrs, is_lasting)
