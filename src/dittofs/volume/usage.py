"""What programs use, and what this device alone has: its contents stay here."""

from dittofs.ids import InodeId
from dittofs.volume.pins import Pins
from dittofs.volume.state import State

OPEN = "a program has it open"
PINNED = "it is pinned"
UNPUBLISHED = "it is being written, or not published yet"


class Usage:
    """Of one volume."""

    def __init__(self, state: State, pins: Pins) -> None:
        self._state = state
        self._pins = pins

    def why_kept(self, inode: InodeId) -> str:
        """Why what a file has must stay here, whatever others have; empty: it need not."""
        state = self._state
        if state.local.get(inode) is not None:
            return UNPUBLISHED
        if any(content.ref[0] == inode for content in state.contents):
            return UNPUBLISHED
        if any(one.opens for one in state.inodes.of_id(inode)):
            return OPEN
        return PINNED if self._pins.of(inode) is not None else ""
