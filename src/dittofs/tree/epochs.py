"""Fresh epochs: compaction, adoption, and giving a forked writer's changes another name.

All of it works on joined records, so it needs no agreement: whoever has the lower (number, digest) takes the
other's document and writes what it knows beyond that into its own slot. What somebody else knows who has
the lower one is written likewise.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from dittofs.ids import Slot
from dittofs.tree import encoding
from dittofs.tree.join import join_all
from dittofs.tree.record import META_SHARD, Dot, Record
from dittofs.tree.settings import decode_setting, encode_setting, join_settings
from dittofs.tree.shard import OVERHEAD_BYTES_MAX, Shard
from dittofs.tree.update import LIVE, RECORD_BYTES_MAX

Joining = Callable[[Mapping[Slot, bytes]], bytes]
"""The canonical bytes of what all slots of a record say together."""
_BATCH_BYTES_MAX = LIVE.bytes - LIVE.operations * OVERHEAD_BYTES_MAX - RECORD_BYTES_MAX


def joining(number: int) -> Joining:
    """How the values of one record meet in a document."""
    return _join_settings if number == META_SHARD else _join_records


def _join_records(slots: Mapping[Slot, bytes]) -> bytes:
    return encoding.encode(
        join_all(encoding.decode(value, encoding.JOINED_BYTES_MAX) for value in slots.values()),
        encoding.JOINED_BYTES_MAX,
    )


def _join_settings(slots: Mapping[Slot, bytes]) -> bytes:
    return encode_setting(join_settings(map(decode_setting, slots.values())))


def compacted(shard: Shard, number: int, names: Mapping[Slot, Slot] | None = None) -> Shard | None:
    """The document of the next epoch with the same content; None if a record does not fit into one value.

    `names`: slots that are called otherwise from now on.
    """

    def join(_key: str, slots: Mapping[Slot, bytes]) -> bytes:
        value = joining(number)(slots)
        if names and number != META_SHARD:
            value = encoding.encode(renamed(encoding.decode(value, encoding.JOINED_BYTES_MAX), names))
        if len(value) > RECORD_BYTES_MAX:
            raise encoding.RecordTooLarge(f"a record of {len(value)} bytes in all")
        return value

    try:
        return shard.compacted(join, client_id=shard.client_id)
    except encoding.RecordTooLarge:
        return None


class Joined(NamedTuple):
    """What came of joining an old document into a fresh one."""

    updates: list[bytes]
    """They write what the old one alone knew."""
    changed: set[str]
    """The records that say other than they did in the old one."""
    added: set[str]
    """The records that say other than they did in the fresh one."""


def join_into(fresh: Shard, old: Shard, number: int) -> Joined:
    """Write into `fresh`, in our own slot, what `old` knows beyond it."""
    writes, changed = _beyond(fresh, old, number)
    return Joined(list(_written(fresh, writes)), changed, set(writes))


def is_beyond(fresh: Shard, old: Shard, number: int) -> bool:
    """Whether `old` knows something that `fresh` does not. Changes neither."""
    return bool(_beyond(fresh, old, number)[0])


_Writes = dict[str, tuple[bytes, bool]]
"""Record -> the value that our slot has to say, and whether the other slots go."""


def _beyond(fresh: Shard, old: Shard, number: int) -> tuple[_Writes, set[str]]:
    """What has to be written into `fresh`, and the records that then say other than in `old`."""
    join = joining(number)
    changed = set(fresh.records()) - set(old.records())
    writes: _Writes = {}
    for record in sorted(old.records()):
        ours, theirs = old.get_slots(record), fresh.get_slots(record)
        if set(ours.values()) == set(theirs.values()):
            continue
        before = join(ours)
        if not theirs:
            writes[record] = (before, True)
            continue
        given = join(theirs)
        if given == before:
            continue
        both = join({Slot("a"): given, Slot("b"): before})
        if both != given:
            # What does not fit into one value stays in several.
            is_joined = len(both) <= RECORD_BYTES_MAX
            writes[record] = (both if is_joined else before, is_joined)
        if both != before:
            changed.add(record)
    return writes, changed


def _written(shard: Shard, writes: _Writes) -> Iterator[bytes]:
    """Transactions that peers take, however much there is."""
    sets: dict[str, bytes] = {}
    gone: list[str] = []
    size = 0
    own = shard.slot
    for record, (value, is_joined) in writes.items():
        if len(value) > RECORD_BYTES_MAX:
            raise encoding.RecordTooLarge(f"a record of {len(value)} bytes cannot be told in a fresh epoch")
        others = [f"{record}:{slot}" for slot in shard.live_slots(record) if is_joined and slot != own]
        if sets and (
            len(sets) + len(gone) + len(others) >= LIVE.operations or size + len(value) > _BATCH_BYTES_MAX
        ):
            yield shard.write(sets, gone)
            sets, gone, size = {}, [], 0
        sets[f"{record}:{own}"] = value
        gone += others
        size += len(value)
    if sets:
        yield shard.write(sets, gone)


def renamed(record: Record, names: Mapping[Slot, Slot]) -> Record:
    """`record` with slots called otherwise, wherever it names one."""

    def slot(one: Slot) -> Slot:
        return names.get(one, one)

    def dot(one: Dot) -> Dot:
        return (slot(one[0]), one[1])

    def dots(context: Mapping[Slot, int]) -> dict[Slot, int]:
        return {slot(one): n for one, n in context.items()}

    return dataclasses.replace(
        record,
        context=dots(record.context),
        place=record.place and record.place._replace(slot=slot(record.place.slot)),
        mode=record.mode and record.mode._replace(slot=slot(record.mode.slot)),
        owner=record.owner and record.owner._replace(slot=slot(record.owner.slot)),
        mtime=record.mtime and record.mtime._replace(slot=slot(record.mtime.slot)),
        versions=tuple(
            sorted(one._replace(dot=dot(one.dot), path=tuple(map(dot, one.path))) for one in record.versions)
        ),
        names=dots(record.names),
        content=dots(record.content),
        xattrs={name: one._replace(slot=slot(one.slot)) for name, one in record.xattrs.items()},
        forwards=tuple(
            sorted(one._replace(slot=slot(one.slot), covered=dots(one.covered)) for one in record.forwards)
        ),
    )
