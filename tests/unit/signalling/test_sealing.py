"""What passes through a signalling server: sealed, for one room, and met by clocks that differ."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dittofs.clock import SECOND_NS
from dittofs.errors import FormatError
from dittofs.replication import rendezvous
from dittofs.signalling.messages import (
    ROOM_BYTES,
    Enter,
    Part,
    decode_from_client,
    decode_from_server,
    encode,
)
from dittofs.signalling.sealing import (
    OVERLAP_S,
    Answer,
    Here,
    Offer,
    Seal,
    pairing_room,
    parse,
    plain,
    rooms,
)

SECRET = bytes(32)
ROOM, OTHER = bytes(ROOM_BYTES), bytes([1]) * ROOM_BYTES
WORD = Offer(bytes(16), 7, "v=0")


def test_what_was_sealed_opens_in_its_room_and_with_its_key_alone() -> None:
    sealed = Seal(SECRET, os.urandom).close(WORD, ROOM)
    assert Seal(SECRET, os.urandom).open(sealed, ROOM) == WORD
    assert b"v=0" not in sealed
    for seal, data, room in [
        (Seal(bytes([1]) * 32, os.urandom), sealed, ROOM),
        (Seal(SECRET, os.urandom), sealed, OTHER),
        (Seal(SECRET, os.urandom), sealed[:-1] + bytes([sealed[-1] ^ 1]), ROOM),
        (Seal(SECRET, os.urandom), sealed[:12], ROOM),
        (Seal(SECRET, os.urandom), b"\2" + sealed[1:], ROOM),
        (Seal(SECRET, os.urandom), b"", ROOM),
    ]:
        with pytest.raises(FormatError):
            seal.open(data, room)


@pytest.mark.parametrize("word", [WORD, Here(bytes(32), bytes(16)), Answer(bytes(16), 1, "x")])
def test_words_are_read_as_they_were_written(word: Here | Offer | Answer) -> None:
    assert parse(plain(word)) == word


@given(st.binary(max_size=200))
def test_no_bytes_are_worse_than_refused(data: bytes) -> None:
    for read in (parse, decode_from_client, decode_from_server):
        try:
            read(data)
        except FormatError:
            continue


def test_a_message_with_more_in_it_than_its_kind_has_is_refused() -> None:
    assert decode_from_client(encode(Enter(ROOM, Part.HOST))) == Enter(ROOM, Part.HOST)
    with pytest.raises(FormatError):
        decode_from_client(encode(Enter(ROOM[:-1], Part.HOST)))
    with pytest.raises(FormatError):
        decode_from_server(encode(Enter(ROOM, Part.HOST)))


@given(st.integers(0, 2**33), st.integers(-2 * OVERLAP_S + 2, 2 * OVERLAP_S - 2))
def test_clocks_that_differ_by_less_than_two_hours_meet(now_s: int, ahead_s: int) -> None:
    assert rooms(SECRET, now_s * SECOND_NS) & rooms(SECRET, max(0, now_s + ahead_s) * SECOND_NS)


def test_a_room_is_another_one_each_day_and_not_what_a_local_network_is_told() -> None:
    day = 86_400 * SECOND_NS
    noon = day + day // 2
    assert len(rooms(SECRET, noon)) == 1
    assert not rooms(SECRET, noon) & rooms(SECRET, noon + day)
    assert not rooms(SECRET, noon) & rendezvous.tags(SECRET, noon)


def test_numbers_of_codes_have_rooms_of_their_own() -> None:
    assert len({pairing_room(slot) for slot in range(1, 100)}) == 99
