"""How two records of one key meet: commutative, associative, idempotent, whatever the two are.

Registers: the latest. Versions: a version that one side lacks although it has seen its dot was dropped there.
"""

from collections.abc import Iterable, Mapping
from typing import TypeVar

from dittofs.ids import Slot
from dittofs.tree.encoding import encode_value
from dittofs.tree.record import (
    Attribute,
    Context,
    Forward,
    Ownership,
    Place,
    Record,
    Register,
    Version,
    covers,
)

R = TypeVar("R", Register, Ownership, Attribute)


def join_all(records: Iterable[Record]) -> Record:
    """The join of one record or more."""
    iterator = iter(records)
    joined = next(iterator)
    for record in iterator:
        joined = join(joined, record)
    return joined


def join(a: Record, b: Record) -> Record:
    """The least record that holds what both hold. Neither is changed."""
    if a == b:
        return a
    births = [birth for birth in (a.birth, b.birth) if birth is not None]
    return Record(
        kind=max(a.kind, b.kind),
        context=join_contexts(a.context, b.context),
        place=_place(a.place, b.place),
        mode=_register(a.mode, b.mode),
        owner=_register(a.owner, b.owner),
        mtime=_register(a.mtime, b.mtime),
        birth=min(births, default=None),
        versions=_versions(a, b),
        names=join_contexts(a.names, b.names),
        removed=max(a.removed, b.removed),
        content=join_contexts(a.content, b.content),
        xattrs=_xattrs(a.xattrs, b.xattrs),
        forwards=_forwards(a.forwards, b.forwards),
        rdev=max(a.rdev, b.rdev),
        changed=max(a.changed, b.changed),
        unknown=_unknown(a.unknown, b.unknown),
    )


def slots_of_difference(a: Record, b: Record) -> set[Slot]:
    """Who made what the one says and the other does not."""
    slots = {version.dot[0] for version in set(a.versions) ^ set(b.versions)}
    for one, other in ((a.place, b.place), (a.mode, b.mode), (a.owner, b.owner), (a.mtime, b.mtime)):
        if one != other:
            slots.update(register.slot for register in (one, other) if register is not None)
    for mine, theirs in ((a.names, b.names), (a.content, b.content), (a.context, b.context)):
        slots.update(slot for slot in mine.keys() | theirs.keys() if mine.get(slot) != theirs.get(slot))
    for name in a.xattrs.keys() | b.xattrs.keys():
        found = (a.xattrs.get(name), b.xattrs.get(name))
        if found[0] != found[1]:
            slots.update(attribute.slot for attribute in found if attribute is not None)
    slots.update(forward.slot for forward in a.forwards if forward not in b.forwards)
    slots.update(forward.slot for forward in b.forwards if forward not in a.forwards)
    return slots


def join_contexts(a: Context, b: Context) -> dict[Slot, int]:
    """Pointwise the greater."""
    joined = dict(a)
    for slot, n in b.items():
        if joined.get(slot, 0) < n:
            joined[slot] = n
    return joined


def _place(a: Place | None, b: Place | None) -> Place | None:
    if a is None or b is None:
        return a or b
    return max(a, b, key=lambda place: (*place[:5], place.before or ("", b"")))


def _register(a: R | None, b: R | None) -> R | None:
    if a is None or b is None:
        return a or b
    if a[:2] != b[:2]:
        return a if a[:2] > b[:2] else b
    # One writer, one stamp, two values: only a fork or a forger makes them. Any fixed choice converges.
    return a if encode_value(a[2]) >= encode_value(b[2]) else b


def _versions(a: Record, b: Record) -> tuple[Version, ...]:
    if a.versions == b.versions:
        return a.versions
    mine = {version.dot: version for version in a.versions}
    theirs = {version.dot: version for version in b.versions}
    kept = [version for dot, version in theirs.items() if dot not in mine and not covers(a.context, dot)]
    for dot, version in mine.items():
        if dot in theirs:
            kept.append(max(version, theirs[dot]))
        elif not covers(b.context, dot):
            kept.append(version)
    return tuple(sorted(kept))


def _xattrs(a: Mapping[bytes, Attribute], b: Mapping[bytes, Attribute]) -> dict[bytes, Attribute]:
    joined = dict(a)
    for name, attribute in b.items():
        latest = _register(joined.get(name), attribute)
        assert latest is not None
        joined[name] = latest
    return joined


def _forwards(a: tuple[Forward, ...], b: tuple[Forward, ...]) -> tuple[Forward, ...]:
    if a == b:
        return a
    joined = {forward[:3]: forward for forward in a}
    for forward in b:
        other = joined.get(forward[:3])
        if other is not None:
            forward = forward._replace(
                stamp=max(forward.stamp, other.stamp), covered=join_contexts(forward.covered, other.covered)
            )
        joined[forward[:3]] = forward
    return tuple(joined[key] for key in sorted(joined))


def _unknown(a: Mapping[int, object], b: Mapping[int, object]) -> dict[int, object]:
    if not b:
        return dict(a)
    joined = dict(a)
    for number, field in b.items():
        other = joined.get(number)
        if other is None:
            joined[number] = field
        elif isinstance(field, dict) and isinstance(other, dict):
            merged = dict(other)
            for key, register in field.items():
                merged[key] = _later_register(merged[key], register) if key in merged else register
            joined[number] = merged
        else:
            joined[number] = _later_register(other, field)
    return joined


def _later_register(a: object, b: object) -> object:
    assert isinstance(a, list)
    assert isinstance(b, list)
    order_a = (a[0], a[1], encode_value(a))
    order_b = (b[0], b[1], encode_value(b))
    return a if order_a >= order_b else b
