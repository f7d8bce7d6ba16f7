"""The kernel's messages about interfaces: which of them mean that a network came."""

import struct

from dittofs.discovery.interfaces import GONE_ADDRESS, IFF_RUNNING, NEW_ADDRESS, NEW_LINK, News, news

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


def test_an_address_that_is_taken_away_is_told_by_name() -> None:
    head = struct.pack("=BBBBI", 2, 24, 0, 0, 5)
    four = struct.pack("=HH4s", 8, 2, bytes([192, 0, 2, 7])) + struct.pack("=HH4s", 8, 3, b"eth0")
    six = struct.pack("=HH16s", 20, 1, bytes([0xFE, 0x80]) + bytes(13) + b"\x07")
    found = news(message(GONE_ADDRESS, head + four) + message(GONE_ADDRESS, head + six), {})
    assert found == News(is_new=False, gone=frozenset({"192.0.2.7", "fe80::7"}))
    whole = message(GONE_ADDRESS, head + four)
    for length in range(len(whole)):
        assert news(whole[:length], {}) in (News(), News(gone=frozenset({"192.0.2.7"})))
