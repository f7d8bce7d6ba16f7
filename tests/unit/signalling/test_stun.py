"""STUN: the address that a question came from, as RFC 8489 and its test vectors (RFC 5769) have it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dittofs.signalling.stun import answer

QUESTION = bytes.fromhex("00010000 2112a442 b7e7a701bc34d686fa87dfae")


def test_the_answers_of_the_test_vectors_are_ours() -> None:
    ipv4 = answer(QUESTION, "192.0.2.1", 32853)
    assert ipv4 is not None
    assert ipv4[20:] == bytes.fromhex("0020 0008 0001 a147 e112a643")
    ipv6 = answer(QUESTION, "2001:db8:1234:5678:11:2233:4455:6677", 32853)
    assert ipv6 is not None
    assert ipv6[20:] == bytes.fromhex("0020 0014 0002 a147 0113a9faa5d3f179bc25f4b5bed2b9d9")
    assert ipv4[:20] == bytes.fromhex("0101000c 2112a442 b7e7a701bc34d686fa87dfae")


def test_an_ipv4_address_behind_an_ipv6_socket_is_told_as_ipv4() -> None:
    assert answer(QUESTION, "::ffff:192.0.2.1", 32853) == answer(QUESTION, "192.0.2.1", 32853)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        QUESTION[:-1],
        QUESTION + b"\0",
        b"\1\1" + QUESTION[2:],
        QUESTION[:4] + bytes(4) + QUESTION[8:],
        QUESTION + bytes(600),
    ],
)
def test_what_is_no_question_is_not_answered(data: bytes) -> None:
    assert answer(data, "192.0.2.1", 1) is None


@given(st.binary(max_size=600))
def test_no_datagram_is_worse_than_unanswered_nor_answered_with_much_more(data: bytes) -> None:
    told = answer(data, "2001:db8::1", 65535)
    assert told is None or len(told) <= len(data) + 24
