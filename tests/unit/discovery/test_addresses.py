"""Addresses, and the book of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dittofs.address import Address
from dittofs.discovery.addresses import (
    ADDRESSES_PER_PEER_MAX,
    BACK_OFF_FIRST_S,
    BACK_OFF_MAX_S,
    BACK_OFF_SIGHTED_MAX_S,
    PEERS_MAX,
    AddressBook,
    Source,
    back_off_s,
)
from dittofs.errors import FormatError

A, B, C = Address("10.0.0.1", 1), Address("10.0.0.2", 2), Address("10.0.0.3", 3)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("192.168.1.7:4001", "192.168.1.7", 4001),
        ("laptop.local:65535", "laptop.local", 65535),
        ("Laptop:1", "laptop", 1),
        ("[::1]:80", "::1", 80),
        ("[FE80:0::1%eth0]:4001", "fe80::1%eth0", 4001),
        ("[fe80::1%wlp2s0.7]:4001", "fe80::1%wlp2s0.7", 4001),
    ],
)
def test_an_address_is_read_and_written(text: str, host: str, port: int) -> None:
    address = Address.parse(text)
    assert (address.host, address.port) == (host, port)
    assert Address.parse(str(address)) == address


def test_the_port_may_be_left_out_where_there_is_a_usual_one() -> None:
    assert Address.parse("laptop", 4001) == Address("laptop", 4001)
    assert Address.parse("[::1]", 4001) == Address("::1", 4001)
    assert Address.parse("laptop:5", 4001) == Address("laptop", 5)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":1",
        "host",
        "host:",
        "host:0",
        "host:65536",
        "host:-1",
        "host:\uff11",
        "::1:80",
        "[::1]",
        "[::1]80",
        "[fe80::1%]:1",
        "[fe80::1%a/b]:1",
        "[fe80::1%" + "x" * 16 + "]:1",
        "[10.0.0.1]:1",
        "10.0.0:1",
        "300.0.0.1:1",
        "-x:1",
        "a b:1",
        "a..b:1",
        "x" * 64 + ":1",
        "x." * 130 + "x:1",
        "x:" + "0" * 400 + "1",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(FormatError):
        Address.parse(text)


@given(st.text(max_size=40))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    try:
        address = Address.parse(text)
    except FormatError:
        return
    assert Address.parse(str(address)) == address


def test_what_worked_last_is_dialled_first_and_then_by_who_said_so() -> None:
    book = AddressBook[str]()
    book.tell("laptop", Source.EXCHANGED, [A], 0)
    book.tell("laptop", Source.STATIC, [B], 0)
    book.tell("laptop", Source.SIGHTED, [C], 0)
    assert book.due("laptop", 1) == [C, B, A]
    book.succeeded("laptop", A, 5)
    assert book.due("laptop", 5) == [A, C, B]
    book.succeeded("laptop", B, 6)
    assert book.due("laptop", 6) == [B, A, C]


def test_an_address_that_failed_rests_and_longer_each_time() -> None:
    book = AddressBook[str]()
    book.tell("laptop", Source.STATIC, [A], 0)
    rests = []
    for _ in range(12):
        now = book.next_due("laptop")
        assert now is not None
        assert book.due("laptop", now) == [A]
        book.failed("laptop", A, now, 0.5)
        assert book.due("laptop", now) == []
        rests.append((book.next_due("laptop") or 0) - now)
    assert rests[:4] == [1, 2, 4, 8]
    assert rests == sorted(rests)
    assert rests[-1] == BACK_OFF_MAX_S
    book.succeeded("laptop", A, 10_000)
    assert book.due("laptop", 10_000) == [A]
    book.failed("laptop", A, 10_000, 0.5)
    assert book.next_due("laptop") == 10_000 + BACK_OFF_FIRST_S


def test_a_device_that_appears_is_dialled_soon_though_it_failed_often() -> None:
    book = AddressBook[str]()
    book.tell("laptop", Source.TICKET, [A], 0)
    for _ in range(10):
        book.failed("laptop", A, 0, 0.5)
    book.tell("laptop", Source.EXCHANGED, [A], 1)
    assert (book.next_due("laptop") or 0) > 100
    book.tell("laptop", Source.SIGHTED, [A], 1)
    assert book.next_due("laptop") == 1 + BACK_OFF_FIRST_S


def test_an_address_of_this_network_never_rests_long() -> None:
    book: AddressBook[str] = AddressBook()
    book.tell("near", Source.SIGHTED, [A], 0.0)
    book.tell("far", Source.TICKET, [B], 0.0)
    for _ in range(20):
        for peer, address in (("near", A), ("far", B)):
            book.failed(peer, address, 100.0, 0.5)
    assert book.next_due("near") == 100.0 + BACK_OFF_SIGHTED_MAX_S
    assert book.next_due("far") == 100.0 + BACK_OFF_MAX_S


def test_what_a_source_takes_back_is_forgotten_unless_another_says_it_or_it_worked() -> None:
    book = AddressBook[str]()
    book.tell("laptop", Source.SIGHTED, [A, B, C], 0)
    book.tell("laptop", Source.STATIC, [A], 0)
    book.succeeded("laptop", B, 0)
    book.tell("laptop", Source.SIGHTED, [], 1)
    assert {entry.address for entry in book.entries("laptop")} == {A, B}
    book.tell("laptop", Source.STATIC, [], 1)
    assert book.due("laptop", 1) == [B]
    book.forget("laptop")
    assert book.peers() == []
    assert book.next_due("laptop") is None


def test_a_peer_without_addresses_is_not_kept() -> None:
    book = AddressBook[str]()
    book.tell("laptop", Source.SIGHTED, [A], 0)
    book.tell("laptop", Source.SIGHTED, [], 1)
    assert book.peers() == []


def test_a_flood_of_addresses_takes_no_place_from_the_good_ones() -> None:
    book = AddressBook[str]()
    book.tell("laptop", Source.STATIC, [A], 0)
    book.succeeded("laptop", B, 0)
    flood = [Address("10.1.0.1", port) for port in range(1, 1000)]
    book.tell("laptop", Source.EXCHANGED, flood, 1)
    kept = {entry.address for entry in book.entries("laptop")}
    assert len(kept) == ADDRESSES_PER_PEER_MAX
    assert {A, B} <= kept


def test_a_flood_of_peers_is_bounded() -> None:
    book = AddressBook[int]()
    for peer in range(PEERS_MAX + 10):
        book.tell(peer, Source.SIGHTED, [A], 0)
        book.succeeded(peer + PEERS_MAX, A, 0)
    assert len(book.peers()) == PEERS_MAX


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_back_off_is_spread_and_bounded(failures: int, chance: float) -> None:
    middle = min(BACK_OFF_MAX_S, BACK_OFF_FIRST_S * 2 ** min(failures - 1, 100))
    assert middle * 0.5 <= back_off_s(failures, chance) <= middle * 1.5


def test_nothing_rests_once_there_is_another_network() -> None:
    book = AddressBook[str]()
    book.tell("laptop", Source.STATIC, [A, B], 0)
    for address in (A, B):
        for _ in range(10):
            book.failed("laptop", address, 0, 0.5)
    assert book.due("laptop", 100) == []
    book.wake(100)
    assert set(book.due("laptop", 100)) == {A, B}
    book.failed("laptop", A, 100, 0.5)
    assert book.next_due("laptop") == 100, "b is due still"
    assert set(book.due("laptop", 100 + BACK_OFF_FIRST_S)) == {A, B}, "earlier failures are forgotten"
