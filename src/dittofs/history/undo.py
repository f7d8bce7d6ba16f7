"""What it takes to undo what one device did to one inode, read from the rows of the history.

Each side of an inode (that it lives, each of its names, its content, each attribute) goes back to what it was
before the last unbroken run of that device's changes. A side that somebody else changed afterwards stays as
it is: nothing that others did is ever undone. Pure but for the rows it reads.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from dittofs.ids import InodeId, Slot, Stamp
from dittofs.journal.history import HistoryRow
from dittofs.tree.record import NewVersion, Owner
from dittofs.tree.setting_back import SetBack
from dittofs.volume.events import (
    Past,
    PastContent,
    PastName,
    author_of,
    contents_of,
    name_of,
    number_of,
    owner_of,
    whole_of,
    xattr_of,
)

OTHERS: Final = "another device, or this one at another time, has changed it since"
StepKind = Literal["back", "content", "name", "attributes", "trash", "refused", "left"]
Side = tuple[str, str | bytes]


class _Contents(NamedTuple):
    all: tuple[PastContent, ...]


Value = Past | PastName | _Contents | Owner | int | bytes | None


@dataclass(frozen=True, slots=True)
class Window:
    """Whose changes, made when by its own clock."""

    slots: frozenset[Slot]
    since: Stamp
    until: Stamp

    def holds(self, row: HistoryRow) -> bool:
        """Whether a row tells of such a change."""
        slot, stamp = author_of(row)
        return slot in self.slots and self.since <= stamp <= self.until


class Dropped(NamedTuple):
    """A name that the device gave and that is to go."""

    link: str
    parent: InodeId
    name: bytes


@dataclass(frozen=True, slots=True)
class Undoing:
    """What is to be done with one inode."""

    kind: StepKind
    where: PastName | None
    """The name that it is called by when it is told of."""
    size: int = 0
    back: SetBack = field(default_factory=SetBack)
    drops: tuple[Dropped, ...] = ()
    past: Past | None = None
    """All there was to it, if it is dead now."""
    reason: str = ""
    """Why it is left, or what of it."""


@dataclass(slots=True)
class _Trail:
    """One side of an inode, gone back from the last change on."""

    before: Value = None
    is_theirs: bool = False
    """The last changes are the device's; `before` is what was before them."""
    is_closed: bool = False
    """Somebody else's change was met."""
    covered: list[Value] = field(default_factory=list)
    """What was before changes of the device that are below somebody else's."""


def undoing_of(rows: Iterable[HistoryRow], now: Past | None, window: Window) -> Undoing | None:
    """How to undo what the device did to an inode. None: nothing is left to be done.

    `rows`: what happened to it, the latest first, as far back as the window reaches. `now`: what it is.
    """
    trails: dict[Side, _Trail] = {}
    others, others_since_birth = 0, 0
    is_theirs = False
    for row in rows:
        mine = window.holds(row)
        is_theirs = is_theirs or mine
        others += not mine
        if row.kind == "create" and mine:
            others_since_birth = others
        for side, before in _sides(row):
            trail = trails.setdefault(side, _Trail())
            if not mine:
                trail.is_closed = True
            elif trail.is_closed:
                trail.covered.append(before)
            else:
                trail.before, trail.is_theirs = before, True
    if not is_theirs:
        return None
    life = trails.get(("life", ""), _Trail())
    if life.is_theirs and life.before is None:
        return _unmade(now, is_touched=others_since_birth > 0)
    if life.is_theirs and isinstance(life.before, Past) and now is None:
        return _revived(life.before, trails)
    return None if now is None else _changed(now, trails)


def _sides(row: HistoryRow) -> Iterable[tuple[Side, Value]]:
    """The sides of an inode that a row changed, and what they were before."""
    match row.kind:
        case "create":
            yield ("life", ""), None
        case "remove":
            yield ("life", ""), whole_of(row.before)
        case "name":
            was, now = name_of(row.before), name_of(row.after)
            named = was or now
            if named is not None:
                yield ("name", named.link), was
        case "content":
            if row.before and row.after:  # otherwise it came, or went, with the inode
                yield ("content", ""), _Contents(contents_of(row.before))
        case "mode":
            yield ("mode", ""), number_of(row.before)
        case "owner":
            yield ("owner", ""), owner_of(row.before)
        case "mtime":
            yield ("mtime", ""), number_of(row.before)
        case "xattr":
            name, value = xattr_of(row.before)
            yield ("xattr", name), value


def _unmade(now: Past | None, *, is_touched: bool) -> Undoing | None:
    """The device made it."""
    if now is None:
        return None
    if is_touched:
        return Undoing("left", _first(now.names), _size(now.contents), reason=OTHERS)
    return Undoing("trash", _first(now.names), _size(now.contents))


