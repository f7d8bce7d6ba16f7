"""What the records of one inode mean: its living names, its contents, its numbers.

Pure, and a function of joined records alone. How names meet in a directory is naming.py.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from dittofs.ids import LOST_FOUND, ROOT, InodeId, Number, Stamp, number_of
from dittofs.tree.join import join_contexts
from dittofs.tree.record import (
    NEVER,
    WITH_CONTENT,
    Context,
    Dot,
    Forward,
    Kind,
    Place,
    Record,
    Ref,
    Version,
    covers,
)

HasSeen = Callable[[Forward], bool]
"""Whether the target of a forward has seen the save that the forward rides with."""
LOST_FOUND_NAME = b"lost+found"
NO_FACE = Number(0)


class Name(NamedTuple):
    """A name under which an inode claims to be shown."""

    link: str
    """"" for the name in the inode's own record."""
    place: Place
    is_plain: bool
    """False: the name is free, and only marks where conflict entries are shown."""


class Content(NamedTuple):
    """Versions that are equal, shown as one."""

    version: Version
    """The one of highest rank."""
    dots: tuple[Dot, ...]


class Claim(NamedTuple):
    """A number that a visible thing would like to show."""

    number: Number
    dot: Dot | None
    is_own: bool
    """Derived from the inode id: it wins over a face."""
    rank: Stamp
    face: Number
    """0: none was chosen."""
    lineage: tuple[Dot, ...] = ()
    """Of a conflict entry: what its edits pass on, so that none of them takes another's number."""

    @property
    def is_second(self) -> bool:
        """What is shown if the claim does not win: kept free for that, whether it is shown or not."""
        return self.face not in (NO_FACE, self.number)


class Meaning(NamedTuple):
    """What is to be seen of an inode. A dead one has neither names nor contents."""

    kind: Kind
    names: tuple[Name, ...]
    """The living ones, the first one first. Of a directory its place, dead or alive."""
    is_alive: bool
    """Of a directory: by its own name. A dead one is shown again while something in it lives."""
    main: Content | None
    """What the names show."""
    conflicts: tuple[Content, ...]
    """What conflict entries show, in their order."""

    @property
    def contents(self) -> tuple[Content, ...]:
        """Everything live, the shown one first."""
        return (*(() if self.main is None else (self.main,)), *self.conflicts)

    @property
    def bytes(self) -> int:
        """The sizes of all contents together."""
        return sum(content.version.size for content in self.contents)


def meaning_of(record: Record, links: Mapping[str, Record], has_seen: HasSeen) -> Meaning:
    """The meaning of an inode's own record and those of its further names."""
    kind = record.kind
    if kind is Kind.DIRECTORY:
        return _directory(record)
    if kind is Kind.LINK:  # a name without an inode: nobody writes it, but anybody could
        return Meaning(kind, (), False, None, ())
    carried, carried_at = forwarded(record, has_seen)
    living: list[Name] = []
    last: tuple[Stamp, str, Place] | None = None
    for link, holder in (("", record), *links.items()):
        place = holder.place
        if place is None:
            continue
        dot = (place.slot, place.n)
        by_name, by_save = covers(holder.names, dot), covers(carried, dot)
        if not by_name and not by_save:
            living.append(Name(link, place, True))
            continue
        removed = max(holder.removed if by_name else NEVER, carried_at if by_save else NEVER)
        if last is None or (removed, link) > last[:2]:
            last = (removed, link, place)
    if living:
        living.sort(key=_name_order)
        if kind not in WITH_CONTENT:
            return Meaning(kind, tuple(living), True, None, ())
        contents = _contents(record.versions)
        if not contents:
            return Meaning(kind, (), False, None, ())
        return Meaning(kind, tuple(living), True, contents[-1], contents[:-1])
    if last is None or kind not in WITH_CONTENT:
        return Meaning(kind, (), False, None, ())
    versions = [
        version
        for version in record.versions
        if not covers(record.content, version.dot) and not covers(carried, version.dot)
    ]
    contents = _contents(versions)
    if not contents:
        return Meaning(kind, (), False, None, ())
    # A version that whoever removed the names had not seen brings the name back. What they had seen and left
    # alone are conflict entries: they stay, and the name is free.
    seen = carried
    for holder in (record, *links.values()):
        seen = join_contexts(seen, holder.names)
    is_back = any(not covers(seen, version.lineage[0]) for version in versions)
    name = Name(last[1], last[2], is_back)
    if is_back:
        return Meaning(kind, (name,), True, contents[-1], contents[:-1])
    return Meaning(kind, (name,), True, None, contents)


