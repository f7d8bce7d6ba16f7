"""How much of a content is hole, as far as that is known without reading: what st_blocks leaves out."""

from collections.abc import Iterable, Sequence
from itertools import chain

from dittofs.chunks.content import ContentReader
from dittofs.chunks.manifest import HOLE_BLOCK_BYTES
from dittofs.volume.published import Published
from dittofs.volume.staging import Layer

ROOTS_MAX = 65_536  # contents with holes that are kept in mind: 10 MB


def blocks_of(size: int) -> int:
    """Blocks that so many bytes take."""
    return -(-size // HOLE_BLOCK_BYTES)


def blocks_within(start: int, end: int, size: int) -> int:
    """Whole blocks of a hole; the last one of a content of `size` bytes ends with it."""
    last = blocks_of(end) if end == size else end // HOLE_BLOCK_BYTES
    return max(0, last - blocks_of(start))


def blocks_touched(ranges: Iterable[tuple[int, int]]) -> int:
    """Blocks of which a byte lies in one of these ranges, which are disjoint and ascend."""
    found = counted = 0
    for start, end in ranges:
        first = start // HOLE_BLOCK_BYTES
        if first < counted:  # no max(): there may be 100,000 ranges, and a call takes as long as the rest
            first = counted
        counted = -(-end // HOLE_BLOCK_BYTES)
        found += counted - first
    return found


def count_hole_blocks(content: ContentReader) -> int:
    """Blocks of a stored content in which nothing is. Reads its manifest; FormatError."""
    holes = ((one.offset, one.offset + one.length) for one in content.presence() if one.chunk is None)
    return sum(blocks_within(start, end, content.size) for start, end in holes)


class HoleBlocks:
    """Of the contents of one replica. What nobody has counted yet has no holes."""

    def __init__(self) -> None:
        self._blocks: dict[bytes, int] = {}

    def note(self, root: bytes, blocks: int) -> bool:
        """A content was looked at. Whether more of it is hole than was known."""
        if blocks <= self._blocks.get(root, 0):
            return False
        self._blocks.pop(root, None)
        self._blocks[root] = blocks
        if len(self._blocks) > ROOTS_MAX:
            del self._blocks[next(iter(self._blocks))]
        return True

    def of(self, root: bytes) -> int:
        """Blocks of a published content in which nothing is."""
        return self._blocks.get(root, 0)

    def of_layers(self, published: Published, layers: Sequence[Layer]) -> int:
        """The same of what is written over a published content: never a block that may have data.

        Exact for a file that was not there before, or had no hole. Where a base has its holes is not known,
        only how many: what is punched may have been hole before, and what is written counts once more, up to
        its size, until that is published.
        """
        size, taken = published.size, blocks_of(published.size) - self.of(published.root)
        for layer in layers:
            most = blocks_of(layer.size)
            if taken == blocks_of(size) and not layer.holes and layer.base_limit >= layer.size:
                taken = most  # all of it lies in a base without holes
            else:
                taken = min(most, min(taken, _shown_blocks(layer)) + blocks_touched(layer.ranges))
            size = layer.size
        return blocks_of(size) - taken


def _shown_blocks(layer: Layer) -> int:
    """Blocks of its base of which a byte may be seen through a layer."""
    limit = layer.base_limit
    hidden = chain(layer.holes.within(0, limit), layer.ranges.within(0, limit))
    return blocks_of(limit) - sum(blocks_within(start, end, limit) for start, end in hidden)
