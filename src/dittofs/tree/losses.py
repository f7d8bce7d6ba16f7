"""What is lost by a delivery: an inode removed, or its shown content gone and replaced by another."""

from collections.abc import Callable
from dataclasses import dataclass

from dittofs.ids import Slot, Stamp
from dittofs.tree.record import WITH_CONTENT, Record
from dittofs.tree.rows import Inode
from dittofs.tree.rules import Meaning


@dataclass(slots=True)
class Loss:
    """An inode that a device removed or rewrote a short while ago, and how it was shown before."""

    slot: Slot
    first: Stamp
    stamp: Stamp
    is_removal: bool
    is_directory: bool
    shown: dict[str, bytes]
    content: tuple[bytes, int] | None
    is_looked_up: bool
    """Whether it is known that it is no return to what was."""
    before: Inode | None
    """As it was before the delivery that is being taken; None: that one has nothing to do with it."""


def content_of(inode: Inode) -> tuple[bytes, int] | None:
    """What the names of an inode show."""
    meaning = inode.meaning
    return None if meaning is None or meaning.main is None else meaning.main.version.content


def records_of(inode: Inode) -> dict[str, Record]:
    """The records of an inode, by link."""
    return {**({} if inode.record is None else {"": inode.record}), **inode.links}


def loss_of(before: Inode, after: Inode, writer: Slot) -> tuple[Slot, Stamp, bool] | None:
    """Who removed or rewrote the inode, when, and whether it is removed; None: nobody did."""
    old, new = before.meaning, after.meaning
    if old is None or new is None or old == new or before.record is None or after.record is None:
        return None
    if old.kind in WITH_CONTENT:
        if old.main is None:
            return None
        if new.main is not None:
            content = old.main.version.content
            if not content[1] or any(one.version.content == content for one in new.contents):
                return None
            return new.main.version.dot[0], new.main.version.stamp, False
    elif not old.is_alive or new.is_alive:
        return None
    if any(forward not in before.record.forwards for forward in after.record.forwards):
        return None  # moved onto another file, which is what was rewritten
    holders = (after.record, *after.links.values())
    stamp = max(one.removed for one in holders)
    seen = before.record.context
    for one in holders:
        for slot, n in sorted(one.names.items()):
            if seen.get(slot, 0) < n:
                return slot, stamp, True
    return writer, stamp, True


def is_over(shown: Meaning | None, now: Meaning, is_by_another: Callable[[Slot], bool]) -> bool:
    """Whether nothing is lost any more of an inode that is `shown` as it was, and is `now` otherwise.

    What it shows is there again, or who `is_by_another` than the device went on with it.
    """
    if shown is None:
        return False
    if shown.kind not in WITH_CONTENT:
        return now.is_alive
    if now.main is None:
        return False
    version = now.main.version
    if shown.main is not None and version.content == shown.main.version.content:
        return True
    return is_by_another(version.dot[0])
