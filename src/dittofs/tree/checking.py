"""Whether the index says what the documents say: a document at a time."""

from collections.abc import Collection
from typing import NamedTuple

from dittofs.ids import InodeId
from dittofs.tree import encoding
from dittofs.tree.delivery import by_inode
from dittofs.tree.holds import encoded
from dittofs.tree.join import join_all
from dittofs.tree.record import META_SHARD, key_of
from dittofs.tree.rows import Rows
from dittofs.tree.shard import Shard


class Compared(NamedTuple):
    """What was found in one document."""

    inodes: int
    """How many it has."""
    differing: tuple[InodeId, ...]
    """Of which the index has other records, or none."""


def compare(number: int, shard: Shard, rows: Rows, held: Collection[InodeId]) -> Compared:
    """Hold the index's records against a document's. What the brake holds is shown otherwise on purpose."""
    if number == META_SHARD:
        return Compared(0, ())
    links = by_inode(number, shard.records())
    differing = []
    for inode, found in links.items():
        if inode in held:
            continue
        joined = {
            link: join_all(map(encoding.decode, shard.get_slots(key_of(inode, link)).values()))
            for link in found
        }
        known = rows.inode(inode)
        indexed = dict(known.links)
        if known.record is not None:
            indexed[""] = known.record
        if encoded(joined) != encoded(indexed):
            differing.append(inode)
    return Compared(len(links), tuple(differing))
