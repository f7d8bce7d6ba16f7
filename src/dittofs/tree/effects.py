"""What a change did to an inode, as rows for the history.

`before` and `after` are msgpack: of `name` [parent, name], of `content` a list of [root, size, mtime, node]
with the shown one first, of `mode` and `mtime` a number, of `owner` [uid, gid, user, group] or nil, of
`xattr` [name, value or nil]. `create` has an empty `before`, `remove` an empty `after`; both hold
[kind, parent, name].
"""

from collections.abc import Iterator

from dittofs.ids import Slot, Stamp
from dittofs.tree.encoding import encode_value
from dittofs.tree.entry import Effect
from dittofs.tree.record import Owner, Place, Record
from dittofs.tree.rows import Inode
from dittofs.tree.rules import Meaning


def effects_of(before: Inode, after: Inode, stamp: Stamp, slot: Slot) -> Iterator[Effect]:
    """The differences that people would see."""
    was, now = _lives(before.meaning), _lives(after.meaning)
    inode = after.id
    old, new = before.record, after.record
    if new is None or not (was or now):
        return
    if was != now:
        kind = "create" if now else "remove"
        what = _what(after if now else before)
        yield Effect(stamp, slot, inode, kind, b"" if now else what, what if now else b"")
        if not now:
            return
    places_before = {link: record.place for link, record in _records(before)} if was else {}
    for link, record in _records(after):
        place = places_before.get(link)
        if was and place != record.place:
            yield Effect(stamp, slot, inode, "name", _place(place), _place(record.place))
    contents = _contents(before.meaning) if was else b""
    if (changed := _contents(after.meaning)) != contents:
        yield Effect(stamp, slot, inode, "content", contents, changed)
    if old is None or not was:
        return
    if old.mode != new.mode and new.mode is not None:
        yield Effect(
            stamp,
            slot,
            inode,
            "mode",
            encode_value(old.mode and old.mode.value),
            encode_value(new.mode.value),
        )
    if old.owner != new.owner and new.owner is not None:
        owner = old.owner.value if old.owner is not None else None
        yield Effect(stamp, slot, inode, "owner", _owner(owner), _owner(new.owner.value))
    if old.mtime != new.mtime and new.mtime is not None:
        yield Effect(
            stamp,
            slot,
            inode,
            "mtime",
            encode_value(old.mtime and old.mtime.value),
            encode_value(new.mtime.value),
        )
    for name, attribute in new.xattrs.items():
        known = old.xattrs.get(name)
        if known != attribute:
            value = known.value if known is not None else None
            yield Effect(
                stamp,
                slot,
                inode,
                "xattr",
                encode_value([name, value]),
                encode_value([name, attribute.value]),
            )


def _lives(meaning: Meaning | None) -> bool:
    return meaning is not None and (meaning.is_alive or bool(meaning.main or meaning.conflicts))


def _records(inode: Inode) -> Iterator[tuple[str, Record]]:
    if inode.record is not None:
        yield "", inode.record
    yield from inode.links.items()


def _what(inode: Inode) -> bytes:
    assert inode.record is not None
    meaning = inode.meaning
    place = meaning.names[0].place if meaning is not None and meaning.names else inode.record.place
    return encode_value([int(inode.record.kind), *((place.parent, place.name) if place is not None else ())])


def _place(place: Place | None) -> bytes:
    return b"" if place is None else encode_value([place.parent, place.name])


def _contents(meaning: Meaning | None) -> bytes:
    contents = meaning.contents if meaning is not None else ()
    if not contents:
        return b""
    versions = [content.version for content in contents]
    return encode_value([[one.root, one.size, one.mtime, one.node] for one in versions])


def _owner(owner: Owner | None) -> bytes:
    return encode_value(None if owner is None else [owner.uid, owner.gid, owner.user, owner.group])