def _revived(past: Past, trails: Mapping[Side, _Trail]) -> Undoing:
    """The device removed it."""
    names = dict(past.names)
    for (what, link), trail in trails.items():
        if what != "name" or not trail.is_theirs:
            continue
        if isinstance(trail.before, PastName):
            names[trail.before.link] = trail.before
        elif len(names) > 1:
            names.pop(str(link), None)
    contents = past.contents
    trail = trails.get(("content", ""), _Trail())
    if trail.is_theirs and isinstance(trail.before, _Contents) and trail.before.all:
        contents = trail.before.all
    back = SetBack(
        names={link: (one.parent, one.name) for link, one in names.items()},
        contents=tuple(map(_new, contents)),
    )
    whole = Past(
        past.kind,
        names,
        contents,
        past.mode,
        past.owner,
        past.mtime,
        past.birth,
        past.xattrs,
        past.rdev,
    )
    return Undoing("back", _first(names), _size(contents), _with_attributes(back, whole, trails), past=whole)


def _changed(now: Past, trails: Mapping[Side, _Trail]) -> Undoing | None:
    """It lives, and the device changed it."""
    names, drops = _names_back(now, trails)
    contents = _contents_back(now, trails)
    back = _with_attributes(SetBack(names=names, contents=tuple(map(_new, contents))), now, trails)
    where = _first(now.names)
    reason = OTHERS if _is_covered(now, trails) else ""
    if back.is_nothing and not drops:
        return Undoing("left", where, _size(now.contents), reason=reason) if reason else None
    kind: StepKind = "content" if contents else "name" if names or drops else "attributes"
    return Undoing(kind, where, _size(contents), back, drops, reason=reason)


def _names_back(
    now: Past, trails: Mapping[Side, _Trail]
) -> tuple[dict[str, tuple[InodeId, bytes]], tuple[Dropped, ...]]:
    names: dict[str, tuple[InodeId, bytes]] = {}
    drops: list[Dropped] = []
    for (what, link), trail in trails.items():
        if what != "name" or not trail.is_theirs:
            continue
        held = now.names.get(str(link))
        was = trail.before
        if isinstance(was, PastName):
            is_there = (
                held is not None and held.is_plain and (held.parent, held.name) == (was.parent, was.name)
            )
            if was.is_plain and not is_there:
                names[was.link] = (was.parent, was.name)
        elif held is not None and held.is_plain:
            drops.append(Dropped(held.link, held.parent, held.name))
    return names, tuple(drops)


def _contents_back(now: Past, trails: Mapping[Side, _Trail]) -> tuple[PastContent, ...]:
    trail = trails.get(("content", ""), _Trail())
    if not trail.is_theirs or not isinstance(trail.before, _Contents) or now.main is None:
        return ()
    return () if _same(trail.before.all, now.contents) else trail.before.all


def _with_attributes(back: SetBack, now: Past, trails: Mapping[Side, _Trail]) -> SetBack:
    """The same, with the attributes that the device changed."""
    values = {side: trail.before for side, trail in trails.items() if trail.is_theirs}
    mode, mtime = values.get(("mode", "")), values.get(("mtime", ""))
    owner = values.get(("owner", ""))
    is_owner = ("owner", "") in values and owner != now.owner
    return SetBack(
        names=back.names,
        contents=back.contents,
        mode=mode if isinstance(mode, int) and mode != now.mode else None,
        owner=(owner if isinstance(owner, Owner) else None,) if is_owner else None,
        mtime=mtime if isinstance(mtime, int) and mtime != now.mtime and not back.contents else None,
        xattrs={
            name: value if isinstance(value, bytes) else None
            for (what, name), value in values.items()
            if what == "xattr" and isinstance(name, bytes) and now.xattrs.get(name) != value
        },
    )


def _is_covered(now: Past, trails: Mapping[Side, _Trail]) -> bool:
    """Whether somebody else changed a name or the content after the device, and not back to what it was."""
    for (what, link), trail in trails.items():
        for before in trail.covered:
            if what == "content" and isinstance(before, _Contents) and not _same(before.all, now.contents):
                return True
            if what == "name" and before != now.names.get(str(link)):
                return True
    return False


def _same(one: tuple[PastContent, ...], other: tuple[PastContent, ...]) -> bool:
    """Whether the same is shown; what stands beside is nobody's loss."""
    return bool(one) and bool(other) and (one[0].root, one[0].size) == (other[0].root, other[0].size)


def _new(content: PastContent) -> NewVersion:
    return NewVersion(content.root, content.size, content.mtime, content.node)


def _first(names: Mapping[str, PastName]) -> PastName | None:
    return next(iter(names.values()), None)


def _size(contents: tuple[PastContent, ...]) -> int:
    return contents[0].size if contents else 0
