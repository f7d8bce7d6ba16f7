"""How much of a content is hole, as far as that is known without reading: what st_blocks leaves out."""

from collections.abc import Sequence

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
        """The same of what is written over a published content.

        Exact for a file that was not there before. Bytes written over a base count once more, up to its size,
        until they are published.
        """
        holes = self.of(published.root)
        size, taken = published.size, blocks_of(published.size) - holes
        for layer in layers:
            size = layer.size
            if not holes and not layer.holes and layer.base_limit >= size:
                taken = blocks_of(size)  # all of it lies in the base
                continue
            punched = sum(end - start for start, end in layer.holes.within(0, layer.base_limit))
            below = max(0, min(taken, blocks_of(layer.base_limit)) - punched // HOLE_BLOCK_BYTES)
            own = max(blocks_of(layer.ranges.total()), len(layer.ranges))
            taken = min(below + own, blocks_of(size))
            holes = blocks_of(size) - taken
        return blocks_of(size) - taken
