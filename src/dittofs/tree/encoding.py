"""Records as bytes (docs/reference/wire.md, "Records").

`decode` gives a `Record` or a FormatError for any bytes. `encode` is canonical: equal records, equal bytes.
"""

import base64
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec

from dittofs.errors import FormatError
from dittofs.ids import Number, Slot, Stamp
from dittofs.tree import shapes
from dittofs.tree.record import (
    ORDINAL_MAX,
    PATH_DOTS_MAX,
    STAMP_END,
    SYMLINK_BYTES_MAX,
    Attribute,
    Dot,
    Forward,
    Kind,
    Owner,
    Ownership,
    Place,
    Record,
    Register,
    Version,
)
from dittofs.tree.update import RECORD_BYTES_MAX

ROOT_BYTES_MAX = SYMLINK_BYTES_MAX
NODE_BYTES_MAX = 64
JOINED_BYTES_MAX = 64 << 20
"""What several slots say together may be more than one of them could."""
OWNER_NAME_BYTES_MAX = 256
XATTR_NAME_BYTES_MAX = 255
REGISTERS_FROM = 64
MAPS_FROM = 128
FIELDS_END = 256

_KIND, _CONTEXT, _PLACE, _MODE, _OWNER, _MTIME, _BIRTH, _VERSIONS = range(1, 9)
_NAMES, _CONTENT, _XATTRS, _FORWARDS, _RDEV, _CHANGED = range(9, 15)
_LIST_FIELDS = frozenset({_CONTEXT, _PLACE, _MODE, _OWNER, _MTIME, _VERSIONS, _NAMES, _CONTENT, _FORWARDS})
_INT_FIELDS = frozenset({_KIND, _BIRTH, _RDEV, _CHANGED})
_KINDS = {int(kind): kind for kind in Kind}

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder()
encode_value = _encoder.encode


@lru_cache(maxsize=1 << 12)
def pack_id(text: str) -> bytes:
    """The bits of an inode id or a slot."""
    return base64.urlsafe_b64decode(text)


class RecordTooLarge(FormatError):
    """A record that does not fit into one value."""


def encode(record: Record, bytes_max: int = RECORD_BYTES_MAX) -> bytes:
    """The bytes of `record`. Raises RecordTooLarge if they are more than `bytes_max`."""
    slots = sorted(record.context)
    index = {slot: number for number, slot in enumerate(slots)}
    place = record.place
    base = 0
    out: dict[int, object] = {_KIND: int(record.kind)}
    flat: list[object] = []
    for slot in slots:
        flat.append(pack_id(slot))
        flat.append(record.context[slot])
    out[_CONTEXT] = flat
    if place is not None:
        base = place.stamp
        fields = [base, index[place.slot], place.n, pack_id(place.parent), place.name]
        if place.before is not None:
            fields += [pack_id(place.before[0]), place.before[1]]
        out[_PLACE] = fields
    if record.mode is not None:
        out[_MODE] = (record.mode.stamp - base, index[record.mode.slot], record.mode.value)
    if record.owner is not None:
        owner = record.owner.value
        tail = () if owner is None else (owner.uid, owner.gid, owner.user, owner.group)
        out[_OWNER] = (record.owner.stamp - base, index[record.owner.slot], *tail)
    if record.mtime is not None:
        out[_MTIME] = (record.mtime.stamp - base, index[record.mtime.slot], record.mtime.value)
    if record.birth is not None:
        out[_BIRTH] = record.birth - base
    if record.versions:
        out[_VERSIONS] = [_encode_version(version, index, base) for version in sorted(record.versions)]
    if record.names or record.removed:
        out[_NAMES] = [record.removed - base, *_encode_dots(sorted(record.names.items()), index)]
    if record.content:
        out[_CONTENT] = _encode_dots(sorted(record.content.items()), index)
    if record.xattrs:
        out[_XATTRS] = {
            name: (attribute.stamp - base, index[attribute.slot], attribute.value)
            for name, attribute in sorted(record.xattrs.items())
        }
    if record.forwards:
        out[_FORWARDS] = [
            (
                pack_id(forward.target),
                pack_id(forward.slot),
                forward.n,
                forward.stamp - base,
                [part for slot, n in sorted(forward.covered.items()) for part in (pack_id(slot), n)],
            )
            for forward in sorted(record.forwards, key=lambda forward: forward[:3])
        ]
    if record.rdev:
        out[_RDEV] = record.rdev
    if record.changed:
        out[_CHANGED] = record.changed - base
    for number in sorted(record.unknown):
        field = record.unknown[number]
        if isinstance(field, dict):
            field = dict(sorted(field.items(), key=lambda item: _encoder.encode(item[0])))
        out[number] = field
    value = _encoder.encode(out)
    if len(value) > bytes_max:
        raise RecordTooLarge(f"a record of {len(value)} bytes; {bytes_max} are allowed")
    return value


