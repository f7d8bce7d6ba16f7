"""Tickets: one text for one ticket, and what is wrong with any other."""

import contextlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dittofs.errors import FormatError
from dittofs.identity.keys import DeviceId
from dittofs.identity.tickets import ADDRESSES_MAX, BadTicket, Ticket, format_ticket, parse_ticket

DEVICE = DeviceId(bytes(range(32)))
TOKEN = bytes(range(100, 116))
TICKET = Ticket(DEVICE, ("192.168.1.7:4001", "[2001:db8::7]:4001", "[fe80::1%eth0]:4001", "nas.lan:7"), TOKEN)
D = "d=AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
K = "k=ZGVmZ2hpamtsbW5vcHFycw"
START = "dittofs://join/1?"


def test_a_ticket_is_this_text() -> None:
    assert format_ticket(TICKET) == (
        f"{START}{D}&a=192.168.1.7:4001&a=[2001:db8::7]:4001&a=[fe80::1%25eth0]:4001&a=nas.lan:7&{K}"
    )


def test_a_ticket_is_read_back() -> None:
    assert parse_ticket(f"  {format_ticket(TICKET)}\n") == TICKET


def test_a_ticket_does_not_show_its_token() -> None:
    assert repr(TOKEN) not in repr(TICKET)


def test_names_of_later_versions_and_repeated_addresses_do_no_harm() -> None:
    assert parse_ticket(f"{START}{D}&a=h:1&x=&s=wss%3A%2F%2Fs&a=h:1&{K}") == Ticket(DEVICE, ("h:1",), TOKEN)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no ticket"),
        ("7-crossover-clockwork", "no ticket"),
        ("https://join/1?" + D, "no ticket"),
        (START.replace("1", "2") + D, "another version"),
        ("dittofs://join/1", "lacks the device id"),
        (START + D, "lacks the token.*quotes"),
        (f"{START}a=h:1&{K}", "lacks the device id"),
        (f"{START}{D}&{K}", "0 addresses"),
        (f"{START}{D}&" + "".join(f"a=h:{n}&" for n in range(1, ADDRESSES_MAX + 2)) + K, "17 addresses"),
        (f"{START}{D}&a=h:1&{K[:-1]}", "21 characters, not 22: copy it whole"),
        (f"{START}{D}a&a=h:1&{K}", "44 characters, not 43"),
        (f"{START}{D}&a=h:1&{K[:-1]}z", "a character was changed"),
        (f"{START}{D}&a=h:1&{K[:-1]}!", "does not belong there"),
        (f"{START}{D}&a=h:1&{K[:-1]}é", "does not belong there"),
        (f"{START}{D}&a=h:1&{K}&{K}", "twice"),
        (f"{START}{D}&a=h:1&{K}&k", "mixed up"),
        (f"{START}{D}&a=%FF:1&{K}", "mixed up"),
        (f"{START}{D}&a=h&{K}", "not HOST:PORT"),
        (f"{START}{D}&a=h:0&{K}", "not HOST:PORT"),
        (f"{START}{D}&a=h:65536&{K}", "not HOST:PORT"),
        (f"{START}{D}&a=h:٣&{K}", "not HOST:PORT"),
        (f"{START}{D}&a=fe80::1:4001&{K}", "not HOST:PORT"),
        (f"{START}{D}&a=[fe80::g]:4001&{K}", "no IPv6 address"),
        (f"{START}{D}&a=a%20b:1&{K}", "names no host"),
        (f"{START}{D}&a=a%1b:1&{K}", "names no host"),
        (f"{START}{D}&a={'h' * 254}:1&{K}", "names no host"),
        (f"{START}{D}&{'a=h:1&' * 400}{K}", "at most 2048 characters"),
    ],
)
def test_the_refusal_says_what_is_wrong(text: str, complaint: str) -> None:
    with pytest.raises(BadTicket, match=complaint):
        parse_ticket(text)


@given(st.text(max_size=300))
@example(START + "&" * 1000)
@example(START + "=&" * 1000)
@example(f"{START}{D}&a=[fe80::1%25{'a' * 40}]:1&{K}")
def test_any_text_is_a_ticket_or_refused(text: str) -> None:
    for candidate in (text, START + text, f"{START}{D}&a={text}&{K}"):
        with contextlib.suppress(FormatError):
            ticket = parse_ticket(candidate)
            assert parse_ticket(format_ticket(ticket)) == ticket


@given(st.data())
def test_a_changed_character_never_names_another_device_unnoticed(data: st.DataObject) -> None:
    text = format_ticket(TICKET)
    place = data.draw(st.integers(0, len(text) - 1))
    changed = text[:place] + data.draw(st.characters(codec="ascii")) + text[place + 1 :]
    with contextlib.suppress(BadTicket):
        ticket = parse_ticket(changed)
        assert ticket == TICKET or format_ticket(ticket) != text
