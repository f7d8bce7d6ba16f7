"""The kernel's messages about interfaces: which of them mean that a network came."""

import struct

from dittofs.discovery.interfaces import IFF_RUNNING, NEW_ADDRESS, NEW_LINK, news

GONE_LINK = 17


def message(kind: int, payload: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(payload), kind, 0, 0, 0) + payload.ljust(-(-len(payload) // 4) * 4)


def link(index: int, flags: int) -> bytes:
    return message(NEW_LINK, struct.pack("=BxHiII", 0, 1, index, flags, 0))


def test_an_interface_that_begins_to_run_is_news_once() -> None:
    running: dict[int, bool] = {}
    assert news(link(2, IFF_RUNNING), running)
    assert not news(link(2, IFF_RUNNING), running), "what a radio says of itself all the time"
    assert not news(link(2, 0), running)
    assert news(link(2, IFF_RUNNING), running), "plugged in again"
    assert news(link(3, IFF_RUNNING), running)


def test_an_address_is_news_wherever_it_stands_among_the_messages() -> None:
    assert news(link(2, 0) + message(GONE_LINK, b"12345") + message(NEW_ADDRESS, bytes(8)), {})


def test_messages_cut_short_are_no_news_and_no_error() -> None:
    whole = link(2, IFF_RUNNING)
    for length in range(28):
        assert not news(whole[:length], {})
    assert not news(bytes(64), {}), "a length that leads nowhere"