def forwarded(record: Record, has_seen: HasSeen) -> tuple[Context, Stamp]:
    """What of a file saves have carried to others, and when the last one did."""
    carried: Context = {}
    at = NEVER
    for forward in record.forwards:
        if has_seen(forward):
            carried = join_contexts(carried, forward.covered)
            at = max(at, forward.stamp)
    return carried, at


def _directory(record: Record) -> Meaning:
    place = record.place
    if place is None:
        return Meaning(Kind.DIRECTORY, (), False, None, ())
    is_alive = not covers(record.names, (place.slot, place.n))
    return Meaning(Kind.DIRECTORY, (Name("", place, True),), is_alive, None, ())


def _name_order(name: Name) -> tuple[bool, Stamp, str, int, str]:
    """The inode's own name is the first, then the earliest."""
    place = name.place
    return (name.link != "", place.stamp, place.slot, place.n, name.link)


def _contents(versions: Iterable[Version]) -> tuple[Content, ...]:
    """Equal versions as one, the highest rank last."""
    equal: dict[tuple[bytes, int], list[Version]] = {}
    for version in versions:
        equal.setdefault(version.content, []).append(version)
    contents = []
    for group in equal.values():
        if len(group) > 1:
            group.sort(key=version_order)
        contents.append(Content(group[-1], tuple(version.dot for version in group)))
    if len(contents) > 1:
        contents.sort(key=lambda content: version_order(content.version))
    return tuple(contents)


def version_order(version: Version) -> tuple[Stamp, tuple[Dot, ...]]:
    """Orders the versions of one inode; an edit of a conflict entry keeps its side."""
    return (version.rank, version.lineage)


def claims_of(inode: InodeId, meaning: Meaning) -> list[Claim]:
    """The numbers that the visible things of an inode would like to show."""
    if not meaning.names or (meaning.kind is Kind.DIRECTORY):
        return [Claim(number_of(inode), None, True, NEVER, NO_FACE)] if meaning.names else []
    claims = []
    if meaning.main is not None:
        version = meaning.main.version
        face = Number(version.face)
        claims.append(Claim(face or number_of(inode), None, not face, version.rank, face))
    elif meaning.names[0].is_plain:
        claims.append(Claim(number_of(inode), None, True, NEVER, NO_FACE))
    for content in meaning.conflicts:
        version = content.version
        face = Number(version.face)
        number = conflict_number(inode, version)
        claims.append(Claim(number, version.dot, not face, version.rank, face, version.lineage))
    return claims


def conflict_number(inode: InodeId, version: Version) -> Number:
    """The number that a conflict entry would like to show."""
    slot, n = version.dot
    return Number(version.face) if version.face else number_of(f"{inode}/{slot}/{n}")


def winner_of(claimants: Iterable[tuple[Ref, Claim]]) -> Ref:
    """Whose a number is that several claim: who falls back on it, its own inode, then the lower (rank, id).

    Only one thing falls back on a second number, which is derived from it. But what took that number along,
    saved or moved from there, has it as its face, and both may be visible again.
    """

    def order(claimant: tuple[Ref, Claim]) -> tuple[bool, bool, Stamp, InodeId, tuple[Dot, ...]]:
        (inode, _), claim = claimant
        return (not claim.is_second, not claim.is_own, claim.rank, inode, claim.lineage)

    return min(claimants, key=order)[0]


def second_number(ref: Ref, face: Number) -> Number:
    """What a thing shows whose claim to `face` did not win."""
    inode, dot = ref
    whose = inode if dot is None else f"{inode}/{dot[0]}/{dot[1]}"
    return number_of(f"{whose}/{face}")


def is_root(inode: InodeId) -> bool:
    """Whether a directory exists without a record: the root and lost+found."""
    return inode in (ROOT, LOST_FOUND)
