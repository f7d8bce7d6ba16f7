"""What a part of a record may be: each function gives its value, or a FormatError."""

import binascii
from functools import lru_cache
from typing import Any, Final, NoReturn

import msgspec

from dittofs.errors import FormatError
from dittofs.ids import INODE_ID_BYTES, SLOT_BYTES, InodeId, Slot, Stamp
from dittofs.tree.record import STAMP_END, Dot, is_name

INT_MIN, INT_END = -(1 << 63), 1 << 63
COUNT_END: Final = 1 << 48

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder()


@lru_cache(maxsize=1 << 12)
def unpack_id(raw: bytes) -> str:
    """The text of an inode id or a slot."""
    return binascii.b2a_base64(raw, newline=False).decode("ascii").replace("+", "-").replace("/", "_")


def register(field: Any, slots: list[Slot], base: int) -> tuple[Stamp, Slot, Any]:
    """A register's stamp, slot and value."""
    delta, at, value = field
    return stamp(delta + base), slot_at(slots, at), value


def dots(flat: Any, slots: list[Slot], context: dict[Slot, int]) -> tuple[Dot, ...]:
    """Changes that the context has seen."""
    if type(flat) is not list:
        bad("holds dots that are no list")
    return tuple(dot(flat[at], flat[at + 1], slots, context) for at in range(0, len(flat), 2))


def dot(at: Any, n: Any, slots: list[Slot], context: dict[Slot, int]) -> Dot:
    """One change that the context has seen."""
    writer = slot_at(slots, at)
    if type(n) is not int or not 0 < n <= context[writer]:
        bad("names a change that it has not seen")
    return writer, n


def slot_at(slots: list[Slot], at: Any) -> Slot:
    """The slot at a place of the context."""
    if type(at) is not int or at < 0:
        bad("names no slot")
    return slots[at]


def slot(raw: Any) -> Slot:
    """A writer."""
    if type(raw) is not bytes or len(raw) != SLOT_BYTES:
        bad("names no slot")
    return Slot(unpack_id(raw))


def inode(raw: Any) -> InodeId:
    """An inode id."""
    if type(raw) is not bytes or len(raw) != INODE_ID_BYTES:
        bad("names no inode")
    return InodeId(unpack_id(raw))


def name(raw: Any) -> bytes:
    """A name of a directory entry."""
    if type(raw) is not bytes or not is_name(raw):
        bad("holds an impossible name")
    return bytes(raw)


def count(n: Any) -> int:
    """How many changes a writer made."""
    if type(n) is not int or not 0 < n < COUNT_END:
        bad("counts impossibly")
    return int(n)


def stamp(value: Any) -> Stamp:
    """A time."""
    if type(value) is not int or not 0 <= value < STAMP_END:
        bad("holds an impossible time")
    return Stamp(value)


def integer(value: Any) -> int:
    """A number of 64 bits."""
    if type(value) is not int or not INT_MIN <= value < INT_END:
        bad("holds an impossible number")
    return int(value)


def register_of_later(field: Any) -> object:
    """A register of a field that this program does not know."""
    if type(field) is not list or len(field) != 3:
        bad("holds a later register of another shape")
    stamp(field[0])
    slot(field[1])
    return _settled(field)


def map_of_later(field: Any) -> object:
    """A map of such registers."""
    if type(field) is not dict:
        bad("holds a later map of another shape")
    for key, one in field.items():
        if type(key) not in (int, str, bytes):
            bad("holds a later map of another shape")
        register_of_later(one)
    return _settled(field)


def _settled(field: Any) -> object:
    """`field`, if it comes back from its own bytes: what is carried on must not change on the way."""
    raw = _encoder.encode(field)
    if _encoder.encode(_decoder.decode(raw)) != raw:
        bad("holds a later field that cannot be carried on")
    return field


def bad(what: str) -> NoReturn:
    """Raise what is wrong with a record."""
    raise FormatError(f"a record {what}")
