"""The validating decoder: what a CRDT update says, before the CRDT library sees a byte of it.

An update is in the Yjs v1 encoding, but only the subset that our own shards write is let through: values in
the root map `m`, byte strings only, every key owned by the client that writes it (docs/reference/wire.md,
"Updates"). Any bytes give a `DecodedUpdate` or one `FormatError`, in time and memory linear in their length.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

from dittofs.errors import Behind, FormatError
from dittofs.ids import GENESIS_SLOT, Slot, client_of_slot, slot_of_client

StateVector = Mapping[int, int]
"""Client id -> number of its operations that are known, all of them from the first on."""

GENESIS_CLIENT: Final = 1
"""Writes what compaction writes, in slot `g`."""
CLIENT_MAX: Final = (1 << 48) - 1
CLOCK_MAX: Final = (1 << 31) - 1  # yrs counts in 32 bits
RECORD_BYTES_MAX: Final = 64 << 10
KEY_BYTES_MAX: Final = 256
VECTOR_CLIENTS_MAX: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one update may hold."""

    bytes: int
    operations: int
    """So many writes, and as many deleted ranges."""
    clocks: int
    """So many operations of one client that are not known yet."""


LIVE: Final = Limits(bytes=1 << 20, operations=1_000, clocks=1_000)
"""An update as it was made: one operation, or a batch of them."""
STATE: Final = Limits(bytes=64 << 20, operations=1 << 20, clocks=1 << 24)
"""A snapshot, or a difference against a state vector: both carry every deletion there ever was."""


class Write(NamedTuple):
    """Operations `clock`..`clock + length - 1` of `client` on one key."""

    client: int
    clock: int
    length: int
    """1 for a value. A run of values that are gone already may be longer."""
    origin: int
    """The clock of this client's write that this one replaces; -1: it is the first on its key."""
    key: str | None
    """None: the key of `origin`, which is not part of this update."""
    value: bytes | None
    """None: gone already, replaced or deleted later in this update."""


class Deletion(NamedTuple):
    """Operations `clock`..`clock + length - 1` of `client` hold nothing any more, replaced or removed."""

    client: int
    clock: int
    length: int


@dataclass(frozen=True, slots=True)
class DecodedUpdate:
    """A well-formed update. What it does to a given shard is `Shard.preview`."""

    raw: bytes
    writes: tuple[Write, ...]
    """Per client in the order of its clocks, without gaps."""
    deletions: tuple[Deletion, ...]
    """Per client in the order of its clocks, without overlaps."""
    ranges: Mapping[int, tuple[int, int]]
    """Client -> the first clock written here and the one after the last."""


_ID = r"[A-Za-z0-9_-]"
_RECORD_KEY = re.compile(rf"(?:{_ID}{{16}}(?:\.{_ID}{{1,64}})?|[a-z][a-z0-9./_-]{{0,199}})")

_FIRST = b"\x28\x01\x01m"  # a value, no origin: its parent is the root type named `m`, and its key follows
_FIRST_GONE = b"\x21\x01\x01m"  # the same with its value gone
_NEXT, _NEXT_GONE = 0xA8, 0xA1  # a value, or a gone one, whose parent and key are those of its origin
_BYTES_VALUE = b"\x01t"  # one element, a byte string
_KINDS = {0: "a garbage struct", 10: "a skip"}


def is_record_key(text: str) -> bool:
    """Whether `text` can stand before the slot in a key: an inode, a link, or a meta document's name."""
    return _RECORD_KEY.fullmatch(text) is not None


@lru_cache(maxsize=4096)
def slot_of(client: int) -> Slot:
    """The slot in which `client` writes."""
    return GENESIS_SLOT if client == GENESIS_CLIENT else slot_of_client(client)


@lru_cache(maxsize=4096)
def client_of(slot: Slot) -> int:
    """Who writes in `slot`. Raises ValueError unless it is `g` or 8 base64url characters."""
    return GENESIS_CLIENT if slot == GENESIS_SLOT else client_of_slot(slot)


def decode(update: bytes, known: StateVector | None, *, limits: Limits = LIVE) -> DecodedUpdate:
    """What `update` says. Raises FormatError, and nothing else, unless our shards could have written it.

    With `known`, the state of the shard it is meant for, it must continue that state: no gap before the first
    operation of any client, no deletion of what nobody has written (`Behind`). Without it (None) the update
    must only be sound in itself.
    """
    if len(update) > limits.bytes:
        raise FormatError(f"an update of {len(update)} bytes; {limits.bytes} are allowed")
    try:
        return _decode(update, known, limits)
    except IndexError:
        raise FormatError("an update ends too early") from None


