"""Rates, windows and the choice of a link: what is measured decides, and little is asked before it is."""

from typing import Final

from dittofs.replication.scheduler import (
    CHUNK_BYTES,
    REST_S,
    WINDOW_BYTES_FIRST,
    Capacity,
    choose,
    is_worth_it,
)

FAST: Final = 100e6
SLOW: Final = 200e3


def measured(name: str, rate: float, *, rounds: int = 64) -> Capacity[str]:
    """A link that has carried chunks at a rate, always with four more asked for."""
    made = Capacity(name, round_trip_s=0.001)
    now = 0.0
    for _ in range(4):
        made.asked(now)
    for _ in range(rounds * max(1, int(rate * 0.05 / CHUNK_BYTES))):
        now += CHUNK_BYTES / rate
        made.asked(now)
        made.answered()
        made.came(now)
    for _ in range(4):
        made.answered()
    return made


def test_little_is_asked_of_a_link_that_has_shown_nothing() -> None:
    assert Capacity("new").window_bytes == WINDOW_BYTES_FIRST


def test_the_rate_is_what_a_busy_link_delivers() -> None:
    for rate in (FAST, SLOW):
        assert 0.9 * rate < measured("busy", rate).rate < 1.1 * rate


def test_single_requests_with_pauses_do_not_make_a_link_look_slow() -> None:
    link = measured("fast", FAST)
    before = link.rate
    now = 1000.0
    for _ in range(100):
        link.asked(now)
        link.answered()
        link.came(now + 0.2)
        now += 1.0
    assert link.rate == before


def test_of_two_links_the_one_that_would_bring_it_sooner_is_asked() -> None:
    fast, slow = measured("fast", FAST), measured("slow", SLOW)
    assert choose([slow, fast], is_bulk=True) is fast
    while fast.has_room(is_bulk=True):
        fast.asked(0.0)
    assert choose([slow, fast], is_bulk=True) is slow


def test_the_last_chunks_are_left_to_the_link_that_brings_them_all_sooner() -> None:
    fast, slow = measured("fast", FAST), measured("slow", SLOW)
    while fast.has_room(is_bulk=True):
        fast.asked(0.0)
    assert is_worth_it(slow, [fast], left_bytes=1 << 30)
    assert not is_worth_it(slow, [fast], left_bytes=CHUNK_BYTES)


def test_a_peer_that_is_late_twice_rests() -> None:
    link = measured("late", FAST)
    link.was_late(10.0)
    assert not link.rests(10.0)
    link.was_late(12.0)
    assert link.rests(13.0)
    assert not link.rests(12.0 + REST_S)


def test_a_pause_of_a_link_does_not_make_it_look_slow_for_ever() -> None:
    link = measured("fast", FAST)
    before = link.rate
    for now in range(10, 100, 10):
        link.asked(now)
        link.was_late(now + 2.0)
        link.answered()
        link.came(now + 5.0)
    assert link.rate == before
