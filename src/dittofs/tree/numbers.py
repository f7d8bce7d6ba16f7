"""Who would like to show which number, in the index. Who of several does is worked out in status.py."""

from collections.abc import Sequence

from dittofs.ids import InodeId
from dittofs.tree.record import Ref
from dittofs.tree.rows import Rows
from dittofs.tree.rules import Claim, second_number


def claim_numbers(rows: Rows, inode: InodeId, old: Sequence[Claim], new: Sequence[Claim]) -> set[InodeId]:
    """The claims of an inode change from `old` to `new`: returns whose number may be another one now."""
    touched: set[InodeId] = set()
    for claims, others, comes in ((old, new, False), (new, old, True)):
        for claim in claims:
            if claim not in others:
                ref = (inode, claim.dot)
                touched |= _set_claimant(rows, claim, ref, comes)
                if claim.face:
                    # What it shows if its claim does not win: found by that number, too.
                    second = second_number(ref, claim.face)
                    touched |= _set_claimant(rows, claim._replace(number=second), ref, comes)
    return touched


def _set_claimant(rows: Rows, claim: Claim, ref: Ref, comes: bool) -> set[InodeId]:
    before = rows.claimants(claim.number)
    after = [one for one in before if one[0] != ref or one[1].is_second != claim.is_second]
    if comes:
        after.append((ref, claim))
        after.sort(key=lambda one: (one[0][0], one[0][1] or ("", 0)))
    rows.totals.contested += _is_contested(after) - _is_contested(before)
    rows.put_claimants(claim.number, after)
    return {inode for claimants in (before, after) if _is_contested(claimants) for (inode, _), _ in claimants}


def _is_contested(claimants: Sequence[tuple[Ref, Claim]]) -> bool:
    return len(claimants) > 1
