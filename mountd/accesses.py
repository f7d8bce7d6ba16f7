"""Which reads move the time of the last access: noatime and nodiratime of mount(8), O_NOATIME of open(2)."""

from dittofs.control.options import MountOptions
from dittofs.tree.record import Kind
from dittofs.volume.files import Handle
from dittofs.volume.inodes import Inode
from dittofs.volume.volume import Volume


class Accesses:
    """Of one mount. Until it is told its options all reads count."""

    def __init__(self, volume: Volume) -> None:
        self._attributes = volume.attributes
        self._are_noted = True
        self._are_noted_of_directories = True

    def heed(self, options: MountOptions) -> None:
        """What was asked for; nothing is noted on a read-only mount."""
        asked = set(options.kernel)
        self._are_noted = not asked & {"ro", "noatime"}
        self._are_noted_of_directories = self._are_noted and "nodiratime" not in asked

    def read(self, handle: Handle) -> None:
        """Bytes of an open file were read."""
        if not handle.is_unnoted:
            self.looked_into(handle.inode)

    def looked_into(self, inode: Inode) -> None:
        """What it holds was told: the entries of a directory, the target of a symbolic link."""
        is_noted = self._are_noted_of_directories if inode.kind is Kind.DIRECTORY else self._are_noted
        if is_noted and inode.virtual is None:
            self._attributes.note_access(inode)
