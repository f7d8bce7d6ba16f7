"""What the tree needs from whoever keeps it.

The derived index is what every read goes to; shard documents are loaded at their first change. The tables:

| table | key | value |
|---|---|---|
| record | record key | 1 if the inode has further names, else 0; then the joined record |
| links | inode | its further names' ids, separated by commas |
| claim | parent, name | who is shown so: `D` directory, `N` name, `C` conflict entries; then the record key |
| special | parent, name | a name that shows more or other than its one claim |
| directory | inode | live entries, subdirectories, special names, first shown, mtime, touched |
| number | number | who would like to show it |
| displaced | inode | parent, name: where a directory is shown that was moved below itself |
| unknown | parent | has entries, but is not known as a directory |
| awaited | target, source | a save that waits for the target's record |
| state | document | epoch, state vector; slot, n: the last of our own changes; greatest stamp |
| setting | name | a setting of the volume, as in the meta document |
| total | | counts |
"""

from collections.abc import Iterable, Sequence
from typing import Protocol


class IndexStore(Protocol):
    """An ordered store of rows, in tables. What it takes is undone with the transaction it is part of."""

    def get(self, table: str, key: bytes) -> bytes | None:
        """The row, or None."""

    def put(self, table: str, key: bytes, value: bytes) -> None:
        """Set a row."""

    def delete(self, table: str, key: bytes) -> None:
        """Remove a row. One that is not there is not an error."""

    def scan(self, table: str, prefix: bytes) -> Iterable[tuple[bytes, bytes]]:
        """The rows whose key begins with `prefix`, ordered by key."""


class ShardSource(Protocol):
    """Where shard documents are kept."""

    def load(self, shard: int) -> tuple[tuple[int, bytes], bytes | None, Sequence[bytes]]:
        """A shard's epoch (number, digest), its snapshot, and the updates after it, all verified."""
