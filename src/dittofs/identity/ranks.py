"""Which member records count: the same answer for the same set, whatever the order they came in.

A record's *rank* says how far its signer's ownership is from the root: 0 for the root itself, r + 1 for what
a device signs as an owner that a record of rank r made. Rank by rank, a record of signer S counts if

a. an owner grant of S, counted one rank below, is its ancestor;
b. for each loss of S (a record of a lower rank that gives S less than ownership, or S resigning) it is the
   loss's ancestor, or descends from an owner grant of S after the loss, of a lower rank;
c. it gives an owner less only if it outranks every owner grant of its subject, but for grants after it and
   those that it knows to be lost.

Resigning always counts. So what a removed owner dates back is void, and equals cannot remove each other.
"""

from collections import defaultdict
from collections.abc import Sequence

from dittofs.identity.records import Kind, Record, Role

RESIGNING = -1
"""The rank of a resignation: nobody outranks it."""


def rank_records(
    records: Sequence[Record], parents: Sequence[Sequence[int]], ancestors: Sequence[int], root: bytes
) -> list[int | None]:
    """The rank of each record, None for one that does not count.

    `records` have their parents (indices) before them; bit i of `ancestors[j]` says that i is an ancestor
    of j. `root` is the id that the root signs as.
    """
    ranks: list[int | None] = [None] * len(records)
    descendants = _descendants(parents)
    grants: defaultdict[bytes, int] = defaultdict(int)  # device -> bits of its counted owner grants
    losses: defaultdict[bytes, list[int]] = defaultdict(list)
    pending: defaultdict[bytes, list[int]] = defaultdict(list)
    counted = []
    for index, record in enumerate(records):
        if record.is_resignation:
            ranks[index] = RESIGNING
            losses[record.body.subject].append(index)
        elif record.body.signer == root:
            counted.append(index)
        else:
            pending[record.body.signer].append(index)

    def is_free(index: int, signer: bytes) -> bool:
        for loss in losses[signer]:
            is_before = ancestors[loss] >> index & 1
            if not is_before and not grants[signer] & descendants[loss] & ancestors[index]:
                return False
        return True

    def is_above(index: int, record: Record) -> bool:
        if record.kind != Kind.MEMBER or record.role == Role.OWNER:
            return True
        standing = grants[record.body.subject] & ~descendants[index]
        for loss in losses[record.body.subject]:
            if ancestors[index] >> loss & 1:
                standing &= ~ancestors[loss]
        return not standing

    rank = 0
    while counted:
        made: defaultdict[bytes, int] = defaultdict(int)
        for index in counted:
            ranks[index] = rank
            record = records[index]
            if record.kind != Kind.MEMBER:
                continue
            if record.role == Role.OWNER:
                made[record.body.subject] |= 1 << index
            else:
                losses[record.body.subject].append(index)
        for device, bits in made.items():
            grants[device] |= bits
        rank += 1
        counted = [
            index
            for device, bits in made.items()
            for index in pending[device]
            if ranks[index] is None
            and ancestors[index] & bits
            and is_free(index, device)
            and is_above(index, records[index])
        ]
    return ranks


def _descendants(parents: Sequence[Sequence[int]]) -> list[int]:
    descendants = [0] * len(parents)
    for index in reversed(range(len(parents))):
        for parent in parents[index]:
            descendants[parent] |= descendants[index] | 1 << index
    return descendants
