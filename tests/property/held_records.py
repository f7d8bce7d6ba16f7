"""The oracle of the brake: the joined records, but of held inodes what is shown of them."""

from collections.abc import Iterable, Mapping

from dittofs.ids import InodeId
from dittofs.tree.record import Record, split_key


def with_holds(
    records: Mapping[str, Record], shown: Iterable[tuple[InodeId, Mapping[str, Record]]]
) -> dict[str, Record]:
    """The joined `records`, by key, but of held inodes what is shown of them."""
    held = dict(shown)
    found = {key: record for key, record in records.items() if split_key(key)[0] not in held}
    for inode, links in held.items():
        for link, record in links.items():
            found[f"{inode}.{link}" if link else inode] = record
    return found
