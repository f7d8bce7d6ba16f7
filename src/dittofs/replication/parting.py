"""Contents that nobody could read any more once some devices are gone."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

import trio

from dittofs.identity.keys import DeviceId
from dittofs.replication.custody import HOLD, SLICE, Item
from dittofs.replication.lonely import PSEUDO
from dittofs.replication.peers import Peers
from dittofs.replication.wholeness import whole


@dataclass(frozen=True, slots=True)
class Alone:
    """What certain devices alone hold."""

    files: int = 0
    bytes: int = 0
    is_counted: bool = True
    """False: not everything was looked at, so this is a lower bound."""


async def alone_on(peers: Peers, devices: Collection[DeviceId], patience_s: float) -> Alone:
    """Files that `devices`, and no others, have confirmed to hold, and that are not here.

    If one of them is not connected, also those that nobody has confirmed to hold: it may have them.
    """
    custody = peers.custody
    with trio.move_on_after(patience_s):
        while custody.is_counting:
            await custody.changed.wait()
    is_away = any(peers.session(device) is None for device in devices)
    staying = [one for one in peers.holders() if one not in devices]
    files = size = 0
    live, past = set[bytes](), dict[bytes, int]()
    for some in _slices(custody.content.content_roots() if len(devices) > 1 else _lonely(peers)):
        await trio.lowlevel.checkpoint()
        gone = [
            item
            for item in some
            if not _is_held(peers, staying, item[1]) and (is_away or _is_held(peers, devices, item[1]))
        ]
        here = await _here(peers, {root: count for _, root, count in gone})
        for inode, root, count in gone:
            if root in here:
                continue
            if inode[0] == PSEUDO:
                past[root] = count
            else:
                live.add(root)
                files, size = files + 1, size + count
    kept = [count for root, count in past.items() if root not in live]  # a snapshot's, and no file's any more
    return Alone(files + len(kept), size + sum(kept), not custody.is_counting)


def _lonely(peers: Peers) -> Iterator[Item]:
    """Whatever one device alone holds is among these."""
    return ((inode, one.root, one.size) for one in peers.custody.lonely() for inode in one.inodes)


def _slices(items: Iterable[Item]) -> Iterator[list[Item]]:
    some: list[Item] = []
    for item in items:
        some.append(item)
        if len(some) >= SLICE:
            yield some
            some = []
    yield some


def _is_held(peers: Peers, devices: Iterable[DeviceId], root: bytes) -> bool:
    """Whether one of them has said so."""
    journal = peers.replica.journal
    return any(journal.get_local(HOLD, device + root) is not None for device in devices)


async def _here(peers: Peers, contents: dict[bytes, int]) -> set[bytes]:
    """Which of these contents are here, and stay."""
    custody, found = peers.custody, set[bytes]()
    unknown: list[tuple[bytes, int]] = []
    for root, size in contents.items():
        if (lonely := custody.find(root)) is not None:
            found |= {root} if lonely.is_here else set()
        elif root not in custody.intents:
            unknown.append((root, size))
    if unknown:
        answers = await peers.replica.run_blocking(whole, peers.replica.chunks, unknown)
        found |= {root for (root, _), is_here in zip(unknown, answers, strict=True) if is_here}
    return found