def _decode(update: bytes, known: StateVector | None, limits: Limits) -> DecodedUpdate:
    writes: list[Write] = []
    ranges: dict[int, tuple[int, int]] = {}
    budget = limits.operations
    clients, at = _number(update, 0)
    for _ in range(clients):
        count, at = _number(update, at)
        client, at = _number(update, at)
        start, at = _number(update, at)
        budget -= count
        if not 0 < client <= CLIENT_MAX or client in ranges:
            raise FormatError(f"an update names client {client}, which is no client or named twice")
        if count == 0 or budget < 0:
            raise FormatError("an update holds no or too many operations of a client")
        before = start if known is None else known.get(client, 0)
        if start > before:
            raise Behind(f"an update starts at operation {start} of a client of which {before} are known")
        end, at = _client(update, at, client, start, count, writes)
        if end > CLOCK_MAX or end - before > limits.clocks:
            raise FormatError(f"an update takes a client from operation {before} to {end}")
        ranges[client] = (start, end)
    deletions: list[Deletion] = []
    budget = limits.operations
    seen: set[int] = set()
    clients, at = _number(update, at)
    for _ in range(clients):
        client, at = _number(update, at)
        count, at = _number(update, at)
        budget -= count
        if not 0 < client <= CLIENT_MAX or client in seen:
            raise FormatError(f"an update deletes of client {client}, which is no client or named twice")
        if count == 0 or budget < 0:
            raise FormatError("an update holds no or too many deletions of a client")
        seen.add(client)
        if known is None:
            written = CLOCK_MAX
        else:
            written = max(known.get(client, 0), ranges[client][1] if client in ranges else 0)
        before = 0
        for _ in range(count):
            clock, at = _number(update, at)
            length, at = _number(update, at)
            if clock < before or length == 0:
                raise FormatError("an update deletes nothing, or the same again")
            before = clock + length
            if before > written:
                raise Behind("an update deletes what nobody has written")
            deletions.append(Deletion(client, clock, length))
    if at != len(update):
        raise FormatError(f"an update is followed by {len(update) - at} bytes")
    return DecodedUpdate(update, tuple(writes), tuple(deletions), ranges)


def _client(
    update: bytes, at: int, client: int, start: int, count: int, writes: list[Write]
) -> tuple[int, int]:
    """Read the `count` structs of one client onto `writes`; return the clock and the place after them."""
    suffix = ":" + slot_of(client)
    heads: dict[int, str | None] = {}  # last clock of a write here -> its key: what a later write may replace
    clock = start
    for left in range(count, 0, -1):
        key: str | None
        info = update[at]
        if info in (_NEXT, _NEXT_GONE):
            origin_client, at = _number(update, at + 1)
            origin, at = _number(update, at)
            if origin_client != client or origin >= clock:
                raise FormatError("an operation replaces one that is not an earlier one of its own client")
            if origin < start:
                key = None
            elif origin in heads:
                key = heads.pop(origin)
            else:
                raise FormatError("an operation replaces what is no key's last operation")
        elif update.startswith((_FIRST, _FIRST_GONE), at):
            origin = -1
            size, at = _number(update, at + 4)
            key = _key(update[at : at + size], size, suffix)
            at += size
        else:
            raise FormatError(
                f"an update holds {_KINDS.get(info & 0x1F, 'an operation that no shard makes')}"
            )
        if info & 0x1F == 1:
            length, at = _number(update, at)
            value = None
            if length == 0:
                raise FormatError("an update holds an empty run")
        else:
            if not update.startswith(_BYTES_VALUE, at):
                raise FormatError("an update holds a value that is not one byte string")
            size, at = _number(update, at + 2)
            length, value = 1, update[at : at + size]
            at += size  # past the end, if the value is cut: then the next read fails
            if size > RECORD_BYTES_MAX:
                raise FormatError(f"a record of {size} bytes; {RECORD_BYTES_MAX} are allowed")
        writes.append(Write(client, clock, length, origin, key, value))
        clock += length
        if left > 1:
            heads[clock - 1] = key
    return clock, at


def _key(raw: bytes, size: int, suffix: str) -> str:
    if len(raw) == size <= KEY_BYTES_MAX and raw.isascii():
        key = raw.decode("ascii")
        if key.endswith(suffix) and is_record_key(key[: -len(suffix)]):
            return key
    raise FormatError("an update writes a key that is malformed or not its writer's")


def _number(data: bytes, at: int) -> tuple[int, int]:
    """The number at `at`, in seven-bit groups, lowest first, in the fewest bytes; and the place after it."""
    byte = data[at]
    if byte < 0x80:
        return byte, at + 1
    value = byte & 0x7F
    shift = 7
    while True:
        at += 1
        byte = data[at]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
        if shift > 49:
            raise FormatError("a number of more than 56 bits")
    if byte == 0:
        raise FormatError("a number in more bytes than it needs")
    return value, at + 1


def encode_state_vector(known: StateVector) -> bytes:
    """`known` in the Yjs encoding, sorted by client: equal states give equal bytes."""
    parts = [_encode_number(len(known))]
    for client in sorted(known):
        parts.append(_encode_number(client))
        parts.append(_encode_number(known[client]))
    return b"".join(parts)


def decode_state_vector(data: bytes) -> dict[int, int]:
    """The state vector in `data`, its clients in any order. Raises FormatError, and nothing else."""
    try:
        count, at = _number(data, 0)
        if count > VECTOR_CLIENTS_MAX:
            raise FormatError(f"a state vector of {count} clients; {VECTOR_CLIENTS_MAX} are allowed")
        known: dict[int, int] = {}
        for _ in range(count):
            client, at = _number(data, at)
            clock, at = _number(data, at)
            if not 0 < client <= CLIENT_MAX or client in known or not 0 < clock <= CLOCK_MAX:
                raise FormatError(f"a state vector holds client {client} at {clock}")
            known[client] = clock
    except IndexError:
        raise FormatError("a state vector ends too early") from None
    if at != len(data):
        raise FormatError(f"a state vector is followed by {len(data) - at} bytes")
    return known


def _encode_number(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
