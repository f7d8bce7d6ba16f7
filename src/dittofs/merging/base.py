"""The last version that two versions have in common, found along their version nodes."""

from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final

from dittofs.chunks.version import VersionNode
from dittofs.ids import ChunkId

NODES_MAX: Final = 512
"""Looked at for one pair: devices that wrote more versions than that apart are not merged."""
ONE, OTHER, STALE = 1, 2, 4
_COMMON = ONE | OTHER

Load = Callable[[ChunkId], Awaitable[VersionNode | None]]
"""A version node, None if no device that can be asked has it."""


async def common_base(load: Load, one: Iterable[ChunkId], other: Iterable[ChunkId]) -> VersionNode | None:
    """The nearest version from which both sides come; None if there is none, or not just one.

    None too if that is not known for sure: where a node on the way cannot be had, or after NODES_MAX.
    """
    flags: dict[ChunkId, int] = {}
    nodes: dict[ChunkId, VersionNode] = {}
    queue: deque[ChunkId] = deque()

    def paint(chunk: ChunkId, colour: int) -> None:
        known = flags.get(chunk, 0)
        if known | colour != known:
            flags[chunk] = known | colour
            queue.append(chunk)

    for chunk in one:
        paint(chunk, ONE)
    for chunk in other:
        paint(chunk, OTHER)
    while queue and not _is_settled(flags, queue):
        chunk = queue.popleft()
        node = nodes.get(chunk)
        if node is None:
            node = await load(chunk) if len(nodes) < NODES_MAX else None
            if node is None:
                if flags[chunk] & STALE:
                    continue  # below something common: what lies there is no nearer
                return None
            nodes[chunk] = node
        colour = flags[chunk]
        is_common = colour & _COMMON == _COMMON
        for previous in node.previous:
            paint(previous, _COMMON | STALE if is_common else colour)
    found = [chunk for chunk, colour in flags.items() if colour == _COMMON]
    return await _loaded(load, nodes, found[0]) if len(found) == 1 else None


def _is_settled(flags: Mapping[ChunkId, int], queue: Iterable[ChunkId]) -> bool:
    """Whether nothing that is left to look at can bring a nearer one, or make one of several fall away."""
    if any(not flags[chunk] & STALE and flags[chunk] & _COMMON != _COMMON for chunk in queue):
        return False
    return sum(colour == _COMMON for colour in flags.values()) == 1


async def _loaded(load: Load, nodes: Mapping[ChunkId, VersionNode], chunk: ChunkId) -> VersionNode | None:
    return nodes.get(chunk) or await load(chunk)
