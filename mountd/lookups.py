"""What one kernel knows of a volume: inodes it holds, names it may remember. Shared by both front ends."""

from collections import Counter
from collections.abc import Iterable

from dittofs.ids import ROOT_NUMBER, Number
from dittofs.tree.record import Kind
from dittofs.volume.inodes import Inode
from dittofs.volume.volume import Volume
from mountd.attributes import CACHED_S
from mountd.handles import Handles
from mountd.invalidation import Invalidation
from mountd.known_names import KnownNames


class Lookups:
    """Of one mount. As an origin of changes (`state.ORIGIN`) it stands for that mount."""

    def __init__(self, volume: Volume, invalidation: Invalidation) -> None:
        self._volume = volume
        self._invalidation = invalidation
        self._clock = volume.replica.clock
        self._names = KnownNames(CACHED_S, self._clock.monotonic())
        self.counts: Counter[Number] = Counter()
        """Lookups the kernel holds, by inode number."""

    def start(self) -> None:
        """From now on what changes elsewhere reaches the kernel."""
        self._invalidation.start()
        self._volume.state.listeners.append(self._on_change)

    def _on_change(self, inode: Inode, name: bytes | None, origin: object) -> None:
        """Something changed in the volume; what came through this mount the kernel knows."""
        number = inode.number
        if origin is self or (number not in self.counts and number != ROOT_NUMBER):
            return
        if name is not None:
            if self._names.may_know(number, name):
                self._invalidation.entry(number, name)
        elif inode.kind is Kind.FILE or inode.kind is Kind.SYMLINK:
            self._invalidation.inode(number)
        else:
            self._invalidation.attributes(number)

    def note(self, parent: int, name: bytes) -> None:
        """The kernel may remember what a name shows, or that it shows nothing."""
        self._names.note(parent, name, self._clock.monotonic())

    def count(self, inode: Inode) -> None:
        """The kernel is given an entry, and holds one more lookup."""
        if not inode.lookups and inode.virtual is None:
            self._volume.attributes.load_atime(inode)
        inode.lookups += 1
        self.counts[inode.number] += 1

    def forget(self, forgotten: Iterable[tuple[int, int]]) -> None:
        """The kernel gives (number, lookups) back."""
        for one, count in forgotten:
            number = Number(one)
            self.counts[number] -= count
            if self.counts[number] <= 0:
                del self.counts[number]
            inode = self._volume.state.inodes.get(number)
            if inode is not None:
                self._volume.state.inodes.forget(inode, count)

    def close(self, handles: Handles) -> None:
        """The mount is gone: give back what the kernel held."""
        volume = self._volume
        if self._on_change in volume.state.listeners:
            volume.state.listeners.remove(self._on_change)
        files, directories = handles.drain()
        for handle in files:
            volume.files.release(handle)
        for directory in directories:
            volume.directories.release(directory)
        self.forget(list(self.counts.items()))
