"""How things that claim one name are shown: who keeps it, and what the others are called.

Pure. The names of conflict entries are those of docs/explanation, "Conflicts": the device and the UTC time.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from dittofs.ids import InodeId, Slot, Stamp
from dittofs.tree.record import NAME_BYTES_MAX, WITH_CONTENT, Dot, Kind
from dittofs.tree.rules import Meaning, Name

CONFLICTS_SHOWN_MAX = 32
"""Conflict entries beside one name; the rest appear as these are resolved."""
LABEL_BYTES_MAX = 64
EXTENSION_BYTES_MAX = 32
CONFLICT = b"conflict"
MARK = b" (" + CONFLICT + b", "
"""Every displayed conflict name contains it."""


class Claimant(NamedTuple):
    """Something with a name in a directory."""

    inode: InodeId
    name: Name
    meaning: Meaning


class Aside(NamedTuple):
    """A thing that is shown beside a name: another file (`dot` None) or a conflict entry."""

    stamp: Stamp
    lineage: tuple[Dot, ...]
    inode: InodeId
    link: str
    dot: Dot | None
    kind: Kind
    ordinal: int
    """The number its name was given for good; 0: none."""


class Shown(NamedTuple):
    """What one name of a directory shows."""

    directories: tuple[InodeId, ...]
    """Members of the directory that keeps the name, the smallest id first."""
    file: Claimant | None
    """What keeps the name, where no directory does."""
    asides: tuple[Aside, ...]
    """In the order in which they are named."""
    twins: tuple[Claimant, ...]
    """Not shown: another file of this name has the same content."""


def show(directories: Iterable[InodeId], claimants: Iterable[Claimant]) -> Shown:
    """What is shown where `directories` and other things claim one name: the earliest keeps it."""
    members = tuple(sorted(directories))
    plain = sorted((c for c in claimants if c.name.is_plain), key=_earliest)
    others = [c for c in claimants if not c.name.is_plain]
    asides: list[Aside] = []
    twins: list[Claimant] = []
    seen: set[tuple[Kind, bytes, int]] = set()
    winner: Claimant | None = None
    for claimant in plain:
        main = claimant.meaning.main
        if main is not None and claimant.meaning.kind in WITH_CONTENT:
            shown = (claimant.meaning.kind, *main.version.content)
            if shown in seen:
                twins.append(claimant)
                continue
            seen.add(shown)
        if winner is None and not members:
            winner = claimant
            continue
        place = claimant.name.place
        dot = (place.slot, place.n)
        asides.append(
            Aside(place.stamp, (dot,), claimant.inode, claimant.name.link, None, claimant.meaning.kind, 0)
        )
    for claimant in (*plain, *others):
        if claimant.meaning.names[0].link != claimant.name.link:
            continue
        for content in claimant.meaning.conflicts:
            version = content.version
            asides.append(
                Aside(
                    version.rank,
                    version.lineage,
                    claimant.inode,
                    claimant.name.link,
                    version.dot,
                    claimant.meaning.kind,
                    version.ordinal,
                )
            )
    asides.sort(key=lambda aside: (*aside[:4], aside.dot or ("", 0)))
    return Shown(members, winner, tuple(asides[:CONFLICTS_SHOWN_MAX]), tuple(twins))


def _earliest(claimant: Claimant) -> tuple[Stamp, Slot, int, InodeId, str]:
    place = claimant.name.place
    return (place.stamp, place.slot, place.n, claimant.inode, claimant.name.link)


def name_asides(
    asides: Iterable[tuple[bytes, Sequence[Aside]]],
    label: Callable[[Slot], str],
    is_taken: Callable[[bytes], bool],
) -> dict[bytes, tuple[bytes, Aside]]:
    """Shown name -> (the name it stands beside, the thing), for the asides of a directory by name.

    `is_taken` says which names something real has: those win, and the displayed one gets a longer tag.
    """
    shown: dict[bytes, tuple[bytes, Aside]] = {}
    ordered = [(name, aside) for name, group in sorted(asides, key=lambda item: item[0]) for aside in group]
    for name, aside in sorted(ordered, key=lambda item: item[1].ordinal == 0):
        ordinal = aside.ordinal or 1
        while True:
            called = conflict_name(name, label(aside.lineage[0][0]), aside.stamp, ordinal)
            if called not in shown and not is_taken(called):
                break
            ordinal += 1
        shown[called] = (name, aside)
    return shown


def ordinal_of(called: bytes, name: bytes, aside: Aside, label: Callable[[Slot], str]) -> int:
    """The number in the name under which `aside` is shown beside `name`."""
    ordinal = 1
    while conflict_name(name, label(aside.lineage[0][0]), aside.stamp, ordinal) != called:
        ordinal += 1
    return ordinal


def conflict_name(name: bytes, label: str, stamp: Stamp, ordinal: int) -> bytes:
    """`stem (conflict, DEVICE, 2026-11-21 14.02.07Z).ext`, at most 255 bytes.

    An ordinal from 2 on stands at the end of the tag.
    """
    return tagged_name(name, CONFLICT, label, stamp, ordinal)


def tagged_name(name: bytes, tag: bytes, label: str, stamp: Stamp, ordinal: int) -> bytes:
    """As `conflict_name`, with another word for what it is."""
    when = time.strftime("%Y-%m-%d %H.%M.%SZ", time.gmtime(stamp // 1_000_000_000)).encode("ascii")
    again = b"" if ordinal == 1 else b" %d" % ordinal
    inserted = b" (" + tag + b", " + _clean(label) + b", " + when + again + b")"
    stem, extension = split_extension(name)
    return cut(stem, NAME_BYTES_MAX - len(inserted) - len(extension)) + inserted + extension


def split_extension(name: bytes) -> tuple[bytes, bytes]:
    """The stem and the extension with its dot.

    A leading dot begins no extension; a long one, or one with a space, is none.
    """
    dot = name.rfind(b".")
    is_long = len(name) - dot > EXTENSION_BYTES_MAX
    if dot <= 0 or not name[:dot].strip(b".") or is_long or b" " in name[dot:]:
        return name, b""
    return name[:dot], name[dot:]


def cut(text: bytes, length: int) -> bytes:
    """At most `length` bytes of `text`, not ending within a UTF-8 character."""
    if len(text) <= length:
        return text
    while length > 0 and text[length] & 0xC0 == 0x80:
        length -= 1
    return text[:length]


def _clean(label: str) -> bytes:
    """A device's label as part of a file name."""
    kept = "".join(c if c.isprintable() and c not in "/," else "_" for c in label)
    return cut(kept.encode("utf-8", "replace"), LABEL_BYTES_MAX) or b"?"
