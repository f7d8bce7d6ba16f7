"""The beacon: its datagrams, and how much of a flood is taken. Whole: tests/e2e/test_codes.py."""

import contextlib
import socket
from functools import partial
from ipaddress import IPv4Network

import pytest
import trio
from hypothesis import example, given
from hypothesis import strategies as st

from dittofs.discovery import beacon
from dittofs.discovery.beacon import (
    ANSWERS_PER_HOST_MAX,
    ANSWERS_PER_S_MAX,
    DATAGRAMS_PER_S_MAX,
    Neighbours,
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


def test_the_adapters_are_read_once_a_second() -> None:
    reads: list[float] = []
    now = 5.0

    def look() -> set[IPv4Network]:
        reads.append(now)
        return {IPv4Network("10.0.0.0/24")} if len(reads) == 1 else {IPv4Network("10.0.1.0/24")}

    neighbours = Neighbours(look)
    for now in (5.0, 5.1, 5.9):
        assert neighbours.has("10.0.0.7", now)
        assert not neighbours.has("10.0.1.7", now)
    now = 6.0
    assert neighbours.has("10.0.1.7", now)
    assert reads == [5.0, 6.0]


async def test_who_is_of_no_subnet_here_takes_nothing_of_what_is_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By the addresses of a loopback: 127.0.0.2 is made an outsider, as a made up address would be."""
    monkeypatch.setattr(beacon, "subnets", lambda _bind: {IPv4Network("127.0.0.1/32")})
    with contextlib.ExitStack() as sockets, trio.fail_after(10):
        speaking = {}
        for host in ("127.0.0.1", "127.0.0.2"):
            made = sockets.enter_context(trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            await made.bind((host, 0))
            speaking[host] = made
        port = speaking["127.0.0.1"].getsockname()[1] + 1
        counted: list[str] = []
        may_answer = Pace.may_answer

        def counting(pace: Pace, host: str, now: float) -> bool:
            counted.append(host)
            return may_answer(pace, host, now)

        monkeypatch.setattr(Pace, "may_answer", counting)
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(beacon.answering, lambda _slot: OFFER, bind="127.0.0.1", port=port))
            for _ in range(ANSWERS_PER_S_MAX):
                await speaking["127.0.0.2"].sendto(question(7, ECHO), ("127.0.0.1", port))
            await speaking["127.0.0.1"].sendto(question(7, ECHO), ("127.0.0.1", port))
            said, _ = await speaking["127.0.0.1"].recvfrom(256)
            assert parse_answer(said, 7, ECHO) == OFFER
            nursery.cancel_scope.cancel()
        assert counted == ["127.0.0.1"]
