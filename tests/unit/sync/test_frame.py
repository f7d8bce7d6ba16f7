"""Frames: any split of the bytes gives the same messages; what no sender made is refused within bounds."""

import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dittofs.errors import FormatError
from dittofs.sync.frame import BULK, HEADER_BYTES_MAX, MORE, PAYLOAD_BYTES_MAX, FrameReader, frames

MESSAGES = [
    (b"h", b""),
    (b"header", b"body"),
    (b"\x00" * HEADER_BYTES_MAX, b"x" * PAYLOAD_BYTES_MAX),
    (b"two frames", bytes(range(256)) * 1025),
    (b"three", b"y" * (2 * PAYLOAD_BYTES_MAX + 1)),
]


def encoded(header: bytes, body: bytes, *, is_bulk: bool = False) -> list[bytes]:
    return [b"".join(parts) for parts in frames(header, body, is_bulk=is_bulk)]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(MESSAGES), max_size=4), st.integers(0, 2**32), st.integers(1, 70_000))
def test_any_split_of_the_bytes_gives_the_same_messages(
    messages: list[tuple[bytes, bytes]], seed: int, longest: int
) -> None:
    stream = b"".join(part for message in messages for part in encoded(*message))
    chance = random.Random(seed)
    reader, found, at = FrameReader(), [], 0
    while at < len(stream):
        step = chance.randint(1, longest)
        found += list(reader.feed(stream[at : at + step]))
        at += step
    assert found == messages


def test_smaller_frames_carry_the_same_messages_to_any_reader() -> None:
    parts = [b"".join(each) for each in frames(b"h", b"x" * 100_000, is_bulk=True, payload_bytes=16 << 10)]
    assert max(map(len, parts)) <= (16 << 10) + 16
    assert list(FrameReader().feed(b"".join(parts))) == [(b"h", b"x" * 100_000)]


def test_a_message_that_is_waited_for_overtakes_one_that_is_not() -> None:
    bulk = encoded(b"bulk", b"b" * (3 * PAYLOAD_BYTES_MAX), is_bulk=True)
    demand = encoded(b"demand", b"d" * (2 * PAYLOAD_BYTES_MAX))
    reader = FrameReader()
    order = [bulk[0], demand[0], demand[1], bulk[1], bulk[2]]
    assert [header for part in order for header, _ in reader.feed(part)] == [b"demand", b"bulk"]


@pytest.mark.parametrize(
    "data",
    [
        struct.pack(">BBHI", 4, 0, 1, 0) + b"h",
        struct.pack(">BBHI", 0, 1, 1, 0) + b"h",
        struct.pack(">BBHI", 0, 0, HEADER_BYTES_MAX + 1, 0),
        struct.pack(">BBHI", 0, 0, 1, PAYLOAD_BYTES_MAX + 1),
        struct.pack(">BBHI", 0, 0, 0, 1) + b"x",
        struct.pack(">BBHI", MORE, 0, 1, 4096)
        + b"h"
        + bytes(4096)
        + struct.pack(">BBHI", 0, 0, 1, 1)
        + b"hx",
        struct.pack(">BBHI", MORE, 0, 1, 4096)
        + b"h"
        + bytes(4096)
        + struct.pack(">BBHI", BULK, 0, 0, 1)
        + b"x",
        struct.pack(">BBHI", MORE, 0, 1, 4095) + b"h" + bytes(4095),
        struct.pack(">BBHI", 0, 0, 0, 0),
    ],
)
def test_what_no_sender_makes_is_refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        list(FrameReader().feed(data))


def test_a_message_without_end_is_refused_at_its_bound() -> None:
    reader = FrameReader(body_bytes_max=3 * PAYLOAD_BYTES_MAX)
    first = struct.pack(">BBHI", MORE, 0, 1, PAYLOAD_BYTES_MAX) + b"h" + bytes(PAYLOAD_BYTES_MAX)
    further = struct.pack(">BBHI", MORE, 0, 0, PAYLOAD_BYTES_MAX) + bytes(PAYLOAD_BYTES_MAX)
    assert list(reader.feed(first + further + further)) == []
    with pytest.raises(FormatError):
        list(reader.feed(further))
