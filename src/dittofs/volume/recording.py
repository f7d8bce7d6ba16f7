"""Putting into the history what a step did: a row each, but points of an open file replace each other.

And what the brake asks of it."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from dittofs.ids import InodeId
from dittofs.journal.answered import answered_at
from dittofs.journal.history import HistoryRow
from dittofs.journal.journal import Journal
from dittofs.journal.wrong_times import set_right
from dittofs.tree.entry import Effect
from dittofs.volume.events import contents_in, contents_of, replaces_point


def record(journal: Journal, effects: Iterable[Effect], now_ns: int) -> None:
    """Within a transaction: add what one step did, made here or elsewhere.

    A version that says it continues a publication point of a file that stayed open takes the place of that
    point: only a close makes a version of the history.
    """
    set_right(journal, now_ns)
    journal.append_history(_merged(journal, effects), now_ns)


def _merged(journal: Journal, effects: Iterable[Effect]) -> Iterator[Effect]:
    for effect in effects:
        point = _point(journal, effect) if effect.kind == "content" and effect.before else None
        if point is not None:
            journal.history.remove(point)
            yield replace(effect, before=point.before)
        else:
            yield effect


def _point(journal: Journal, effect: Effect) -> HistoryRow | None:
    """The row of the publication point that `effect` continues, if it is the last one of this file."""
    before = contents_of(effect.before)
    known = {one.node for one in before}
    fresh = [one for one in contents_of(effect.after) if one.node not in known]
    if len(fresh) != 1 or not replaces_point(fresh[0].node):
        return None
    for row in journal.history.of_inode(effect.inode):
        if row.kind == "content":
            if row.at <= answered_at(journal):
                return None  # what was before it may be gone: no later row may tell of it
            is_continued = [one.node for one in contents_of(row.after)] == [one.node for one in before]
            return row if is_continued and row.slot == effect.slot else None
        if row.kind in ("create", "remove"):
            return None
    return None


def was_shown(journal: Journal, inode: InodeId, root: bytes, size: int) -> bool:
    """Whether that content of an inode was replaced or went with it, as far as is known."""
    for row in journal.history.of_inode(inode):
        gone = contents_of(row.before) if row.kind == "content" else contents_in(row)
        if any((one.root, one.size) == (root, size) for one in gone):
            return True
    return False