def _encode_version(version: Version, index: Mapping[Slot, int], base: int) -> list[object]:
    (slot, n), root, size, mtime, node, rank, face, stamp, path, ordinal = version
    fields: list[object] = [index[slot], n, root, size, mtime, node, rank - base, face]
    if -STAMP_END < mtime - base < STAMP_END:
        fields[4] = mtime - base
    else:
        fields[4] = [mtime]
    if stamp != rank or path or ordinal:
        fields.append(stamp - base)
        fields.append(_encode_dots(path, index))
    if ordinal:
        fields.append(ordinal)
    return fields


def _encode_dots(dots: Sequence[Dot], index: Mapping[Slot, int]) -> list[object]:
    return [part for slot, n in dots for part in (index[slot], n)]


def decode(value: bytes, bytes_max: int = RECORD_BYTES_MAX) -> Record:
    """The record in `value`. Raises FormatError, and nothing else, if there is none."""
    if len(value) > bytes_max:
        raise FormatError(f"a record of {len(value)} bytes; {bytes_max} are allowed")
    try:
        fields = _decoder.decode(value)
    except (msgspec.DecodeError, RecursionError, ValueError, TypeError, OverflowError):
        raise FormatError("a record is not msgpack") from None
    if type(fields) is not dict:
        shapes.bad("is not a map")
    try:
        return _decode(fields)
    except (IndexError, KeyError, TypeError, ValueError):
        raise FormatError("a record holds a field of another shape than its number says") from None


def _decode(fields: dict[Any, Any]) -> Record:
    unknown: dict[int, object] | None = None
    for number, field in fields.items():
        if type(number) is not int or not 0 < number < FIELDS_END:
            shapes.bad("holds a field without a number")
        if number >= REGISTERS_FROM:
            unknown = unknown or {}
            unknown[number] = (
                shapes.register_of_later(field) if number < MAPS_FROM else shapes.map_of_later(field)
            )
        elif number in _LIST_FIELDS:
            if type(field) is not list:
                shapes.bad(f"holds no list in field {number}")
        elif number in _INT_FIELDS:
            if type(field) is not int:
                shapes.bad(f"holds no number in field {number}")
        elif number != _XATTRS or type(field) is not dict:
            shapes.bad(f"holds a field {number} of no known shape")
    slots: list[Slot] = []
    context: dict[Slot, int] = {}
    previous = ""
    flat = fields[_CONTEXT]
    for at in range(0, len(flat), 2):
        slot = shapes.slot(flat[at])
        if slot <= previous:
            shapes.bad("holds a context that is not sorted")
        previous = slot
        slots.append(slot)
        context[slot] = shapes.count(flat[at + 1])
    record = Record(_KINDS[fields[_KIND]], context)
    base = 0
    if (field := fields.get(_PLACE)) is not None:
        if len(field) not in (5, 7):
            shapes.bad("holds a place of another length")
        base = shapes.stamp(field[0])
        before = (shapes.inode(field[5]), shapes.name(field[6])) if len(field) == 7 else None
        slot, n = shapes.dot(field[1], field[2], slots, context)
        record.place = Place(Stamp(base), slot, n, shapes.inode(field[3]), shapes.name(field[4]), before)
    if (field := fields.get(_MODE)) is not None:
        stamp, slot, mode = shapes.register(field, slots, base)
        if type(mode) is not int or not 0 <= mode <= 0o7777:
            shapes.bad("holds a mode of other than twelve bits")
        record.mode = Register(stamp, slot, mode)
    if (field := fields.get(_OWNER)) is not None:
        record.owner = _owner(field, slots, base)
    if (field := fields.get(_MTIME)) is not None:
        stamp, slot, mtime = shapes.register(field, slots, base)
        record.mtime = Register(stamp, slot, shapes.integer(mtime))
    if (field := fields.get(_BIRTH)) is not None:
        if not -STAMP_END < field + base < STAMP_END:
            shapes.bad("holds an impossible birth")
        record.birth = field + base
    if (field := fields.get(_VERSIONS)) is not None:
        record.versions = tuple(_version(item, slots, context, base) for item in field)
        if len({version.dot for version in record.versions}) != len(record.versions):
            shapes.bad("holds two versions of one dot")
    if (field := fields.get(_NAMES)) is not None:
        record.removed = shapes.stamp(field[0] + base)
        record.names = dict(shapes.dots(field[1:], slots, context))
    if (field := fields.get(_CONTENT)) is not None:
        record.content = dict(shapes.dots(field, slots, context))
    if (field := fields.get(_XATTRS)) is not None:
        record.xattrs = _xattrs(field, slots, base)
    if (field := fields.get(_FORWARDS)) is not None:
        record.forwards = tuple(_forward(item, base) for item in field)
        if len({forward[:3] for forward in record.forwards}) != len(record.forwards):
            shapes.bad("holds two forwards of one name")
    if (field := fields.get(_RDEV)) is not None:
        if not 0 <= field < 1 << 64:
            shapes.bad("holds an impossible device number")
        record.rdev = field
    if (field := fields.get(_CHANGED)) is not None:
        record.changed = shapes.stamp(field + base)
    if unknown is not None:
        record.unknown = unknown
    return record


