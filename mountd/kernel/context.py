"""What all requests of one mount share."""

from dataclasses import dataclass

from dittofs.ids import Number
from dittofs.volume.inodes import Inode
from dittofs.volume.volume import Volume
from mountd.accesses import Accesses
from mountd.handles import Handles
from mountd.kernel import replies
from mountd.kernel.notices import Notices
from mountd.kernel.reading_ahead import ReadingAhead
from mountd.lookups import Lookups


@dataclass(frozen=True, slots=True)
class Context:
    """The volume, and what the kernel holds of it."""

    volume: Volume
    lookups: Lookups
    handles: Handles
    notices: Notices
    accesses: Accesses
    reading_ahead: ReadingAhead

    def inode(self, node: int) -> Inode:
        """What a node number stands for. ESTALE if nothing."""
        return self.volume.names.by_number(Number(node))

    def entry(self, inode: Inode) -> bytes:
        """The reply that makes the kernel count one lookup."""
        answer = replies.entry_out(inode, self.volume.state.stat(inode))
        self.lookups.count(inode)
        return answer
