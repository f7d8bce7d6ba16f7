"""Inodes that are shown as they were, whatever the documents say of them: the filter of the view.

It is this device's alone. A row of each held inode lies among the journal's local rows, so it outlives
the index and every crash; what it holds is what the index is given in place of the joined records.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

from dittofs.errors import FormatError
from dittofs.ids import InodeId, Stamp
from dittofs.tree import encoding
from dittofs.tree.record import NEVER, Record

KIND: Final = "held"


class LocalRows(Protocol):
    """Rows of this device alone, undone with the transaction they are part of."""

    def get_local(self, kind: str, key: bytes) -> bytes | None:
        """The row, or None."""

    def put_local(self, kind: str, key: bytes, value: bytes) -> None:
        """Set a row."""

    def delete_local(self, kind: str, key: bytes) -> None:
        """Remove a row. One that is not there is not an error."""

    def scan_local(self, kind: str, prefix: bytes) -> Iterable[tuple[bytes, bytes]]:
        """The rows whose key begins with `prefix`, ordered by key."""


class Hold(msgspec.Struct, array_like=True, frozen=True):
    """Why an inode is held, and both what is shown of it and what is not."""

    device: str
    """The device that removed or rewrote it, as `Brake` is told to know it."""
    slot: str
    """The writer that it was then."""
    stamp: int
    """When, by its clock."""
    is_removal: bool
    is_directory: bool
    size: int
    """Of the content that is shown."""
    shown: dict[str, bytes]
    """Its records as they are shown, by link."""
    known: dict[str, bytes]
    """Its records as the documents had them last."""


@dataclass(slots=True)
class Tally:
    """What is held of one device."""

    device: str
    removed: int = 0
    """Files."""
    rewritten: int = 0
    directories: int = 0
    bytes: int = 0
    """Of the files, as they are shown."""
    first: Stamp = NEVER
    """When it did the first of it, by its clock; also of what has been decided about."""
    last: Stamp = NEVER

    @property
    def inodes(self) -> int:
        return self.removed + self.rewritten + self.directories


_decoder = msgspec.msgpack.Decoder(Hold)
_encode = msgspec.msgpack.Encoder().encode


class Holds:
    """The held inodes. Only their ids are kept in memory. `rows` None: nothing is ever held."""

    def __init__(self, rows: LocalRows | None) -> None:
        self._rows = rows
        self._held: dict[InodeId, tuple[str, Stamp]] | None = None
        self._tally: dict[str, Tally] | None = None

    def forget(self) -> None:
        """Drop what is cached: the rows were rolled back."""
        self._held = self._tally = None

    @property
    def all(self) -> Mapping[InodeId, tuple[str, Stamp]]:
        """Every held inode, with the device and the time of what is not shown of it."""
        return self._cached()

    def _cached(self) -> dict[InodeId, tuple[str, Stamp]]:
        if self._held is None:
            rows = () if self._rows is None else self._rows.scan_local(KIND, b"")
            found = ((key, _decode(row)) for key, row in rows)
            self._held = {
                InodeId(key.decode("ascii")): (hold.device, Stamp(hold.stamp)) for key, hold in found
            }
        return self._held

    def __bool__(self) -> bool:
        return bool(self.all)

    def __contains__(self, inode: object) -> bool:
        return inode in self.all

    def get(self, inode: InodeId) -> Hold | None:
        """Of an inode that is held."""
        if self._rows is None or inode not in self.all:
            return None
        row = self._rows.get_local(KIND, inode.encode("ascii"))
        return None if row is None else _decode(row)

    def put(self, inode: InodeId, hold: Hold) -> None:
        assert self._rows is not None
        self._recount(self.get(inode), -1)
        self._rows.put_local(KIND, inode.encode("ascii"), _encode(hold))
        self._cached()[inode] = (hold.device, Stamp(hold.stamp))
        self._recount(hold, 1)

    def delete(self, inode: InodeId) -> None:
        assert self._rows is not None
        self._recount(self.get(inode), -1)
        self._rows.delete_local(KIND, inode.encode("ascii"))
        self._cached().pop(inode, None)

    def tally(self) -> list[Tally]:
        """What is held, device by device. Counted once, and followed from then on."""
        if self._tally is None:
            self._tally = {}
            for inode in self.all:
                self._recount(self.get(inode), 1)
        return [one for _, one in sorted(self._tally.items()) if one.inodes]

    def _recount(self, hold: Hold | None, sign: int) -> None:
        if hold is not None and self._tally is not None:
            _count(self._tally.setdefault(hold.device, Tally(hold.device)), hold, sign)

    def shown(self) -> Iterator[tuple[InodeId, dict[str, Record]]]:
        """What is shown of every held inode: what the oracle is given in place of the joined records."""
        for inode in list(self.all):
            hold = self.get(inode)
            if hold is not None:
                yield inode, decoded(hold.shown)


def decoded(raw: Mapping[str, bytes]) -> dict[str, Record]:
    """Records by link."""
    return {link: encoding.decode(value, encoding.JOINED_BYTES_MAX) for link, value in raw.items()}


def encoded(records: Mapping[str, Record]) -> dict[str, bytes]:
    """The bytes of records, by link."""
    return {link: encoding.encode(record, encoding.JOINED_BYTES_MAX) for link, record in records.items()}


def _count(tally: Tally, hold: Hold, sign: int) -> None:
    if hold.is_directory:
        tally.directories += sign
    elif hold.is_removal:
        tally.removed += sign
    else:
        tally.rewritten += sign
    tally.bytes += sign * hold.size
    tally.first = Stamp(min(tally.first, hold.stamp) if tally.first else hold.stamp)
    tally.last = Stamp(max(tally.last, hold.stamp))


def _decode(row: bytes) -> Hold:
    try:
        return _decoder.decode(row)
    except msgspec.DecodeError as error:
        raise FormatError(f"a held inode's row cannot be read: {error}") from None
