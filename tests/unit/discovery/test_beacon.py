"""The beacon: its datagrams, and how much of a flood is taken. Whole: tests/e2e/test_codes.py."""

import contextlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dittofs.discovery.beacon import (
    ANSWERS_PER_HOST_MAX,
    ANSWERS_PER_S_MAX,
    DATAGRAMS_PER_S_MAX,
    Offer,
    Pace,
    State,
    Unasked,
    answer,
    parse_answer,
    parse_question,
    question,
)

ECHO = b"12345678"
OFFER = Offer(State.OPEN, 7347)


def test_the_datagrams_are_these_bytes() -> None:
    assert question(7, ECHO).hex() == "646974746f3f00013132333435363738" + "0007" + "00" * 14
    assert answer(7, ECHO, OFFER).hex() == "646974746f2100013132333435363738" + "0007" + "00" + "1cb3"


def test_no_answer_is_longer_than_its_question() -> None:
    assert len(answer(7, ECHO, OFFER)) <= len(question(7, ECHO))


def test_an_answer_counts_only_for_its_question() -> None:
    said = answer(7, ECHO, OFFER)
    assert parse_answer(said, 7, ECHO) == OFFER
    for slot, echo in ((8, ECHO), (7, b"87654321")):
        with pytest.raises(Unasked):
            parse_answer(said, slot, echo)


@given(st.binary(max_size=64))
@example(answer(7, ECHO, Offer(State.OPEN, 0)))
@example(answer(7, ECHO, OFFER)[:18] + b"\x01" + answer(7, ECHO, OFFER)[19:])
@example(question(7, ECHO)[:-1])
def test_any_other_datagram_is_passed_over(data: bytes) -> None:
    with contextlib.suppress(Unasked):
        parse_question(data)
    with pytest.raises(Unasked):
        parse_answer(data, 7, ECHO)


def test_who_floods_gets_few_answers_and_takes_none_from_others() -> None:
    pace = Pace()
    given_ = sum(pace.may_answer("10.0.0.66", 5.0) for _ in range(10_000))
    assert given_ == ANSWERS_PER_HOST_MAX
    assert pace.may_answer("10.0.0.7", 5.5)
    assert pace.may_answer("10.0.0.66", 6.0)


def test_a_flood_from_many_addresses_is_bounded_within_each_second() -> None:
    pace = Pace()
    for second in (5.0, 6.0):
        assert sum(pace.may_answer(f"10.0.{n >> 8}.{n & 255}", second) for n in range(10_000)) == (
            ANSWERS_PER_S_MAX
        )


def test_beyond_a_rate_the_kernel_drops_what_comes_until_the_second_ends() -> None:
    pace = Pace()
    assert not any(pace.pause_s(5.25) for _ in range(DATAGRAMS_PER_S_MAX))
    assert pace.pause_s(5.25) == 0.75
    assert pace.pause_s(6.0) == 0.0