def _version(item: Any, slots: list[Slot], context: dict[Slot, int], base: int) -> Version:
    if type(item) is not list or len(item) not in (8, 10, 11):
        shapes.bad("holds a version of another length")
    dot = shapes.dot(item[0], item[1], slots, context)
    root, size, mtime, node, rank, face = item[2:8]
    if (
        type(root) is not bytes
        or len(root) > ROOT_BYTES_MAX
        or type(node) is not bytes
        or len(node) > NODE_BYTES_MAX
    ):
        shapes.bad("holds a version without a content root")
    if (
        type(size) is not int
        or not 0 <= size < shapes.INT_END
        or type(face) is not int
        or not 0 <= face < 1 << 62
    ):
        shapes.bad("holds a version of impossible size or number")
    mtime = shapes.integer(mtime[0] if type(mtime) is list and len(mtime) == 1 else mtime + base)
    rank = shapes.stamp(rank + base)
    stamp = rank
    path: tuple[Dot, ...] = ()
    ordinal = 0
    if len(item) == 11:
        ordinal = item[10]
        if type(ordinal) is not int or not 0 < ordinal <= ORDINAL_MAX:
            shapes.bad("holds a version of impossible ordinal")
    if len(item) > 8:
        stamp = shapes.stamp(item[8] + base)
        path = shapes.dots(item[9], slots, context)
        if len(path) > PATH_DOTS_MAX:
            shapes.bad("holds a version of too long a descent")
    return Version(dot, root, size, mtime, node, rank, Number(face), stamp, path, ordinal)


def _owner(field: Any, slots: list[Slot], base: int) -> Ownership:
    stamp, slot = shapes.stamp(field[0] + base), shapes.slot_at(slots, field[1])
    if len(field) == 2:
        return Ownership(stamp, slot, None)
    _, _, uid, gid, user, group = field
    for number in (uid, gid):
        if type(number) is not int or not 0 <= number < (1 << 32) - 1:
            shapes.bad("holds an owner of impossible number")
    for name in (user, group):
        if type(name) is not str or len(name.encode()) > OWNER_NAME_BYTES_MAX:
            shapes.bad("holds an owner of impossible name")
    return Ownership(stamp, slot, Owner(uid, gid, user, group))


def _xattrs(field: dict[Any, Any], slots: list[Slot], base: int) -> dict[bytes, Attribute]:
    out: dict[bytes, Attribute] = {}
    for name, item in field.items():
        if type(name) is not bytes or not 0 < len(name) <= XATTR_NAME_BYTES_MAX or b"\0" in name:
            shapes.bad("holds an extended attribute without a name")
        stamp, slot, value = shapes.register(item, slots, base)
        if value is not None and type(value) is not bytes:
            shapes.bad("holds an extended attribute that is not bytes")
        out[name] = Attribute(stamp, slot, value)
    return out


def _forward(item: Any, base: int) -> Forward:
    target, slot, n, stamp, flat = item
    covered: dict[Slot, int] = {}
    if type(flat) is not list:
        shapes.bad("holds a forward that covers no list")
    for at in range(0, len(flat), 2):
        covered[shapes.slot(flat[at])] = shapes.count(flat[at + 1])
    return Forward(
        shapes.inode(target), shapes.slot(slot), shapes.count(n), shapes.stamp(stamp + base), covered
    )
