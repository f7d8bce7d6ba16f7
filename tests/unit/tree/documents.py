"""Plain pycrdt documents, without our shard around them, and the bytes of updates made by hand."""

import subprocess
import sys
from collections.abc import Collection, Mapping

from pycrdt import Doc, Map, TransactionEvent

MapDoc = Doc[Map[bytes]]


def document(client_id: int, *updates: bytes) -> MapDoc:
    doc: MapDoc = Doc(client_id=client_id)
    doc.get("m", type=Map)
    for update in updates:
        doc.apply_update(update)
    return doc


def content(doc: MapDoc) -> dict[str, bytes]:
    values = doc.get("m", type=Map)
    return {key: bytes(values[key]) for key in values.keys()}  # noqa: SIM118 - it is no dict


def change(doc: MapDoc, sets: Mapping[str, bytes], deletes: Collection[str] = ()) -> bytes:
    """One transaction; its update."""
    values = doc.get("m", type=Map)
    emitted: list[bytes] = []

    def emit(event: TransactionEvent) -> None:
        emitted.append(event.update)

    subscription = doc.observe(emit)
    with doc.transaction():
        for key, value in sets.items():
            values[key] = value
        for key in deletes:
            del values[key]
    doc.unobserve(subscription)
    (update,) = emitted
    return update


def number(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


def text(value: bytes) -> bytes:
    return number(len(value)) + value


def nested_arrays(depth: int) -> bytes:
    """A value that is an array in an array in an array."""
    return b"\x01\x01\x05\x00\x28\x01\x01m\x01k\x01" + b"\x75\x01" * depth + b"\x7e\x00"


def garbage_struct(client: int, length: int) -> bytes:
    return b"\x01\x01" + number(client) + b"\x00\x00" + number(length) + b"\x00"


APPLY = """
import sys
from pycrdt import Doc, Map
doc = Doc(client_id=9)
doc.get("m", type=Map)
doc.apply_update(sys.stdin.buffer.read())
print(doc.get_state().hex())
"""


def applied_elsewhere(update: bytes) -> subprocess.CompletedProcess[bytes]:
    """What becomes of a process that hands `update` to the library unseen."""
    return subprocess.run(
        [sys.executable, "-c", APPLY], input=update, capture_output=True, check=False, timeout=60
    )
