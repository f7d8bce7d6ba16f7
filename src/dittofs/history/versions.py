"""The versions of a file, and what people call them; and what happened, as the log tells it."""

import errno
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from dittofs.clock import SECOND_NS
from dittofs.errors import FSError
from dittofs.history.past import Backwards, Pasts
from dittofs.history.times import parse_time, time_name
from dittofs.ids import InodeId
from dittofs.journal.history import END, HistoryRow
from dittofs.tree.record import Kind
from dittofs.volume.events import Past, PastContent, contents_of, is_written, name_of, undone
from dittofs.volume.replica import Replica

ID_DIGITS_MIN: Final = 4
What = Literal[
    "created", "back", "written", "removed", "moved", "linked", "unlinked", "mode", "owner", "times", "xattr"
]


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened."""

    row: HistoryRow
    what: What
    path: bytes
    """Then: where it was after it, or if it was removed before it."""
    was: bytes
    """Of what moved, where it was before."""
    kind: Kind
    version: PastContent | None
    """What was written, or removed."""
    device: str
    author: str
    """The device, by `Writers.key`."""


class Versions:
    """Of the files of one replica."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._pasts = Pasts(replica)
        self._names: dict[InodeId, dict[str, str]] = {}

    def of(self, inode: InodeId) -> list[PastContent]:
        """Every content that an inode has or had as far as is known, the latest written first."""
        found: dict[str, PastContent] = {}
        now = self._pasts.now(inode)
        for content in now.contents if now is not None else ():
            found[content.id] = content
        for row in self._replica.journal.history.of_inode(inode):
            if row.kind == "content":
                for content in (*contents_of(row.after), *contents_of(row.before)):
                    found.setdefault(content.id, content)
        return sorted(found.values(), key=lambda one: one.stamp, reverse=True)

    def name(self, inode: InodeId, content: PastContent) -> str:
        """What people may call a version: its time, as exact as it has to be to be the only one."""
        names = self._names.get(inode)
        if names is None:
            names = self._names[inode] = names_of(self.of(inode))
        return names.get(content.id, time_name(content.stamp))

    def find(self, inodes: Sequence[InodeId], text: str) -> tuple[InodeId, PastContent]:
        """The version that `text` means: an id or its beginning, or a time: what was the newest then.

        FSError: what is wrong with it.
        """
        now = self._replica.clock.now_ns()
        known = [(inode, content) for inode in inodes for content in self.of(inode)]
        if len(text) >= ID_DIGITS_MIN and not set(text.lower()) - set("0123456789abcdef"):
            found = [one for one in known if one[1].id.startswith(text.lower())]
            if len({content.id for _, content in found}) > 1:
                raise FSError(errno.EINVAL, f"several versions begin with {text}")
            if found:
                return found[0]
        at = parse_time(text, now)
        if at is None:
            raise FSError(errno.EINVAL, f"{text!r} is neither a version that `dittofs log` shows nor a time")
        earlier = [one for one in known if one[1].stamp <= at]
        if not earlier:
            raise FSError(
                errno.ENOENT,
                f"there was no version of it yet at {time_name(at)}, as far as this device knows",
            )
        return max(earlier, key=lambda one: one[1].stamp)


def names_of(contents: Sequence[PastContent]) -> dict[str, str]:
    """By id, the times of versions, each with as many digits of the second as tell it from the others."""
    named: dict[str, str] = {}
    for content in contents:
        same = [one for one in contents if one.stamp // SECOND_NS == content.stamp // SECOND_NS]
        for digits in (0, 3, 6, 9):
            called = time_name(content.stamp, digits)
            if sum(time_name(one.stamp, digits) == called for one in same) == 1:
                break
        named[content.id] = called
    return named


def log_of(replica: Replica, inode: InodeId) -> Iterator[Event]:
    """What happened to one inode, latest first."""
    pasts = Pasts(replica)
    after = pasts.now(inode)
    for row in replica.journal.history.of_inode(inode):
        before = undone(after, row)
        event = _event(row, after, before)
        if event is not None:
            what, version = event
            now = pasts.path(inode, row.at, past=after) if after is not None else None
            was = pasts.path(inode, row.at - 1, past=before) if before is not None else None
            yield _made(replica, row, what, version, now, was, after or before)
        after = before


def log_below(replica: Replica, prefix: bytes, *, before: int = END) -> Iterator[Event | None]:
    """What happened in a directory and below, latest first; None for a row that is about something else."""
    back = Backwards(replica, before=before)
    for row, after, past in back:
        event = _event(row, after, past)
        if event is None:
            yield None
            continue
        what, version = event
        now = back.path(row.inode, row.at, after) if after is not None else None
        is_moved = row.kind in ("name", "remove")  # else it was where it is, and that is looked up faster
        was = back.path_before(row.inode, row.at, past) if past is not None and is_moved else now
        is_inside = any(is_below(path, prefix) for path in (now, was) if path is not None)
        yield _made(replica, row, what, version, now, was, after or past) if is_inside else None


def is_below(path: bytes, prefix: bytes) -> bool:
    """Whether a path is `prefix` or lies below it."""
    return not prefix or path == prefix or path.startswith(prefix + b"/")


def _made(
    replica: Replica,
    row: HistoryRow,
    what: What,
    version: PastContent | None,
    now: bytes | None,
    was: bytes | None,
    past: Past | None,
) -> Event:
    if what == "created" and next(replica.journal.history.of_inode(row.inode, before=row.at), None):
        what = "back"
    # What comes back was written before, by whoever it was.
    writer = version.slot if version is not None and what in ("created", "written") else row.slot
    path = now if now is not None else was or b""
    moved = was if what == "moved" and was is not None and was != now else b""
    kind = past.kind if past is not None else Kind.FILE
    author = replica.writers.key(writer)
    return Event(row, what, path, moved, kind, version, replica.writers.called(author), author)


def _event(
    row: HistoryRow, after: Past | None, before: Past | None
) -> tuple[What, PastContent | None] | None:
    """What a row is called, and the version it is about. None: another row of the same step says it."""
    match row.kind:
        case "create":
            is_file = after is not None and after.kind is Kind.FILE
            return None if is_file else ("created", None)
        case "remove":
            return "removed", before.main if before is not None else None
        case "content":
            version = is_written(row)
            if version is None:
                return None
            return ("written" if row.before else "created"), version
        case "name":
            had, has = name_of(row.before), name_of(row.after)
            if had is not None and has is not None:
                return "moved", None
            return ("linked" if had is None else "unlinked"), None
        case "mode" | "owner" | "xattr":
            return row.kind, None
        case "mtime":
            return "times", None
    return None
