"""What of the past only this device has, asked before all of it is given up."""

from collections.abc import AsyncIterator
from typing import Final, NamedTuple

import trio

from dittofs.chunks.marking import named_root
from dittofs.cli.output import counted, human_size
from dittofs.history.snapshots import known_snapshot_roots
from dittofs.replication.custody import HOLD
from dittofs.replication.wholeness import whole
from dittofs.shared_volume import SharedVolume
from dittofs.volume.events import contents_in

ASKED_S: Final = 5.0
"""Connected devices have answered by then which of it they hold."""
AT_ONCE: Final = 64  # looked at between two requests of others

Contents = dict[bytes, int]
"""Root -> size."""


class PastHere(NamedTuple):
    """Contents that nothing shows any more."""

    contents: int
    bytes: int

    def __str__(self) -> str:
        what = counted(self.contents, "older version or removed file", "older versions or removed files")
        return f"{what} ({human_size(self.bytes)}) exist{'s' if self.contents == 1 else ''} only"


async def past_only_here(opened: SharedVolume) -> PastHere | None:
    """What the history and the snapshots name, is whole here, and no other device has said that it holds."""
    replica, peers = opened.volume.replica, opened.peers
    found = await _past(opened)
    items = list(found.items())
    for start in range(0, len(items), AT_ONCE):
        some = items[start : start + AT_ONCE]
        for (root, _), is_here in zip(
            some, await replica.run_blocking(whole, replica.chunks, some), strict=True
        ):
            if not is_here:
                del found[root]
    with trio.move_on_after(ASKED_S if peers.open_sessions else 0):
        peers.keeping.ask_about([root for root in found if not _is_held(opened, root)])
        while not all(_is_held(opened, root) for root in found):
            await peers.custody.changed.wait()
    left = [size for root, size in found.items() if not _is_held(opened, root)]
    return PastHere(len(left), sum(left)) if left else None


async def _past(opened: SharedVolume) -> Contents:
    """Contents of the past, but for what the volume shows: that is counted as such."""
    found: Contents = {}
    async for root, size in _named(opened):
        if size and named_root(root) is not None:
            found[root] = size
    for number, (_, root, _) in enumerate(opened.peers.custody.content.content_roots()):
        found.pop(root, None)
        if number % AT_ONCE == 0:
            await trio.lowlevel.checkpoint()
    return found


async def _named(opened: SharedVolume) -> AsyncIterator[tuple[bytes, int]]:
    replica = opened.volume.replica
    for number, row in enumerate(replica.journal.history.since(0)):
        for content in contents_in(row):
            yield content.root, content.size
        if number % AT_ONCE == 0:
            await trio.lowlevel.checkpoint()
    for number, (root, size) in enumerate(known_snapshot_roots(replica)):
        yield root, size
        if number % AT_ONCE == 0:
            await trio.lowlevel.checkpoint()


def _is_held(opened: SharedVolume, root: bytes) -> bool:
    """Whether another device that counts has said that it holds a content."""
    journal, gone = opened.volume.replica.journal, opened.retirement.all
    return any(
        journal.get_local(HOLD, device + root) is not None
        for device in opened.peers.others
        if device not in gone
    )
