"""What a change did to an inode, as rows for the history.

`before` and `after` are msgpack, empty where there was or is nothing:

- `create`: after = [kind, *name]. `remove`: before = *whole*, [kind, [name, ...], contents, mode, owner,
  mtime, birth, xattrs, rdev]: all that is needed to have it back, with the last name alone.
- `name`: a *name*, [parent, name, link, is plain]; not plain: it marks where conflict entries are shown.
- `content`: *contents*, a list of [root, size, mtime, node, slot, stamp], the shown one first if the inode
  has a plain name. The shown one's mtime is what stat(2) said.
- `mode`: a number or nil. `owner`: [uid, gid, user, group] or nil. `mtime`: what stat(2) said, or nil.
- `xattr`: [name, value or nil].

An inode that comes or goes with several names has a `name` row for each but the first. The rows of one step
in their order, taken back in the reverse order, give what was.
"""

from collections.abc import Iterator, Sequence

from dittofs.ids import InodeId, Slot, Stamp
from dittofs.tree.encoding import encode_value
from dittofs.tree.entry import Effect
from dittofs.tree.record import Kind, Owner, Record, Version
from dittofs.tree.rows import Inode
from dittofs.tree.rules import Meaning, Name


def effects_of(before: Inode, after: Inode, stamp: Stamp, slot: Slot) -> Iterator[Effect]:
    """The differences that people would see."""
    was, now = _lives(before.meaning), _lives(after.meaning)
    inode = after.id
    old, new = before.record, after.record
    if new is None or not (was or now):
        return
    old_names = _names(before.meaning) if was else {}
    new_names = _names(after.meaning) if now else {}
    first = next(iter(old_names or new_names))
    if now and not was:
        name = new_names.pop(first)
        what = encode_value([int(new.kind), *_name(name)])
        yield Effect(stamp, slot, inode, "create", b"", what, None, name.place.parent)
    last = old_names.pop(first) if was and not now else None
    for link in dict.fromkeys((*old_names, *new_names)):
        held, holds = old_names.get(link), new_names.get(link)
        one, other = _encoded(held), _encoded(holds)
        if one != other:
            yield Effect(stamp, slot, inode, "name", one, other, _parent(held), _parent(holds))
    if last is not None:
        yield Effect(stamp, slot, inode, "remove", _whole(before, [last]), b"", last.place.parent, None)
        return
    contents = _versions(before.meaning) if was else []
    if _seen(changed := _versions(after.meaning)) != _seen(contents):
        was_shown = _contents(before, contents) if was else b""
        yield Effect(stamp, slot, inode, "content", was_shown, _contents(after, changed))
    if old is not None and was:
        yield from _attributes(before, after, stamp, slot)


def _attributes(before: Inode, after: Inode, stamp: Stamp, slot: Slot) -> Iterator[Effect]:
    old, new, inode = before.record, after.record, after.id
    assert old is not None
    assert new is not None
    if old.mode != new.mode and new.mode is not None:
        was = encode_value(old.mode and old.mode.value)
        yield Effect(stamp, slot, inode, "mode", was, encode_value(new.mode.value))
    if old.owner != new.owner and new.owner is not None:
        yield Effect(stamp, slot, inode, "owner", encode_value(_owner(old)), encode_value(_owner(new)))
    if old.mtime != new.mtime and new.mtime is not None:
        yield Effect(stamp, slot, inode, "mtime", encode_value(_mtime(before)), encode_value(_mtime(after)))
    for name, attribute in new.xattrs.items():
        known = old.xattrs.get(name)
        if known != attribute:
            value = known.value if known is not None else None
            is_was, is_now = encode_value([name, value]), encode_value([name, attribute.value])
            yield Effect(stamp, slot, inode, "xattr", is_was, is_now)


def _lives(meaning: Meaning | None) -> bool:
    return meaning is not None and (meaning.is_alive or bool(meaning.main or meaning.conflicts))


def _names(meaning: Meaning | None) -> dict[str, Name]:
    assert meaning is not None
    return {name.link: name for name in meaning.names}


def _name(name: Name) -> list[object]:
    return [name.place.parent, name.place.name, name.link, name.is_plain]


def _encoded(name: Name | None) -> bytes:
    return b"" if name is None else encode_value(_name(name))


def _parent(name: Name | None) -> InodeId | None:
    return None if name is None else name.place.parent


def whole_of(inode: Inode) -> bytes | None:
    """All there is to an inode, as a `remove` row keeps it but with all names; None: it does not live."""
    if inode.record is None or not _lives(inode.meaning):
        return None
    return _whole(inode, list(_names(inode.meaning).values()))


def _whole(inode: Inode, names: Sequence[Name]) -> bytes:
    record = inode.record
    assert record is not None
    xattrs = {key: one.value for key, one in sorted(record.xattrs.items()) if one.value is not None}
    return encode_value(
        [
            int(record.kind),
            [_name(name) for name in names],
            _listed(inode, _versions(inode.meaning)),
            record.mode and record.mode.value,
            _owner(record),
            _mtime(inode),
            record.birth,
            xattrs,
            record.rdev,
        ]
    )


def _versions(meaning: Meaning | None) -> list[Version]:
    return [] if meaning is None else [content.version for content in meaning.contents]


def _seen(versions: Sequence[Version]) -> list[tuple[object, ...]]:
    return [(one.root, one.size, one.mtime, one.node) for one in versions]


def _contents(inode: Inode, versions: Sequence[Version]) -> bytes:
    return encode_value(_listed(inode, versions)) if versions else b""


def _listed(inode: Inode, versions: Sequence[Version]) -> list[list[object]]:
    found: list[list[object]] = [
        [one.root, one.size, one.mtime, one.node, one.dot[0], one.stamp] for one in versions
    ]
    if found and inode.meaning is not None and inode.meaning.main is not None:
        found[0][2] = _mtime(inode)
    return found


def _mtime(inode: Inode) -> int | None:
    """What stat(2) says, as far as it is replicated."""
    record, meaning = inode.record, inode.meaning
    assert record is not None
    explicit = record.mtime
    if meaning is None or meaning.main is None or record.kind is Kind.DIRECTORY:
        return explicit and explicit.value
    version = meaning.main.version
    return explicit.value if explicit is not None and explicit.stamp > version.stamp else version.mtime


def _owner(record: Record) -> list[object] | None:
    owner: Owner | None = record.owner.value if record.owner is not None else None
    return None if owner is None else [owner.uid, owner.gid, owner.user, owner.group]
