"""What members say of where others are: judged, bounded, shared out, and seldom dialled."""

import pytest

from dittofs.address import Address
from dittofs.discovery.hearsay import (
    ADDRESSES_MAX,
    DIAL_BURST,
    DIAL_PAUSE_S,
    HOST_REST_S,
    HOSTS_MAX,
    TELLERS_MAX,
    DialPace,
    Hearsay,
    sensible,
)


def numbered(number: int) -> Address:
    return Address(f"198.51.{number // 250}.{number % 250 + 1}", 7347)


@pytest.mark.parametrize(
    "text", ["192.168.1.7:7347", "10.0.0.1:1024", "[fd00::7]:7347", "203.0.113.9:50000", "[2001:db8::1]:7347"]
)
def test_addresses_of_networks_are_taken_private_ones_too(text: str) -> None:
    assert sensible(text) == Address.parse(text)


def test_an_address_of_the_old_kind_in_the_new_spelling_is_one_address() -> None:
    assert sensible("[::ffff:192.168.1.7]:7347") == Address("192.168.1.7", 7347)


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1:7347",
        "127.8.8.8:7347",
        "[::1]:7347",
        "[::ffff:127.0.0.1]:7347",
        "0.0.0.0:7347",
        "0.1.2.3:7347",
        "[::]:7347",
        "169.254.1.1:7347",
        "[fe80::1]:7347",
        "[fe80::1%eth0]:7347",
        "[fd00::1%eth0]:7347",
        "224.0.0.1:7347",
        "[ff02::1]:7347",
        "255.255.255.255:7347",
        "240.0.0.1:7347",
        "192.168.1.7:22",
        "192.168.1.7:443",
        "bank.example:7347",
        "192.168.1.7",
        "junk\0",
        "",
    ],
)
def test_what_no_other_machine_can_be_meant_by_is_passed_over(text: str) -> None:
    assert sensible(text) is None


def test_everybody_s_first_word_counts_however_much_others_say() -> None:
    hearsay = Hearsay[str]()
    hearsay.tell("honest", [("nas", [numbered(900)])])
    for liar in range(ADDRESSES_MAX - 1):
        hearsay.tell(f"liar {liar}", [("nas", [numbered(100 * liar + n) for n in range(50)])])
    assert len(hearsay.of("nas")) == ADDRESSES_MAX
    assert numbered(900) in hearsay.of("nas")


def test_what_somebody_says_stands_in_for_what_it_said_before() -> None:
    hearsay = Hearsay[str]()
    assert hearsay.tell("a", [("nas", [numbered(1)]), ("phone", [numbered(2)])]) == {"nas", "phone"}
    assert hearsay.tell("a", [("nas", [numbered(1)])]) == {"phone"}
    assert hearsay.tell("a", [("nas", [numbered(1)])]) == set()
    assert (hearsay.of("nas"), hearsay.of("phone")) == ([numbered(1)], [])


def test_of_too_many_who_tell_the_one_that_was_silent_for_longest_is_forgotten() -> None:
    hearsay = Hearsay[int]()
    for teller in range(TELLERS_MAX):
        hearsay.tell(teller, [(1000 + teller, [numbered(teller)])])
    hearsay.tell(0, [(1000, [numbered(0)])])
    assert hearsay.tell(TELLERS_MAX, []) == {1001}
    assert hearsay.of(1000) and not hearsay.of(1001)


def test_on_hearsay_few_are_dialled_at_once_and_then_one_at_a_time() -> None:
    pace, now, dialled = DialPace(), 100.0, []
    for number in range(1000):
        host = numbered(number).host
        while wait_s := pace.wait_s(host, now):
            now += wait_s
        dialled.append(now)
    assert dialled[DIAL_BURST - 1] == 100.0
    assert dialled[-1] - 100.0 >= (1000 - DIAL_BURST) * DIAL_PAUSE_S * 0.99


def test_one_host_is_dialled_seldom_whatever_its_ports() -> None:
    pace, now, dialled = DialPace(), 0.0, 0
    while now < 3600:
        wait_s = pace.wait_s("203.0.113.9", now)
        dialled += not wait_s
        now += wait_s or 0.01
    assert dialled <= 3600 / HOST_REST_S + 1
    for number in range(3 * HOSTS_MAX):  # what is kept of hosts is bounded
        pace.wait_s(numbered(number).host, now + 100.0 * number)
    assert len(pace._hosts) <= HOSTS_MAX
