"""The bytes of one simulated file: what is written, what of it is durable, what a power cut leaves."""

import random
from dataclasses import dataclass, field
from typing import Final

TEAR_CHANCE: Final = 0.3
"""How often the last write to reach a sector reaches only its beginning."""


@dataclass(frozen=True, slots=True)
class _Write:
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class _Truncate:
    size: int


@dataclass(slots=True)
class Content:
    """`current` is what programs read; `durable` plus any of the unsynced changes is what survives."""

    current: bytearray = field(default_factory=bytearray)
    _durable: bytearray = field(default_factory=bytearray)
    _unsynced: list[_Write | _Truncate] = field(default_factory=list)
    failed_syncs: int = 0

    def write(self, offset: int, data: bytes) -> None:
        _write(self.current, offset, data)
        self._unsynced.append(_Write(offset, data))

    def truncate(self, size: int) -> None:
        _truncate(self.current, size)
        self._unsynced.append(_Truncate(size))

    def sync(self) -> None:
        self._durable = _replayed(self._durable, self._unsynced)
        self._unsynced.clear()

    def fail_sync(self) -> None:
        """What a failed sync does on Linux: still readable, no longer dirty, so never written."""
        self._unsynced.clear()
        self.failed_syncs += 1

    def lose_power(self, chance: random.Random, sector: int) -> None:
        """Keep some of what was not synced.

        Each sector ends up as it was after some number of the writes that touch it, the last of
        those possibly torn; of the truncations any first part happens.
        """
        truncations = [
            number for number, change in enumerate(self._unsynced) if isinstance(change, _Truncate)
        ]
        kept_truncations = set(truncations[: chance.randint(0, len(truncations))])
        writes_of: dict[int, list[int]] = {}
        for number, change in enumerate(self._unsynced):
            if isinstance(change, _Write):
                for touched in _sectors(change, sector):
                    writes_of.setdefault(touched, []).append(number)
        # All, none or some: an even draw per sector would almost never give the extremes.
        mood = chance.choice(("all", "none", "some", "some"))
        kept: dict[int, int] = {}
        torn: dict[int, int] = {}
        for touched, numbers in sorted(writes_of.items()):
            count = {"all": len(numbers), "none": 0, "some": chance.randint(0, len(numbers))}[mood]
            kept[touched] = numbers[count - 1] if count else -1
            if mood == "some" and count and chance.random() < TEAR_CHANCE:
                torn[touched] = chance.randrange(sector)
        survivor = bytearray(self._durable)
        for number, change in enumerate(self._unsynced):
            if isinstance(change, _Truncate):
                if number in kept_truncations:
                    _truncate(survivor, change.size)
                continue
            for touched in _sectors(change, sector):
                if number > kept[touched]:
                    continue
                first = max(change.offset, touched * sector)
                end = min(change.offset + len(change.data), (touched + 1) * sector)
                if number == kept[touched] and touched in torn:
                    end = min(end, touched * sector + torn[touched])
                if end > first:
                    _write(survivor, first, change.data[first - change.offset : end - change.offset])
        self._durable = survivor
        self._unsynced.clear()
        self.current = bytearray(survivor)

    def damage(self, offset: int, mask: int) -> None:
        self.sync()
        self.current[offset] ^= mask
        self._durable[offset] ^= mask


def _sectors(change: _Write, sector: int) -> range:
    if not change.data:
        return range(0)
    return range(change.offset // sector, (change.offset + len(change.data) - 1) // sector + 1)


def _replayed(content: bytearray, changes: list[_Write | _Truncate]) -> bytearray:
    for change in changes:
        if isinstance(change, _Write):
            _write(content, change.offset, change.data)
        else:
            _truncate(content, change.size)
    return content


def _write(content: bytearray, offset: int, data: bytes) -> None:
    if offset > len(content) and data:
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


def _truncate(content: bytearray, size: int) -> None:
    if size < len(content):
        del content[size:]
    else:
        content.extend(bytes(size - len(content)))
