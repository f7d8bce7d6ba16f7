"""What programs use, and what this device alone has: its contents stay here."""

from dittofs.ids import InodeId
from dittofs.volume.state import State

OPEN = "a program has it open"
UNPUBLISHED = "it is being written, or not published yet"


class Usage:
    """Of one volume."""

    def __init__(self, state: State) -> None:
        self._state = state

    def why_kept(self, inode: InodeId) -> str:
        """Why what a file has must stay here, whatever others have; empty: it need not."""
        state = self._state
        if state.local.get(inode) is not None:
            return UNPUBLISHED
        if any(content.ref[0] == inode for content in state.contents):
            return UNPUBLISHED
        return OPEN if any(one.opens for one in state.inodes.of_id(inode)) else ""
